//! What the fuzz target compares: a client of mail, and the engine, as simple as they can be written.

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

/// The coding of a body.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    Base64,
    #[default]
    Plain,
    QuotedPrintable,
}

/// The lines of a text without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn base64(text: &[u8], stops_at_padding: bool) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut decoded) = (0u32, 0, Vec::new());
    for byte in text {
        match DIGITS.iter().position(|digit| digit == byte) {
            Some(value) => {
                bits = bits << 6 | value as u32;
                count += 6;
                if count >= 8 {
                    count -= 8;
                    decoded.push((bits >> count) as u8);
                }
            }
            None if *byte == b'=' && stops_at_padding => break,
            None => {}
        }
    }
    decoded
}

/// As text, so that it does not matter how lines end.
fn text(mut body: Vec<u8>) -> Vec<u8> {
    body.retain(|&b| b != b'\r');
    while body.last() == Some(&b'\n') {
        body.pop();
    }
    body
}

/// What a client shows of a mail: the bodies of its parts.
pub fn client(mail: &[u8]) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> =
        lines(mail).map(|line| line.strip_prefix(b".").unwrap_or(line)).collect();
    let mut bodies = Vec::new();
    entity(&lines, false, 0, &mut bodies);
    bodies
}

fn entity(lines: &[&[u8]], is_mail: bool, depth: usize, bodies: &mut Vec<Vec<u8>>) {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at).filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|&b| b == b':').unwrap_or(0);
        if matches!(line[0], b' ' | b'\t') && at > 0 {
            if let Some((_, value)) = fields.last_mut() {
                value.extend_from_slice(line);
            }
        } else if line.contains(&b':') && line[..colon].iter().all(u8::is_ascii_graphic) {
            fields.push((line[..colon].to_ascii_lowercase(), line[colon + 1..].to_vec()));
        } else if !(at == 0 && (line.starts_with(b"From ") || line.starts_with(b">From "))) {
            break;
        }
        at += 1;
    }
    let body = lines.get(at..).unwrap_or_default();
    let body = if body.first().is_some_and(|line| line.is_empty()) { &body[1..] } else { body };
    let field =
        |name: &[u8]| fields.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..]);
    let default: &[u8] = if is_mail { b"message/rfc822" } else { b"text/plain" };
    let given = field(b"content-type").unwrap_or(default);
    let kind =
        given.split(|&b| b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    if depth > 80 {
        return;
    }
    if kind.starts_with(b"multipart/") {
        let Some(boundary) = boundary(given) else { return };
        let delimiter = [b"--", &boundary[..]].concat();
        let mut part: Option<Vec<&[u8]>> = None;
        for line in body {
            let Some(rest) = line.strip_prefix(&delimiter[..]).map(<[u8]>::trim_ascii_end) else {
                part.iter_mut().for_each(|part| part.push(line));
                continue;
            };
            let is_delimiter = rest.is_empty()
                || rest.strip_prefix(b"--").is_some_and(|rest| rest.trim_ascii().is_empty());
            if !is_delimiter {
                part.iter_mut().for_each(|part| part.push(line));
                continue;
            }
            if let Some(part) = part.replace(Vec::new()) {
                entity(&part, kind.starts_with(b"multipart/digest"), depth + 1, bodies);
            }
            if !rest.is_empty() {
                return;
            }
        }
        if let Some(part) = part {
            entity(&part, kind.starts_with(b"multipart/digest"), depth + 1, bodies);
        }
    } else if kind.starts_with(b"message/") {
        entity(body, false, depth + 1, bodies);
    } else {
        let coding = field(b"content-transfer-encoding")
            .unwrap_or_default()
            .trim_ascii()
            .to_ascii_lowercase();
        bodies.push(if coding.starts_with(b"base64") {
            base64(&body.concat(), true)
        } else if coding.starts_with(b"quoted-printable") {
            text(quoted(body))
        } else {
            // Dots in front can't be shown to the engine in any other way than they came.
            text(body.iter().map(|line| undotted(line)).collect::<Vec<_>>().join(&b'\n'))
        });
    }
}

fn undotted(line: &[u8]) -> &[u8] {
    &line[line.iter().take_while(|&&b| b == b'.').count()..]
}

fn boundary(value: &[u8]) -> Option<Vec<u8>> {
    let (mut is_quoted, mut parameters) = (false, vec![Vec::new()]);
    for &byte in value {
        is_quoted ^= byte == b'"';
        match byte {
            b';' if !is_quoted => parameters.push(Vec::new()),
            _ => parameters.last_mut()?.push(byte),
        }
    }
    parameters.iter().skip(1).find_map(|parameter| {
        let equals = parameter.iter().position(|&b| b == b'=')?;
        let (name, value) =
            (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
        let value =
            value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        name.eq_ignore_ascii_case(b"boundary").then(|| value.to_vec())
    })
}

fn quoted(lines: &[&[u8]]) -> Vec<u8> {
    let mut decoded = Vec::new();
    for line in lines {
        let line = line.trim_ascii_end();
        let (line, is_soft) = match line.strip_suffix(b"=") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let mut at = 0;
        while at < line.len() {
            let digits =
                line.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
            let byte = digits
                .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|d| u8::from_str_radix(d, 16).ok());
            match (line[at], byte) {
                (b'=', Some(byte)) => {
                    decoded.push(byte);
                    at += 3;
                }
                (byte, _) => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        if !is_soft {
            decoded.push(b'\n');
        }
    }
    decoded
}

/// What the engine looks into of what it is shown, as Suricata's `rust/src/mime/smtp.rs` and the shim's `mail.c` read it.
pub fn engine(shown: &[u8]) -> Vec<Vec<u8>> {
    let mut engine = Engine::default();
    for line in lines(shown) {
        if line == b"." {
            break;
        }
        engine.line(line);
    }
    engine.restart(false);
    engine.files
}

#[derive(Default)]
struct Engine {
    is_in_body: bool,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    boundaries: Vec<Vec<u8>>,
    coding: Coding,
    is_file: bool,
    body: Vec<Vec<u8>>,
    files: Vec<Vec<u8>>,
}

impl Engine {
    fn line(&mut self, line: &[u8]) {
        if self.is_in_body {
            if let Some(boundary) = self.boundaries.last()
                && let Some(rest) = line.strip_prefix(&boundary[..])
            {
                if rest.starts_with(b"--") {
                    self.boundaries.pop();
                }
                self.restart(true);
            } else if self.is_file {
                self.body.push(line.to_vec());
            }
        } else if line.is_empty() {
            if !self.fields.is_empty() {
                self.complete();
            }
            self.process();
        } else if !self.fields.is_empty() && matches!(line[0], b' ' | b'\t') {
            let last = self.fields.len() - 1;
            self.fields[last].1.extend_from_slice(&line[1..]);
        } else if let Some(colon) = line.iter().position(|&b| b == b':') {
            let is_blank = |b: &&u8| matches!(**b, b' ' | b'\t' | b'\r' | b'\n');
            let before = line[colon + 1..].iter().take_while(is_blank).count();
            self.fields
                .push((line[..colon].to_ascii_lowercase(), line[colon + 1 + before..].to_vec()));
        }
    }

    /// A body ends.
    fn restart(&mut self, is_at_boundary: bool) {
        let body = std::mem::take(&mut self.body);
        if self.is_file {
            self.files.push(match self.coding {
                Coding::Base64 => {
                    let digits: Vec<u8> = body
                        .concat()
                        .into_iter()
                        .filter(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b))
                        .collect();
                    // What is left of four is decoded at a boundary only.
                    let whole = if is_at_boundary { digits.len() } else { digits.len() / 4 * 4 };
                    base64(&digits[..whole], false)
                }
                Coding::Plain => {
                    text(body.iter().map(|line| undotted(line)).collect::<Vec<_>>().join(&b'\n'))
                }
                Coding::QuotedPrintable => text(strict(&body)),
            });
        }
        (self.is_in_body, self.is_file, self.coding) = (false, false, Coding::Plain);
        self.fields.clear();
    }

    fn process(&mut self) {
        let mut is_mail = false;
        for (name, value) in &self.fields {
            match &name[..] {
                b"content-disposition" => {
                    self.is_file |= token(value, b"filename").is_some_and(|name| !name.is_empty())
                }
                b"content-transfer-encoding" if value.eq_ignore_ascii_case(b"base64") => {
                    self.coding = Coding::Base64
                }
                b"content-transfer-encoding" if value.eq_ignore_ascii_case(b"quoted-printable") => {
                    self.coding = Coding::QuotedPrintable;
                }
                b"content-type" => {
                    self.is_file |= token(value, b"name").is_some_and(|name| !name.is_empty());
                    self.boundaries.extend(
                        token(value, b"boundary").map(|boundary| [b"--", &boundary[..]].concat()),
                    );
                    is_mail |= value.starts_with(b"message/");
                }
                _ => {}
            }
        }
        if is_mail {
            self.is_file = false;
            self.restart(false);
        } else {
            self.is_in_body = true;
        }
    }

    /// What the shim adds to a head.
    fn complete(&mut self) {
        let find = |name: &[u8]| {
            self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        };
        let mut added: Vec<(&[u8], Vec<u8>)> = Vec::new();
        let coding = find(b"content-transfer-encoding").unwrap_or_default();
        let trimmed = coding.trim_ascii_start();
        for name in [&b"base64"[..], b"quoted-printable"] {
            let begins =
                trimmed.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
            let behind = trimmed.get(name.len());
            let has_more = behind.is_some_and(|b| b" \t;(".contains(b));
            if begins && (has_more || (behind.is_none() && trimmed.len() < coding.len())) {
                added.push((b"content-transfer-encoding", name.to_vec()));
            }
        }
        let given = find(b"content-type").unwrap_or_default();
        let kind = given.trim_ascii_start();
        let begins = |with: &[u8]| {
            kind.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
        };
        if begins(b"multipart/") {
            for at in 0..kind.len() {
                let Some(rest) = kind
                    .get(at + 8..)
                    .filter(|_| kind[at..at + 8].eq_ignore_ascii_case(b"boundary"))
                else {
                    continue;
                };
                let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                if rest.get(blanks) == Some(&b'=') {
                    if blanks > 0 || &kind[at..at + 8] != b"boundary" {
                        added.push((
                            b"content-type",
                            [b"multipart/mixed; boundary", &rest[blanks..]].concat(),
                        ));
                    }
                    break;
                }
            }
        } else if begins(b"message/") {
            added.push((b"content-type", b"message/rfc822".to_vec()));
        } else {
            added.push((b"content-disposition", b"attachment; filename=unnamed".to_vec()));
        }
        self.fields.extend(added.into_iter().map(|(name, value)| (name.to_vec(), value)));
    }
}

/// A parameter, as `mime_find_header_token` finds it.
fn token(value: &[u8], wanted: &[u8]) -> Option<Vec<u8>> {
    let mut rest = &value[value.iter().position(|&b| b == b';')? + 1..];
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        rest = rest.trim_ascii_start();
        let Some(equals) = rest.iter().position(|&b| b == b'=') else { break };
        let name = &rest[..equals];
        rest = &rest[equals + 1..];
        let quoted = rest.strip_prefix(b"\"").and_then(|text| {
            let mut is_escaped = false;
            let end = text.iter().position(|&b| {
                let is_end = b == b'"' && !is_escaped;
                is_escaped = b == b'\\';
                is_end
            })?;
            Some((&text[..end], &text[end + 1..]))
        });
        let (given, behind) = quoted.unwrap_or_else(|| {
            let end = rest.iter().position(|&b| b == b';').unwrap_or(rest.len());
            (rest[..end].trim_ascii_end(), &rest[end..])
        });
        tokens.push((name, given));
        let behind = behind.trim_ascii_start();
        rest = behind.strip_prefix(b";").unwrap_or(behind);
    }
    let find = |name: &[u8]| {
        tokens.iter().rev().find(|(other, _)| *other == name).map(|(_, given)| given.to_vec())
    };
    find(wanted).or_else(|| {
        let numbered =
            |number: usize| find(&[wanted, b"*", number.to_string().as_bytes()].concat());
        numbered(0)?;
        Some((0..).map_while(numbered).flatten().collect())
    })
}

fn strict(lines: &[Vec<u8>]) -> Vec<u8> {
    let hex = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let mut decoded = Vec::new();
    for line in lines {
        let (mut at, mut is_soft) = (0, false);
        while at < line.len() {
            if line[at] != b'=' {
                decoded.push(line[at]);
                at += 1;
                continue;
            }
            if at + 1 == line.len() {
                is_soft = true;
                break;
            }
            if at + 2 >= line.len() {
                break;
            }
            if let (Some(high), Some(low)) = (hex(line[at + 1]), hex(line[at + 2])) {
                decoded.push(high << 4 | low);
            }
            at += 3;
        }
        if !is_soft {
            decoded.push(b'\n');
        }
    }
    decoded
}
