//! `replay`: the transactions of a capture through the same code as live traffic.
//!
//! ```text
//!  PCAP ─► capture ─► streams ─► exchanges ┐
//!  HAR ──► har ────────────────────────────┴─► feed ─► alerts as JSON lines
//!                                                 └──► compare, with `suricata -r`
//! ```

mod capture;
mod compare;
mod exchanges;
mod feed;
mod har;
mod streams;

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use start_error::StartError;

pub(crate) use feed::Split;

use crate::error::Error;
use crate::settings::Settings;

/// A connection of the capture.
#[derive(Debug)]
pub(crate) struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    exchanges: Vec<Exchange>,
    /// Why the rest of the connection could not be replayed.
    skipped: Option<String>,
    /// The capture has its handshake, without which Suricata does not look at it on a wire.
    handshake: bool,
}

/// A request, and what was answered.
#[derive(Debug)]
struct Exchange {
    request: Message,
    response: Option<Message>,
}

/// A head and its body, without framing.
#[derive(Debug, Default)]
struct Message {
    head: Bytes,
    body: Vec<Bytes>,
    trailers: Bytes,
}

/// Replays a capture and prints what the engine says. With `compare`, `suricata -r` reads it too,
/// and the differences are printed; true if there are none.
///
/// # Errors
/// The capture cannot be read, or the engine does not start.
pub(crate) fn run(
    capture: &Path,
    settings: &Settings,
    split: Split,
    compare: bool,
) -> Result<bool, Error> {
    let at = capture.display().to_string();
    let bad = |what: String, advice: &str| StartError::new(what, &at, advice);
    let bytes = std::fs::read(capture)
        .map_err(|e| bad(format!("cannot read the capture ({e})"), "name a file that exists"))?;
    let limits =
        http_wire::Limits { max_head: settings.limits.max_head.in_memory(), ..Default::default() };
    let is_har = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if is_har && compare {
        let what = "nothing to compare: it is a HAR file".to_owned();
        return Err(bad(what, "name a PCAP of packets").into());
    }
    let connections: Vec<_> = if is_har {
        har::read(&bytes)
            .map_err(|e| bad(format!("not a HAR file ({e})"), "name a PCAP, PCAPNG or HAR"))?
    } else {
        let packets = capture::read(&bytes)
            .map_err(|e| bad(format!("not a capture ({e})"), "name a PCAP, PCAPNG or HAR"))?;
        streams::reassemble(packets)
            .into_iter()
            .filter_map(|s| exchanges::read(s, &limits))
            .collect()
    };
    for connection in &connections {
        if let Some(reason) = &connection.skipped {
            let Connection { client, server, .. } = connection;
            tracing::warn!(%client, %server, reason, "the rest of a connection is left out");
        }
    }
    let folder = tempfile::tempdir().map_err(|e| Error::System("make a folder", e))?;
    let fed = feed::feed(&connections, settings, split, folder.path())?;
    let alerts = fed.events.lines().filter(|line| compare::is_alert(line));
    alerts.for_each(|line| crate::say::say(format_args!("{line}")));
    if !compare {
        return Ok(true);
    }
    compare::with_suricata(capture, settings, &connections, &fed, folder.path())
}
