//! ClamAV's daemon with one signature, EICAR's, and nothing downloaded.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Process, content, peers};

/// A running clamd, reached by a Unix socket.
pub struct Clamd {
    /// The process, for its log and its end.
    pub process: Process,
    folder: TempDir,
}

impl Clamd {
    /// Starts it with a database of its own.
    ///
    /// # Panics
    /// When it doesn't come up; with its log.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("clamd")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let at = folder.path();
        fs::create_dir(at.join("db")).expect("a database folder");
        let signature = content::eicar().iter().fold(String::new(), |mut hex, byte| {
            let _infallible = write!(hex, "{byte:02x}");
            hex
        });
        fs::write(at.join("db/test.ndb"), format!("Eicar-Test-Signature:0:*:{signature}\n"))
            .expect("a database");
        let file = at.join("clamd.conf");
        fs::write(&file, config(at)).expect("a configuration file");
        let mut process =
            Process::start("clamd", Command::new(peers::program("clamd")).arg("-c").arg(file));
        let socket = at.join("clamd.sock");
        process.wait_until("a listener", || UnixStream::connect(&socket).is_ok());
        Self { process, folder }
    }

    /// Where scanners connect.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("clamd.sock")
    }
}

fn config(at: &Path) -> String {
    let at = at.display();
    format!(
        "DatabaseDirectory {at}/db\n\
         LocalSocket {at}/clamd.sock\n\
         TemporaryDirectory {at}\n\
         Foreground yes\n\
         MaxThreads 4\n\
         StreamMaxLength 200M\n\
         MaxScanSize 200M\n\
         MaxFileSize 200M\n"
    )
}
