//! What a service offers in its answer to OPTIONS, and what a request and its reply say.

use crate::{Error, ErrorKind};

/// The version of the carrier that is spoken here; the value of `X-Meergate-Stream`.
pub const VERSION: u32 = 1;

/// How many bytes of a direction may be without a verdict, 1 to 16 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window(u32);

impl Window {
    /// Where nothing is said: 256 KiB.
    pub const DEFAULT: Self = Self(256 * 1024);

    /// The most: 16 MiB.
    pub const MAX: Self = Self(16 * 1024 * 1024);

    /// So many bytes; `None` for none, and for more than 16 MiB.
    pub fn new(bytes: u64) -> Option<Self> {
        u32::try_from(bytes).ok().map(Self).filter(|window| window.0 > 0 && *window <= Self::MAX)
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }
}

/// What a service says of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The highest version of the carrier that it speaks, and all below.
    pub version: u32,
    /// Bytes of a direction that it takes in advance of its verdict.
    pub window: Window,
    /// How many streams it takes at once, for all who ask it together; `None` if it does not say.
    pub streams: Option<u32>,
}

impl Offer {
    /// Reads the value of `X-Meergate`; `None` if it does not speak of streams, or only of
    /// versions that are not spoken here.
    ///
    /// # Errors
    /// `Offer`, if what it says of streams is said twice or is no number in range.
    pub fn parse(value: &str) -> Result<Option<Self>, Error> {
        let [version, window, streams] = ["stream", "window", "streams"].map(|name| {
            let said = |part: &str| {
                let (key, number) = part.split_once('=')?;
                (key.trim() == name).then(|| number.trim().parse::<u64>().ok())
            };
            let mut all = value.split(',').filter_map(said);
            match (all.next(), all.next()) {
                (None, _) => Ok(None),
                (Some(Some(number)), None) => Ok(Some(number)),
                _ => Err(refused("a part that is no number, or is there twice")),
            }
        });
        let Some(version) = version? else { return Ok(None) };
        let version = u32::try_from(version).ok().filter(|version| *version > 0);
        let window = window?.map_or(Some(Window::DEFAULT), Window::new);
        let streams = streams?.map(u32::try_from).transpose().ok();
        match (version, window, streams) {
            (Some(version), Some(window), Some(streams)) => {
                Ok(Some(Self { version, window, streams }))
            }
            _ => Err(refused("a number out of range")),
        }
    }
}

impl std::fmt::Display for Offer {
    /// As a part of `X-Meergate`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stream={}, window={}", self.version, self.window.bytes())?;
        match self.streams {
            Some(streams) => write!(f, ", streams={streams}"),
            None => Ok(()),
        }
    }
}

fn refused(what: &'static str) -> Error {
    Error::new(ErrorKind::Offer, 0, what)
}
