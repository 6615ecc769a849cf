//! `meergate hash-password`: a line for `users.file`.

use std::io::{self, BufRead};

use start_error::StartError;

use crate::policy::hash_password;
use crate::say::say;

/// Reads a password from standard input and prints `name:hash`.
pub(super) fn run(name: &str) -> Result<(), StartError> {
    let refuse =
        |what: &str| StartError::new(what, "standard input", "give the password on one line of it");
    if name.is_empty() || name.contains([':', '\n']) {
        return Err(StartError::new("not a user's name", name, "leave out colons"));
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|e| refuse(&format!("cannot read ({e})")))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(refuse("no password"));
    }
    say(&format!("{name}:{}", hash_password(password)?))
}
