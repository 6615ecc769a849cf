//! Pages that clients see when something of ours refused or failed.
//!
//! (A block page comes from the service that blocked.) Every page names the transaction, so that
//! what a user reports can be found in the logs, and carries `Proxy-Status` (RFC 9209) for
//! programs.

use std::fmt::Write;

use bytes::Bytes;
use http_wire::ResponseHead;
use icap_client::{Body, Full};

/// A page, not rendered yet.
#[derive(Clone, Debug)]
pub struct Page {
    status: u16,
    title: String,
    detail: String,
    proxy_status: &'static str,
}

impl Page {
    /// A page with an HTTP status (400 to 599) and a title of one line.
    pub fn new(status: u16, title: impl Into<String>) -> Self {
        let proxy_status = "http_request_denied";
        Self { status, title: title.into(), detail: String::new(), proxy_status }
    }

    /// A paragraph that says more. It may hold text from outside: it is escaped.
    #[must_use]
    pub fn detail(mut self, detail: String) -> Self {
        self.detail = detail;
        self
    }

    /// The error type of RFC 9209 section 2.3 for programs; `http_request_denied` if none is set.
    #[must_use]
    pub fn status(mut self, error: &'static str) -> Self {
        self.proxy_status = error;
        self
    }

    /// The HTTP status.
    pub fn code(&self) -> u16 {
        self.status
    }

    /// The title.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The response, for the transaction of that id. `None` cannot happen for titles of one line.
    pub fn render(&self, transaction_id: &str) -> Option<(ResponseHead, Body)> {
        let html = self.html(transaction_id);
        let mut head = ResponseHead::start(self.status, reason(self.status));
        head.append("Content-Type", "text/html; charset=utf-8")
            .append("Content-Length", html.len().to_string())
            .append("Cache-Control", "no-store")
            .append("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            .append("Proxy-Status", format!("meergate; error={}", self.proxy_status));
        Some((head.build().ok()?, Full::from_bytes(Bytes::from(html)).boxed()))
    }

    fn html(&self, transaction_id: &str) -> String {
        let mut page = String::with_capacity(1024);
        page.push_str(concat!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">",
            "<meta name=\"viewport\" content=\"width=device-width\"><title>",
        ));
        escape(&mut page, &self.title);
        page.push_str(concat!(
            "</title><style>body{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;max-width:40em;",
            "padding:0 1em;color:#222}h1{font-size:1.5em}small{color:#666}</style></head><body><h1>",
        ));
        escape(&mut page, &self.title);
        page.push_str("</h1>\n");
        if !self.detail.is_empty() {
            page.push_str("<p>");
            escape(&mut page, &self.detail);
            page.push_str("</p>\n");
        }
        let _ = write!(page, "<p><small>{} &middot; transaction ", self.status);
        escape(&mut page, transaction_id);
        page.push_str(" &middot; meergate</small></p></body></html>\n");
        page
    }
}

fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            c if c.is_control() || turns_text(c) => page.push('\u{fffd}'),
            c => page.push(c),
        }
    }
}

/// Whether it changes the direction of the text after it, so that a page reads as it is not written
/// (Unicode's Bidi_Control).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_become_markup() {
        let page = Page::new(502, "A <title>").detail("<script>alert('x')</script>\0".to_owned());
        let html = page.html("\"><b>");
        assert!(!html.contains("<script>") && !html.contains("<b>") && !html.contains("A <title>"));
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"));
        let html = Page::new(502, "a\u{202e}b\u{2066}").html("c");
        assert!(!html.contains('\u{202e}') && !html.contains('\u{2066}'));
    }

    #[test]
    fn a_page_is_a_whole_response() {
        let (head, body) =
            Page::new(504, "Late").status("connection_timeout").render("c-1").unwrap();
        assert_eq!(head.status(), 504);
        let length = head.field("content-length").unwrap().value;
        assert_eq!(length, body.exact_length().unwrap().to_string().as_bytes());
        assert_eq!(
            head.field("Proxy-Status").unwrap().value,
            b"meergate; error=connection_timeout"
        );
    }
}
