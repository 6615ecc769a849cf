//! Character classes of RFC 9110 section 5.6 as tables: one load a byte.

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;

static CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let c = i as u8;
        let token = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if token {
            table[i] |= TOKEN;
        }
        if c == b'\t' || (c >= 0x20 && c != 0x7f) {
            table[i] |= VALUE;
        }
        // A fragment never travels in a target; parsers disagree on what to do with one.
        if c > 0x20 && c != 0x7f && c != b'#' {
            table[i] |= TARGET;
        }
        if c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_') {
            table[i] |= HOST;
        }
        i += 1;
    }
    table
};

fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// How many bytes at the start are of `class`.
fn length(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&b| !is(b, class)).unwrap_or(bytes.len())
}

/// How many bytes at the start make a `token` of RFC 9110.
pub(crate) fn token_length(bytes: &[u8]) -> usize {
    length(bytes, TOKEN)
}

/// How many bytes at the start are of a host's name or an IPv4 address.
pub(crate) fn host_length(bytes: &[u8]) -> usize {
    length(bytes, HOST)
}

/// How many bytes at the start are field content: visible characters, spaces, tabs and obs-text.
/// Most of a head is that, so eight are looked at together.
pub(crate) fn value_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        // A tab is such a character too.
        if has_control(u64::from_ne_bytes(*word)) {
            let allowed = length(word, VALUE);
            if allowed < word.len() {
                return at * word.len() + allowed;
            }
        }
    }
    bytes.len() - rest.len() + length(rest, VALUE)
}

/// Whether a byte below 0x20, or 0x7f, is among the eight.
fn has_control(word: u64) -> bool {
    const EACH: u64 = u64::MAX / 0xff;
    const TOP: u64 = EACH << 7;
    // Top bits of the bytes below `limit`. What a byte borrows may make the next one pass for such a
    // byte as well, but only after one that is.
    let below = |word: u64, limit: u64| word.wrapping_sub(EACH * limit) & !word & TOP;
    below(word, 0x20) | below(word ^ (EACH * 0x7f), 1) != 0
}

/// `token` of RFC 9110: not empty.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_length(bytes) == bytes.len()
}

/// Field content only, see [`value_length`].
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    value_length(bytes) == bytes.len()
}

/// No space, control character or fragment; not empty.
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && length(bytes, TARGET) == bytes.len()
}

/// Without optional white space (space, tab) on both sides.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    trim_end(bytes)
}

/// Without optional white space at the end.
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Digits only, no sign, no leading zero, at most 63 bits.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 || (bytes[0] == b'0' && bytes.len() > 1) {
        return None;
    }
    let mut n = 0u64;
    for &b in bytes {
        if !b.is_ascii_digit() {
            return None;
        }
        n = n.checked_mul(10)?.checked_add(u64::from(b - b'0'))?;
    }
    (n <= i64::MAX as u64).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ends_at_the_first_control_character_wherever_it_is() {
        for byte in 0..=255u8 {
            for before in 0..20 {
                for after in 0..20 {
                    let mut text = vec![b'a'; before];
                    text.push(byte);
                    text.extend(vec![0xff; after]);
                    let allowed = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
                    let expected = if allowed { text.len() } else { before };
                    assert_eq!(value_length(&text), expected, "{text:?}");
                }
            }
        }
        assert_eq!(value_length(b"a\tb\tcdefgh\t\t\t\t\t\t\t\tijkl\x80\x7f"), 23);
    }
}
