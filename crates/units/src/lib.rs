//! Lengths of time and numbers of bytes as people write them in settings: `10s`, `64KiB`.

mod size;
mod span;

pub use size::{BadSize, Size};
pub use span::{BadSpan, Span};

/// A number and its unit, the latter without the spaces around it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}
