//! Versions in the heads of records, which receivers are to ignore (RFC 8446 section 5.1) and others go by.

use std::borrow::Cow;

/// The last version that Suricata takes a connection for TLS by (`SSLRegisterPatterns`).
const LAST_KNOWN: u8 = 3;

/// The whole records at the start of `records`, and what follows, where versions beyond those that all who
/// read TLS know are written as that of TLS 1.0.
pub fn with_known_versions(records: &[u8]) -> Cow<'_, [u8]> {
    let mut known = Cow::Borrowed(records);
    let mut at = 0;
    while let Some([_, 3, minor, high, low]) = records.get(at..at + 5) {
        if *minor > LAST_KNOWN {
            known.to_mut()[at + 2] = 1;
        }
        at += 5 + usize::from(u16::from_be_bytes([*high, *low]));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_versions_become_known_ones_and_nothing_else_changes() {
        for (said, shown) in [(0, 0), (1, 1), (3, 3), (4, 1), (5, 1), (0xff, 1)] {
            let record = |minor| [22, 3, minor, 0, 3, 3, 9, 9];
            let two = |minor| [&record(1)[..], &record(minor), &[22, 3]].concat();
            assert_eq!(*with_known_versions(&two(said)), two(shown)[..], "{said}");
        }
        for other in [&b""[..], &[22], &[22, 3, 9, 0], b"GET / HTTP/1.1"] {
            assert_eq!(*with_known_versions(other), *other);
        }
    }
}
