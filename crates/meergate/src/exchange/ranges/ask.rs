//! The range that a client asks for, and the wider one that is asked of the origin.

use http_wire::RequestHead;

use super::Asked;

/// Most ranges in one request; with more, the whole is asked for.
const MAX_RANGES: usize = 256;

/// One range of a request (RFC 9110 section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// From `first` to `last`, or to the end.
    From { first: u64, last: Option<u64> },
    /// So many bytes at the end.
    Last(u64),
}

/// The bytes from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What a client wants of a resource, and how much more is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    wanted: Vec<Spec>,
    overlap: u64,
    /// The value of `Range` that the origin is to get.
    value: String,
}

/// Reads a value of `Range`.
pub(super) fn read(value: &[u8], overlap: u64) -> Asked {
    let Some(equals) = value.iter().position(|&b| b == b'=') else { return Asked::LeftOut };
    let (unit, set) = (&value[..equals], &value[equals + 1..]);
    if !unit.eq_ignore_ascii_case(b"bytes") {
        // Rows of a table, seconds of a film: only the origin knows what is beside them. What is no
        // unit at all, an origin may take for bytes.
        return match !unit.is_empty() && unit.iter().all(|&b| is_letter_of_unit(b)) {
            true => Asked::AsItIs,
            false => Asked::LeftOut,
        };
    }
    let specs = http_wire::tokens(set).take(MAX_RANGES + 1).map(spec).collect::<Option<Vec<_>>>();
    match specs {
        Some(wanted) if (1..=MAX_RANGES).contains(&wanted.len()) => {
            let value = widened(&wanted, overlap);
            Asked::Wider(Part { wanted, overlap, value })
        }
        _ => Asked::LeftOut,
    }
}

fn is_letter_of_unit(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn spec(text: &[u8]) -> Option<Spec> {
    let dash = text.iter().position(|&b| b == b'-')?;
    match (&text[..dash], &text[dash + 1..]) {
        (b"", length) => Some(Spec::Last(number(length)?)),
        (first, b"") => Some(Spec::From { first: number(first)?, last: None }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From { first, last: Some(last) })
        }
    }
}

/// A number however long; what is beyond all sizes stays so.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |n: u64, d: &u8| n.saturating_mul(10).saturating_add(u64::from(d - b'0'));
    // What origins can read, too.
    Some(digits.iter().fold(0, add).min(i64::MAX as u64))
}

/// The set of ranges that hold the wanted ones and the overlap on both sides. Those that touch are
/// one.
fn widened(wanted: &[Spec], overlap: u64) -> String {
    let mut spans = Vec::new();
    let mut suffix = None;
    for spec in wanted {
        match *spec {
            Spec::From { first, last } => spans.push(Span {
                first: first.saturating_sub(overlap),
                last: last.map_or(u64::MAX, |last| last.saturating_add(overlap)),
            }),
            Spec::Last(length) => suffix = suffix.max(Some(length.saturating_add(overlap))),
        }
    }
    let most = i64::MAX as u64;
    let mut texts: Vec<String> = merged(spans)
        .iter()
        .map(|span| match span.last {
            u64::MAX => format!("{}-", span.first),
            last => format!("{}-{}", span.first, last.min(most)),
        })
        .collect();
    texts.extend(suffix.map(|length| format!("-{}", length.min(most))));
    format!("bytes={}", texts.join(","))
}

/// The spans in order; those that touch are one.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| span.first);
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(former) if span.first <= former.last.saturating_add(1) => {
                former.last = former.last.max(span.last);
            }
            _ => merged.push(span),
        }
    }
    merged
}

impl Part {
    /// The value of `Range` that the origin is to get.
    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    /// Whether `head` asks for it still: a service may have asked for something else.
    pub(crate) fn is_of(&self, head: &RequestHead) -> bool {
        let mut fields = head.all("Range");
        fields.next().is_some_and(|field| field.value == self.value.as_bytes())
            && fields.next().is_none()
    }

    /// Bytes on both sides that are shown to services only.
    pub(crate) fn overlap(&self) -> u64 {
        self.overlap
    }

    /// Whether the client asked for one range, and can't be answered with several.
    pub(super) fn is_one(&self) -> bool {
        self.wanted.len() == 1
    }

    /// What the client wants of a resource of `total` bytes, in order and merged where it touches;
    /// `None` if that depends on the total, which the origin does not tell.
    pub(super) fn resolve(&self, total: Option<u64>) -> Option<Vec<Span>> {
        let mut spans = Vec::new();
        for spec in &self.wanted {
            spans.extend(match (*spec, total) {
                (Spec::From { first, last }, None) => {
                    Some(Span { first, last: last.unwrap_or(u64::MAX) })
                }
                (Spec::From { first, last }, Some(total)) => (first < total)
                    .then(|| Span { first, last: last.unwrap_or(u64::MAX).min(total - 1) }),
                (Spec::Last(_), None) => return None,
                (Spec::Last(length), Some(total)) => (length.min(total) > 0)
                    .then(|| Span { first: total - length.min(total), last: total - 1 }),
            });
        }
        Some(merged(spans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> Option<String> {
        match read(value.as_bytes(), 100) {
            Asked::AsItIs => Some("as it is".to_owned()),
            Asked::LeftOut => None,
            Asked::Wider(part) => Some(part.value().to_owned()),
        }
    }

    #[test]
    fn ranges_are_widened_and_merged() {
        for (given, expected) in [
            ("bytes=0-0", "bytes=0-100"),
            ("BYTES=1000-1999", "bytes=900-2099"),
            ("bytes=1000-", "bytes=900-"),
            ("bytes=-5", "bytes=-105"),
            ("bytes=-0", "bytes=-100"),
            ("bytes=007-0008", "bytes=0-108"),
            ("bytes=0-9, 20-29", "bytes=0-129"),
            ("bytes=5000-5009,0-9", "bytes=0-109,4900-5109"),
            ("bytes=0-99,300-399", "bytes=0-499"),
            ("bytes=0-99,301-399", "bytes=0-199,201-499"),
            ("bytes=0-99,302-399", "bytes=0-199,202-499"),
            ("bytes=10-,5000-5009", "bytes=0-"),
            ("bytes=0-9,-5,-7", "bytes=0-109,-107"),
            ("bytes= 0-9 ,, 3-4 ,", "bytes=0-109"),
            ("bytes=99999999999999999999999-", "bytes=9223372036854775707-"),
            ("bytes=0-99999999999999999999999", "bytes=0-9223372036854775807"),
            ("items=0-9", "as it is"),
            ("x-bytes=0-9", "as it is"),
        ] {
            assert_eq!(asked(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_range_is_left_out() {
        let many = vec!["0-1"; MAX_RANGES + 1].join(",");
        for given in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=5-3",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes =0-1",
            "bytes\t=0-1",
            "=0-1",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=0x1-2",
            "bytes:0-1",
            &format!("bytes={many}"),
        ] {
            assert_eq!(asked(given), None, "{given}");
        }
        let most = vec!["0-1"; MAX_RANGES].join(",");
        assert_eq!(asked(&format!("bytes={most}")).as_deref(), Some("bytes=0-101"));
    }

    #[test]
    fn what_a_client_wants_is_told_by_the_total() {
        let resolved = |value: &str, total| {
            let Asked::Wider(part) = read(value.as_bytes(), 100) else { panic!("{value}") };
            let spans = part.resolve(total)?;
            Some(spans.iter().map(|s| (s.first, s.last)).collect::<Vec<_>>())
        };
        for (value, total, expected) in [
            ("bytes=0-9", Some(5), Some(vec![(0, 4)])),
            ("bytes=5-", Some(5), Some(vec![])),
            ("bytes=4-", Some(5), Some(vec![(4, 4)])),
            ("bytes=-2", Some(5), Some(vec![(3, 4)])),
            ("bytes=-9", Some(5), Some(vec![(0, 4)])),
            ("bytes=-0", Some(5), Some(vec![])),
            ("bytes=-1", Some(0), Some(vec![])),
            ("bytes=0-", Some(0), Some(vec![])),
            ("bytes=-1", None, None),
            ("bytes=5-", None, Some(vec![(5, u64::MAX)])),
            ("bytes=3-4,0-0,1-1,9-", Some(5), Some(vec![(0, 1), (3, 4)])),
            ("bytes=0-,-1", Some(5), Some(vec![(0, 4)])),
        ] {
            assert_eq!(resolved(value, total), expected, "{value} {total:?}");
        }
    }
}
