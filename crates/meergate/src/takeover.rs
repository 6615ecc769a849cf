//! Replacing the running program: the new one gets the listening sockets of the old one, so that
//! no connection is refused in between, and the old one ends when its connections do.
//!
//! They meet at a Unix socket in the state directory. The new one connects and receives the
//! sockets, each with the name of its setting; once it serves, it sends one byte.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::config::Config;
use crate::error::StartError;

/// Sockets that can be handed over.
const MAX_SOCKETS: usize = 64;
/// The most bytes of their names.
const MAX_NAMES: usize = 16 * 1024;
/// How long either side waits for the other's next word.
const PATIENCE: Duration = Duration::from_secs(60);

/// Listening sockets with the names of their settings.
pub(crate) type Sockets = Vec<(String, TcpListener)>;

/// Where a successor asks for the sockets.
#[derive(Debug)]
pub(crate) struct Offer(UnixListener);

impl Offer {
    /// Opens the meeting place. `None` where there is no state directory to have it in.
    pub(crate) fn open(config: &Config) -> Option<Self> {
        let path = path(config).ok()?;
        // What a former program left there leads nowhere, and a successor takes the place over.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(&path)
            .inspect_err(|error| tracing::debug!(%error, "nobody can take this program's place"))
            .ok()
            .map(Self)
    }

    /// Blocks until a successor has taken `sockets` and serves.
    pub(crate) fn wait(&self, sockets: &Sockets) -> io::Result<()> {
        loop {
            let (stream, _) = self.0.accept()?;
            match hand_over(stream, sockets) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "a successor asked for the sockets and did not serve");
                }
            }
        }
    }
}

/// What the running program handed over.
#[derive(Debug)]
pub(crate) struct Inherited {
    stream: UnixStream,
    sockets: Sockets,
}

impl Inherited {
    /// Asks the program that runs with the same state directory for its sockets.
    ///
    /// # Errors
    /// None runs there, or it does not answer.
    pub(crate) fn ask(config: &Config) -> Result<Self, StartError> {
        let path = path(config)?;
        receive(&path).map_err(|e| {
            StartError::new(
                format!("no running program hands its sockets over ({e})"),
                path.display().to_string(),
                "start without --replace",
            )
        })
    }

    /// The socket of this name, if there is one.
    pub(crate) fn take(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.sockets.iter().position(|(own, _)| own == name)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Tells the former program that this one serves.
    pub(crate) fn serves(mut self) -> io::Result<()> {
        self.stream.write_all(b"!")
    }
}

fn path(config: &Config) -> Result<PathBuf, StartError> {
    config.state_dir().map(|dir| dir.join("meergate.sock"))
}

fn hand_over(mut stream: UnixStream, sockets: &Sockets) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join("\n");
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if names.len() > MAX_NAMES || !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("too many sockets to hand over"));
    }
    let sent =
        sendmsg(&stream, &[IoSlice::new(names.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent != names.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    stream.read_exact(&mut [0])
}

fn receive(path: &Path) -> io::Result<Inherited> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut names = vec![0; MAX_NAMES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut names)];
    let received = recvmsg(&stream, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    names.truncate(received.bytes);
    let names = String::from_utf8(names).map_err(io::Error::other)?;
    let names: Vec<&str> = names.lines().collect();
    if names.len() != fds.len() {
        return Err(io::Error::other("names and sockets do not match"));
    }
    let sockets = names.into_iter().map(str::to_owned).zip(fds.into_iter().map(Into::into));
    Ok(Inherited { stream, sockets: sockets.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_change_hands_and_go_on_listening() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: Some(dir.path().into()), ..Config::default() };
        assert!(Inherited::ask(&config).is_err());
        let offer = Offer::open(&config).unwrap();
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = vec![("one".to_owned(), bind()), ("two".to_owned(), bind())];
        let address = sockets[1].1.local_addr().unwrap();
        let old = std::thread::spawn(move || offer.wait(&sockets));
        // One that never serves changes nothing.
        drop(Inherited::ask(&config).unwrap());
        let mut inherited = Inherited::ask(&config).unwrap();
        let two = inherited.take("two").unwrap();
        assert!(inherited.take("two").is_none());
        assert_eq!(two.local_addr().unwrap(), address);
        inherited.serves().unwrap();
        old.join().unwrap().unwrap();
        std::net::TcpStream::connect(address).unwrap();
        two.accept().unwrap();
    }
}
