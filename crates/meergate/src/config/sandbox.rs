//! `user` and `[sandbox]`: with how few rights the program runs once it serves.

use std::path::PathBuf;

use serde::Deserialize;

/// What the program gives up before it serves, where the kernel can.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// Files by landlock: only what the settings name.
    pub landlock: bool,
    /// System calls by seccomp: none that only an intruder makes.
    pub seccomp: bool,
    /// Further files and folders that may be read, such as those that later settings will name.
    pub read: Vec<PathBuf>,
    /// Further folders that may be written to.
    pub write: Vec<PathBuf>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { landlock: true, seccomp: true, read: Vec::new(), write: Vec::new() }
    }
}
