//! Captures of decrypted traffic, for those connections that a rule chooses: pcapng files with the
//! real addresses and ports, as if it had never been encrypted.
//!
//! ```text
//!   Tap (on a stream) ──► Flow (makes TCP/IP packets) ──► queue ──► thread ──► files
//! ```
//!
//! A connection never waits for the disk: packets that find the queue or the disk full are lost, counted, and
//! seen as gaps in the stream.

mod files;
mod flow;
mod pcapng;
mod tap;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use prometheus_client::metrics::counter::Counter;
use start_error::StartError;

use crate::config;
use crate::metrics::Metrics;
use crate::records::Losses;

use files::Files;
use flow::Flow;

pub use tap::Tap;

/// Packets, and their bytes, that may wait for the disk.
const QUEUE: usize = 16 * 1024;
const QUEUE_BYTES: usize = 32 << 20;

/// Where captured packets go. What was sent before it is dropped reaches the files.
#[derive(Debug)]
pub struct Capture {
    queue: Option<SyncSender<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
    writer: Option<JoinHandle<()>>,
    lost: Counter,
}

impl Capture {
    /// Begins the first file, if the settings name a folder for them.
    ///
    /// # Errors
    /// No file can be made there, or no thread started.
    pub fn open(
        settings: &config::Capture,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, StartError> {
        let Some(folder) = &settings.folder else { return Ok(None) };
        let refuse = |e: std::io::Error| {
            StartError::new(
                format!("cannot write captures ({e})"),
                folder.display().to_string(),
                "name a folder that this user may write to (capture.folder)",
            )
        };
        let files = Files::begin(folder, settings.max_file.0, settings.files).map_err(refuse)?;
        let (queue, packets) = sync_channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let shared = waiting.clone();
        let lost = metrics.capture_packets_lost.clone();
        let losses = Losses::of(format!("captures in {}", folder.display()), lost.clone());
        let writer = thread::Builder::new()
            .name("capture".into())
            .spawn(move || write_all(files, &packets, &shared, losses))
            .map_err(refuse)?;
        Ok(Some(Arc::new(Self { queue: Some(queue), waiting, writer: Some(writer), lost })))
    }

    /// A connection between `client` and `server` that begins now; `name` is the connection's in the
    /// logs.
    pub(crate) fn flow(
        self: &Arc<Self>,
        client: SocketAddr,
        server: SocketAddr,
        name: &str,
    ) -> Flow {
        Flow::begin(self.clone(), client, server, name)
    }

    fn send(&self, packet: Vec<u8>) {
        let length = packet.len();
        let fits = self.waiting.fetch_add(length, Ordering::Relaxed) + length <= QUEUE_BYTES;
        let sent = fits && self.queue.as_ref().is_some_and(|queue| queue.try_send(packet).is_ok());
        if !sent {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.lost.inc();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write_all(
    mut files: Files,
    packets: &Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
    mut losses: Losses,
) {
    while let Ok(first) = packets.recv() {
        let mut next = Some(first);
        // All that waits goes out together.
        while let Some(packet) = next {
            if let Err(lost) = files.write(&packet) {
                losses.note(&lost);
            }
            waiting.fetch_sub(packet.len(), Ordering::Relaxed);
            next = packets.try_recv().ok();
        }
        if let Err(lost) = files.flush() {
            losses.note(&lost);
        }
    }
}
