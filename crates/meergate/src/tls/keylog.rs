//! The secrets of TLS connections in a file, for debugging with Wireshark, only on request.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use start_error::StartError;

use crate::files;

/// Appends to a file in NSS key log format.
pub(super) struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        let file = files::open(OpenOptions::new().append(true), path, 0o600).map_err(|e| {
            StartError::new(
                format!("cannot write the key log ({e})"),
                path.display().to_string(),
                "name a file in a directory that this user may write to (tls.keylog)",
            )
        })?;
        tracing::warn!(
            file = %path.display(),
            "the secrets of all TLS connections are written to a file: whoever reads it can \
             decrypt them"
        );
        Ok(Self(Mutex::new(file)))
    }
}

impl fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogFile")
    }
}

impl rustls::KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A lost line costs a debugging session, not the connection.
        let _ = file.write_all(line.as_bytes());
    }
}
