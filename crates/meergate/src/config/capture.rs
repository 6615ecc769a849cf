//! `[capture]`: where decrypted traffic is written that rules choose.

use std::path::PathBuf;

use serde::Deserialize;

use units::Size;

/// Where decrypted traffic is written that rules choose (`capture = true`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// The folder of the files; it must exist.
    pub folder: Option<PathBuf>,
    /// The size of one file, after which the next one is begun.
    pub max_file: Size,
    /// How many files are kept, those of former runs included; at least one.
    pub files: usize,
}

impl Default for Capture {
    fn default() -> Self {
        Self { folder: None, max_file: Size(64 << 20), files: 8 }
    }
}
