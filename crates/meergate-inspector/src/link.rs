//! What the supervisor and the engine's process say to each other, over a socket that is the
//! latter's standard input. Listening sockets travel over it too.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use start_error::StartError;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::error::Reason;
use crate::loaded::Loaded;
use crate::settings::{Listen, Settings, TlsSettings};
use crate::sockets::Listening;

/// Sockets that can be handed over at once.
pub(crate) const MAX_SOCKETS: usize = 32;

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first one: what to do.
    Begin(Box<Begin>),
    /// What to show on the metrics page.
    Count(Totals),
    /// Serve no new connection, finish what is in flight however long it takes, end.
    Drain,
    /// Load the rules anew.
    Reload,
    /// Open logs anew: somebody has moved them away.
    ReopenLogs,
    /// As `Drain`, within seconds.
    Stop,
}

/// What an engine's process is there for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Complete settings.
    pub(crate) settings: Settings,
    /// Start the engine, prove that it inspects, and end.
    pub(crate) check: bool,
    /// Where compiled patterns are kept: put there by those that check, read by those that serve.
    pub(crate) patterns: PathBuf,
    /// How many of the sockets are for ICAP; one more is for metrics, if any.
    pub(crate) icap_sockets: usize,
    /// What has happened before.
    pub(crate) totals: Totals,
}

/// What only the supervisor can count.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Engine processes that ended by themselves or were ended.
    pub(crate) restarts: u64,
    /// Reloads that took.
    pub(crate) reloads: u64,
    /// Reloads that were refused.
    pub(crate) refused: u64,
}

/// From the engine's process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Every worker is alive.
    Beat,
    /// After [`Order::Drain`] or [`Order::Stop`]: it takes no new connections any more.
    Closed,
    /// It could not start, for the reason given.
    Failed(Reason),
    /// It serves (or would, if it was to check).
    Ready(Loaded),
    /// The end of a reload.
    Reloaded(Result<Loaded, Reason>),
    /// The end of a reload after which the engine does not inspect, for the reason given: until it
    /// is replaced, every transaction fails.
    Unproven(Reason),
}

/// The reading half of either end.
pub(crate) struct Receiver(Lines<BufReader<OwnedReadHalf>>);

/// The writing half of either end.
pub(crate) struct Sender(OwnedWriteHalf);

/// Makes an end ready to talk.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn open(stream: UnixStream) -> io::Result<(Sender, Receiver)> {
    stream.set_nonblocking(true)?;
    let (read, write) = tokio::net::UnixStream::from_std(stream)?.into_split();
    Ok((Sender(write), Receiver(BufReader::new(read).lines())))
}

impl Sender {
    /// Sends one message.
    ///
    /// # Errors
    /// The other end is gone.
    pub(crate) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.0.write_all(&line).await
    }
}

impl Receiver {
    /// The next message; `None` when the other end is gone. Cancel safe.
    ///
    /// # Errors
    /// Not a message.
    pub(crate) async fn next<T: for<'a> Deserialize<'a>>(&mut self) -> io::Result<Option<T>> {
        match self.0.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}

/// Sends sockets. To be called once, before anything else is said.
///
/// # Errors
/// The other end is gone, or there are more than [`MAX_SOCKETS`].
pub(crate) fn send_sockets(
    to: &UnixStream,
    icap: &[Listening],
    metrics: Option<&TcpListener>,
) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> =
        icap.iter().map(Listening::as_fd).chain(metrics.map(AsFd::as_fd)).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("too many listening sockets"));
    }
    sendmsg(to, &[IoSlice::new(b"s")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Receives what [`send_sockets`] sent.
///
/// # Errors
/// The other end is gone.
pub(crate) fn receive_sockets(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    if recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(fds)
}

/// Sockets as what they are: those for ICAP, and one for metrics.
///
/// # Errors
/// The certificate for TLS cannot be used.
pub(crate) fn sort_sockets(
    fds: Vec<OwnedFd>,
    begin: &Begin,
) -> Result<(Vec<Listening>, Option<TcpListener>), StartError> {
    let tls = begin.settings.tls.as_ref().map(TlsSettings::tls).transpose()?;
    let mut fds = fds.into_iter();
    let icap = begin
        .settings
        .listen
        .iter()
        .take(begin.icap_sockets)
        .zip(fds.by_ref())
        .map(|(listen, fd)| match listen {
            Listen::Tcp(_) => Listening::Tcp(fd.into()),
            Listen::Tls(_) => Listening::Tls(fd.into(), tls.clone()),
            Listen::Unix(_) => Listening::Unix(fd.into()),
        })
        .collect();
    Ok((icap, fds.next().map(TcpListener::from)))
}
