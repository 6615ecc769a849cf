//! Loopback ports for peers that can't be told "any free port, and say which".

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's range for outgoing connections, so that none of those takes the port between
/// its choice and the peer's `bind`.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A TCP port that is free on all addresses and that no other test takes while this value lives.
///
/// A lock on a file stands for the claim, so tests in other processes keep away too. Our own
/// programs need none of this: they bind port 0 and print what they got.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    /// Claims a free port.
    ///
    /// # Panics
    /// When none of the range is free.
    pub fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = folder();
        fs::create_dir_all(&folder).expect("a folder for port claims");
        let start = (std::process::id() as u16).wrapping_mul(97);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + start.wrapping_add(step) % COUNT;
            let claim = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(number.to_string()))
                .expect("a file for a port claim");
            if claim.try_lock().is_ok()
                && TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok()
            {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    /// The port number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Apart for each user, since a file made by one may not be opened by another.
fn folder() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("meergate-e2e-ports-{user}"))
}
