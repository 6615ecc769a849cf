//! What inspection costs on one thread, without any proxy around it. Prints a table.
//!
//!     cargo run --release -p suricata --example throughput -- my.rules
#![allow(clippy::print_stdout)] // That is its purpose.

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use suricata::{Direction, Engine, EngineConfig, Tuple, Worker};

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: files.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const BODY: u64 = 100 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let rules = env::args().skip(1).collect::<Vec<_>>();
    let (engine, seeds) = Engine::start(EngineConfig::new().rules(rules).tolerate_bad_rules(true))?;
    println!("Suricata {}, {} rules", Engine::version(), engine.rules().good);
    for seed in seeds {
        let mut worker = seed.attach()?;
        let small =
            [b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".as_slice(), &[b'x'; 1024]].concat();
        per_transaction("GET + 1 KiB, one kept connection", &mut worker, &small, Some(1), true)?;
        per_transaction(
            "GET + 1 KiB, a connection each, same ends",
            &mut worker,
            &small,
            Some(1),
            false,
        )?;
        per_transaction(
            "GET + 1 KiB, a connection each, other ends",
            &mut worker,
            &small,
            None,
            false,
        )?;
        for size in [1460, 4096, 16_384, 65_495] {
            body(&mut worker, size)?;
        }
    }
    engine.stop()?;
    Ok(())
}

fn per_transaction(
    what: &str,
    worker: &mut Worker,
    response: &[u8],
    port: Option<u16>,
    kept: bool,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut count = 0_u32;
    let mut flow = None;
    while began.elapsed() < Duration::from_secs(2) {
        for _ in 0..256 {
            let mut current = match flow.take() {
                Some(flow) => flow,
                None => {
                    worker.open(tuple(port.unwrap_or((count % 60_000) as u16 + 1), count)?, None)?
                }
            };
            let _ = worker.feed(&mut current, Direction::ToServer, REQUEST)?;
            let _ = worker.feed(&mut current, Direction::ToClient, response)?;
            if kept {
                flow = Some(current);
            } else {
                let _ = worker.close(current)?;
            }
            count += 1;
        }
    }
    println!("{what}: {:.2} µs", began.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    Ok(())
}

fn body(worker: &mut Worker, size: usize) -> Result<(), Box<dyn Error>> {
    let piece = (0..size).map(|index| b'a' + (index * 7 % 26) as u8).collect::<Vec<_>>();
    let mut flow = worker.open(tuple(1, 1)?, None)?;
    let _ = worker.feed(&mut flow, Direction::ToServer, REQUEST)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
    let _ = worker.feed(&mut flow, Direction::ToClient, head.as_bytes())?;
    let began = Instant::now();
    let mut left = BODY as usize;
    while left > 0 {
        let part = &piece[..size.min(left)];
        let _ = worker.feed(&mut flow, Direction::ToClient, part)?;
        left -= part.len();
    }
    let rate = BODY as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!("100 MiB body in pieces of {size}: {rate:.0} MB/s");
    let _ = worker.close(flow)?;
    Ok(())
}

fn tuple(port: u16, count: u32) -> Result<Tuple, suricata::Error> {
    let [_, a, b, c] = if port == 1 { [0; 4] } else { count.to_be_bytes() };
    Tuple::new(([10, a, b, c], port).into(), ([198, 51, 100, 9], 80).into())
}
