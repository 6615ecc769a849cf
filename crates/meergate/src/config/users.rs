//! `[users]`: who may use the explicit proxy and SOCKS5.

use std::path::PathBuf;

use serde::Deserialize;

/// Who may use the explicit proxy and SOCKS5.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Users {
    /// That nobody is asked is meant: a reload may take the file away.
    pub none: bool,
    /// A file with `name:hash` a line, hashes as `meergate hash-password` prints them. Without a
    /// file nobody is asked for a name.
    pub file: Option<PathBuf>,
    /// What browsers show when they ask for the password.
    pub realm: String,
    /// Wrong passwords of one client that are looked at in a row; then one a second.
    pub wrong_passwords: u32,
    /// Passwords that are hashed at once; 0 for half as many as there are cores.
    pub hashes: u32,
}

impl Default for Users {
    fn default() -> Self {
        Self { none: false, file: None, realm: "Meergate".into(), wrong_passwords: 20, hashes: 0 }
    }
}
