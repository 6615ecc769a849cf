//! An echo server: `cargo run --example echo -- 127.0.0.1:1344 [THREADS]`. Serves `/echo` (204
//! where it can) and `/copy` (always sends the message back). `unix:/path` listens on a socket.
#![allow(clippy::print_stdout, reason = "says where it listens")]

use std::{env, io, thread};

use bytes::BytesMut;
use icap_server::{Config, Echo, Listener, Router, Shutdown, Stream, serve_connection};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1344".to_owned());
    let threads = env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(1);
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (sender, receiver) = mpsc::channel(64);
            thread::spawn(move || work(receiver));
            sender
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::bind(&address).await?;
        println!("listening on {} (icap)", listener.local()?);
        for worker in workers.iter().cycle() {
            let (stream, peer) = listener.accept().await?;
            if worker.send((stream.detach()?, peer)).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// One thread: its own runtime, its own connections.
fn work(
    mut connections: mpsc::Receiver<(icap_server::DetachedStream, icap_server::Peer)>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        while let Some((stream, peer)) = connections.recv().await {
            let stream: Stream = stream.attach()?;
            spawn_local(async move {
                let router =
                    Router::new().route("/echo", Echo::new()).route("/copy", Echo::copying());
                let (config, shutdown) = (Config::default(), Shutdown::new());
                serve_connection(stream, BytesMut::new(), peer, &router, &config, &shutdown).await
            });
        }
        Ok(())
    })
}
