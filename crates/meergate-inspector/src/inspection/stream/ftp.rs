//! What FTP agrees on for its data connections (RFC 959, RFC 2428). Suricata expects files on them only where it is written as it
//! reads it; clients read more. What only they read is told here.

use icap_stream::Way;

/// The longest line that Suricata looks at (`app-layer.protocols.ftp`, `max-line-length`).
const LONGEST: usize = 4096;

/// Follows the lines of a control connection.
#[derive(Debug, Default)]
pub(super) struct Ftp {
    client: Line,
    server: Line,
}

/// The line under way, as far as it matters.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    is_long: bool,
}

impl Ftp {
    /// Takes in what was read; whether a data connection is agreed on in words that the engine does not read.
    pub(super) fn hides(&mut self, way: Way, mut bytes: &[u8]) -> bool {
        let (line, is_hidden): (_, fn(&[u8]) -> bool) = match way {
            Way::ToClient => (&mut self.server, hides_reply),
            Way::ToServer => (&mut self.client, hides_command),
        };
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            line.grow(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let is_about_data =
                [&b"227"[..], b"229"].iter().any(|code| line.bytes.starts_with(code));
            if is_hidden(&line.bytes) || line.is_long && is_about_data {
                return true;
            }
            *line = Line::default();
        }
        line.grow(bytes);
        false
    }
}

impl Line {
    fn grow(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.bytes.len();
        self.is_long |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Whether a client may read another port out of a reply than the engine does.
fn hides_reply(line: &[u8]) -> bool {
    let (code, text) = line.split_at(line.len().min(4));
    match code {
        b"227 " => text.iter().any(u8::is_ascii_digit) && !is_passive(text),
        b"229 " => text.iter().any(u8::is_ascii_digit) && !is_extended_passive(text),
        // Some clients read all lines of a reply as one.
        b"227-" | b"229-" => true,
        _ => false,
    }
}

/// `Entering Passive Mode (h,h,h,h,p,p)`, whatever the words, and no other numbers.
fn is_passive(text: &[u8]) -> bool {
    let Some((words, numbers, behind)) = in_parentheses(text) else { return false };
    let has_number = |text: &[u8]| text.iter().any(|byte| byte.is_ascii_digit() || *byte == b',');
    are_six(numbers) && !has_number(words) && !has_number(behind)
}

/// `Entering Extended Passive Mode (|||port|)`, whatever the words, and no other numbers.
fn is_extended_passive(text: &[u8]) -> bool {
    let Some((words, place, behind)) = in_parentheses(text) else { return false };
    let port = place.strip_prefix(b"|||").and_then(|place| place.strip_suffix(b"|"));
    let has_number = |text: &[u8]| text.iter().any(u8::is_ascii_digit);
    port.is_some_and(is_port) && !has_number(words) && !has_number(behind)
}

/// What stands before, in and behind the only parentheses.
fn in_parentheses(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let open = memchr::memchr(b'(', text)?;
    let close = open + memchr::memchr(b')', &text[open..])?;
    let (before, within, behind) = (&text[..open], &text[open + 1..close], &text[close + 1..]);
    (!within.contains(&b'(') && !behind.contains(&b'(')).then_some((before, within, behind))
}

/// Whether the server may read another port out of a command than the engine does.
fn hides_command(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let word = line.trim_ascii_start();
    let is = |name: &[u8]| word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if is(b"PORT") {
        !line.strip_prefix(b"PORT ").is_some_and(are_six)
    } else if is(b"EPRT") {
        let place = line.strip_prefix(b"EPRT |").and_then(|place| place.strip_suffix(b"|"));
        let parts = place.map(|place| place.split(|byte| *byte == b'|').collect::<Vec<_>>());
        !parts.is_some_and(|parts| matches!(parts[..], [_, _, port] if is_port(port)))
    } else {
        false
    }
}

/// Six numbers of a byte each.
fn are_six(numbers: &[u8]) -> bool {
    let parts: Vec<_> = numbers.split(|byte| *byte == b',').collect();
    parts.len() == 6 && parts.iter().all(|part| number::<u8>(part).is_some())
}

fn is_port(digits: &[u8]) -> bool {
    number::<u16>(digits).is_some()
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hides(way: Way, line: &str) -> bool {
        let text = format!("{line}\r\n");
        let mut found = [1, 3, text.len()].map(|size| {
            let mut ftp = Ftp::default();
            text.as_bytes().chunks(size).any(|piece| ftp.hides(way, piece))
        });
        assert!(found.iter().all(|one| *one == found[0]), "{line}: {found:?}");
        std::mem::take(&mut found[0])
    }

    #[test]
    fn what_servers_and_clients_write_is_read() {
        for reply in [
            "227 Entering Passive Mode (192,0,2,1,19,137).",
            "227 Entering Passive Mode (192,0,2,1,19,137)",
            "227 =(127,0,0,1,4,5)",
            "227 Passive mode is not for you.",
            "229 Entering Extended Passive Mode (|||41000|)",
            "229 Extended Passive mode OK (|||41000|).",
            "220-some words (and more) 1,2,3,4,5,6",
            "2277 is no code",
            "",
        ] {
            assert!(!hides(Way::ToClient, reply), "{reply}");
        }
        for command in
            ["PORT 192,0,2,1,19,137", "EPRT |2|2001:db8::1|41000|", "PASV", "RETR PORT x"]
        {
            assert!(!hides(Way::ToServer, command), "{command}");
        }
    }

    #[test]
    fn what_only_some_read_is_told() {
        let long = format!("227 {} (127,0,0,1,4,5)", "x".repeat(5000));
        for reply in [
            "227 ok 127,0,0,1,4,5",
            "227 Entering Passive Mode =127,0,0,1,4,5",
            "227 a (b) 127,0,0,1,4,5",
            "227 (127,0,0,1,4,5) 127,0,0,1,6,7",
            "227 1,2,3,4,5,6 (127,0,0,1,4,5)",
            "227 ( 127, 0, 0, 1,4,5 )",
            "227 (127,0,0,1,4,500)",
            "227-(127,0,0,1,4,5)",
            "229 ok (!!!41000!)",
            "229 ok (|1|127.0.0.1|41000|)",
            "229 (|||41000|) (|||42000|)",
            "229 (|||410000|)",
            &long,
        ] {
            assert!(hides(Way::ToClient, reply), "{reply}");
        }
        for command in [
            "port 127,0,0,1,4,5",
            " PORT 127,0,0,1,4,5",
            "PORT  127,0,0,1,4,5",
            "PORT 127,0,0,1,4,5 ",
            "eprt |1|127.0.0.1|41000|",
            "EPRT !1!127.0.0.1!41000!",
        ] {
            assert!(hides(Way::ToServer, command), "{command}");
        }
    }
}
