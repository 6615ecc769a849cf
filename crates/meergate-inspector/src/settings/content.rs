//! `[content]`: what becomes of content that is not what it seems; and numbers of bytes as settings have them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `[content]`: what becomes of content that is not what it seems.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ContentSettings {
    /// Content in a coding that is not decoded here.
    pub(crate) other_codings: Policy,
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

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SizeText", into = "String")]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            "TiB" => Some(1u64 << 40),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a number of bytes, KiB, MiB, GiB or TiB"))
    }
}

/// Bytes as TOML has them: a number, or a text with a unit.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum SizeText {
    /// Plain bytes.
    Number(u64),
    /// With a unit.
    Text(String),
}

impl TryFrom<SizeText> for Size {
    type Error = String;

    fn try_from(text: SizeText) -> Result<Self, String> {
        match text {
            SizeText::Number(n) => Ok(Self(n)),
            SizeText::Text(text) => text.parse(),
        }
    }
}
