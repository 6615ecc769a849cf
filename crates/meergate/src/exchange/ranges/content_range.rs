//! The part of a whole that a message says it is.

use super::ask::Span;

/// A value of `Content-Range` that names a part (RFC 9110 section 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) span: Span,
    /// Bytes of the whole, if the origin knows.
    pub(super) total: Option<u64>,
}

impl ContentRange {
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let value = str::from_utf8(value).ok()?;
        let (unit, range) = value.split_once(' ')?;
        let (span, total) = range.trim_start().split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let number = |digits: &str| {
            let only_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|&n| only_digits && n <= i64::MAX as u64)
        };
        let total = match total {
            "*" => None,
            total => Some(number(total)?),
        };
        let span = Span { first: number(first)?, last: number(last)? };
        let sound = span.first <= span.last && total.is_none_or(|total| span.last < total);
        (unit.eq_ignore_ascii_case("bytes") && sound).then_some(Self { span, total })
    }

    pub(super) fn length(&self) -> u64 {
        self.span.last - self.span.first + 1
    }

    /// Whether it is all there is.
    pub(super) fn is_whole(&self) -> bool {
        self.span.first == 0 && self.total == Some(self.span.last + 1)
    }

    /// What of `wanted` lies far enough inside, or at an end of the whole; its beginning does, or
    /// nothing of it may be delivered.
    pub(super) fn inside(&self, wanted: Span, overlap: u64) -> Option<Span> {
        let Span { first, last } = self.span;
        let begins = first == 0 || first.checked_add(overlap)? <= wanted.first;
        let end = match self.total {
            Some(total) if last == total - 1 => last,
            _ => last.checked_sub(overlap)?,
        };
        let inside = Span { first: wanted.first, last: wanted.last.min(end) };
        (begins && inside.first <= inside.last).then_some(inside)
    }
}

impl std::fmt::Display for ContentRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bytes {}-{}/", self.span.first, self.span.last)?;
        match self.total {
            None => f.write_str("*"),
            Some(total) => write!(f, "{total}"),
        }
    }
}
