//! The origin's answer to a wider range, and what the client gets of it.

use http_wire::ResponseHead;
use icap_client::Body;

use super::ask::{Part, Span};
use super::content_range::ContentRange;
use super::cut::{Cutter, Pieces};
use super::multipart::{self, Boundary};
use super::{is_coded, refuse};
use crate::exchange::trouble::Trouble;

/// How the origin has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// With several parts, between this boundary.
    Several(Boundary),
    /// With one.
    Single(ContentRange),
}

/// What an answer is good for.
pub(crate) enum Fitted {
    /// It is not a part, and goes on as it is.
    AsItIs(ResponseHead, Option<Body>),
    /// It is a part of something coded, into which nobody can look.
    Coded,
    /// It is one that can be cut once services have seen it.
    Part(ResponseHead, Option<Body>, Cut),
}

/// How the answer is cut.
pub(crate) struct Cut {
    part: Part,
    form: Form,
}

impl Part {
    /// Looks at the origin's answer.
    ///
    /// # Errors
    /// It is a part, but not what was asked for, or contradicts itself.
    pub(crate) fn fit(self, head: ResponseHead, body: Option<Body>) -> Result<Fitted, Trouble> {
        if head.status() != 206 {
            return Ok(Fitted::AsItIs(head, body));
        }
        if is_coded(&head) {
            return Ok(Fitted::Coded);
        }
        let form = Form::of(&head, body.as_ref())?;
        match &form {
            Form::Several(_) if self.is_one() => {
                return Err(refuse("Several parts came where one was asked for."));
            }
            Form::Single(range) if self.wanted_of(range)?.is_empty() => {
                let (head, body) = nothing_there(&head, range)?;
                return Ok(Fitted::AsItIs(head, body));
            }
            Form::Single(range) => drop(self.delivered(range)?),
            Form::Several(_) => {}
        }
        Ok(Fitted::Part(head, body, Cut { part: self, form }))
    }

    fn wanted_of(&self, range: &ContentRange) -> Result<Vec<Span>, Trouble> {
        self.resolve(range.total).ok_or_else(|| refuse("It does not say how long the whole is."))
    }

    /// What the client gets of this range: at least one span.
    fn delivered(&self, range: &ContentRange) -> Result<Vec<Span>, Trouble> {
        let wanted = self.wanted_of(range)?;
        let spans: Vec<_> =
            wanted.iter().filter_map(|&span| range.inside(span, self.overlap())).collect();
        match spans.is_empty() {
            true => {
                Err(refuse(&format!("It sent {range} where {:?} was asked for.", self.value())))
            }
            false => Ok(spans),
        }
    }
}

impl Form {
    fn of(head: &ResponseHead, body: Option<&Body>) -> Result<Self, Trouble> {
        let Some(body) = body else { return Err(refuse("It has no content.")) };
        let mut ranges = head.all("Content-Range");
        let mut types = head.all("Content-Type");
        let range = ranges.next().map(|field| field.value);
        let kind = types.next().map(|field| field.value).unwrap_or_default();
        if ranges.next().is_some() || types.next().is_some() {
            return Err(refuse("A field about the part is there twice."));
        }
        let boundary = multipart::boundary(kind);
        match (range.map(ContentRange::parse), boundary) {
            (None, Some(Some(boundary))) => Ok(Self::Several(boundary)),
            (Some(Some(range)), None) => match body.exact_length() {
                Some(length) if length != range.length() => {
                    Err(refuse("Content-Length and Content-Range contradict each other."))
                }
                _ => Ok(Self::Single(range)),
            },
            (Some(_), Some(_)) => Err(refuse("It is one part and several.")),
            (Some(None), None) => Err(refuse("Its Content-Range makes no sense.")),
            (None, _) => Err(refuse("It does not say which part it is.")),
        }
    }
}

impl Cut {
    /// Bytes on both sides that are shown to services only.
    pub(crate) fn overlap(&self) -> u64 {
        self.part.overlap()
    }

    /// The client's part of what the services have passed. What they put in its place that is no
    /// part, such as a page, goes to the client as it is.
    ///
    /// # Errors
    /// They made another part of it: where the client's begins and ends in that, nobody knows.
    pub(crate) fn apply(
        self,
        head: ResponseHead,
        body: Option<Body>,
    ) -> Result<(ResponseHead, Option<Body>), Trouble> {
        if head.status() != 206 {
            return Ok((head, body));
        }
        let same = Form::of(&head, body.as_ref()).is_ok_and(|form| form == self.form);
        let Some(body) = body.filter(|_| same && !is_coded(&head)) else {
            return Err(refuse("An inspection service has made another part of it."));
        };
        let mut edit = head.edit();
        // Digests are of the content that came (RFC 9530 section 2), and its length is another.
        for name in ["Content-Digest", "Content-MD5", "Content-Length", "Trailer"] {
            edit.remove(name);
        }
        let pieces = match self.form {
            Form::Single(range) => {
                let spans = self.part.delivered(&range)?;
                match spans[..] {
                    [span] => {
                        edit.remove("Transfer-Encoding");
                        let range = ContentRange { span, ..range };
                        edit.set("Content-Range", range.to_string());
                        edit.set("Content-Length", range.length().to_string());
                    }
                    _ => drop(edit.remove("Content-Range")),
                }
                let kind = head.field("Content-Type").map(|field| field.value.to_vec());
                Pieces::of_one(range, spans, kind)
            }
            Form::Several(boundary) => Pieces::of_several(self.part, boundary),
        };
        if let Some(boundary) = pieces.boundary() {
            edit.set("Content-Type", format!("multipart/byteranges; boundary={boundary}"));
        }
        let head = edit.build().map_err(Trouble::OriginFault)?;
        Ok((head, Some(Box::pin(Cutter::new(body, pieces)))))
    }
}

/// The answer to a client that wants what is behind the end (RFC 9110 section 15.5.17): the origin
/// was asked for what is before that, too.
fn nothing_there(
    head: &ResponseHead,
    range: &ContentRange,
) -> Result<(ResponseHead, Option<Body>), Trouble> {
    let total = range.total.map_or("*".to_owned(), |total| total.to_string());
    let mut edit = head.edit();
    edit.start_line("HTTP/1.1 416 Range Not Satisfiable");
    edit.remove_if(|name, _| {
        name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-"))
            || name.eq_ignore_ascii_case(b"Transfer-Encoding")
            || name.eq_ignore_ascii_case(b"Trailer")
    });
    edit.set("Content-Range", format!("bytes */{total}")).set("Content-Length", "0");
    Ok((edit.build().map_err(Trouble::OriginFault)?, None))
}
