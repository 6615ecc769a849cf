//! What the fuzz targets share.

use bytes::{Bytes, BytesMut};
use http_wire::{Error, ErrorKind, Fields, Limits};

/// Small, so that inputs of the fuzzer's length reach them.
pub const LIMITS: Limits = Limits { max_head: 2048, max_fields: 20 };

/// Splits fuzz input into a seed for cuts and the bytes to be cut.
pub fn split(input: &[u8]) -> Option<(u64, &[u8])> {
    let (seed, bytes) = input.split_first_chunk()?;
    Some((u64::from_le_bytes(*seed), bytes))
}

/// Lengths of pieces, from a seed: mostly small, now and then large.
pub struct Cuts(u64);

impl Cuts {
    /// A sequence that `seed` determines.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }
}

impl Iterator for Cuts {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bits = self.0 % 11;
        Some(1 + (self.0 >> 32) as usize % (1 << bits))
    }
}

/// How a head came out: its bytes and how many of the input were used for it.
pub type Outcome = Result<Option<(Bytes, usize)>, ErrorKind>;

/// Reads one head from `bytes` as they arrive in pieces of these lengths.
pub fn read<H>(
    bytes: &[u8],
    cuts: impl Iterator<Item = usize>,
    parse: impl Fn(&mut BytesMut, &Limits) -> Result<Option<H>, Error>,
    bytes_of: impl Fn(&H) -> &Bytes,
) -> Outcome {
    let (mut buf, mut rest) = (BytesMut::new(), bytes);
    for length in cuts {
        let (piece, left) = rest.split_at(length.min(rest.len()));
        rest = left;
        buf.extend_from_slice(piece);
        if let Some(head) = parse(&mut buf, &LIMITS).map_err(|error| error.kind())? {
            return Ok(Some((bytes_of(&head).clone(), bytes.len() - rest.len() - buf.len())));
        }
        if rest.is_empty() {
            break;
        }
    }
    Ok(None)
}

/// What must hold of all fields that a parser let pass, seen with no more than bytes.
pub fn check_fields(head: &[u8], fields: Fields<'_>) -> usize {
    let start = head.windows(2).position(|w| w == b"\r\n").expect("a start line") + 2;
    let mut at = start;
    let mut count = 0;
    for field in fields {
        assert_eq!(&head[at..at + field.line.len()], field.line, "lines follow each other");
        at += field.line.len();
        count += 1;
        let (line, end) = field.line.split_at(field.line.len() - 2);
        assert_eq!(end, b"\r\n");
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert!(!field.name.is_empty() && line[field.name.len()] == b':', "no room before a colon");
        assert!(!field.name.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b':'));
        assert_eq!(field.value, field.value.trim_ascii());
    }
    assert_eq!(&head[at..], b"\r\n");
    count
}

/// The values of all fields of this name, found without the parser's own search.
pub fn values<'a>(head: &'a [u8], name: &str) -> Vec<&'a [u8]> {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let cut = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    });
    cut.filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
        .collect()
}
