//! Inspects one HTTP exchange, and says what Suricata makes of it. No proxy, no packets, no ICAP.
//!
//!     cargo run -p suricata --example stream -- my.rules http.txt
//!
//! where `http.txt` holds what the server answered, head and all.

use std::error::Error;
use std::{env, fs};

use suricata::{Direction, Engine, EngineConfig, Expect, Tuple, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    let [rules, response] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: stream RULES RESPONSE")?;
    let response = fs::read(response)?;

    let (engine, seeds) = Engine::start(EngineConfig::new().rules([rules]))?;
    eprintln!("{} rules, Suricata {}", engine.rules().good, Engine::version());

    for seed in seeds {
        let mut worker = seed.attach()?;
        let tuple = Tuple::new("10.1.2.3:40000".parse()?, "198.51.100.9:80".parse()?)?;
        let mut flow = worker.open(tuple, None)?;
        flow.expect(Expect::Http1);

        let request = b"GET /file HTTP/1.1\r\nHost: files.example\r\n\r\n";
        let mut verdict = worker.feed(&mut flow, Direction::ToServer, request)?;
        // As a proxy would: in pieces, and no byte goes on before its verdict.
        for piece in response.chunks(16 * 1024) {
            if verdict.is_drop() {
                break;
            }
            verdict = worker.feed(&mut flow, Direction::ToClient, piece)?;
        }
        let at_the_end = worker.close(flow)?;
        match if verdict.is_drop() { verdict } else { at_the_end } {
            Verdict::Pass => eprintln!("clean"),
            Verdict::Drop(why) => eprintln!("blocked by {why}"),
        }
    }
    engine.stop()?;
    Ok(())
}
