//! The ISTag of a service (RFC 3507 section 4.7).

use std::fmt;

use crate::{Error, ErrorKind};

/// An ISTag: names the state of a service, so that a change voids decisions cached by clients
/// (RFC 3507 section 4.7). At most 32 bytes, written in quotes. Copied freely.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IsTag {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl IsTag {
    /// The longest tag, in bytes, without the quotes.
    pub const MAX: usize = 32;

    /// Takes `tag`, given without quotes.
    ///
    /// # Errors
    /// `Header` if it is empty, longer than 32 bytes or holds anything but visible ASCII, or a
    /// quote or backslash.
    pub fn new(tag: &str) -> Result<Self, Error> {
        let fits = (1..=Self::MAX).contains(&tag.len());
        if !fits || !tag.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            return Err(Error::new(
                ErrorKind::Header,
                "an ISTag is 1 to 32 visible characters without quotes",
            ));
        }
        let mut bytes = [0; Self::MAX];
        bytes[..tag.len()].copy_from_slice(tag.as_bytes());
        Ok(Self { bytes, len: tag.len() as u8 })
    }

    /// A tag made of `prefix` (cut to 15 bytes of letters, digits and hyphens) and `state`,
    /// written as 16 hexadecimal digits.
    pub fn from_state(prefix: &str, state: u64) -> Self {
        let mut tag = Self { bytes: [0; Self::MAX], len: 0 };
        for b in prefix.bytes().filter(|b| b.is_ascii_alphanumeric() || *b == b'-').take(15) {
            tag.put(b);
        }
        if tag.len > 0 {
            tag.put(b'-');
        }
        for shift in (0..16).rev() {
            tag.put(b"0123456789abcdef"[(state >> (shift * 4)) as usize & 0xf]);
        }
        tag
    }

    /// The tag without quotes.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    fn put(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }
}

impl fmt::Debug for IsTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IsTag({:?})", self.as_str())
    }
}
