//! `[firewall]`: the nftables rules that transparent listeners need.

use serde::Deserialize;

/// The nftables rules that transparent listeners need; `meergate nft` prints them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Firewall {
    /// Whether `meergate run` sets the rules when it serves, and removes them when it stops.
    /// Needs CAP_NET_ADMIN and the programs `nft` and `ip`.
    pub apply: bool,
    /// Interfaces on which clients arrive. Without any, traffic of all interfaces is taken.
    pub interfaces: Vec<String>,
    /// Whether QUIC (UDP port 443) of these clients is rejected, so that they come back over TCP,
    /// where they can be inspected.
    pub reject_quic: bool,
    /// The packet mark, and number of the routing table, for connections that TPROXY diverts.
    pub mark: u32,
}

impl Default for Firewall {
    fn default() -> Self {
        Self { apply: false, interfaces: Vec::new(), reject_quic: true, mark: 0x6d67 }
    }
}
