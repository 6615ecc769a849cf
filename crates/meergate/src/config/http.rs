//! `[http]`: how requests and responses are treated.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use units::Size;

/// How requests and responses are treated.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Longest message head, in bytes; for HTTP/2 the longest header list.
    pub max_head: Size,
    /// Most fields in a head.
    pub max_fields: usize,
    /// Content codings that the services can decode, if not what they say of themselves counts. When
    /// messages are inspected, `Accept-Encoding` is reduced to these.
    pub decodable: Option<Vec<String>>,
    /// Bodies in other codings: `block` them, or `pass` them and count their bytes as uninspected.
    pub other_codings: Uninspectable,
    /// What becomes of requests for a part of a resource.
    pub ranges: Ranges,
    /// Bytes that `overlap` asks for on both sides of a part; from 1 KiB to 16 MiB.
    #[serde(deserialize_with = "overlap")]
    pub range_overlap: Size,
    /// Whether advertisements of other protocols (`Alt-Svc`, HTTP/3 above all) are passed on.
    /// Traffic that follows them does not come through this proxy.
    pub alt_svc: bool,
    /// Protocols that a client may upgrade to. Their bytes are relayed and counted as uninspected.
    pub upgrades: Vec<String>,
    /// How heads and chunks of HTTP/1 responses are read.
    pub responses: Responses,
    /// Most HTTP/2 streams that one client connection may have open at once.
    pub max_streams: u32,
}

/// What becomes of a body that no service can look into.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Uninspectable {
    /// The client gets a page instead.
    Block,
    /// It is passed on; its bytes are counted.
    Pass,
}

/// What becomes of range requests.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Ranges {
    /// Partial responses are answered with a page instead.
    Block,
    /// The origin is asked for more on both sides, the services see it, and the client gets its part.
    #[default]
    Overlap,
    /// They are passed on; their bytes are counted.
    Pass,
    /// The range is left out of the request, so that the origin sends the whole.
    Whole,
}

/// How HTTP/1 responses of origins are read that are not well formed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Responses {
    /// In one defined way, and written anew.
    #[default]
    Lenient,
    /// Not at all: the client gets a page.
    Strict,
}

fn overlap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let bytes = Size::deserialize(deserializer)?;
    match ((1 << 10)..=(16 << 20)).contains(&bytes.0) {
        true => Ok(bytes),
        false => Err(D::Error::custom("range_overlap must be from \"1KiB\" to \"16MiB\"")),
    }
}

impl Default for Http {
    fn default() -> Self {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        Self {
            max_head: Size(64 * 1024),
            max_fields: 500,
            decodable: None,
            other_codings: Uninspectable::Block,
            ranges: Ranges::Overlap,
            range_overlap: Size(64 << 10),
            alt_svc: false,
            upgrades: names(&["websocket"]),
            responses: Responses::Lenient,
            max_streams: 128,
        }
    }
}
