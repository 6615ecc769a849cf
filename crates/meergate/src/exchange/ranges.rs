//! Parts of resources: what is asked of the origin is wider than what the client asked for, the
//! services see all of that, and the client gets its part.
//!
//! If a match is no longer than the overlap, every answer that gives the client one byte of it
//! shows the services all of it. That holds for any order of requests. The part's last bytes wait
//! for the verdict over all that was shown.
//!
//! ```text
//!            ┌─ overlap ─┐                       ┌─ overlap ─┐
//!   origin   │███████████│███ the client's part ██│███████████│   ──► services
//!   client               │███ the client's part ██│
//! ```

mod answer;
mod ask;
mod content_range;
mod cut;
mod misfit;
mod multipart;
mod stretches;

use http_wire::{RequestHead, ResponseHead};

use self::content_range::ContentRange;
use super::codings::{Content, Decoders};
use super::signed;
use super::trouble::Trouble;
use crate::pages::Page;

pub(super) use answer::{Cut, Fitted};
pub(super) use ask::Part;

/// What is to become of a request's range.
pub(super) enum Asked {
    /// It stays as it is: there is none, or none that could be made wider.
    AsItIs,
    /// It is left out, so that the origin sends the whole (RFC 9110 section 14.2 lets it).
    LeftOut,
    /// This is asked for instead, and cut to what the client wants.
    Wider(Part),
}

/// Looks at the range that `head` asks for.
pub(super) fn ask(head: &RequestHead, overlap: u64) -> Asked {
    let mut fields = head.all("Range");
    let Some(field) = fields.next() else { return Asked::AsItIs };
    // A signed one can't be changed, nor left out. Who answers HEAD sends nothing.
    if signed::covers(head, "Range") || head.method() == b"HEAD" {
        return Asked::AsItIs;
    }
    if head.method() != b"GET" || fields.next().is_some() {
        // It has no meaning (RFC 9110 section 14.2), but maybe to someone; two have several.
        return Asked::LeftOut;
    }
    ask::read(field.value, overlap)
}

/// What becomes of a range where only the whole is wanted.
pub(super) fn leave_out(head: &RequestHead) -> Asked {
    match head.field("Range") {
        None => Asked::AsItIs,
        Some(_) => Asked::LeftOut,
    }
}

/// Whether both ask for the same part.
pub(super) fn is_same(one: &RequestHead, other: &RequestHead) -> bool {
    let values =
        |head: &'_ RequestHead| head.all("Range").map(|f| f.value.to_vec()).collect::<Vec<_>>();
    values(one) == values(other)
}

/// The head without its range, to ask once more.
///
/// # Errors
/// The request `had_content`, which is gone.
pub(super) fn whole(head: &RequestHead, had_content: bool) -> Result<RequestHead, Trouble> {
    if had_content {
        return Err(refuse("It is a part of a coded content, and can't be asked for again."));
    }
    let mut edit = head.edit();
    edit.remove("Range").remove("If-Range");
    edit.build().map_err(Trouble::RequestFault)
}

/// The head of the answer to a request for the whole.
///
/// # Errors
/// It is that of a part all the same.
pub(super) fn all(head: ResponseHead) -> Result<ResponseHead, Trouble> {
    match head.status() {
        206 => Err(refuse("It is a part of a coded content, and the whole can't be had.")),
        _ => Ok(head),
    }
}

/// Whether a response is a part of something. There are clients that go by `Content-Range` whatever
/// the status.
pub(super) fn is_part(head: &ResponseHead) -> bool {
    head.status() == 206
        || head.all("Content-Range").any(|field| match ContentRange::parse(field.value) {
            Some(range) => !range.is_whole(),
            // Unless it says that there is none, whoever can read it may join it.
            None => !field.value.windows(2).any(|w| w == b"*/"),
        })
}

/// Whether the content is in a coding, or framed.
fn is_coded(head: &ResponseHead) -> bool {
    let values = head.all("Content-Encoding").map(|field| field.value);
    Decoders::Known(&[]).judge(values) != Content::Open
}

fn refuse(detail: &str) -> Trouble {
    let page = Page::new(502, "The server's answer is not the part that was asked for")
        .detail(detail.to_owned())
        .status("http_protocol_error");
    Trouble::Refused(Box::new(page))
}
