//! Heads between HTTP/2's lists of fields and the HTTP/1.1 form that services are shown.
//!
//! Field names are written in capitals as HTTP/1.1 programs write them (`Content-Type`): rules for
//! HTTP/1 look for them so.

use bytes::{Bytes, BytesMut};
use h2::ext::Protocol;
use http::header::{COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_wire::{Error, Fields, Framing, Limits, RequestHead, ResponseHead, check_trailers};
use icap_client::Body;

use crate::exchange::Trouble;
use crate::pages::Page;
use crate::words::Scheme;

/// Fields that HTTP/2 expresses otherwise or not at all (RFC 9113 section 8.2.2).
const CONNECTION_FIELDS: [&[u8]; 6] = [
    b"connection",
    b"http2-settings",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
];

/// A request's head in HTTP/1.1 form.
pub(super) fn request(
    parts: &http::request::Parts,
    scheme: Scheme,
    has_body: bool,
    limits: &Limits,
) -> Result<RequestHead, Trouble> {
    let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(contradiction("Host is there twice."));
    }
    let host = match (authority, host) {
        // RFC 9113 section 8.3.1: they name the same, or the request is malformed.
        (Some(a), Some(h)) if !a.eq_ignore_ascii_case(h) => {
            return Err(contradiction("Authority and Host differ."));
        }
        (Some(a), _) => a,
        (None, Some(h)) => h,
        (None, None) => return Err(contradiction("No host is named.")),
    };
    if parts.uri.scheme_str().is_some_and(|s| !s.eq_ignore_ascii_case(scheme.as_str())) {
        return Err(contradiction("The scheme is not this connection's."));
    }
    let protocol = parts.extensions.get::<Protocol>();
    let method = match (&parts.method, protocol) {
        (&Method::CONNECT, None) => return Err(no_tunnel()),
        // What HTTP/1.1 asks for with an upgrade (RFC 8441 section 4).
        (&Method::CONNECT, Some(_)) => Method::GET,
        (method, _) => method.clone(),
    };
    // It becomes a field's value, and may hold line ends until then (RFC 8441 section 4 has tokens).
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/+".contains(&b))
    };
    if protocol.is_some_and(|protocol| !is_token(protocol.as_str())) {
        return Err(contradiction("The protocol is no name of one."));
    }
    let mut out = BytesMut::with_capacity(512);
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
    let length = fields(&parts.headers, Some(HOST), &mut out);
    if let Some(protocol) = protocol {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(protocol.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
    } else if has_body && !length {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let head = RequestHead::from_bytes(out.freeze(), limits).map_err(Trouble::RequestFault)?;
    head.host().map_err(Trouble::RequestFault)?;
    head.target_form().map_err(Trouble::RequestFault)?;
    head.framing().map_err(Trouble::RequestFault)?;
    Ok(head)
}

/// A response's head in HTTP/1.1 form.
pub(super) fn response(
    parts: &http::response::Parts,
    has_body: bool,
    limits: &Limits,
) -> Result<ResponseHead, Error> {
    let mut out = BytesMut::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let length = fields(&parts.headers, None, &mut out);
    if has_body && !length {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    ResponseHead::from_bytes(out.freeze(), limits)
}

/// Trailer field lines of HTTP/1.1 form.
pub(super) fn trailer_lines(trailers: &HeaderMap) -> Result<Bytes, Error> {
    let mut out = BytesMut::new();
    fields(trailers, None, &mut out);
    check_trailers(&out)?;
    Ok(out.freeze())
}

/// Writes the fields but `skipped`; returns whether there is a Content-Length among them.
fn fields(headers: &HeaderMap, skipped: Option<HeaderName>, out: &mut BytesMut) -> bool {
    let mut length = false;
    let mut cookies = false;
    for (name, value) in headers {
        if Some(name) == skipped.as_ref() {
            continue;
        }
        if name == COOKIE {
            // HTTP/2 may split them into crumbs (RFC 9113 section 8.2.3).
            if !std::mem::replace(&mut cookies, true) {
                let crumbs: Vec<&[u8]> =
                    headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
                field(name, &crumbs.join(&b"; "[..]), out);
            }
            continue;
        }
        length |= name == http::header::CONTENT_LENGTH;
        field(name, value.as_bytes(), out);
    }
    length
}

fn field(name: &HeaderName, value: &[u8], out: &mut BytesMut) {
    let mut starts = true;
    let at = out.len();
    out.extend_from_slice(name.as_str().as_bytes());
    for byte in &mut out[at..] {
        if starts {
            byte.make_ascii_uppercase();
        }
        starts = *byte == b'-';
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.trim_ascii());
    out.extend_from_slice(b"\r\n");
}

/// A request's head for HTTP/2, its length true to the body.
pub(super) fn to_request(
    head: &RequestHead,
    body: Option<&Body>,
    scheme: Scheme,
) -> Result<Request<()>, Trouble> {
    let malformed = |_| contradiction("The head can't be written in HTTP/2.");
    let host = head.field("Host").map_or(&b""[..], |f| f.value);
    let uri = Uri::builder()
        .scheme(scheme.as_str())
        .authority(host)
        .path_and_query(head.target())
        .build()
        .map_err(malformed)?;
    let mut request = Request::new(());
    *request.method_mut() = match upgrade(head) {
        None => Method::from_bytes(head.method())
            .map_err(|_| contradiction("The head can't be written in HTTP/2."))?,
        Some(protocol) => {
            request.extensions_mut().insert(protocol);
            Method::CONNECT
        }
    };
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    let declared = head.framing().ok();
    *request.headers_mut() = headers(head.fields(), |name| head.is_hop_by_hop(name), true);
    set_length(request.headers_mut(), declared, body);
    Ok(request)
}

/// The protocol that a head in HTTP/1.1 form asks to upgrade to.
pub(super) fn upgrade(head: &RequestHead) -> Option<Protocol> {
    let value = head.field("Upgrade").filter(|_| head.connection_upgrade())?.value;
    Some(Protocol::from(String::from_utf8_lossy(value).as_ref()))
}

/// A response's head for HTTP/2, its length true to the body.
pub(super) fn to_response(
    head: &ResponseHead,
    body: Option<&Body>,
    keeps_length: bool,
) -> Result<Response<()>, Trouble> {
    let status = StatusCode::from_u16(head.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = http::Version::HTTP_2;
    *response.headers_mut() = headers(head.fields(), |name| head.is_hop_by_hop(name), false);
    if !keeps_length {
        let declared = head.framing(b"GET").ok();
        set_length(response.headers_mut(), declared, body);
    }
    Ok(response)
}

/// Trailers for HTTP/2.
pub(super) fn to_trailers(lines: &[u8]) -> HeaderMap {
    headers(Fields::new(lines), |_| false, false)
}

fn headers(
    fields: Fields<'_>,
    is_hop_by_hop: impl Fn(&[u8]) -> bool,
    is_request: bool,
) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in fields {
        let trailers =
            is_request && field.is("TE") && field.value.eq_ignore_ascii_case(b"trailers");
        let dropped = field.is("Host") && is_request
            || CONNECTION_FIELDS.iter().any(|n| field.is(n))
            || is_hop_by_hop(field.name);
        if dropped && !trailers {
            continue;
        }
        // Both were checked when they came in, by rules that are as strict.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value))
        {
            map.append(name, value);
        }
    }
    map
}

fn set_length(map: &mut HeaderMap, declared: Option<Framing>, body: Option<&Body>) {
    let length = match body {
        None => match declared {
            Some(Framing::Length(n)) if n > 0 => Some(0),
            _ => return,
        },
        Some(body) => body.exact_length(),
    };
    match length {
        Some(n) => drop(map.insert(http::header::CONTENT_LENGTH, HeaderValue::from(n))),
        None => drop(map.remove(http::header::CONTENT_LENGTH)),
    }
}

fn no_tunnel() -> Trouble {
    let page = Page::new(405, "No tunnels here").detail("CONNECT inside a tunnel".to_owned());
    Trouble::Refused(Box::new(page))
}

fn contradiction(detail: &str) -> Trouble {
    let page = Page::new(400, "The request contradicts itself")
        .detail(detail.to_owned())
        .status("http_request_error");
    Trouble::Refused(Box::new(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_that_is_no_token_is_refused() {
        for (protocol, is_right) in
            [("websocket", true), ("websocket\r\nX: 1", false), ("", false), ("a b", false)]
        {
            let mut request = Request::new(());
            *request.method_mut() = Method::CONNECT;
            *request.uri_mut() = Uri::from_static("https://a.example/");
            request.extensions_mut().insert(Protocol::from(protocol));
            let (parts, ()) = request.into_parts();
            let head = super::request(&parts, Scheme::Https, false, &Limits::default());
            assert_eq!(head.is_ok(), is_right, "{protocol:?}");
        }
    }
}
