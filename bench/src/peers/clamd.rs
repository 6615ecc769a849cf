//! clamd with one signature, EICAR's: what a scan costs without a database is its lower bound.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::Process;
use e2e::peers::program;
use tempfile::TempDir;

use super::{folder, write};

/// A running clamd.
#[derive(Debug)]
pub struct Clamd {
    process: Process,
    socket: PathBuf,
    _folder: TempDir,
}

impl Clamd {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        let folder = folder();
        let here = folder.path();
        // The EICAR string in the database's hexadecimal notation; type 0: any file, offset 0.
        let eicar = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";
        let hex: String = eicar.bytes().map(|byte| format!("{byte:02x}")).collect();
        write(here, "eicar.ndb", &format!("Eicar-Test-Signature:0:0:{hex}\n"));
        let socket = here.join("clamd.sock");
        let conf = write(
            here,
            "clamd.conf",
            &format!(
                "Foreground yes\nDatabaseDirectory {}\nLocalSocket {}\nLocalSocketMode 666\n\
                 User root\nTemporaryDirectory {}\nMaxThreads 32\n",
                here.display(),
                socket.display(),
                here.display()
            ),
        );
        let mut process =
            Process::start("clamd", Command::new(program("clamd")).arg("-c").arg(conf));
        process.wait_until("its socket", || UnixStream::connect(&socket).is_ok());
        Self { process, socket, _folder: folder }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
