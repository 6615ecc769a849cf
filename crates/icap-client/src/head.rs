//! HTTP heads on their way to a service and back.

use http_wire::{Framing, RequestHead, ResponseHead, Version, tokens};

/// The message that a service is to adapt.
#[derive(Clone)]
pub(crate) enum Message {
    Request(RequestHead),
    Response { request: RequestHead, response: ResponseHead },
}

impl Message {
    pub(crate) fn request(&self) -> &RequestHead {
        match self {
            Self::Request(request) | Self::Response { request, .. } => request,
        }
    }

    /// Bytes of its heads.
    pub(crate) fn heads_len(&self) -> usize {
        match self {
            Self::Request(request) => request.bytes().len(),
            Self::Response { request, response } => request.bytes().len() + response.bytes().len(),
        }
    }

    /// All media types that it gives itself, with their parameters; an empty one if there are none.
    /// Some readers take one field's list for several types, so it is taken for that here. A comma
    /// in a quoted parameter makes a type of its own, which no filter knows.
    pub(crate) fn content_types(&self) -> Vec<&[u8]> {
        const NAME: &str = "Content-Type";
        let mut types: Vec<&[u8]> = match self {
            Self::Request(request) => {
                request.all(NAME).flat_map(|field| tokens(field.value)).collect()
            }
            Self::Response { response, .. } => {
                response.all(NAME).flat_map(|field| tokens(field.value)).collect()
            }
        };
        if types.is_empty() {
            types.push(b"");
        }
        types
    }

    /// Without fields that concern one connection only (RFC 3507 section 4.4.2).
    pub(crate) fn end_to_end(&self) -> Result<Self, http_wire::Error> {
        Ok(match self {
            Self::Request(request) => Self::Request(bare_request(request)?),
            Self::Response { request, response } => Self::Response {
                request: bare_request(request)?,
                response: if response.fields().any(|f| response.is_hop_by_hop(f.name)) {
                    let mut edit = response.edit();
                    edit.remove_if(|name, _| response.is_hop_by_hop(name));
                    edit.build()?
                } else {
                    response.clone()
                },
            },
        })
    }
}

fn bare_request(request: &RequestHead) -> Result<RequestHead, http_wire::Error> {
    if !request.fields().any(|f| request.is_hop_by_hop(f.name)) {
        return Ok(request.clone());
    }
    let mut edit = request.edit();
    edit.remove_if(|name, _| request.is_hop_by_hop(name));
    edit.build()
}

/// How a service's message is delimited when it goes on.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// It can have none, and the head's own fields stay (an answer to HEAD, 304).
    Impossible,
    None,
    Length(u64),
    Unknown,
}

/// Makes a request head's framing fields true: a service may send the original's along with
/// another body.
pub(crate) fn frame_request(
    head: &RequestHead,
    content: Content,
) -> Result<RequestHead, http_wire::Error> {
    let declared = head.framing().ok();
    let is_true = match content {
        Content::Impossible => true,
        Content::None => matches!(declared, Some(Framing::None | Framing::Length(0))),
        Content::Length(n) => declared == Some(Framing::Length(n)),
        Content::Unknown => declared == Some(Framing::Chunked),
    };
    if is_true {
        return Ok(head.clone());
    }
    let mut edit = head.edit();
    edit.remove("Content-Length").remove("Transfer-Encoding").remove("Trailer");
    match content {
        Content::Length(n) => edit.set("Content-Length", n.to_string()),
        Content::Unknown if head.version() == Version::Http11 => {
            edit.set("Transfer-Encoding", "chunked")
        }
        _ => &mut edit,
    };
    edit.build()
}

/// As [`frame_request`], for a response.
pub(crate) fn frame_response(
    head: &ResponseHead,
    content: Content,
    method: &[u8],
) -> Result<ResponseHead, http_wire::Error> {
    let declared = head.framing(method).ok();
    let is_true = match content {
        Content::Impossible => true,
        Content::None => matches!(declared, Some(Framing::Length(0))),
        Content::Length(n) => declared == Some(Framing::Length(n)),
        Content::Unknown => matches!(declared, Some(Framing::Chunked)),
    };
    if is_true {
        return Ok(head.clone());
    }
    let mut edit = head.edit();
    edit.remove("Content-Length").remove("Transfer-Encoding").remove("Trailer");
    match content {
        Content::Length(n) => edit.set("Content-Length", n.to_string()),
        Content::None => edit.set("Content-Length", "0"),
        Content::Unknown if head.version() == Version::Http11 => {
            edit.set("Transfer-Encoding", "chunked")
        }
        _ => &mut edit,
    };
    edit.build()
}

/// Whether a response to `method` with this status can have content at all.
pub(crate) fn can_have_content(status: u16, method: &[u8]) -> bool {
    !(matches!(status, 100..=199 | 204 | 304) || method == b"HEAD")
}

/// The path of a request target, without query.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    let after_authority = match target.windows(3).position(|w| w == b"://") {
        // In origin form such a sequence can only be part of the path or the query.
        Some(at) if !target.starts_with(b"/") => {
            let rest = &target[at + 3..];
            let slash = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            &rest[slash..]
        }
        _ => target,
    };
    let end = after_authority.iter().position(|b| *b == b'?').unwrap_or(after_authority.len());
    &after_authority[..end]
}
