//! What a message says of its content, and so how that is to be read.

use content_coding::{Codings, Unsupported};
use http_wire::{AWS_CHUNKED, RequestHead, ResponseHead, names_no_coding};

use crate::inspection::metrics::Uninspected;
use crate::inspection::refusal::Refusal;
use crate::settings::{ContentSettings, Policy};

/// How the content of a message is to be read.
#[derive(Debug)]
pub(crate) enum Reading {
    /// As it is; what for it counts as uninspected all the same.
    AsIs(Option<Uninspected>),
    /// With these codings undone.
    Decoded(Codings),
}

impl Reading {
    /// The codings that are undone.
    pub(crate) fn codings(&self) -> Option<&Codings> {
        match self {
            Self::AsIs(_) => None,
            Self::Decoded(codings) => Some(codings),
        }
    }
}

impl ContentSettings {
    /// How the content of a request is to be read.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) fn request(&self, head: &RequestHead) -> Result<Reading, Refusal> {
        let is_part = head.all("Content-Range").any(|field| is_part(field.value));
        let part = match is_part || is_resumable(head) {
            true => Part::Torn,
            false => Part::None,
        };
        let codings: Vec<&[u8]> = head.all("Content-Encoding").map(|field| field.value).collect();
        // By this S3 knows the chunks. Some have the other field of what is stored, and none.
        if !head.all("x-amz-content-sha256").any(|field| field.value.starts_with(b"STREAMING-")) {
            let part = if is_part_for_s3(head) { Part::Torn } else { part };
            return Ok(match self.reading(&codings, part)? {
                Reading::AsIs(None) if may_be_in_chunks(head) => {
                    Reading::AsIs(Some(Uninspected::Coding))
                }
                reading => reading,
            });
        }
        // Empty elements too, which stand beside a coding otherwise than alone.
        let members = codings.iter().flat_map(|value| value.split(|byte| *byte == b','));
        let framings = members.clone().filter(|name| is_framing(name.trim_ascii())).count();
        let others: Vec<&[u8]> =
            members.map(<[u8]>::trim_ascii).filter(|name| !is_framing(name)).collect();
        Ok(match self.reading(&others, part)? {
            Reading::AsIs(None) => Reading::Decoded(Codings::default().in_aws_chunks()),
            Reading::Decoded(codings) => Reading::Decoded(codings.in_aws_chunks()),
            counted @ Reading::AsIs(Some(_)) => counted,
        })
        .map(|reading| match framings {
            0 | 1 => reading,
            // Who undoes it twice reads something else.
            _ => Reading::AsIs(Some(Uninspected::Coding)),
        })
    }

    /// How to read the content of a response. `overlap`: the ICAP client shows us at least so many
    /// bytes on each side of what its own client gets (`X-Range-Overlap`).
    ///
    /// # Errors
    /// It is refused.
    pub(crate) fn response(
        &self,
        head: &ResponseHead,
        overlap: Option<u64>,
    ) -> Result<Reading, Refusal> {
        // Some clients join parts whatever the status.
        let mut ranges = head.all("Content-Range").peekable();
        let is_part = match ranges.peek() {
            Some(_) => ranges.any(|field| is_part(field.value)),
            None => head.status() == 206,
        };
        let part = match (is_part, overlap) {
            (false, _) => Part::None,
            (true, None | Some(0)) => Part::Torn,
            (true, Some(_)) => Part::Overlapping,
        };
        let codings: Vec<&[u8]> = head.all("Content-Encoding").map(|field| field.value).collect();
        self.reading(&codings, part)
    }

    fn reading(&self, codings: &[&[u8]], part: Part) -> Result<Reading, Refusal> {
        let undecoded = |refusal| match self.other_codings {
            Policy::Block => Err(refusal),
            Policy::Pass => Ok(Reading::AsIs(Some(Uninspected::Coding))),
        };
        let framed = codings.iter().copied().flat_map(http_wire::tokens).any(is_framing);
        match (parse(codings), part) {
            (Err(unsupported), _) => undecoded(Refusal::Coding(unsupported)),
            // What lies across two of its chunks no rule sees.
            (Ok(codings), Part::None | Part::Overlapping) if codings.is_identity() => {
                Ok(Reading::AsIs(framed.then_some(Uninspected::Coding)))
            }
            (Ok(codings), Part::None) => Ok(Reading::Decoded(codings)),
            (_, Part::Torn) if self.parts == Policy::Block => Err(Refusal::Part),
            (Ok(codings), Part::Torn) if codings.is_identity() => {
                Ok(Reading::AsIs(Some(Uninspected::Range)))
            }
            // From somewhere in the midst of it nothing can be decoded.
            (Ok(_), Part::Overlapping | Part::Torn) => undecoded(Refusal::Part),
        }
    }
}

/// Whether a message brings a part of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// No, or all of it.
    None,
    /// One that shows more than is delivered of it.
    Overlapping,
    /// One of which the neighbours may hold the rest of what a rule looks for.
    Torn,
}

/// The codings of all Content-Encoding fields.
fn parse(values: &[&[u8]]) -> Result<Codings, Unsupported> {
    let mut names = values.iter().copied().flat_map(http_wire::tokens);
    match names.all(|name| names_no_coding(name) || is_framing(name)) {
        true => Ok(Codings::default()),
        false => Codings::parse(values.iter().copied()),
    }
}

/// Whether some servers may take the content for chunks of AWS, though it is not certain.
fn may_be_in_chunks(head: &RequestHead) -> bool {
    let names = |text: &[u8]| text.windows(10).any(|part| part.eq_ignore_ascii_case(b"STREAMING-"));
    let is_sign = |name: &[u8], value: &[u8]| {
        let ends = |end: &[u8]| {
            name.len() >= end.len() && name[name.len() - end.len()..].eq_ignore_ascii_case(end)
        };
        ends(b"-decoded-content-length") || ends(b"-content-sha256") && names(value)
    };
    names(head.target()) || head.fields().any(|field| is_sign(field.name, field.value))
}

fn is_framing(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(AWS_CHUNKED)
}

/// Whether an upload goes on behind another one, or in another one: tus 1.0, and resumable uploads for HTTP
/// (draft-ietf-httpbis-resumable-upload) in its versions.
fn is_resumable(head: &RequestHead) -> bool {
    let says = |name: &str, value: &[u8]| head.all(name).any(|field| field.value == value);
    let is_of = |kind: &[u8]| {
        let begins = |value: &[u8]| {
            value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
        };
        head.all("Content-Type").any(|field| begins(field.value))
    };
    let is_whole = says("Upload-Offset", b"0") && says("Upload-Complete", b"?1");
    head.field("Upload-Offset").is_some() && !is_whole
        || says("Upload-Complete", b"?0")
        || says("Upload-Incomplete", b"?1")
        || is_of(b"application/offset+octet-stream")
        || is_of(b"application/partial-upload")
}

/// Whether the target asks an S3 to take the content for one part of an object (UploadPart).
fn is_part_for_s3(head: &RequestHead) -> bool {
    let query = memchr::memchr(b'?', head.target()).map_or(&b""[..], |at| &head.target()[at + 1..]);
    query.split(|byte| *byte == b'&').any(|member| {
        let name = b"partNumber=";
        member.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
    })
}

/// Whether a Content-Range is of anything but a whole resource (RFC 9110 section 14.4).
fn is_part(value: &[u8]) -> bool {
    let parsed = std::str::from_utf8(value).ok().and_then(|value| {
        let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
        // Not satisfiable: what comes is no part, but a page that says so.
        if range == "*" {
            return Some(false);
        }
        let (first, last) = range.split_once('-')?;
        let [first, last, length] = [first, last, length].map(|n| n.parse::<u64>().ok());
        Some(first? != 0 || last?.checked_add(1) != Some(length?))
    });
    parsed.unwrap_or(true)
}
