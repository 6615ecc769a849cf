//! Queries in a request's target: `?dns=` (RFC 8484 section 4.1.1), and `?name=` of those that want JSON.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use suricata::Direction;

use super::json;
use super::message::{LONGEST, Message};
use crate::inspection::refusal::DnsFault;

/// As servers decode it: with bits at the end that mean nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// So many queries of a target are looked at: each costs a flow. Nobody sends two.
const MOST: usize = 16;

/// What a target asks.
pub(super) struct Asked {
    /// Well-formed queries.
    pub(super) queries: Vec<Message>,
    /// What is wrong with one more.
    pub(super) fault: Option<DnsFault>,
}

/// The queries in `target`; those by name only if JSON is wanted for an answer.
pub(super) fn read(target: &[u8], wants_json: bool) -> Asked {
    let mut asked = Asked { queries: Vec::new(), fault: None };
    let Some(at) = memchr::memchr(b'?', target) else { return asked };
    let query = target[at + 1..].split(|&b| b == b'#').next().unwrap_or_default();
    // Of several, servers take the first or the last: all are asked.
    let (mut names, mut kinds) = (Vec::new(), Vec::new());
    for pair in query.split(|b| matches!(b, b'&' | b';')) {
        let split = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (key, value) =
            (unescaped(&pair[..split]), unescaped(pair.get(split + 1..).unwrap_or_default()));
        match &key.to_ascii_lowercase()[..] {
            b"dns" => match decoded(&value) {
                Ok(_) if asked.queries.len() == MOST => {
                    asked.fault = Some(DnsFault::Many);
                    return asked;
                }
                Ok(message) => asked.queries.push(message),
                Err(fault) => asked.fault = Some(fault),
            },
            b"name" => names.push(value),
            b"type" => kinds.push(Some(value)),
            b"ct" if !wants_json && value.eq_ignore_ascii_case(json::TYPE) => {
                return read(target, true);
            }
            _ => {}
        }
    }
    if !wants_json || names.is_empty() {
        return asked;
    }
    if kinds.is_empty() {
        kinds.push(None);
    }
    if asked.queries.len() + names.len().saturating_mul(kinds.len()) > MOST {
        asked.fault = Some(DnsFault::Many);
        return asked;
    }
    for (name, kind) in names.iter().flat_map(|name| kinds.iter().map(move |kind| (name, kind))) {
        match json::query(name, kind.as_deref()) {
            Ok(message) => asked.queries.push(message),
            Err(fault) => asked.fault = Some(fault),
        }
    }
    asked
}

fn decoded(value: &[u8]) -> Result<Message, DnsFault> {
    if value.len() > LONGEST / 3 * 4 + 4 {
        return Err(DnsFault::Long);
    }
    // Of the two alphabets, servers take either; white space and padding they leave out.
    let plain: Vec<u8> = value
        .iter()
        .filter(|&&byte| !byte.is_ascii_whitespace() && byte != b'=')
        .map(|&byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        })
        .collect();
    let bytes = BASE64.decode(plain).map_err(|_| DnsFault::Base64)?;
    Message::new(bytes, Direction::ToServer)
}

/// Without percent-encoding. A `+` stays: in base64 it is no space.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let hex = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8484 section 4.1.1.
    const EXAMPLE: &str = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";

    #[test]
    fn queries_are_found_as_servers_find_them() {
        for target in [
            format!("/dns-query?dns={EXAMPLE}"),
            format!("/?x=1&dns={EXAMPLE}&y"),
            format!("/?%64ns={EXAMPLE}=#fragment"),
            format!("/?dns={}", EXAMPLE.replace('A', "%41")),
            format!("https://h.test/q?DNS={EXAMPLE}%3D"),
        ] {
            let asked = read(target.as_bytes(), false);
            assert_eq!((asked.queries.len(), asked.fault), (1, None), "{target}");
        }
        assert_eq!(read(b"/?dns=%%%", false).fault, Some(DnsFault::Base64));
        assert_eq!(read(b"/?dns=AAAA", false).fault, Some(DnsFault::Malformed));
        let many = format!("/?{}", format!("dns={EXAMPLE}&").repeat(17));
        assert_eq!(read(many.as_bytes(), false).fault, Some(DnsFault::Many));
        assert!(read(b"/?name=a.test", false).queries.is_empty());
        for target in ["/?name=a.test&type=AAAA", "/?name=a.test.&type=28", "/?name=a.test"] {
            assert_eq!(read(target.as_bytes(), true).queries.len(), 1, "{target}");
        }
        let both = read(b"/?name=b.test&type=A&name=a.test&type=TXT", true);
        assert_eq!((both.queries.len(), both.fault), (4, None));
        let many = format!("/?{}", "name=a.test&".repeat(17));
        assert_eq!(read(many.as_bytes(), true).fault, Some(DnsFault::Many));
        assert_eq!(read(b"/?ct=application/dns-json&name=a.test", false).queries.len(), 1);
    }
}
