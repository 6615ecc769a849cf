//! What a message says of its content, and what becomes of content that cannot be read as its
//! receiver will.

use std::fmt;
use std::str::FromStr;

use content_coding::{Codings, Unsupported};
use http_wire::{AWS_CHUNKED, RequestHead, ResponseHead, names_no_coding};
use serde::{Deserialize, Serialize};

use crate::forms::Ambiguity;
use crate::metrics::Uninspected;

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

/// Why content is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A coding that is not decoded here.
    Coding(Unsupported),
    /// A form that can be read in two ways.
    Form(Ambiguity),
    /// Not what its coding asks for.
    Malformed(content_coding::Error),
    /// A part, which is not judged for the whole; of coded content it cannot even be decoded.
    Part,
    /// More than `max_ratio`.
    Ratio,
    /// More than `max_decoded`.
    Size,
}

impl Refusal {
    /// Its number in [`Self::LABELS`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Coding(_) => 0,
            Self::Form(_) => 1,
            Self::Malformed(_) => 2,
            Self::Part => 3,
            Self::Ratio => 4,
            Self::Size => 5,
        }
    }

    /// As they are counted.
    pub(crate) const LABELS: [&'static str; 6] =
        ["coding", "form", "malformed", "part", "ratio", "size"];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coding(unsupported) => write!(f, "the content cannot be decoded: {unsupported}"),
            Self::Form(ambiguity) => {
                write!(f, "servers would read the form in different ways: {ambiguity}")
            }
            Self::Malformed(error) => {
                write!(f, "the content is not what its coding asks for: {error}")
            }
            Self::Part => f.write_str("a part of a resource cannot be inspected as the whole"),
            Self::Ratio => f.write_str("the content grows too much when it is decoded"),
            Self::Size => f.write_str("the content is too long when it is decoded"),
        }
    }
}

/// How the content of a message is to be read.
#[derive(Debug)]
pub(crate) enum Reading {
    /// As it is; what for it counts as uninspected all the same.
    AsIs(Option<Uninspected>),
    /// With these codings undone.
    Decoded(Codings),
}

impl ContentSettings {
    /// How the content of a request is to be read.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) fn request(&self, head: &RequestHead) -> Result<Reading, Refusal> {
        let part = match head.all("Content-Range").any(|field| is_part(field.value)) {
            true => Part::Torn,
            false => Part::None,
        };
        let codings: Vec<&[u8]> = head.all("Content-Encoding").map(|field| field.value).collect();
        self.reading(&codings, part)
    }

    /// How the content of a response is to be read, of which the client shows so much more than it
    /// delivers that parts `overlap` by so many bytes.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) fn response(
        &self,
        head: &ResponseHead,
        overlap: Option<u64>,
    ) -> Result<Reading, Refusal> {
        // Some clients join parts whatever the status.
        let mut ranges = head.all("Content-Range").peekable();
        let is_part = match ranges.peek() {
            Some(_) => ranges.any(|field| is_part(field.value)),
            None => head.status() == 206,
        };
        let part = match (is_part, overlap) {
            (false, _) => Part::None,
            (true, None | Some(0)) => Part::Torn,
            (true, Some(_)) => Part::Overlapping,
        };
        let codings: Vec<&[u8]> = head.all("Content-Encoding").map(|field| field.value).collect();
        self.reading(&codings, part)
    }

    fn reading(&self, codings: &[&[u8]], part: Part) -> Result<Reading, Refusal> {
        let undecoded = |refusal| match self.other_codings {
            Policy::Block => Err(refusal),
            Policy::Pass => Ok(Reading::AsIs(Some(Uninspected::Coding))),
        };
        let framed = codings.iter().copied().flat_map(http_wire::tokens).any(is_framing);
        match (parse(codings), part) {
            (Err(unsupported), _) => undecoded(Refusal::Coding(unsupported)),
            // What lies across two of its chunks no rule sees.
            (Ok(codings), Part::None | Part::Overlapping) if codings.is_identity() => {
                Ok(Reading::AsIs(framed.then_some(Uninspected::Coding)))
            }
            (Ok(codings), Part::None) => Ok(Reading::Decoded(codings)),
            (_, Part::Torn) if self.parts == Policy::Block => Err(Refusal::Part),
            (Ok(codings), Part::Torn) if codings.is_identity() => {
                Ok(Reading::AsIs(Some(Uninspected::Range)))
            }
            // From somewhere in the midst of it nothing can be decoded.
            (Ok(_), Part::Overlapping | Part::Torn) => undecoded(Refusal::Part),
        }
    }
}

/// Whether a message brings a part of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// No, or all of it.
    None,
    /// One that shows more than is delivered of it.
    Overlapping,
    /// One of which the neighbours may hold the rest of what a rule looks for.
    Torn,
}

/// The codings of all Content-Encoding fields.
fn parse(values: &[&[u8]]) -> Result<Codings, Unsupported> {
    let mut names = values.iter().copied().flat_map(http_wire::tokens);
    match names.all(|name| names_no_coding(name) || is_framing(name)) {
        true => Ok(Codings::default()),
        false => Codings::parse(values.iter().copied()),
    }
}

fn is_framing(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(AWS_CHUNKED)
}

/// Whether a Content-Range is of anything but a whole resource (RFC 9110 section 14.4).
fn is_part(value: &[u8]) -> bool {
    let parsed = std::str::from_utf8(value).ok().and_then(|value| {
        let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
        // Not satisfiable: what comes is no part, but a page that says so.
        if range == "*" {
            return Some(false);
        }
        let (first, last) = range.split_once('-')?;
        let [first, last, length] = [first, last, length].map(|n| n.parse::<u64>().ok());
        Some(first? != 0 || last?.checked_add(1) != Some(length?))
    });
    parsed.unwrap_or(true)
}
