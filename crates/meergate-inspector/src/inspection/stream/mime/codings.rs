//! Codings of what a mail brings (RFC 2045 section 6).

use crate::inspection::refusal::MailFault;

/// Bytes of a line that the engine is shown in the place of another, beyond which it goes on in a next.
const LONGEST_SHOWN: usize = 2000;

/// Those that the engine undoes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    Base64,
    #[default]
    Plain,
    QuotedPrintable,
}

/// A body in base64.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    /// Of the four that make three bytes.
    digits: usize,
    pads: usize,
}

impl Base64 {
    /// Reads a line. Clients skip, or stop at, what is no digit and what stands behind the padding.
    pub(super) fn line(&mut self, text: &[u8]) -> Result<(), MailFault> {
        for &byte in text {
            match byte {
                b' ' | b'\t' | b'\r' => {}
                b'=' if self.digits + self.pads < 4 && self.digits >= 2 => self.pads += 1,
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if self.pads == 0 => {
                    self.digits = self.digits % 4 + 1;
                }
                _ => return Err(MailFault::Coding),
            }
        }
        Ok(())
    }

    /// Whether more would have to come.
    pub(super) fn is_in_the_midst(&self) -> bool {
        !matches!(self.digits, 0 | 1 | 4) && self.digits + self.pads < 4
    }
}

/// Whether some clients undo a coding of lines of text that begin so: uuencode and yEnc.
pub(super) fn is_encoded_text(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let begin = text.strip_prefix(b"begin ").or_else(|| text.strip_prefix(b"begin-base64 "));
    let is_uu = begin.is_some_and(|rest| {
        let rest = rest.trim_ascii_start();
        let digits = rest.iter().take_while(|b| matches!(b, b'0'..=b'7')).count();
        (3..=4).contains(&digits) && rest.get(digits) == Some(&b' ')
    });
    is_uu || text.starts_with(b"=ybegin ")
}

/// A line in quoted-printable as it should have been written, if it was not. Clients take digits in small letters, leave out
/// blanks at the end, and leave `=` as it is where no digits follow; the engine does none of that.
pub(super) fn quoted_printable(line: &[u8], is_dotted: bool) -> Option<Vec<u8>> {
    let is_digit = |at: usize, text: &[u8]| text.get(at).is_some_and(u8::is_ascii_hexdigit);
    let is_canonical = |at: usize, text: &[u8]| {
        is_digit(at, text) && !text.get(at).is_some_and(u8::is_ascii_lowercase)
    };
    let all = line.strip_suffix(b"\n").unwrap_or(line);
    let all = all.strip_suffix(b"\r").unwrap_or(all);
    let end = &line[all.len()..];
    let text = all.trim_ascii_end();
    let (text, soft) = match text.strip_suffix(b"=") {
        Some(text) => (text, &b"="[..]),
        None => (text, &b""[..]),
    };
    let is_right =
        |at: usize| text[at] != b'=' || is_canonical(at + 1, text) && is_canonical(at + 2, text);
    let is_whole = all.len() == text.len() + soft.len();
    if is_whole && !is_dotted && memchr::memchr_iter(b'=', text).all(is_right) {
        return None;
    }
    let (mut shown, mut length, mut at) = (Vec::with_capacity(line.len() + 16), 0, 0);
    while at < text.len() {
        let piece = match text[at] {
            b'=' if is_digit(at + 1, text) && is_digit(at + 2, text) => {
                at += 2;
                text[at - 2..=at].to_ascii_uppercase()
            }
            b'=' => b"=3D".to_vec(),
            // Alone it would end the mail.
            b'.' if length == 0 => b"=2E".to_vec(),
            byte => vec![byte],
        };
        at += 1;
        length += piece.len();
        shown.extend_from_slice(&piece);
        if length >= LONGEST_SHOWN {
            shown.extend_from_slice(b"=\r\n");
            length = 0;
        }
    }
    shown.extend_from_slice(soft);
    shown.extend_from_slice(end);
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_printable_is_written_as_it_should_be() {
        for (line, expected) in [
            ("plain\r\n", None),
            ("caf=C3=A9=\r\n", None),
            ("=\r\n", None),
            ("\r\n", None),
            ("caf=c3=a9\r\n", Some("caf=C3=A9\r\n")),
            ("a=3d  \t\r\n", Some("a=3D\r\n")),
            ("soft= \r\n", Some("soft=\r\n")),
            ("soft=\r\r\n", Some("soft=\r\n")),
            ("?a=b&c==\r\n", Some("?a=3Db&c=3D=\r\n")),
            ("=4", Some("=3D4")),
            ("=g0=\n", Some("=3Dg0=\n")),
        ] {
            let shown = quoted_printable(line.as_bytes(), false);
            assert_eq!(shown.as_deref(), expected.map(str::as_bytes), "{line:?}");
        }
        assert_eq!(quoted_printable(b".a\r\n", true).as_deref(), Some(&b"=2Ea\r\n"[..]));
        assert_eq!(quoted_printable(b"\r\n", true).as_deref(), Some(&b"\r\n"[..]));
        let long = quoted_printable(&[b'='; 4000], false).unwrap();
        assert!(long.split(|b| *b == b'\n').all(|line| line.len() < 2100));
    }

    #[test]
    fn base64_is_what_all_read() {
        let read = |lines: &[&str]| {
            let mut base64 = Base64::default();
            let fine = lines.iter().all(|line| base64.line(line.as_bytes()).is_ok());
            (fine, base64.is_in_the_midst())
        };
        for fine in [&["QUJD", "RA=="][..], &["QU", "JD ", "\tRA=", "="], &["QUI="], &[""]] {
            assert_eq!(read(fine), (true, false), "{fine:?}");
        }
        assert_eq!(read(&["QUI"]), (true, true));
        for wrong in ["QUI=QUI=", "QQ==\rQ", "Q=", "====", "QUI==", "QUJ*D", "QUJD\0", "Q-__"] {
            assert!(!read(&[wrong]).0, "{wrong}");
        }
    }

    #[test]
    fn text_that_is_encoded_is_told() {
        for text in [
            "begin 644 a.exe",
            "begin 0644 a",
            "begin-base64 644 a",
            "=ybegin line=128 size=1 name=a",
        ] {
            assert!(is_encoded_text(text.as_bytes()), "{text}");
        }
        for text in ["begin", "begin 644", "begin 64444 a", "begin with 644 a", "to begin 644 a"] {
            assert!(!is_encoded_text(text.as_bytes()), "{text}");
        }
    }
}
