//! The control socket: replacing the running program, and telling it to reload.
//!
//! A successor gets the listening sockets of the running program, so that no connection is refused in
//! between, and the old one ends when its connections do.
//!
//! It is a Unix socket in the state directory, for its owner alone (and root). Whoever connects says a
//! word. `SOCKETS`: the sockets come, each with the name of its setting, and the control socket itself;
//! once the successor serves, it sends one byte. So the control socket changes hands last, and a
//! successor that dies before leaves the old one as it was. `RELOAD`: the process id comes, and on the next
//! line what is wrong with the settings, if anything is.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, listen,
    recvmsg, sendmsg, socket_with,
};
use start_error::StartError;

use crate::config::Config;

/// Sockets that can be handed over, the control socket among them.
const MAX_SOCKETS: usize = 64;
/// The most bytes of their names.
const MAX_NAMES: usize = 16 * 1024;
/// How long either side waits for the other's next word.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name under which the control socket itself is handed over.
const CONTROL: &str = "control";
/// What whoever connects may want.
const RELOAD: u8 = b'r';
const SOCKETS: u8 = b's';

/// Listening sockets with the names of their settings.
pub(crate) type Sockets = Vec<(String, TcpListener)>;

/// Where a successor asks for the sockets, and others for a reload.
#[derive(Debug)]
pub(crate) struct Offer(UnixListener);

impl Offer {
    /// Opens the meeting place. `None` where there is no state directory to have it in.
    pub(crate) fn open(config: &Config) -> Option<Self> {
        let path = path(config).ok()?;
        // What a former program left there leads nowhere: this one has the mark.
        let _ = std::fs::remove_file(&path);
        private_listener(&path)
            .inspect_err(|error| tracing::debug!(%error, "nobody can take this program's place"))
            .ok()
            .map(Self)
    }

    /// Blocks until a successor has taken `sockets` and serves. Calls `reload` for those who ask.
    pub(crate) fn wait(
        &self,
        sockets: &Sockets,
        reload: impl Fn() -> Result<(), StartError>,
    ) -> io::Result<()> {
        loop {
            let (stream, _) = self.0.accept()?;
            match self.serve(stream, sockets, &reload) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "somebody came to the control socket in vain");
                }
            }
        }
    }

    /// Whether a successor serves now.
    fn serve(
        &self,
        mut stream: UnixStream,
        sockets: &Sockets,
        reload: impl Fn() -> Result<(), StartError>,
    ) -> io::Result<bool> {
        is_ours(&stream)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut word = [0];
        stream.read_exact(&mut word)?;
        match word {
            [RELOAD] => {
                let refused = reload().err().map(|error| error.to_string()).unwrap_or_default();
                write!(stream, "{}\n{refused}", std::process::id()).map(|()| false)
            }
            [SOCKETS] => hand_over(stream, sockets, &self.0).map(|()| true),
            _ => Err(io::Error::other("an unknown word")),
        }
    }
}

/// A listener that its owner alone can connect to, from its first moment on: a socket file gets the
/// mode of the socket (unix(7)), less the umask.
fn private_listener(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fchmod(&socket, Mode::from_raw_mode(0o600))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 16)?;
    Ok(socket.into())
}

/// Whether the other end is of this user, or root. Another one may hold a path of ours by a mistake in
/// rights; it gets nothing, and is told nothing.
fn is_ours(stream: &UnixStream) -> io::Result<()> {
    let other = socket_peercred(stream)?.uid.as_raw();
    let own = nix::unistd::geteuid().as_raw();
    match other == own || other == 0 {
        true => Ok(()),
        false => Err(io::Error::other(format!("it is of user {other}"))),
    }
}

/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 64 * 1024;

/// Has the program that runs with the state directory read its settings anew; its process id.
///
/// # Errors
/// None runs with it, it does not answer, or it goes on with the former settings.
pub(crate) fn reload(config: &Config) -> Result<String, StartError> {
    let path = path(config)?;
    let asked = connect(&path, RELOAD).and_then(|stream| {
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        match answer.split_once('\n') {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some((pid, refused)) => Ok((pid.to_owned(), refused.to_owned())),
        }
    });
    let (pid, refused) = asked.map_err(|e| {
        StartError::new(
            format!("no program runs here ({e})"),
            path.display().to_string(),
            "name the state directory of a running meergate with --state-dir or --config",
        )
    })?;
    match refused.is_empty() {
        true => Ok(pid),
        false => Err(StartError::new(
            format!("not reloaded: {refused}"),
            format!("process {pid}"),
            "until then it goes on with its former settings",
        )),
    }
}

fn connect(path: &Path, word: u8) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path)?;
    is_ours(&stream)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[word])?;
    Ok(stream)
}

/// What the running program handed over.
#[derive(Debug)]
pub(crate) struct Inherited {
    stream: UnixStream,
    sockets: Vec<(String, OwnedFd)>,
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

    fn take_any(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.sockets.iter().position(|(own, _)| own == name)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// The socket of this name, if there is one.
    pub(crate) fn take(&mut self, name: &str) -> Option<TcpListener> {
        self.take_any(name).map(Into::into)
    }

    /// The control socket. To be waited at only when this program serves.
    pub(crate) fn take_offer(&mut self) -> Option<Offer> {
        self.take_any(CONTROL).map(|socket| Offer(socket.into()))
    }

    /// Tells the former program that this one serves.
    pub(crate) fn serves(mut self) -> io::Result<()> {
        self.stream.write_all(b"!")
    }
}

fn path(config: &Config) -> Result<PathBuf, StartError> {
    config.state_dir().map(|dir| dir.join("control.sock"))
}

fn hand_over(mut stream: UnixStream, sockets: &Sockets, control: &UnixListener) -> io::Result<()> {
    let names = sockets.iter().map(|(name, _)| name.as_str()).chain([CONTROL]);
    let names = names.collect::<Vec<&str>>().join("\n");
    let fds = sockets.iter().map(|(_, socket)| socket.as_fd()).chain([control.as_fd()]);
    let fds: Vec<BorrowedFd<'_>> = fds.collect();
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
    let stream = connect(path, SOCKETS)?;
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
    let sockets = names.into_iter().map(str::to_owned).zip(fds);
    Ok(Inherited { stream, sockets: sockets.collect() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn sockets_change_hands_and_go_on_listening() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: Some(dir.path().into()), ..Config::default() };
        assert!(Inherited::ask(&config).is_err());
        let offer = Offer::open(&config).unwrap();
        let mode = std::fs::metadata(path(&config).unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = vec![("one".to_owned(), bind()), ("two".to_owned(), bind())];
        let address = sockets[1].1.local_addr().unwrap();
        let old = std::thread::spawn(move || offer.wait(&sockets, || Ok(())));
        // One that never serves changes nothing, whatever it got.
        for _ in 0..3 {
            drop(Inherited::ask(&config).unwrap());
        }
        let mut inherited = Inherited::ask(&config).unwrap();
        let two = inherited.take("two").unwrap();
        assert!(inherited.take("two").is_none());
        assert_eq!(two.local_addr().unwrap(), address);
        let offer = inherited.take_offer().unwrap();
        inherited.serves().unwrap();
        old.join().unwrap().unwrap();
        std::net::TcpStream::connect(address).unwrap();
        two.accept().unwrap();
        // The same socket leads to the successor now.
        let sockets = vec![("two".to_owned(), two)];
        let new = std::thread::spawn(move || offer.wait(&sockets, || Ok(())));
        Inherited::ask(&config).unwrap().serves().unwrap();
        new.join().unwrap().unwrap();
    }

    #[test]
    fn a_reload_is_asked_of_the_program_and_of_no_number_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: Some(dir.path().into()), ..Config::default() };
        assert!(reload(&config).unwrap_err().to_string().contains("no program runs here"));
        let offer = Offer::open(&config).unwrap();
        let asked = std::sync::Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let program = std::thread::spawn(move || {
            offer.wait(&Vec::new(), || match count.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(()),
                _ => Err(StartError::new("no rule is left", "meergate.toml", "complete it")),
            })
        });
        std::fs::write(dir.path().join("meergate.pid"), "-1\n").unwrap();
        assert_eq!(reload(&config).unwrap(), std::process::id().to_string());
        let refused = reload(&config).unwrap_err().to_string();
        assert!(refused.contains("not reloaded: no rule is left: meergate.toml"), "{refused}");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        // Nonsense is no word.
        drop(connect(&path(&config).unwrap(), b'x').unwrap());
        Inherited::ask(&config).unwrap().serves().unwrap();
        program.join().unwrap().unwrap();
        assert!(reload(&config).is_err());
    }
}
