//! What it costs to have the engine on threads of its own, against having it on the threads that serve connections:
//! eight clients at once, two threads of either kind. Prints a table.
//!
//!     cargo run --release -p suricata --example threads -- my.rules
#![allow(clippy::print_stdout)] // That is its purpose.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use suricata::{Direction, Engine, EngineConfig, Flow, Tuple, Worker, WorkerSeed};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, yield_now};

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: files.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const CLIENTS: u16 = 4;
const PIECE: usize = 65_000;
const WINDOW: Duration = Duration::from_secs(3);

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let rules = env::args().skip(1).collect::<Vec<_>>();
    let config = EngineConfig::new().rules(rules).tolerate_bad_rules(true).workers(2);
    let (engine, seeds) = Engine::start(config)?;
    let small = response(1 << 10);
    let large = response(1 << 20);
    let mut starts = Vec::new();
    let threads = seeds.into_iter().map(|seed| {
        let (start, jobs) = sync_channel(0);
        starts.push(start);
        thread::spawn(move || serve(seed, &jobs))
    });
    let threads = threads.collect::<Vec<_>>();
    println!("| response | engine | transactions/s | CPU µs each |\n|---|---|---|---|");
    for round in 0..3 {
        for (size, response) in [("1 KiB", &small), ("1 MiB", &large)] {
            for placement in [Placement::Here, Placement::Elsewhere] {
                let (began, cpu) = (Instant::now(), cpu());
                let (count, counts) = sync_channel(2);
                for start in &starts {
                    start.send((placement, Arc::clone(response), count.clone()))?;
                }
                let sum = counts.iter().take(starts.len()).sum::<u64>() as f64;
                let rate = sum / began.elapsed().as_secs_f64();
                let each = (self::cpu() - cpu) * 1e6 / sum;
                println!("| {size}, round {round} | {placement:?} | {rate:.0} | {each:.1} |");
            }
        }
    }
    drop(starts);
    engine.begin_stop();
    threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("panicked".into())))?;
    engine.stop()?;
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Placement {
    /// On a thread of its own, asked over a channel.
    Elsewhere,
    /// On the thread of the connections.
    Here,
}

type Job = (Placement, Arc<Vec<u8>>, std::sync::mpsc::SyncSender<u64>);

fn response(len: usize) -> Arc<Vec<u8>> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
    Arc::new([head.as_bytes(), &vec![b'x'; len]].concat())
}

/// An engine worker's thread. It serves clients itself, or for another thread that does.
fn serve(seed: WorkerSeed, jobs: &Receiver<Job>) -> Result<(), Failure> {
    let worker = Rc::new(RefCell::new(seed.attach()?));
    for (placement, response, count) in jobs {
        let served = match placement {
            Placement::Here => here(&worker, &response),
            Placement::Elsewhere => elsewhere(&worker, response),
        };
        count.send(served?)?;
    }
    Ok(())
}

fn tuple(client: u16) -> Result<Tuple, suricata::Error> {
    Tuple::new(([10, 0, 0, 1], 1000 + client).into(), ([198, 51, 100, 9], 80).into())
}

fn here(worker: &Rc<RefCell<Worker>>, response: &Arc<Vec<u8>>) -> Result<u64, Failure> {
    let count = Rc::new(Cell::new(0));
    let local = LocalSet::new();
    let end = Instant::now() + WINDOW;
    for client in 0..CLIENTS {
        let (worker, response, count) = (worker.clone(), response.clone(), count.clone());
        local.spawn_local(async move {
            let mut flow = worker.borrow_mut().open(tuple(client)?, None)?;
            while Instant::now() < end {
                let _ = worker.borrow_mut().feed(&mut flow, Direction::ToServer, REQUEST)?;
                for piece in response.chunks(PIECE) {
                    let _ = worker.borrow_mut().feed(&mut flow, Direction::ToClient, piece)?;
                    // As after a read from a socket.
                    yield_now().await;
                }
                count.set(count.get() + 1);
            }
            let _ = worker.borrow_mut().close(flow)?;
            Ok::<_, Failure>(())
        });
    }
    Builder::new_current_thread().build()?.block_on(local);
    Ok(count.get())
}

/// Bytes for the engine: of whom, which way, and who waits for the verdict.
type Ask = (u16, Direction, Vec<u8>, oneshot::Sender<bool>);

fn elsewhere(worker: &Rc<RefCell<Worker>>, response: Arc<Vec<u8>>) -> Result<u64, Failure> {
    let (asks, mut asked) = mpsc::channel::<Ask>(64);
    let clients = thread::spawn(move || clients(&asks, &response));
    let mut worker = worker.borrow_mut();
    let mut flows = HashMap::<u16, Flow>::new();
    while let Some((client, direction, bytes, answer)) = asked.blocking_recv() {
        let flow = match flows.entry(client) {
            std::collections::hash_map::Entry::Occupied(flow) => flow.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(worker.open(tuple(client)?, None)?)
            }
        };
        let passed = !worker.feed(flow, direction, &bytes)?.is_drop();
        let _ = answer.send(passed);
    }
    for (_, flow) in flows {
        let _ = worker.close(flow)?;
    }
    clients.join().unwrap_or_else(|_| Err("panicked".into()))
}

fn clients(asks: &mpsc::Sender<Ask>, response: &Arc<Vec<u8>>) -> Result<u64, Failure> {
    let count = Rc::new(Cell::new(0));
    let local = LocalSet::new();
    let end = Instant::now() + WINDOW;
    for client in 0..CLIENTS {
        let (asks, response, count) = (asks.clone(), response.clone(), count.clone());
        local.spawn_local(async move {
            while Instant::now() < end {
                ask(&asks, client, Direction::ToServer, REQUEST).await?;
                for piece in response.chunks(PIECE) {
                    ask(&asks, client, Direction::ToClient, piece).await?;
                }
                count.set(count.get() + 1);
            }
            Ok::<_, Failure>(())
        });
    }
    Builder::new_current_thread().build()?.block_on(local);
    Ok(count.get())
}

/// The bytes are copied: they cannot be lent to another thread.
async fn ask(
    asks: &mpsc::Sender<Ask>,
    client: u16,
    direction: Direction,
    bytes: &[u8],
) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    asks.send((client, direction, bytes.to_vec(), answer)).await?;
    answered.await?.then_some(()).ok_or_else(|| "dropped".into())
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split(' ').skip(12).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
