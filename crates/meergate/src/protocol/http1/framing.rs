//! How a message is framed on the connection that it leaves by. Services may have changed its
//! content and left the head behind; what is sent is always true to the content.

use http_wire::{Error, Framing, RequestHead, ResponseHead, Version};
use icap_client::Body;

use super::sink::Encoding;

/// A request's head and how its content is to be written.
pub(super) fn request(
    head: &RequestHead,
    body: Option<&Body>,
) -> Result<(RequestHead, Encoding), Error> {
    // A service may return a head that contradicts itself: its framing is replaced then.
    let declared = head.framing().ok();
    let wanted = match body.map(|b| b.exact_length()) {
        None => match declared {
            Some(Framing::None | Framing::Length(0)) => {
                return Ok((head.clone(), Encoding::Nothing));
            }
            _ => Framing::None,
        },
        Some(length) => match (declared, length) {
            (Some(Framing::Chunked), _) => return Ok((head.clone(), Encoding::Chunked)),
            (Some(Framing::Length(n)), Some(length)) if n == length => {
                return Ok((head.clone(), Encoding::Length(n)));
            }
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::Chunked,
        },
    };
    let mut edit = head.edit();
    edit.remove("Transfer-Encoding");
    let encoding = match wanted {
        Framing::Length(length) => {
            edit.set("Content-Length", length.to_string());
            Encoding::Length(length)
        }
        Framing::Chunked => {
            edit.remove("Content-Length").append("Transfer-Encoding", "chunked");
            if head.version() == Version::Http10 {
                let line = [head.method(), head.target(), b"HTTP/1.1"].join(&b' ');
                edit.start_line(line);
            }
            Encoding::Chunked
        }
        _ => {
            edit.remove("Content-Length");
            Encoding::Nothing
        }
    };
    Ok((edit.build()?, encoding))
}

/// A response's head and how its content is to be written, for a client of that version that sent
/// that method.
pub(super) fn response(
    head: &ResponseHead,
    body: Option<&Body>,
    method_is_head: bool,
    client: Version,
) -> Result<(ResponseHead, Encoding), Error> {
    if method_is_head || matches!(head.status(), 204 | 304) {
        return Ok((head.clone(), Encoding::Nothing));
    }
    let declared = head.framing(b"GET").ok();
    let length = match body {
        None => Some(0),
        Some(body) => body.exact_length(),
    };
    match (declared, length) {
        (Some(Framing::Chunked), _) if body.is_some() && client == Version::Http11 => {
            return Ok((head.clone(), Encoding::Chunked));
        }
        (Some(Framing::Length(n)), Some(length)) if n == length => {
            return Ok((head.clone(), Encoding::Length(n)));
        }
        _ => {}
    }
    let mut edit = head.edit();
    edit.remove("Transfer-Encoding");
    let encoding = match length {
        Some(length) => {
            edit.set("Content-Length", length.to_string());
            Encoding::Length(length)
        }
        // Also instead of the end of the connection: then a cut can be told from the end.
        None if client == Version::Http11 => {
            edit.remove("Content-Length").append("Transfer-Encoding", "chunked");
            if head.version() == Version::Http10 {
                let mut line = format!("HTTP/1.1 {} ", head.status()).into_bytes();
                line.extend_from_slice(head.reason());
                edit.start_line(line);
                if !head.keep_alive() {
                    edit.set("Connection", "close");
                }
            }
            Encoding::Chunked
        }
        None => {
            edit.remove("Content-Length").set("Connection", "close");
            Encoding::Close
        }
    };
    Ok((edit.build()?, encoding))
}
