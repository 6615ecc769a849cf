//! Which codings a message says its content has.

use std::fmt;

/// How many codings a content may have: each is a decoder's memory and a chance to grow.
pub const MAX_CODINGS: usize = 3;

/// So much of an unknown token is kept, to be shown.
const SHOWN: usize = 32;

/// A content coding that can be decoded (RFC 9110 section 8.4.1, RFC 7932, RFC 9659).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `aws-chunked`, a framing of uploads to S3 that is named as a coding. No token stands for it here: see
    /// [`Codings::in_aws_chunks`].
    AwsChunked,
    /// `br`.
    Brotli,
    /// `deflate`: zlib, or raw DEFLATE where the first two bytes can't begin zlib.
    Deflate,
    /// `gzip` and `x-gzip`.
    Gzip,
    /// `zstd`, with a window of at most 8 MiB.
    Zstd,
}

impl Coding {
    /// Every token that stands for a coding, in small letters; the first of a coding is the one to write.
    pub const TOKENS: [(&str, Coding); 6] = [
        ("aws-chunked", Coding::AwsChunked),
        ("br", Coding::Brotli),
        ("deflate", Coding::Deflate),
        ("gzip", Coding::Gzip),
        ("x-gzip", Coding::Gzip),
        ("zstd", Coding::Zstd),
    ];

    /// The coding that an element of `Content-Encoding` names, whatever its case. `None` for `identity`, and for
    /// `aws-chunked` ([`Codings::in_aws_chunks`]).
    pub fn from_token(token: &[u8]) -> Option<Coding> {
        let named = |(name, _): &&(&str, Coding)| name.as_bytes().eq_ignore_ascii_case(token);
        let coding = Coding::TOKENS.iter().find(named).map(|(_, coding)| *coding);
        coding.filter(|coding| *coding != Coding::AwsChunked)
    }

    /// The token that names it.
    pub fn token(self) -> &'static str {
        Coding::TOKENS.iter().find(|(_, coding)| *coding == self).map_or("", |(token, _)| token)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.token())
    }
}

/// The codings of a content in the order in which they were applied, at most [`MAX_CODINGS`] and the chunks of AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings {
    applied: Vec<Coding>,
}

impl Codings {
    /// Reads the values of all `Content-Encoding` fields of a message, in their order
    /// (RFC 9110 section 8.4: a list over all of them). `identity` and empty elements vanish, if
    /// nothing else is there.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] says what no [`Decoder`](crate::Decoder) would decode as every client does.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Codings, Unsupported> {
        let mut applied = Vec::new();
        let mut nothing = false;
        let elements = values.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        for token in elements.map(trimmed) {
            if token.is_empty() || token.eq_ignore_ascii_case(b"identity") {
                nothing = true;
                continue;
            }
            let coding = Coding::from_token(token).ok_or_else(|| Unsupported::unknown(token))?;
            if applied.len() == MAX_CODINGS {
                return Err(Unsupported::TooMany);
            }
            applied.push(coding);
        }
        match nothing && !applied.is_empty() {
            true => Err(Unsupported::NothingBeside),
            false => Ok(Codings { applied }),
        }
    }

    /// The same in `aws-chunked`, which is always undone first, wherever it is named.
    #[must_use]
    pub fn in_aws_chunks(mut self) -> Codings {
        self.applied.push(Coding::AwsChunked);
        self
    }

    /// Whether the content is what was sent, byte for byte.
    pub fn is_identity(&self) -> bool {
        self.applied.is_empty()
    }

    /// The codings in the order in which they were applied: the last is the first to be undone.
    pub fn applied(&self) -> &[Coding] {
        &self.applied
    }
}

/// Without the optional whitespace around a list's element (RFC 9110 section 5.6.1).
fn trimmed(mut element: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = element {
        element = rest;
    }
    element
}

/// Why the codings of a message can't be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// `identity` or an empty element in one list with a coding. Chromium and undici then decode
    /// nothing, urllib3 takes an empty element for `deflate`, others decode what is left.
    NothingBeside,
    /// More than [`MAX_CODINGS`].
    TooMany,
    /// An element that is none of ours: the beginning of it, at most 32 bytes, whatever they are.
    Unknown(Box<[u8]>),
}

impl Unsupported {
    fn unknown(token: &[u8]) -> Self {
        Unsupported::Unknown(token.iter().copied().take(SHOWN).collect())
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsupported::NothingBeside => {
                to.write_str("identity or an empty element beside a content coding")
            }
            Unsupported::TooMany => write!(to, "more than {MAX_CODINGS} content codings"),
            Unsupported::Unknown(token) => {
                write!(to, "unknown content coding \"{}\"", token.escape_ascii())
            }
        }
    }
}

impl std::error::Error for Unsupported {}
