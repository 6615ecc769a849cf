//! Lines of a head: where it ends, and where each field lies in it.

use memchr::{memchr, memchr_iter};

use crate::{Error, ErrorKind, Limits};

/// One field as offsets into the buffer that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) name: (u32, u32),
    pub(crate) value: (u32, u32),
}

/// The length of the block of lines at the start of `buf`, its empty line included, or `None` if
/// that has not come yet. `from` bytes are known to hold no end. A bare LF ends a line too
/// (RFC 2616 section 19.3: clients of old do that).
pub(crate) fn block_end(buf: &[u8], from: usize) -> Option<usize> {
    // An end may straddle the place up to which was looked: LF CR | LF.
    let from = from.saturating_sub(2);
    for newline in memchr_iter(b'\n', &buf[from..]) {
        match buf[from + newline + 1..] {
            [b'\n', ..] => return Some(from + newline + 2),
            [b'\r', b'\n', ..] => return Some(from + newline + 3),
            _ => {}
        }
    }
    None
}

/// How many CR and LF bytes stand in front of a head: to be skipped (RFC 2616 section 4.1).
pub(crate) fn leading_newlines(buf: &[u8]) -> usize {
    buf.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

/// The end of the line that starts at `from`, without and with its line end.
pub(crate) fn line_end(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let newline = from + memchr(b'\n', &text[from..])?;
    let end = if newline > from && text[newline - 1] == b'\r' { newline - 1 } else { newline };
    Some((end, newline + 1))
}

/// Appends the fields of the lines in `text[from..]` to `spans`, up to the empty line or the end.
///
/// A folded line is joined with its field in place: its line end becomes spaces.
pub(crate) fn parse(
    text: &mut [u8],
    from: usize,
    spans: &mut Vec<Span>,
    limits: &Limits,
) -> Result<(), Error> {
    let mut at = from;
    let mut previous_end = from;
    while let Some((end, next)) = line_end(text, at) {
        if end == at {
            break;
        }
        if matches!(text[at], b' ' | b'\t') {
            let Some(last) = spans.last_mut() else {
                return Err(bad("a folded line that continues nothing"));
            };
            check_value(&text[at..end])?;
            text[previous_end..at].fill(b' ');
            let value_start = last.value.0 as usize;
            last.value = trimmed(text, value_start, end);
        } else {
            if spans.len() >= limits.max_fields {
                return Err(Error::new(ErrorKind::HeadTooLarge, "too many header fields"));
            }
            let colon = at + token_length(&text[at..end]);
            if colon == at || colon == end || text[colon] != b':' {
                return Err(bad(match memchr(b':', &text[at..end]) {
                    None => "a header line without a colon",
                    Some(_) => "a header name that is empty or not a token",
                }));
            }
            check_value(&text[colon + 1..end])?;
            spans.push(Span {
                name: (at as u32, colon as u32),
                value: trimmed(text, colon + 1, end),
            });
        }
        previous_end = end;
        at = next;
    }
    Ok(())
}

/// Whether `bytes` is an HTTP token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_length(bytes) == bytes.len()
}

fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| !TOKEN[usize::from(b)]).unwrap_or(bytes.len())
}

/// Whether `bytes` may stand in a field value: no control character but the tab.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    // All of them, although the first may decide: so the compiler takes many at once.
    let all = |bytes: &[u8]| {
        bytes.iter().fold(true, |so_far, &b| so_far & ((b >= 0x20) & (b != 0x7f) | (b == b'\t')))
    };
    match bytes.split_last_chunk::<LANES>() {
        // The last lanes are looked at whole; some of them may be for the second time.
        Some((_, last)) => bytes.chunks_exact(LANES).all(all) && all(last),
        None => all(bytes),
    }
}

/// As many bytes as are looked at together.
const LANES: usize = 8;

fn check_value(value: &[u8]) -> Result<(), Error> {
    if is_value(value) { Ok(()) } else { Err(bad("a control character in a header value")) }
}

fn trimmed(text: &[u8], start: usize, end: usize) -> (u32, u32) {
    let slice = &text[start..end];
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let front = slice.iter().take_while(|b| blank(b)).count();
    let back = slice[front..].iter().rev().take_while(|b| blank(b)).count();
    ((start + front) as u32, (end - back) as u32)
}

fn bad(what: &'static str) -> Error {
    Error::new(ErrorKind::Header, what)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let c = b as u8;
        table[b] = c.is_ascii_alphanumeric()
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
        b += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for length in 0..3 * LANES {
            let mut value = vec![b'v'; length];
            assert!(is_value(&value));
            for at in 0..length {
                for (byte, may_stand) in [
                    (0, false),
                    (b'\t', true),
                    (b'\r', false),
                    (0x1f, false),
                    (0x7f, false),
                    (0x80, true),
                ] {
                    value[at] = byte;
                    assert_eq!(is_value(&value), may_stand, "{byte} at {at} of {length}");
                }
                value[at] = b'v';
            }
        }
    }
}
