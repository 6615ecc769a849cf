//! An origin that has one file and sends parts of it, rightly or in some wrong way, by the path that it
//! is asked for.

use std::io::Write;

use super::Origin;

/// Bytes in which no stretch repeats.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Letters, so that what is shown of it can be read.
        b'a' + (state >> 32) as u8 % 26
    };
    (0..length).map(|_| byte()).collect()
}

/// An origin of `file`.
///
/// Paths: `/f` as it should be; `/whole` knows no parts; `/single` knows one part in an answer;
/// `/short` sends at most 10,000 bytes; `/exact` sends what is asked for less 100 bytes at the front;
/// `/chunked` without length; `/star` without the total; `/shuffled` parts in reverse;
/// `/changed` another version, for If-Range; `/coded` parts of something coded; others by name below.
pub fn origin(file: Vec<u8>) -> Origin {
    Origin::start(move |asked| {
        while let Some(head) = asked.head() {
            if asked.stream.write_all(&answer(&file, &head)).is_err() {
                return;
            }
        }
    })
}

/// The value of a field.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The ranges that a request asks for, as they are in a file of that length; `None` for all of it.
fn ranges(head: &str, length: usize) -> Option<Vec<(usize, usize)>> {
    let set = field(head, "Range")?.strip_prefix("bytes=")?;
    let one = |spec: &str| {
        let (first, last) = spec.split_once('-').unwrap();
        if first.is_empty() {
            let n: usize = last.parse().unwrap();
            return (n > 0 && length > 0).then(|| (length - n.min(length), length - 1));
        }
        let first: u64 = first.parse().unwrap();
        let last = if last.is_empty() { u64::MAX } else { last.parse().unwrap() };
        (first < length as u64).then(|| (first as usize, last.min(length as u64 - 1) as usize))
    };
    Some(set.split(',').filter_map(one).collect())
}

fn answer(file: &[u8], head: &str) -> Vec<u8> {
    let mut words = head.split(' ');
    let method = words.next().unwrap();
    let path = words.next().unwrap().split('?').next().unwrap();
    let content = |bytes: &[u8]| if method == "HEAD" { Vec::new() } else { bytes.to_vec() };
    let whole = |fields: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\nContent-Type: text/x\r\n\
             {fields}Content-Length: {}\r\n\r\n",
            file.len()
        );
        [head.into_bytes(), content(file)].concat()
    };
    let changed = path == "/changed" && field(head, "If-Range").is_some_and(|tag| tag != "\"a\"");
    let Some(mut ranges) = ranges(head, file.len()).filter(|_| path != "/whole" && !changed) else {
        return whole(if path == "/coded" { "Content-Encoding: gzip\r\n" } else { "" });
    };
    let total = if path == "/star" { "*".to_owned() } else { file.len().to_string() };
    if ranges.is_empty() {
        return format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes();
    }
    match path {
        "/single" => ranges.truncate(1),
        "/short" => ranges.iter_mut().for_each(|(first, last)| *last = (*last).min(*first + 9_999)),
        "/exact" => ranges.iter_mut().for_each(|(first, _)| *first += 100),
        "/shuffled" => ranges.reverse(),
        _ => {}
    }
    if let [(first, last)] = ranges[..]
        && path != "/several"
    {
        let bytes = &file[first..=last];
        let length = format!("Content-Length: {}\r\n", bytes.len());
        let range = format!("Content-Range: bytes {first}-{last}/{total}\r\n");
        let fields = match path {
            "/chunked" => format!("{range}Transfer-Encoding: chunked\r\n"),
            "/coded" => format!("{range}{length}Content-Encoding: gzip\r\n"),
            "/digest" => {
                format!("{range}{length}Content-Digest: a=:AA==:\r\nContent-MD5: AA==\r\n")
            }
            "/longer" => format!("{range}Content-Length: {}\r\n", bytes.len() + 1),
            "/nameless" => length,
            "/nonsense" => format!("Content-Range: bytes {last}-{first}/{total}\r\n{length}"),
            "/twice" => format!("{range}{range}{length}"),
            "/unit" => format!("Content-Range: lines {first}-{last}/{total}\r\n{length}"),
            "/beyond" => format!("Content-Range: bytes {first}-{last}/{last}\r\n{length}"),
            "/both" => format!("{range}Content-Type: multipart/byteranges; boundary=x\r\n{length}"),
            _ => format!("{range}Content-Type: text/x\r\n{length}"),
        };
        let head = format!("HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\n{fields}\r\n");
        return match path {
            "/chunked" if method != "HEAD" => {
                let (a, b) = bytes.split_at(bytes.len() / 2);
                let chunk = |bytes: &[u8]| match bytes {
                    [] => Vec::new(),
                    _ => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
                };
                [head.into_bytes(), chunk(a), chunk(b), b"0\r\n\r\n".to_vec()].concat()
            }
            "/longer" => [head.into_bytes(), content(bytes), b"+".to_vec()].concat(),
            _ => [head.into_bytes(), content(bytes)].concat(),
        };
    }
    let mut body = if path == "/bare" { Vec::new() } else { b"\r\n".to_vec() };
    for (at, (first, last)) in ranges.iter().enumerate() {
        let total = if path == "/totals" && at > 0 { "999999999" } else { &*total };
        let type_of_it = "Content-type: text/x\r\n";
        let head = match path {
            "/unnamed" => format!("--b+=\r\n{type_of_it}\r\n"),
            "/torn" => format!(
                "--b+=\r\n{type_of_it}Content-Range: bytes {first}-{}/{total}\r\n\r\n",
                last - 1
            ),
            _ => {
                format!("--b+=\r\n{type_of_it}content-range: bytes {first}-{last}/{total}\r\n\r\n")
            }
        };
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&file[*first..=*last]);
        body.extend_from_slice(b"\r\n");
    }
    if path != "/unended" {
        body.extend_from_slice(b"--b+=--\r\n");
    }
    let kind = if path == "/unbound" {
        "multipart/byteranges"
    } else {
        "multipart/byteranges; boundary=\"b+=\""
    };
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), content(&body)].concat()
}

/// The parts of a `multipart/byteranges`: what `Content-Range` says, and the content.
pub fn parts(kind: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let boundary = kind.split_once("boundary=").unwrap().1.trim_matches('"');
    let find = |from: usize, what: &str| {
        let at = body[from..].windows(what.len()).position(|w| w == what.as_bytes());
        from + at.unwrap_or_else(|| panic!("no {what:?} from {from} on"))
    };
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    let mut at = find(0, &delimiter) + delimiter.len();
    assert_eq!(at, delimiter.len());
    while !body[at..].starts_with(b"--") {
        let content = find(at, "\r\n\r\n") + 4;
        let head = String::from_utf8(body[at..content].to_vec()).unwrap();
        assert_eq!(field(&head, "Content-Type"), Some("text/x"), "{head}");
        let end = find(content, &delimiter);
        let range = field(&head, "Content-Range").unwrap().to_owned();
        parts.push((range, body[content..end].to_vec()));
        at = end + delimiter.len();
    }
    assert_eq!(&body[at..], b"--\r\n");
    parts
}
