//! `[content]`: what becomes of content that is not what it seems.

use serde::{Deserialize, Serialize};
use units::Size;

/// `[content]`: what becomes of content that is not what it seems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ContentSettings {
    /// Content in a coding that is not decoded here.
    pub(crate) other_codings: Policy,
    /// Mail in a stream that the engine does not see as its server does.
    pub(crate) mail: Policy,
    /// Content that is not what its coding or, of forms, its type asks for.
    pub(crate) malformed: Policy,
    /// Parts of a resource.
    pub(crate) parts: Policy,
    /// Decoded bytes for each byte that came, once [`RATIO_FROM`] bytes were decoded.
    pub(crate) max_ratio: u64,
    /// Decoded bytes of one body.
    pub(crate) max_decoded: Size,
}

impl Default for ContentSettings {
    fn default() -> Self {
        Self {
            other_codings: Policy::Block,
            mail: Policy::Block,
            malformed: Policy::Block,
            parts: Policy::Pass,
            max_ratio: 1100,
            max_decoded: Size(1 << 40),
        }
    }
}

/// Decoded bytes of a body up to which nobody asks how few they came from: a run of zeros is no
/// attack, and one layer of DEFLATE never grows by more than 1,032.
pub(crate) const RATIO_FROM: u64 = 256 << 20;

/// What becomes of content that cannot be inspected as its receiver will read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// It is refused, with a page that says why.
    Block,
    /// It is inspected as it is, and counted as uninspected.
    Pass,
}
