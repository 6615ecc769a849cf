//! Lengths of time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time: a number of seconds, or a text with a unit (`250ms`, `1.5s`, `5m`, `2h`, `1d`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Each unit with its seconds.
const UNITS: [(&str, f64); 5] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)];

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    fn of_seconds(seconds: f64) -> Option<Self> {
        Duration::try_from_secs_f64(seconds).ok().map(Self)
    }
}

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSpan(String);

impl fmt::Display for BadSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {EXPECTED}, not {}", self.0)
    }
}

impl std::error::Error for BadSpan {}

const EXPECTED: &str = "a duration like \"10s\", \"5m\" or a number of seconds";

impl FromStr for Span {
    type Err = BadSpan;

    /// # Errors
    /// No number, no unit (`10` is none in a text), or more than 584 billion years.
    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let (number, unit) = crate::split(text);
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
        number
            .parse::<f64>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| Self::of_seconds(number * factor))
            .ok_or_else(|| BadSpan(format!("{text:?}")))
    }
}

/// In the largest unit in which it is a whole number, or in fractions of a second: it reads back the same.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.subsec_nanos().is_multiple_of(1_000_000) {
            return write!(f, "{}.{:09}s", self.0.as_secs(), self.0.subsec_nanos());
        }
        let milliseconds = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if milliseconds > 0 && milliseconds.is_multiple_of(size) {
                return write!(f, "{}{unit}", milliseconds / size);
            }
        }
        write!(f, "{milliseconds}ms")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Spans)
    }
}

struct Spans;

impl Visitor<'_> for Spans {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Span, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::custom(BadSpan(value.to_string()))),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Span, E> {
        Ok(Span::seconds(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Span, E> {
        Span::of_seconds(value).ok_or_else(|| E::custom(BadSpan(value.to_string())))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Value {
        value: Span,
    }

    fn read(text: &str) -> Result<Span, toml::de::Error> {
        toml::from_str::<Value>(&format!("value = {text}")).map(|v| v.value)
    }

    #[test]
    fn numbers_are_seconds_and_texts_have_units() {
        for (text, milliseconds) in [
            ("3", 3_000),
            ("0", 0),
            ("0.2", 200),
            ("\"0ms\"", 0),
            ("\"250ms\"", 250),
            ("\"1.5s\"", 1_500),
            ("\" 2 m \"", 120_000),
            ("\"3h\"", 10_800_000),
            ("\"1d\"", 86_400_000),
        ] {
            assert_eq!(read(text).unwrap(), Span::milliseconds(milliseconds), "{text}");
        }
    }

    #[test]
    fn what_is_doubtful_is_an_error_that_says_what_would_be_right() {
        for text in [
            "-1",
            "-0.5",
            "nan",
            "inf",
            "true",
            "\"\"",
            "\"s\"",
            "\"10\"",
            "\"10 parsecs\"",
            "\"-1s\"",
            "\"1e3s\"",
            "\"1.2.3s\"",
            "\"9999999999999999999999h\"",
            "\".s\"",
            "\"1 s s\"",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("a duration like"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_less_than_a_millisecond_is_not_lost() {
        let span: Span = "0.0005s".parse().unwrap();
        assert_eq!(span.0, Duration::from_micros(500));
        assert_eq!(span.to_string(), "0.000500000s");
        assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn what_is_written_reads_back() {
        for (milliseconds, text) in [
            (0, "0ms"),
            (1, "1ms"),
            (1_500, "1500ms"),
            (2_000, "2s"),
            (60_000, "1m"),
            (90_000, "90s"),
            (3_600_000, "1h"),
            (172_800_000, "2d"),
        ] {
            let span = Span::milliseconds(milliseconds);
            assert_eq!(span.to_string(), text);
            assert_eq!(text.parse(), Ok(span));
            let json = serde_json::to_string(&span).unwrap();
            assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), span);
        }
    }
}
