//! How much of a body is held.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use units::{BadSize, Size};

/// Largest number of bytes that may be held in memory for one body.
const MAX_HOLD: usize = 1 << 30;

/// How much of a body waits for the verdict over all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HoldText", into = "String")]
pub(crate) enum Hold {
    /// Everything: no byte leaves before the engine has passed the last one.
    All,
    /// So many bytes. Bodies that are longer are released as the engine passes them.
    Bytes(usize),
}

impl Default for Hold {
    fn default() -> Self {
        Self::Bytes(1 << 20)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Bytes(n) => n.fmt(f),
        }
    }
}

impl From<Hold> for String {
    fn from(hold: Hold) -> Self {
        hold.to_string()
    }
}

/// Why a body cannot be held so.
#[derive(Debug)]
pub(crate) enum BadHold {
    /// Neither a number of bytes nor "all".
    Unknown(BadSize),
    /// More than [`MAX_HOLD`].
    TooMuch(Size),
}

impl fmt::Display for BadHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(error) => write!(f, "{error}, nor \"all\""),
            Self::TooMuch(size) => {
                write!(f, "{size} is more than {MAX_HOLD} bytes; say \"all\" to hold everything")
            }
        }
    }
}

impl std::error::Error for BadHold {}

impl TryFrom<Size> for Hold {
    type Error = BadHold;

    fn try_from(size: Size) -> Result<Self, BadHold> {
        match size.in_memory() {
            bytes if bytes <= MAX_HOLD => Ok(Self::Bytes(bytes)),
            _ => Err(BadHold::TooMuch(size)),
        }
    }
}

impl FromStr for Hold {
    type Err = BadHold;

    fn from_str(text: &str) -> Result<Self, BadHold> {
        match text {
            "all" => Ok(Self::All),
            _ => text.parse::<Size>().map_err(BadHold::Unknown)?.try_into(),
        }
    }
}

/// As TOML has it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a size like \"64KiB\", a number of bytes, or \"all\"")]
enum HoldText {
    Size(Size),
    Text(String),
}

impl TryFrom<HoldText> for Hold {
    type Error = BadHold;

    fn try_from(text: HoldText) -> Result<Self, BadHold> {
        match text {
            HoldText::Size(size) => size.try_into(),
            HoldText::Text(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_size_or_all_and_reads_back_from_what_is_written() {
        for (json, hold) in
            [("17", Hold::Bytes(17)), ("\"64KiB\"", Hold::Bytes(65_536)), ("\"all\"", Hold::All)]
        {
            assert_eq!(serde_json::from_str::<Hold>(json).unwrap(), hold);
            let written = serde_json::to_string(&hold).unwrap();
            assert_eq!(serde_json::from_str::<Hold>(&written).unwrap(), hold);
        }
        for json in ["1.5", "true", "\"some\"", "-1", "\"2GiB\""] {
            let error = serde_json::from_str::<Hold>(json).unwrap_err().to_string();
            assert!(error.contains("\"all\""), "{json}: {error}");
        }
    }
}
