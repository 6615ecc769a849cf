//! An ICAP server of the test's own, of the same crate that the inspector is made of, that answers
//! in every way the protocol knows and counts how.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::BytesMut;
use http_wire::{Limits, RequestHead, ResponseHead};
use icap::{Headers, IsTag, Method};
use icap_server::{
    BodyEvent, Config, Echo, Http, Listener, Options, ReplyHead, Router, Service, Shutdown,
    TransactError, Transaction, serve_connection,
};
use tokio::task::{LocalSet, spawn_local};

/// What the service `mark` puts before each body.
pub const MARK: &[u8] = b"marked;";

/// A running server with the services `echo` and `mark`.
pub struct OwnServer {
    addr: SocketAddr,
    counts: Arc<Counts>,
    stop: Shutdown,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    statuses: Mutex<BTreeMap<u16, usize>>,
    previews: Mutex<usize>,
}

impl OwnServer {
    /// On a thread of its own, on loopback.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    /// As [`OwnServer::start`], at this address.
    pub fn start_at(address: &str) -> Self {
        let address = address.to_owned();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (counts, stop) = (Arc::<Counts>::default(), Shutdown::new());
        let (counted, stopped) = (counts.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.unwrap(), async {
                let listener = Listener::bind(&address).await.unwrap();
                sender.send(listener.local().unwrap()).unwrap();
                loop {
                    let (stream, peer) = tokio::select! {
                        accepted = listener.accept() => accepted.unwrap(),
                        () = stopped.requested() => return,
                    };
                    let (counts, stop) = (counted.clone(), stopped.clone());
                    spawn_local(async move {
                        let echo = Counted { inner: Echo::new(), counts: counts.clone() };
                        let mark = Counted { inner: Mark, counts };
                        let router = Router::new().route("/echo", echo).route("/mark", mark);
                        let config = Config::default();
                        serve_connection(stream, BytesMut::new(), peer, &router, &config, &stop)
                            .await
                    });
                }
            });
        });
        let addr = receiver.recv().unwrap().parse().unwrap();
        Self { addr, counts, stop, thread: Some(thread) }
    }

    /// The URL of one of its services.
    pub fn url(&self, service: &str) -> String {
        format!("icap://{}/{service}", self.addr)
    }

    /// How often it has answered with this status.
    pub fn answered(&self, status: u16) -> usize {
        self.counts.statuses.lock().unwrap().get(&status).copied().unwrap_or_default()
    }

    /// How many requests it has answered.
    pub fn answered_all(&self) -> usize {
        self.counts.statuses.lock().unwrap().values().sum()
    }

    /// How many requests came with a preview.
    pub fn previews(&self) -> usize {
        *self.counts.previews.lock().unwrap()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

struct Counted<S> {
    inner: S,
    counts: Arc<Counts>,
}

impl<S: Service> Service for Counted<S> {
    fn istag(&self) -> IsTag {
        self.inner.istag()
    }

    fn options(&self) -> Options {
        self.inner.options()
    }

    async fn transact(&self, transaction: &mut Transaction<'_>) -> Result<(), TransactError> {
        if transaction.preview().is_some() {
            *self.counts.previews.lock().unwrap() += 1;
        }
        let result = self.inner.transact(transaction).await;
        let status = transaction.split().1.status();
        *self.counts.statuses.lock().unwrap().entry(status).or_default() += 1;
        result
    }
}

/// Puts [`MARK`] before each body: by a 206 where the client takes one, else by a copy.
struct Mark;

impl Service for Mark {
    fn istag(&self) -> IsTag {
        IsTag::from_state("mark", 1)
    }

    fn options(&self) -> Options {
        Options {
            service: "mark".to_owned(),
            preview: Some(1024),
            allow_204: true,
            allow_206: true,
            ttl: Some(Duration::from_secs(3600)),
            transfer_preview: Some("*".to_owned()),
            ..Options::default()
        }
    }

    async fn transact(&self, transaction: &mut Transaction<'_>) -> Result<(), TransactError> {
        let none = Headers::new();
        let is_request = transaction.head().method() == Method::Reqmod;
        let head = match is_request {
            true => transaction.req_hdr(),
            false => transaction.res_hdr(),
        };
        let head = head.cloned().unwrap_or_default();
        let has_body = transaction.has_body();
        let previewed = transaction.preview().is_some();
        // Squid says `Allow: 206` without 204 where it takes a 206 for an unfinished preview only.
        let anywhere = transaction.head().headers().list_contains("Allow", "204");
        let (body, reply) = transaction.split();
        // The beginning tells whether there is anything to be marked.
        let (mut previewing, mut ended, mut kept) = (previewed, !has_body, Vec::new());
        let mut partial = reply.allows_206() && anywhere;
        while !ended {
            match body.next().await? {
                BodyEvent::Data(data) => {
                    kept.extend_from_slice(data);
                    if !previewing {
                        break;
                    }
                }
                BodyEvent::PreviewEnd if reply.allows_206() && !kept.is_empty() => {
                    partial = true;
                    break;
                }
                BodyEvent::PreviewEnd => {
                    reply.continue_()?;
                    previewing = false;
                }
                BodyEvent::End { .. } => ended = true,
            }
        }
        let marked = match kept.is_empty() {
            true => head,
            false if is_request => {
                let head = RequestHead::from_bytes(head, &Limits::default()).unwrap();
                let mut edit = head.edit();
                if let Some(field) = head.field("Content-Length") {
                    edit.set("Content-Length", longer(field.value));
                }
                edit.build().unwrap().bytes().clone()
            }
            false => {
                let head = ResponseHead::from_bytes(head, &Limits::default()).unwrap();
                let mut edit = head.edit();
                if let Some(field) = head.field("Content-Length") {
                    edit.set("Content-Length", longer(field.value));
                }
                edit.build().unwrap().bytes().clone()
            }
        };
        let http = if is_request { Http::Request(&marked) } else { Http::Response(&marked) };
        let partial = partial && reply.allows_206() && !kept.is_empty();
        let status = if partial { 206 } else { 200 };
        reply.start(&ReplyHead { status, headers: &none, http, has_body })?;
        if !has_body {
            return Ok(());
        }
        if !kept.is_empty() {
            reply.data(MARK).await?;
        }
        if partial {
            return reply.finish_with_original(0);
        }
        reply.data(&kept).await?;
        while !ended {
            match body.next().await? {
                BodyEvent::Data(data) => reply.data(data).await?,
                BodyEvent::PreviewEnd => reply.continue_()?,
                BodyEvent::End { .. } => ended = true,
            }
        }
        reply.finish()
    }
}

fn longer(length: &[u8]) -> String {
    let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
    (length + MARK.len()).to_string()
}
