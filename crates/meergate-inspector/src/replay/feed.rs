//! Exchanges as ICAP transactions, to the same service that live clients reach.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use icap_server::{Config, Peer, Router, Shutdown, serve_connection};
use suricata::{Engine, EveOutput};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{Connection, Exchange, Message};
use crate::error::{Error, Reason};
use crate::inspection::metrics::Metrics;
use crate::inspection::service::Inspection;
use crate::inspection::state::State;
use crate::inspection::worker_flows::WorkerFlows;
use crate::settings::{Policy, Settings};

/// Bytes between the two ends of a replayed ICAP connection.
const PIPE: usize = 256 << 10;

/// How bodies are cut into ICAP chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Split {
    /// Every byte by itself.
    Bytes,
    /// At places that look random, the same in each run.
    Random,
    /// Not at all.
    #[default]
    Whole,
}

/// What the engine said.
pub(super) struct Fed {
    /// A JSON object a line.
    pub(super) events: String,
    /// The settings that hold there whatever the YAML says.
    pub(super) forced: Vec<(String, String)>,
}

/// Feeds everything.
pub(super) fn feed(
    connections: &[Connection],
    settings: &Settings,
    split: Split,
    folder: &Path,
) -> Result<Fed, Error> {
    let eve = folder.join("replay.json");
    let mut settings = settings.clone();
    settings.workers = 1;
    // There is nobody to share with.
    settings.limits.per_client_percent = 100;
    // A capture shows what was; nothing of it is kept from anyone any more.
    settings.content.other_codings = Policy::Pass;
    settings.content.malformed = Policy::Pass;
    settings.content.parts = Policy::Pass;
    let config = crate::engine::process::engine_config(&settings)?;
    let config = config.log_dir(folder).eve(EveOutput::File(eve.clone()));
    let (engine, seeds) = Engine::start(config)?;
    let seed = seeds
        .into_iter()
        .next()
        .ok_or_else(|| Reason::new("the engine has no place for a worker"))?;
    let worker = seed.attach()?;
    let state = Arc::new(State::new(settings, Metrics::new(1, None)));
    let flows = WorkerFlows::new(state, 0, worker);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::System("start", e))?;
    let router = Router::new().route("/suricata", Inspection::new(flows.clone()));
    let mut replay = Replay { router: &router, split, dice: 1 };
    let began = Instant::now();
    let fed = runtime.block_on(async {
        for (number, connection) in connections.iter().enumerate() {
            replay.connection(number, connection).await?;
        }
        std::io::Result::Ok(())
    });
    drop(router);
    let worker = flows.retire();
    drop(worker);
    let forced = engine.forced().to_vec();
    engine.stop()?;
    fed.map_err(|e| Error::System("replay", e))?;
    tracing::info!(
        connections = connections.len(),
        exchanges = connections.iter().map(|c| c.exchanges.len()).sum::<usize>(),
        milliseconds = began.elapsed().as_millis() as u64,
        "replayed"
    );
    std::fs::read_to_string(&eve)
        .map(|events| Fed { events, forced })
        .map_err(|e| Error::System("read the events that the engine has written", e))
}

struct Replay<'a, R> {
    router: &'a Router<R>,
    split: Split,
    dice: u64,
}

impl<R: icap_server::Routes> Replay<'_, R> {
    async fn connection(&mut self, number: usize, of: &Connection) -> std::io::Result<()> {
        for (turn, Exchange { request, response }) in of.exchanges.iter().enumerate() {
            let fields = format!(
                "X-Client-IP: {}\r\nX-Client-Port: {}\r\nX-Server-IP: {}\r\nX-Server-Port: {}\r\n\
                 X-Connection-Id: replay-{number}\r\nX-Transaction-Id: replay-{number}-{turn}\r\n",
                of.client.ip(),
                of.client.port(),
                of.server.ip(),
                of.server.port(),
            );
            if !self.transact("REQMOD", &fields, &[], request).await? {
                return Ok(());
            }
            if let Some(response) = response
                && !self.transact("RESPMOD", &fields, &request.head, response).await?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// False if the engine stopped it: on a wire nothing would follow.
    async fn transact(
        &mut self,
        method: &str,
        fields: &str,
        request: &[u8],
        message: &Message,
    ) -> std::io::Result<bool> {
        let (mut ours, theirs) = duplex(PIPE);
        let has_body = message.head_announces_body() || !message.body.is_empty();
        let (own, body) = if method == "REQMOD" { ("req", "req") } else { ("res", "res") };
        let first = if request.is_empty() { String::new() } else { "req-hdr=0, ".to_owned() };
        let body = if has_body { body } else { "null" };
        let bytes = format!(
            "{method} icap://replay/suricata ICAP/1.0\r\nHost: replay\r\nAllow: 204\r\n\
             Connection: close\r\n{fields}Encapsulated: {first}{own}-hdr={}, {body}-body={}\r\n\r\n",
            request.len(),
            request.len() + message.head.len(),
        );
        let pieces = self.cut(&message.body);
        let write = async {
            ours.write_all(bytes.as_bytes()).await?;
            ours.write_all(request).await?;
            ours.write_all(&message.head).await?;
            if has_body {
                for piece in pieces {
                    ours.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                    ours.write_all(&piece).await?;
                    ours.write_all(b"\r\n").await?;
                    // The other end gets to see the pieces one by one.
                    tokio::task::yield_now().await;
                }
                ours.write_all(b"0\r\n").await?;
                ours.write_all(&message.trailers).await?;
                ours.write_all(b"\r\n").await?;
            }
            let mut head = [0; 4096];
            let n = ours.read(&mut head).await?;
            // The rest of a body that comes back does not matter here.
            let mut rest = vec![0; 64 << 10];
            while ours.read(&mut rest).await? > 0 {}
            Ok(head[..n].to_vec())
        };
        let (config, shutdown) = (Config::default(), Shutdown::new());
        let serve =
            serve_connection(theirs, BytesMut::new(), Peer::Unix, self.router, &config, &shutdown);
        let (_, reply): (_, std::io::Result<Vec<u8>>) = tokio::join!(serve, write);
        let reply = reply?;
        let passed =
            reply.starts_with(b"ICAP/1.0 204 ") || !contains(&reply, b"X-Response-Info: blocked");
        if reply.starts_with(b"ICAP/1.0 4") || reply.starts_with(b"ICAP/1.0 5") {
            let line =
                String::from_utf8_lossy(reply.split(|&b| b == b'\r').next().unwrap_or_default())
                    .into_owned();
            tracing::warn!(answer = line, "a transaction was refused");
            return Ok(false);
        }
        Ok(passed)
    }

    fn cut(&mut self, body: &[Bytes]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        for piece in body {
            let mut rest = piece.clone();
            while !rest.is_empty() {
                let n = match self.split {
                    Split::Bytes => 1,
                    Split::Random => 1 + self.roll() % 3000,
                    Split::Whole => rest.len(),
                };
                pieces.push(rest.split_to(n.min(rest.len())));
            }
        }
        pieces
    }

    fn roll(&mut self) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as usize
    }
}

impl Message {
    /// An empty body may be announced all the same, and has to travel then.
    fn head_announces_body(&self) -> bool {
        let head = self.head.to_ascii_lowercase();
        contains(&head, b"\r\ntransfer-encoding:")
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|w| w == what)
}
