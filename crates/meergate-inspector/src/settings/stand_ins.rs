//! `[stand_ins]`: addresses in the place of those that an ICAP client does not send.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Addresses for what an ICAP client leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StandIns {
    /// Instead of an unknown IPv4 client.
    pub(crate) client: Ipv4Addr,
    /// Instead of an unknown IPv4 server.
    pub(crate) server: Ipv4Addr,
    /// Instead of an unknown IPv6 client.
    pub client6: Ipv6Addr,
    /// Instead of an unknown IPv6 server.
    pub server6: Ipv6Addr,
}

impl Default for StandIns {
    /// TEST-NET-1 and TEST-NET-2 (RFC 5737), and 2001:db8::/32 (RFC 3849): no real host has them.
    fn default() -> Self {
        Self {
            client: Ipv4Addr::new(192, 0, 2, 1),
            server: Ipv4Addr::new(198, 51, 100, 1),
            client6: Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1),
            server6: Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1),
        }
    }
}
