//! DNS in JSON (`application/dns-json`, as public resolvers speak it), written as the messages that it stands for.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde_json::Value;
use suricata::Direction;

use super::message::Message;
use crate::inspection::refusal::DnsFault;

/// The content type.
pub(super) const TYPE: &[u8] = b"application/dns-json";

/// Names of types, as they are written in queries.
const KINDS: [(&str, u16); 14] = [
    ("A", 1),
    ("AAAA", 28),
    ("ANY", 255),
    ("CAA", 257),
    ("CNAME", 5),
    ("HTTPS", 65),
    ("MX", 15),
    ("NS", 2),
    ("PTR", 12),
    ("SOA", 6),
    ("SRV", 33),
    ("SVCB", 64),
    ("TXT", 16),
    ("DNSKEY", 48),
];

/// A response. What else is in it, nobody's rules are about.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    #[serde(default)]
    status: u16,
    #[serde(default)]
    question: Questions,
    #[serde(default)]
    answer: Vec<Record>,
    #[serde(default)]
    authority: Vec<Record>,
    #[serde(default)]
    additional: Vec<Record>,
}

/// Most resolvers write a list, some a single question.
#[derive(Deserialize)]
#[serde(untagged)]
enum Questions {
    Many(Vec<Question>),
    One(Question),
}

impl Default for Questions {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[derive(Deserialize)]
struct Question {
    name: String,
    #[serde(rename = "type")]
    kind: u16,
}

#[derive(Deserialize)]
struct Record {
    name: String,
    #[serde(rename = "type")]
    kind: u16,
    #[serde(rename = "TTL", default)]
    ttl: u32,
    data: String,
}

/// What is read of a response. Some decoders (Go's) do not look at the case of a key.
const KEYS: [&str; 9] =
    ["Status", "Question", "Answer", "Authority", "Additional", "name", "type", "TTL", "data"];

/// The query for a name; for addresses if no type is given.
pub(super) fn query(name: &[u8], kind: Option<&[u8]>) -> Result<Message, DnsFault> {
    let name = std::str::from_utf8(name).map_err(|_| DnsFault::Malformed)?;
    let kind = kind.map_or(Ok("A"), std::str::from_utf8).map_err(|_| DnsFault::Malformed)?;
    let known = KINDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(kind));
    let kind = known.map(|(_, number)| *number).or_else(|| kind.parse().ok());
    let mut out = header(0x0100, [1, 0, 0, 0]);
    push_question(&mut out, name, kind.ok_or(DnsFault::Malformed)?)?;
    Message::new(out, Direction::ToServer)
}

/// The response that stands in `text`.
pub(super) fn response(text: &[u8]) -> Result<Message, DnsFault> {
    let read: Response = serde_json::from_slice(text).map_err(|_| DnsFault::Json)?;
    let all: Value = serde_json::from_slice(text).map_err(|_| DnsFault::Json)?;
    if has_key_in_another_case(&all) {
        return Err(DnsFault::Json);
    }
    let questions = match read.question {
        Questions::Many(questions) => questions,
        Questions::One(question) => vec![question],
    };
    let sections = [&read.answer, &read.authority, &read.additional];
    let count = |n: usize| u16::try_from(n).map_err(|_| DnsFault::Long);
    let [answers, authorities, additional] = sections.map(|records| count(records.len()));
    let counts = [count(questions.len())?, answers?, authorities?, additional?];
    let mut out = header(0x8180 | read.status & 0xf, counts);
    for question in &questions {
        push_question(&mut out, &question.name, question.kind)?;
    }
    for record in sections.into_iter().flatten() {
        push_record(&mut out, record)?;
    }
    Message::new(out, Direction::ToClient)
}

/// Whether a key is one of those that are read but for its case. As deep as the parser went.
fn has_key_in_another_case(value: &Value) -> bool {
    let is_other =
        |key: &String| KEYS.iter().any(|known| key.eq_ignore_ascii_case(known) && key != known);
    match value {
        Value::Array(values) => values.iter().any(has_key_in_another_case),
        Value::Object(map) => map.keys().any(is_other) || map.values().any(has_key_in_another_case),
        _ => false,
    }
}

fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let numbers = [0, flags].into_iter().chain(counts);
    numbers.flat_map(u16::to_be_bytes).collect()
}

fn push_question(out: &mut Vec<u8>, name: &str, kind: u16) -> Result<(), DnsFault> {
    push_name(out, name)?;
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    Ok(())
}

fn push_record(out: &mut Vec<u8>, record: &Record) -> Result<(), DnsFault> {
    push_question(out, &record.name, record.kind)?;
    out.extend(record.ttl.to_be_bytes());
    let data = data(record.kind, record.data.trim())?;
    out.extend(u16::try_from(data.len()).map_err(|_| DnsFault::Long)?.to_be_bytes());
    out.extend(data);
    Ok(())
}

/// The data of a record. Those of types that no rule reads into stay the text that they are.
fn data(kind: u16, text: &str) -> Result<Vec<u8>, DnsFault> {
    let mut out = Vec::new();
    let mut words = text.split_ascii_whitespace();
    // Numbers, each of so many bytes, and names.
    let mut numbers = |out: &mut Vec<u8>, sizes: &[usize]| {
        for size in sizes {
            let number: u32 =
                words.next().and_then(|word| word.parse().ok()).ok_or(DnsFault::Malformed)?;
            out.extend(&number.to_be_bytes()[4 - size..]);
        }
        Ok(words.next().unwrap_or_default())
    };
    match kind {
        1 => {
            let address: Ipv4Addr = text.parse().map_err(|_| DnsFault::Malformed)?;
            out.extend(address.octets());
        }
        28 => {
            let address: Ipv6Addr = text.parse().map_err(|_| DnsFault::Malformed)?;
            out.extend(address.octets());
        }
        2 | 5 | 12 => push_name(&mut out, text)?,
        6 => {
            let words: Vec<_> = text.split_ascii_whitespace().collect();
            let [master, mailbox, numbers @ ..] = &words[..] else {
                return Err(DnsFault::Malformed);
            };
            push_name(&mut out, master)?;
            push_mailbox(&mut out, mailbox)?;
            for at in 0..5 {
                let number: u32 =
                    numbers.get(at).and_then(|n| n.parse().ok()).ok_or(DnsFault::Malformed)?;
                out.extend(number.to_be_bytes());
            }
        }
        15 => {
            let name = numbers(&mut out, &[2])?;
            push_name(&mut out, name)?;
        }
        16 => {
            for part in texts(text) {
                for piece in part.as_bytes().chunks(255) {
                    out.push(piece.len() as u8);
                    out.extend(piece);
                }
            }
        }
        33 => {
            let name = numbers(&mut out, &[2, 2, 2])?;
            push_name(&mut out, name)?;
        }
        41 => {}
        44 => {
            out.extend([0, 0]);
            out.extend(text.as_bytes());
        }
        _ => out.extend(text.as_bytes()),
    }
    Ok(out)
}

/// The strings of a TXT record: in quotes, or all of it.
fn texts(text: &str) -> Vec<&str> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inside) => inside.split("\" \"").collect(),
        None => vec![text],
    }
}

/// A name without compression. Escapes, and letters that stand for others, are read in more ways than one.
fn push_name(out: &mut Vec<u8>, name: &str) -> Result<(), DnsFault> {
    if !name.is_ascii() || name.contains('\\') {
        return Err(DnsFault::Malformed);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    for label in name.split('.').filter(|_| !name.is_empty()) {
        push_label(out, label.as_bytes())?;
    }
    out.push(0);
    Ok(())
}

/// A mailbox as a name (RFC 1035 section 8), whose first label may have dots, which are escaped.
fn push_mailbox(out: &mut Vec<u8>, name: &str) -> Result<(), DnsFault> {
    let Some(last) = name.rfind("\\.") else { return push_name(out, name) };
    let end = name[last + 2..].find('.').map_or(name.len(), |dot| last + 2 + dot);
    let (user, domain) = name.split_at(end);
    if !user.is_ascii() || user.replace("\\.", "").contains(['.', '\\']) {
        return Err(DnsFault::Malformed);
    }
    push_label(out, user.replace("\\.", ".").as_bytes())?;
    push_name(out, domain.strip_prefix('.').unwrap_or_default())
}

fn push_label(out: &mut Vec<u8>, label: &[u8]) -> Result<(), DnsFault> {
    let length = u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n));
    out.push(length.ok_or(DnsFault::Malformed)?);
    out.extend(label);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_read_in_more_ways_than_one_are_refused() {
        let of = |name: &str, kind: u16, data: &str| {
            let record = serde_json::json!({"name": name, "type": kind, "TTL": 1, "data": data});
            response(serde_json::json!({"Answer": [record]}).to_string().as_bytes())
        };
        for odd in ["b\\097d.test", "b\\.d.test", "b\u{3002}test", "\u{ff45}vil.test"] {
            assert_eq!(query(odd.as_bytes(), None), Err(DnsFault::Malformed), "{odd}");
            assert_eq!(of(odd, 1, "192.0.2.1"), Err(DnsFault::Malformed), "{odd}");
            assert_eq!(of("a.test", 5, odd), Err(DnsFault::Malformed), "{odd}");
            assert_eq!(of("a.test", 15, &format!("10 {odd}")), Err(DnsFault::Malformed), "{odd}");
        }
        let soa = |mailbox: &str| of("test", 6, &format!("n.test. {mailbox} 1 2 3 4 5"));
        let has = |message: &Message, label: &[u8]| {
            message.bytes().windows(label.len()).any(|bytes| bytes == label)
        };
        assert!(has(&soa("host\\.master.test.").unwrap(), b"\x0bhost.master\x04test\0"));
        assert!(has(&soa("hostmaster.test.").unwrap(), b"\x0ahostmaster\x04test\0"));
        assert_eq!(soa("host\\097.test."), Err(DnsFault::Malformed));
        assert_eq!(soa("h.b\\.d.test."), Err(DnsFault::Malformed));
    }

    #[test]
    fn a_response_becomes_the_message_that_it_stands_for() {
        let text = br#"{"Status":0,"TC":false,"Question":[{"name":"a.test.","type":1}],"Answer":[
            {"name":"a.test.","type":5,"TTL":60,"data":"b.test."},
            {"name":"b.test","type":1,"TTL":60,"data":"192.0.2.1"},
            {"name":"b.test","type":16,"TTL":60,"data":"\"one\" \"two\""},
            {"name":"b.test","type":15,"TTL":60,"data":"10 mail.test."}],
            "Authority":[{"name":"test","type":6,"TTL":1,"data":"n.test. m.test. 1 2 3 4 5"}]}"#;
        let message = response(text).unwrap();
        assert_eq!(message.bytes()[..12], [0, 0, 0x81, 0x80, 0, 1, 0, 4, 0, 1, 0, 0]);
        assert!(message.bytes().windows(8).any(|w| w == b"\x03one\x03two"));
        assert_eq!(response(b"{"), Err(DnsFault::Json));
        assert_eq!(response(br#"{"Answer":[],"Answer":[]}"#), Err(DnsFault::Json), "said twice");
    }
}
