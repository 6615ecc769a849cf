//! Numbers of bytes.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: bare, or text with a unit (`512B`, `64KiB`, `1MiB`, `2GiB`, `1TiB`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Each unit with its power of two.
const UNITS: [(&str, u32); 6] =
    [("", 0), ("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

impl Size {
    /// As a number of bytes in memory; what no memory holds is the most that there can be.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSize(String);

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {EXPECTED}, not {}", self.0)
    }
}

impl std::error::Error for BadSize {}

const EXPECTED: &str = "a size like \"64KiB\", \"1MiB\" or a number of bytes";

impl FromStr for Size {
    type Err = BadSize;

    /// # Errors
    /// No whole number, another unit, or more than 16 EiB.
    fn from_str(text: &str) -> Result<Self, BadSize> {
        let (number, unit) = crate::split(text);
        let shift = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, shift)| shift);
        number
            .parse::<u64>()
            .ok()
            .zip(shift)
            .and_then(|(number, shift)| number.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| BadSize(format!("{text:?}")))
    }
}

/// As a bare number.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sizes)
    }
}

struct Sizes;

impl Visitor<'_> for Sizes {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
        u64::try_from(value).map(Size).map_err(|_| E::custom(BadSize(value.to_string())))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Size, E> {
        Ok(Size(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Value {
        value: Size,
    }

    fn read(text: &str) -> Result<Size, toml::de::Error> {
        toml::from_str::<Value>(&format!("value = {text}")).map(|v| v.value)
    }

    #[test]
    fn numbers_are_bytes_and_texts_may_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("\"17\"", 17),
            ("\"17B\"", 17),
            ("\"64KiB\"", 65_536),
            ("\" 2 MiB \"", 2 << 20),
            ("\"3GiB\"", 3 << 30),
            ("\"1TiB\"", 1 << 40),
        ] {
            assert_eq!(read(text).unwrap(), Size(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_doubtful_is_an_error_that_says_what_would_be_right() {
        for text in [
            "-1",
            "1.5",
            "true",
            "\"\"",
            "\"KiB\"",
            "\"1.5GiB\"",
            "\"64kb\"",
            "\"64K\"",
            "\"-1MiB\"",
            "\"99999999999GiB\"",
            "\"18446744073709551616\"",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("a size like"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 65_536, u64::MAX] {
            let size = Size(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
            let json = serde_json::to_string(&size).unwrap();
            assert_eq!(serde_json::from_str::<Size>(&json).unwrap(), size);
        }
    }
}
