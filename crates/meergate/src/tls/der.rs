//! The little of DER (ITU-T X.690) that certificates and OCSP responses need.

/// Universal and context tags used in certificates.
pub(super) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[n]`, primitive.
    pub(crate) const fn context(n: u8) -> u8 {
        0x80 | n
    }
    /// `[n]`, constructed.
    pub(crate) const fn context_constructed(n: u8) -> u8 {
        0xa0 | n
    }
}

/// One element: tag, length, the joined parts.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A SEQUENCE of the parts.
pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, parts)
}

/// A BIT STRING of whole bytes.
pub(super) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(tag::BIT_STRING, &[&[0], bytes])
}

/// One certificate extension (RFC 5280 section 4.1): `oid` is the whole OID element.
pub(super) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[tag::BOOLEAN, 1, 0xff] } else { &[] };
    sequence(&[oid, critical, &element(tag::OCTET_STRING, &[value])])
}

/// Splits off the first element of `input`: its tag, its content, and what follows. `None` if there is
/// none that is whole, with a tag of one byte and a definite length.
pub(super) fn read(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(first) {
        short @ 0..=0x7f => (short, rest),
        long @ 0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (tag & 0x1f != 0x1f).then_some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_minimal() {
        assert_eq!(element(4, &[&[9; 3]]), [4, 3, 9, 9, 9]);
        assert_eq!(element(4, &[&[9; 127]])[..2], [4, 127]);
        assert_eq!(element(4, &[&[9; 64], &[9; 64]])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[&[9; 256]])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn what_was_written_is_read() {
        for length in [0, 3, 127, 128, 256, 70_000] {
            let content = vec![7; length];
            let whole = [element(4, &[&content]), vec![1, 2]].concat();
            assert_eq!(read(&whole), Some((4, &content[..], &[1, 2][..])));
            assert_eq!(read(&whole[..whole.len() - 3]), None);
        }
        for odd in [&b""[..], b"\x04", b"\x04\x80", b"\x04\x85\0\0\0\0\0", b"\x1f\x00"] {
            assert_eq!(read(odd), None, "{odd:?}");
        }
    }
}
