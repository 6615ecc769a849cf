//! The answer to a blocked transaction: an HTTP response that any client can show.

use std::fmt::Write as _;

use suricata::Signature;

/// Status line and fields, with the final empty line, and the page.
#[derive(Debug)]
pub(crate) struct BlockPage {
    /// The head of the HTTP response.
    pub(crate) head: String,
    /// Its body: HTML, UTF-8.
    pub(crate) body: String,
}

/// What the page of a blocked transaction says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked<'a> {
    /// The signature that asked for the drop, if the engine named one.
    pub(crate) signature: Option<&'a Signature>,
    /// The engine's reason.
    pub(crate) reason: &'a str,
    /// The id by which the operator finds the transaction in the logs.
    pub(crate) transaction: &'a str,
}

impl Blocked<'_> {
    /// Renders the page. With `page` false (the answer to HEAD) the head alone is of use.
    pub(crate) fn page(&self) -> BlockPage {
        let (title, rule) = match self.signature {
            Some(s) => (s.message.as_str(), format!("{}:{}:{}", s.gid, s.sid, s.rev)),
            None => (self.reason, "none".to_owned()),
        };
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Blocked</title>\n\
             <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}}\
             dt{{color:#666}}dd{{margin:0 0 .6em;font-family:monospace}}</style></head>\n\
             <body><h1>Blocked</h1>\n\
             <p>This transfer was stopped by the intrusion prevention system of this network.</p>\n\
             <dl><dt>Reason</dt><dd>{}</dd>\n<dt>Signature</dt><dd>{}</dd>\n<dt>Transaction</dt><dd>{}</dd></dl>\n\
             </body></html>\n",
            Escaped(title),
            Escaped(&rule),
            Escaped(self.transaction),
        );
        let head = format!(
            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len()
        );
        BlockPage { head, body }
    }

    /// The ICAP fields that tell clients and logs what the page tells people.
    pub(crate) fn icap_fields(&self) -> Vec<(&'static str, String)> {
        let sid = self.signature.map_or(0, |s| s.sid);
        let msg = self.signature.map_or(self.reason, |s| s.message.as_str());
        // One violation: file name (unknown), what was found, its number, and 0 for "not repaired".
        // Unfolded: folded lines break parsers in the field, and mean the same.
        let violation = format!("1 - {} {sid} 0", Plain(msg));
        let mut fields =
            vec![("X-Violations-Found", violation), ("X-Response-Info", "blocked".to_owned())];
        if self.signature.is_some() {
            fields.push(("X-Signature-Id", sid.to_string()));
        }
        fields
    }
}

/// The head of a response that brings a DNS message of so many bytes: to who asks in DNS, a "no" is an answer as others,
/// and so a success of HTTP (RFC 8484 section 4.2.1).
pub(crate) fn dns_head(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
}

/// Text inside HTML.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() || turns_text(c) => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Whether it changes the direction of the text after it, so that a page reads as it is not written (Unicode's
/// Bidi_Control).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text inside a header line.
struct Plain<'a>(&'a str);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars().take(200) {
            f.write_char(if c == ' ' || c.is_ascii_graphic() { c } else { '?' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_neither_becomes_markup_nor_turns() {
        let text = Escaped("<b>\u{202e}a\u{2066}b\0</b>").to_string();
        assert_eq!(text, "&lt;b&gt;\u{fffd}a\u{fffd}b\u{fffd}&lt;/b&gt;");
    }
}
