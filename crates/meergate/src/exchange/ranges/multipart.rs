//! `multipart/byteranges` as an origin sends it (RFC 9110 section 14.6). Lengths are known from each
//! part's `Content-Range`, so a boundary is expected where a part ends, and never looked for.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use http_wire::Fields;

use super::ask::{Part, Span};
use super::content_range::ContentRange;
use super::misfit::Misfit;
use super::stretches::{Run, Writer};

/// Longest head of a part, with the boundary before it.
const MAX_HEAD: usize = 8 * 1024;

/// What stands between parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boundary(Vec<u8>);

/// The boundary that a content type names: `None` if it is not about several parts, and none in it if
/// the boundary can't be read.
pub(super) fn boundary(kind: &[u8]) -> Option<Option<Boundary>> {
    let mut parameters = kind.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let name = parameters.next().unwrap_or_default();
    let several: [&[u8]; 2] = [b"multipart/byteranges", b"multipart/x-byteranges"];
    if !several.iter().any(|several| several.eq_ignore_ascii_case(name)) {
        return None;
    }
    let mut boundaries = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_at_checked(b"boundary=".len())?;
        name.eq_ignore_ascii_case(b"boundary=").then_some(value)
    });
    let (Some(value), None) = (boundaries.next(), boundaries.next()) else { return Some(None) };
    let value = match value {
        [b'"', quoted @ .., b'"'] => quoted,
        token => token,
    };
    // RFC 2046 section 5.1.1, without the space.
    let allowed = |&b: &u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&b);
    let sound = (1..=70).contains(&value.len()) && value.iter().all(allowed);
    Some(sound.then(|| Boundary(value.to_vec())))
}

/// Several parts on their way, and what is wanted of them.
pub(super) struct Parts {
    part: Part,
    /// A line end, two hyphens, the boundary.
    delimiter: Vec<u8>,
    state: State,
    /// Of the first part; the others agree.
    total: Option<Option<u64>>,
    /// Stretches that have gone on, or are about to.
    done: Vec<Span>,
}

enum State {
    /// Inside a part.
    Content(Run),
    /// What may come is of no interest.
    Done,
    /// Between two parts, with so much of the next one's head.
    Head(BytesMut),
}

impl Parts {
    pub(super) fn new(part: Part, boundary: Boundary) -> Self {
        let delimiter = [b"\r\n--", &boundary.0[..]].concat();
        // The line end before the first boundary may be missing.
        let state = State::Head(BytesMut::from(&b"\r\n"[..]));
        Self { part, delimiter, state, total: None, done: Vec::new() }
    }

    /// Whether the last boundary has come, and something for the client before it.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Done) && !self.done.is_empty()
    }

    pub(super) fn take(
        &mut self,
        mut data: Bytes,
        writer: &Writer,
        out: &mut VecDeque<Bytes>,
    ) -> Result<(), Misfit> {
        while !data.is_empty() {
            match &mut self.state {
                State::Done => return Ok(()),
                State::Content(run) => {
                    run.take(&mut data, writer, out);
                    if run.is_over() {
                        self.state = State::Head(BytesMut::new());
                    }
                }
                State::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(&data[..data.len().min(MAX_HEAD)]);
                    let Some((length, lines)) = delimited(head, before, &self.delimiter)? else {
                        if head.len() > MAX_HEAD {
                            return Err(Misfit::TooLong);
                        }
                        data.advance(head.len() - before);
                        continue;
                    };
                    // Else it would have been whole before.
                    data.advance(length.saturating_sub(before));
                    self.state = match lines {
                        None => State::Done,
                        Some(lines) => {
                            let (range, kind) = describe(&head[lines.0..lines.1])?;
                            let spans = self.wanted_of(&range)?;
                            State::Content(Run::new(range, spans, kind))
                        }
                    };
                }
            }
        }
        Ok(())
    }

    /// What goes on of a part: what is wanted and has not gone on before.
    fn wanted_of(&mut self, range: &ContentRange) -> Result<Vec<Span>, Misfit> {
        if *self.total.get_or_insert(range.total) != range.total {
            return Err(Misfit::Lengths);
        }
        let wanted = self.part.resolve(range.total).ok_or(Misfit::NoLength)?;
        let mut spans = Vec::new();
        for span in wanted {
            if !self.done.contains(&span)
                && let Some(inside) = range.inside(span, self.part.overlap())
            {
                self.done.push(span);
                spans.push(inside);
            }
        }
        Ok(spans)
    }
}

/// Where lines begin and end.
type Lines = (usize, usize);

/// The delimiter and the head of the part behind it, if all of that is there: its length, and where
/// the lines of the head are, or none after the last part. It was not there in the first `before` bytes.
fn delimited(
    text: &[u8],
    before: usize,
    delimiter: &[u8],
) -> Result<Option<(usize, Option<Lines>)>, Misfit> {
    if text.len() < 4 && b"\r\n\r\n".starts_with(text) {
        return Ok(None);
    }
    // The line end that was put before the first one may be there in truth.
    let skipped = if text.starts_with(b"\r\n\r\n") { 2 } else { 0 };
    let line = &text[skipped..];
    let known = line.len().min(delimiter.len());
    if line[..known] != delimiter[..known] {
        return Err(Misfit::NoBoundary);
    }
    let rest = &line[known..];
    if rest.len() < 2 {
        return Ok(None);
    }
    let at = skipped + delimiter.len();
    if rest.starts_with(b"--") {
        return Ok(Some((at + 2, None)));
    }
    // Padding is allowed there, and nobody sends any.
    if !rest.starts_with(b"\r\n") {
        return Err(Misfit::BehindBoundary);
    }
    let begin = at + 2;
    // An empty line closes the head; what was looked at is not looked at again with each byte.
    let from = at.max(before.saturating_sub(3));
    let found = text.get(from..).unwrap_or_default().windows(4).position(|w| w == b"\r\n\r\n");
    Ok(found.map(|found| {
        let end = from + found + 4;
        (end, Some((begin, end - 2)))
    }))
}

/// The range and the type that the head of a part names.
fn describe(lines: &[u8]) -> Result<(ContentRange, Option<Vec<u8>>), Misfit> {
    let (mut range, mut kind, mut length) = (None, None, 0);
    for field in Fields::new(lines) {
        length += field.line.len();
        if field.value.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
            return Err(Misfit::ControlCharacter);
        }
        let place = if field.is("Content-Range") {
            &mut range
        } else if field.is("Content-Type") {
            &mut kind
        } else {
            continue;
        };
        if place.replace(field.value.to_vec()).is_some() {
            return Err(Misfit::Twice);
        }
    }
    if length != lines.len() {
        return Err(Misfit::Malformed);
    }
    let range = range.as_deref().and_then(ContentRange::parse);
    Ok((range.ok_or(Misfit::Unnamed)?, kind))
}

#[cfg(test)]
mod tests {
    use super::super::cut::Pieces;
    use super::super::{Asked, ask::read};
    use super::*;

    const OVERLAP: usize = 10;

    fn wanted(value: &str) -> Part {
        match read(value.as_bytes(), OVERLAP as u64) {
            Asked::Wider(part) => part,
            _ => panic!("{value}"),
        }
    }

    /// What becomes of `body`, taken in pieces of these lengths, and the boundary of what does.
    fn cut(
        part: &Part,
        body: &[u8],
        mut length: impl FnMut() -> usize,
    ) -> Option<(String, Vec<u8>)> {
        let mut pieces = Pieces::of_several(part.clone(), Boundary(b"b".to_vec()));
        let mut out = VecDeque::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(length().clamp(1, rest.len()));
            pieces.take(Bytes::copy_from_slice(piece), &mut out).ok()?;
            rest = behind;
        }
        pieces.end(&mut out).ok()?;
        let boundary = pieces.boundary()?.to_owned();
        Some((boundary, out.into_iter().flatten().collect()))
    }

    fn file() -> Vec<u8> {
        (0..1000_u32).flat_map(|n| format!("{n:04}").into_bytes()).collect()
    }

    fn body(parts: &[(usize, usize)]) -> Vec<u8> {
        let file = file();
        let mut body = Vec::new();
        for (first, last) in parts {
            let head =
                format!("\r\n--b\r\nA: b\r\nContent-Range: bytes {first}-{last}/4000\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&file[*first..=*last]);
        }
        [&body[..], b"\r\n--b--\r\n"].concat()
    }

    #[test]
    fn parts_are_cut_however_they_come_in() {
        let part = wanted("bytes=100-109,1000-1999");
        let body = body(&[(90, 119), (990, 2009)]);
        let file = file();
        for length in [1, 2, 3, 7, 100, 10_000] {
            let (boundary, came) = cut(&part, &body, || length).unwrap();
            let expected = [
                format!("\r\n--{boundary}\r\nContent-Range: bytes 100-109/4000\r\n\r\n").as_bytes(),
                &file[100..=109],
                format!("\r\n--{boundary}\r\nContent-Range: bytes 1000-1999/4000\r\n\r\n")
                    .as_bytes(),
                &file[1000..=1999],
                format!("\r\n--{boundary}--\r\n").as_bytes(),
            ]
            .concat();
            assert!(came == expected, "{length}");
        }
        let long = [&b"\r\n--b\r\nA: "[..], &vec![b'a'; MAX_HEAD]].concat();
        assert!(cut(&part, &long, || 1).is_none());
        assert!(cut(&part, &long, || long.len()).is_none());
    }

    /// An origin may write what it wants: nothing of it goes on but the client's part of some range, and
    /// that is read in one way however it comes in.
    #[test]
    fn nothing_else_goes_on_whatever_comes() {
        let part = wanted("bytes=100-109,1000-1999");
        let sound = body(&[(90, 119), (990, 2009)]);
        let mut state = 1_u64;
        let mut below = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % most
        };
        let (mut whole, mut count) = (0, 0);
        for _ in 0..20_000 {
            let mut body = sound.clone();
            for _ in 0..=below(2) {
                // Where the heads are, more often than not.
                let at = [below(60), 100 + below(80), below(body.len())][below(3)];
                match below(3) {
                    0 => drop(body.remove(at)),
                    1 => body.insert(at, b"\r\n-b019:/ x"[below(11)]),
                    _ => body[at] = b"\r\n-b019:/ x"[below(11)],
                }
            }
            let at_once = cut(&part, &body, || usize::MAX);
            let in_pieces = cut(&part, &body, || 1 + below(9));
            assert_eq!(
                at_once.is_some(),
                in_pieces.is_some(),
                "{:?}",
                body.escape_ascii().to_string()
            );
            let (Some((one, came)), Some((other, same))) = (at_once, in_pieces) else { continue };
            let strip =
                |boundary: &str, text: &[u8]| String::from_utf8_lossy(text).replace(boundary, "b");
            assert_eq!(strip(&one, &came), strip(&other, &same));
            count += 1;
            let heads = 2 * "\r\n--\r\nContent-Range: bytes 1000-1999/40000\r\n\r\n".len() + 3 * 32;
            assert!(came.len() <= 10 + 1000 + heads + 8, "{}", came.len());
            whole += usize::from(came.len() > 1000);
        }
        assert!(whole > 0 && count < 20_000, "{whole} of {count}");
    }
}
