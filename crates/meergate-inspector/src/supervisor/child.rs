//! The engine's process, as its supervisor sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use crate::link::{self, Begin, Order, Report};
use crate::sockets::Sockets;
use crate::supervisor::folder::Folder;

/// Orders that may wait.
const QUEUE: usize = 16;

/// How glibc is told, when a program starts, what it is to do otherwise.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// For each transaction the engine allocates and frees some dozen small things, more of some sizes than
/// the seven of each that a thread keeps at hand: with 128 a transaction takes 8 % less CPU. At most 4 MB
/// a thread.
const FREED_IS_KEPT: &str = "glibc.malloc.tcache_count=128";

/// What a process does by itself.
pub(crate) enum Event {
    /// It has ended, in words.
    Ended(String),
    /// It says something.
    Report(Report),
}

/// A process that was started and has not been seen to end.
pub(crate) struct Child {
    /// Never used twice.
    pub(crate) id: u64,
    pid: u32,
    orders: mpsc::Sender<Order>,
    kill: Arc<Notify>,
}

impl Child {
    /// Starts this same program as the engine's process, with `folder` for its temporary files;
    /// `events` hears of it under `id`.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(crate) fn start(
        id: u64,
        begin: Begin,
        sockets: Option<&Sockets>,
        folder: Folder,
        events: mpsc::Sender<(u64, Event)>,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // Not by its path: an update may have put another version there.
        let mut command = tokio::process::Command::new("/proc/self/exe");
        command
            .arg0(env!("CARGO_PKG_NAME"))
            .arg("engine")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .env("TMPDIR", folder.path())
            .kill_on_drop(true);
        if std::env::var_os(TUNABLES).is_none() {
            command.env(TUNABLES, FREED_IS_KEPT);
        }
        crate::supervisor::privileges::drop_to(&mut command, &begin.settings)?;
        let mut process = command.spawn()?;
        // Closes our copy of the other end: the child's end is seen only if nobody else holds it.
        drop(command);
        match sockets {
            Some(s) => link::send_sockets(&ours, &s.icap, s.metrics.as_ref())?,
            None => link::send_sockets(&ours, &[], None)?,
        }
        let pid = process.id().unwrap_or_default();
        let (mut sender, mut receiver) = link::open(ours)?;
        let (orders, mut order) = mpsc::channel::<Order>(QUEUE);
        let kill = Arc::new(Notify::new());
        let killed = kill.clone();
        tokio::spawn(async move {
            // A write that fails means that the process is gone, which is heard of below.
            let _ = sender.send(&Order::Begin(Box::new(begin))).await;
            let mut talking = true;
            let how = loop {
                tokio::select! {
                    Some(order) = order.recv() => {
                        let _ = sender.send(&order).await;
                    }
                    report = receiver.next::<Report>(), if talking => match report {
                        Ok(Some(report)) => {
                            let _ = events.send((id, Event::Report(report))).await;
                        }
                        Ok(None) | Err(_) => talking = false,
                    },
                    () = killed.notified() => {
                        // It may have ended by itself in this moment.
                        let _ = process.start_kill();
                    }
                    ended = process.wait(), if !talking => break in_words(ended),
                }
            };
            drop(folder);
            let _ = events.send((id, Event::Ended(how))).await;
        });
        Ok(Self { id, pid, orders, kill })
    }

    /// Tells it to do something; nothing happens if it has ended.
    pub(crate) async fn order(&mut self, order: Order) {
        let _ = self.orders.send(order).await;
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        self.kill.notify_one();
    }

    /// Bytes of memory that it occupies, 0 if unknown.
    pub(crate) fn memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid));
        let pages = statm.ok().and_then(|s| s.split(' ').nth(1)?.parse::<u64>().ok());
        pages.unwrap_or_default() * rustix::param::page_size() as u64
    }
}

fn in_words(ended: io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}
