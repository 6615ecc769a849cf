//! curl as a client, through a proxy or direct.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::peers;

/// How a request is made. Each [`Curl::run`] is a process of its own.
#[derive(Clone, Debug, Default)]
pub struct Curl {
    args: Vec<String>,
}

/// What curl got.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// curl's exit code: 0 is a complete transfer; 18, 52, 56 and 92 are cut ones.
    pub exit: i32,
    /// The status of the last answer; 0 without one.
    pub status: u16,
    /// The heads of all answers in order, a proxy's answer to CONNECT included.
    pub heads: String,
    /// As much of the body as came.
    pub body: Vec<u8>,
    /// From start to end, in milliseconds.
    pub milliseconds: u64,
    /// The client's port of the last connection.
    pub local_port: u16,
    /// curl's own words on a failure.
    pub stderr: String,
}

impl Curl {
    /// A direct client that trusts nothing but what it is told to.
    pub fn direct() -> Self {
        Self::default().arg("--noproxy").arg("*")
    }

    /// A client of the HTTP proxy at `proxy`, for all hosts.
    pub fn through(proxy: SocketAddr) -> Self {
        Self::default().arg("--noproxy").arg("").arg("--proxy").arg(&format!("http://{proxy}"))
    }

    /// Trusts the certificate authority in this PEM file, and no other.
    #[must_use]
    pub fn trust(self, authority: &Path) -> Self {
        self.arg("--cacert").arg(&authority.display().to_string())
    }

    /// One more argument of curl's.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Sends `body` with POST, as it is.
    #[must_use]
    pub fn post(self, body: &Path) -> Self {
        self.arg("--data-binary")
            .arg(&format!("@{}", body.display()))
            .arg("--header")
            .arg("Content-Type: application/octet-stream")
    }

    /// Asks for `url`.
    ///
    /// # Panics
    /// When curl can't be run.
    pub fn run(&self, url: &str) -> Fetched {
        let folder = TempDir::new().expect("a temporary folder");
        let file = |name: &str| -> PathBuf { folder.path().join(name) };
        let output = Command::new(peers::program("curl"))
            // Neither the machine's settings nor its proxy play a part.
            .arg("--disable")
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .args(["--silent", "--show-error", "--http1.1", "--max-time", "120"])
            .arg("--output")
            .arg(file("body"))
            .arg("--dump-header")
            .arg(file("heads"))
            .args(["--write-out", "%{http_code} %{time_total} %{local_port}"])
            .args(&self.args)
            .arg(url)
            .stdin(Stdio::null())
            .output()
            .expect("curl runs");
        let facts = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut facts = facts.split(' ');
        let mut fact = || facts.next().unwrap_or_default().to_owned();
        Fetched {
            exit: output.status.code().unwrap_or(-1),
            status: fact().parse().unwrap_or(0),
            milliseconds: (fact().parse::<f64>().unwrap_or(0.0) * 1000.0) as u64,
            local_port: fact().parse().unwrap_or(0),
            heads: fs::read(file("heads"))
                .map(|heads| String::from_utf8_lossy(&heads).into_owned())
                .unwrap_or_default(),
            body: fs::read(file("body")).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Fetched {
    /// The body as text, for pages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Ends the test unless the transfer was complete and this was its status.
    ///
    /// # Panics
    /// Then, with what came instead.
    #[track_caller]
    pub fn expect_status(&self, status: u16) {
        assert!(
            self.exit == 0 && self.status == status,
            "wanted {status}, got {} (curl's exit code {}: {})\n{}\n{}",
            self.status,
            self.exit,
            self.stderr.trim(),
            self.heads,
            self.text().chars().take(2000).collect::<String>()
        );
    }

    /// Ends the test unless the transfer was complete, with status 200 and this very body.
    ///
    /// # Panics
    /// Then, with where the bodies part.
    #[track_caller]
    pub fn expect_body(&self, body: &[u8]) {
        self.expect_status(200);
        if self.body != body {
            let same = self.body.iter().zip(body).take_while(|(got, want)| got == want).count();
            panic!(
                "bodies of {} and {} bytes differ from byte {same} on",
                self.body.len(),
                body.len()
            );
        }
    }
}
