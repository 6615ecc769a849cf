//! HTTP/2 load: so many streams at a time on each kept connection.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::{JoinSet, spawn_local};

use super::link::Route;
use super::{Done, Effort, Gate, Sample, Tally, Watched, press};
use crate::pattern::Check;

/// Wide enough that the windows are not what is measured.
const WINDOW: u32 = 4 << 20;

/// An HTTP/2 load: GETs of one body.
#[derive(Clone, Debug)]
pub struct Load {
    /// The way to the origin.
    pub route: Route,
    /// Path of the body on the origin.
    pub path: String,
    /// Its length in bytes.
    pub body: u64,
    /// Streams at a time on each connection.
    pub streams: usize,
}

impl Load {
    /// Runs the load and counts; each stream counts as a transaction.
    pub fn run(&self, effort: &Effort, watched: &Watched) -> Sample {
        let load = self.clone();
        press(effort, watched, move |_, gate| connection(load.clone(), gate))
    }
}

async fn connection(load: Load, gate: Arc<Gate>) -> Tally {
    let mut tally = Tally::default();
    while gate.open() {
        let mut opened = None;
        let well = tally.one(&gate, async {
            opened = Some(open(&load.route).await?);
            Ok(Done { bytes: 0, right: true })
        });
        if !well.await {
            continue;
        }
        let Some(sender) = opened else { continue };
        let mut streams = JoinSet::new();
        for _ in 0..load.streams {
            streams.spawn_local(stream(load.clone(), sender.clone(), gate.clone()));
        }
        while let Some(one) = streams.join_next().await {
            tally.add(one.expect("a stream of the generator"));
        }
    }
    tally
}

async fn open(route: &Route) -> Result<SendRequest<Bytes>, String> {
    let link = route.open().await?;
    if link.alpn() != Some(b"h2") {
        return Err("ALPN did not choose h2".into());
    }
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(link)
        .await
        .map_err(|error| format!("h2: {error}"))?;
    spawn_local(async move {
        // Its failure is each stream's failure.
        let _told_by_streams = connection.await;
    });
    Ok(sender)
}

async fn stream(load: Load, sender: SendRequest<Bytes>, gate: Arc<Gate>) -> Tally {
    let mut tally = Tally::default();
    let uri = format!("https://{}:{}{}", load.route.host, load.route.port, load.path);
    while gate.open() {
        if !tally.one(&gate, transaction(&uri, sender.clone(), load.body)).await {
            break;
        }
    }
    tally
}

async fn transaction(uri: &str, sender: SendRequest<Bytes>, body: u64) -> Result<Done, String> {
    let wrong = |error: h2::Error| format!("h2: {error}");
    let mut sender = sender.ready().await.map_err(wrong)?;
    let request = http::Request::get(uri)
        .header("user-agent", "meergate-bench")
        .header("accept", "*/*")
        .body(())
        .map_err(|error| error.to_string())?;
    let (response, _) = sender.send_request(request, true).map_err(wrong)?;
    let response = response.await.map_err(wrong)?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("status {}", response.status()));
    }
    let mut stream = response.into_body();
    let mut check = Check::default();
    while let Some(data) = stream.data().await {
        let data = data.map_err(wrong)?;
        check.take(&data);
        stream.flow_control().release_capacity(data.len()).map_err(wrong)?;
    }
    Ok(Done { bytes: check.seen(), right: check.is_exactly(body) })
}
