//! `meergate icap bench`: how fast a service is, and whether it is right.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http_wire::{Limits, RequestHead, ResponseHead};
use icap_client::{Failure, FailureKind, Frame, Full, Probe, TransactionInfo, next_frame};
use start_error::StartError;

use super::latency::Latency;
use super::{Ask, Method, Place};
use crate::say::say;

#[derive(Args, Debug)]
pub(super) struct Bench {
    #[command(flatten)]
    place: Place,
    /// What the bodies are sent as.
    #[arg(long, value_enum, default_value_t = Method::Respmod)]
    method: Method,
    /// Connections at once, each with one transaction at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
    /// Bytes of each body.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(..=1 << 30))]
    size: u64,
    /// End after so many seconds [default: 10, unless --requests is given].
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// End after so many transactions.
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    #[command(flatten)]
    ask: Ask,
}

impl Bench {
    /// Measures, and tells. Any failure, and any byte that is not as it was sent, is an error.
    pub(super) async fn run(&self) -> Result<(), StartError> {
        // One OPTIONS first: a service that is not there is said so once.
        let probe = self.place.probe(0)?;
        probe.options().await.map_err(|e| self.place.failed(&e))?;
        let load = Arc::new(Load::new(self)?);
        let began = Instant::now();
        let mut lanes = Vec::new();
        for lane in 0..self.connections {
            let probe = self.place.probe(self.ask.keep(self.size))?;
            lanes.push(tokio::spawn(load.clone().run(probe, lane)));
        }
        let mut tally = Tally::default();
        for lane in lanes {
            let done = lane.await.map_err(|e| {
                StartError::new(format!("a connection's task failed ({e})"), "bench", "report it")
            })?;
            tally.add(&done);
        }
        self.tell(&tally, began.elapsed(), &load)
    }

    fn tell(&self, tally: &Tally, took: Duration, load: &Load) -> Result<(), StartError> {
        let (seconds, done) = (took.as_secs_f64().max(1e-6), tally.latency.count());
        let rate = done as f64 / seconds;
        let megabytes = rate * self.size as f64 / 1e6;
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        say(&format!(
            "{done} transactions of {} bytes in {seconds:.1} s over {} connections",
            self.size, self.connections
        ))?;
        say(&format!("rate         {rate:.0}/s, {megabytes:.1} MB/s each way"))?;
        say(&format!(
            "time         p50 {}, p99 {}, longest {}",
            ms(tally.latency.quantile(0.5)),
            ms(tally.latency.quantile(0.99)),
            ms(tally.latency.longest())
        ))?;
        say(&format!(
            "answers      {} unchanged (204), {} with a message, {} opened connections",
            tally.unchanged, tally.messages, tally.opened
        ))?;
        let kinds: String = FailureKind::ALL
            .iter()
            .zip(tally.failures)
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!(", {count} {}", kind.name()))
            .collect();
        let errors: u64 = tally.failures.iter().sum::<u64>() + tally.refused;
        let refused =
            if tally.refused > 0 { format!(", {} refused", tally.refused) } else { String::new() };
        say(&format!("errors       {errors}{kinds}{refused}"))?;
        say(&format!("wrong bytes  {}", tally.wrong))?;
        if errors == 0 && tally.wrong == 0 {
            return Ok(());
        }
        let first = load.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first = first.unwrap_or_else(|| "bodies came back other than they were sent".into());
        let what = format!("{errors} errors, {} wrong bytes; the first: {first}", tally.wrong);
        Err(StartError::new(what, &self.place.service, "see the service's own log"))
    }
}

/// What all connections do.
struct Load {
    method: Method,
    ask: icap_client::Ask,
    request: RequestHead,
    response: ResponseHead,
    body: Bytes,
    until: Option<Instant>,
    /// Transactions that may still begin.
    left: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

/// What one connection did.
#[derive(Default)]
struct Tally {
    latency: Latency,
    unchanged: u64,
    messages: u64,
    opened: u64,
    refused: u64,
    failures: [u64; FailureKind::ALL.len()],
    wrong: u64,
}

impl Load {
    fn new(bench: &Bench) -> Result<Self, StartError> {
        let bad = |e: http_wire::Error| StartError::new(e.to_string(), "the message", "report it");
        let (limits, size) = (Limits::default(), bench.size);
        let own = format!("Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n");
        let request = match bench.method {
            Method::Reqmod => {
                format!("POST http://localhost/file HTTP/1.1\r\nHost: localhost\r\n{own}\r\n")
            }
            Method::Respmod => {
                "GET http://localhost/file HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()
            }
        };
        let response = format!("HTTP/1.1 200 OK\r\n{own}\r\n");
        let seconds = bench.seconds.or(bench.requests.is_none().then_some(10));
        Ok(Self {
            method: bench.method,
            ask: bench.ask.terms(),
            request: RequestHead::from_bytes(request.into(), &limits).map_err(bad)?,
            response: ResponseHead::from_bytes(response.into(), &limits).map_err(bad)?,
            body: noise(size),
            until: seconds.map(|s| Instant::now() + Duration::from_secs(s)),
            left: AtomicU64::new(bench.requests.unwrap_or(u64::MAX)),
            first_failure: Mutex::new(None),
        })
    }

    async fn run(self: Arc<Self>, probe: Probe, lane: u32) -> Tally {
        let mut tally = Tally::default();
        while self.until.is_none_or(|end| Instant::now() < end)
            && self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
        {
            let began = Instant::now();
            match self.transaction(&probe, lane, &mut tally).await {
                Ok(()) => tally.latency.add(began.elapsed()),
                Err(failure) => {
                    tally.failures[index(failure.kind())] += 1;
                    self.note(|| failure.to_string());
                    // A service that is down is not asked as fast as the machine can.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        tally.opened = probe.metrics().connections_opened.value();
        tally
    }

    async fn transaction(
        &self,
        probe: &Probe,
        lane: u32,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let info = TransactionInfo::new("http", format!("bench-{lane}"), "bench");
        let response = (self.method == Method::Respmod).then(|| self.response.clone());
        let body = Full::from_bytes(self.body.clone()).boxed();
        let request = self.request.clone();
        let told = probe.send(self.ask, &info, request, response, Some(body)).await?;
        match told.status {
            204 => tally.unchanged += 1,
            200..300 => tally.messages += 1,
            status => {
                tally.refused += 1;
                self.note(|| format!("answered with ICAP status {status}"));
                return Ok(());
            }
        }
        let Some(mut body) = told.body else {
            // A 204 hands the body back; a message that has lost it has lost all its bytes.
            tally.wrong += self.body.len() as u64;
            return Ok(());
        };
        let mut got = 0;
        while let Some(frame) = next_frame(&mut body).await {
            match frame {
                Ok(Frame::Data(data)) => {
                    tally.wrong += wrong(&self.body, got, &data);
                    got += data.len();
                }
                Ok(Frame::Trailers(_)) => {}
                Err(error) => {
                    self.note(|| error.to_string());
                    tally.failures
                        [index(error.failure().map_or(FailureKind::Source, Failure::kind))] += 1;
                    return Ok(());
                }
            }
        }
        tally.wrong += self.body.len().saturating_sub(got) as u64;
        Ok(())
    }

    fn note(&self, failure: impl FnOnce() -> String) {
        let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(failure);
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.unchanged += other.unchanged;
        self.messages += other.messages;
        self.opened += other.opened;
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.failures.iter_mut().zip(other.failures).for_each(|(a, b)| *a += b);
    }
}

fn index(kind: FailureKind) -> usize {
    FailureKind::ALL.iter().position(|k| *k == kind).unwrap_or_default()
}

/// How many bytes of `data`, which came at offset `at`, are not those that were sent.
fn wrong(sent: &[u8], at: usize, data: &[u8]) -> u64 {
    let expected = &sent[at.min(sent.len())..(at + data.len()).min(sent.len())];
    if data == expected {
        return 0;
    }
    let differing = data.iter().zip(expected).filter(|(a, b)| a != b).count();
    (differing + data.len() - expected.len()) as u64
}

/// Bytes without structure: nothing compresses, nothing matches a signature.
fn noise(length: u64) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(usize::try_from(length).unwrap_or(usize::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_bytes_are_counted_wherever_they_are() {
        let sent = b"abcdef";
        assert_eq!(wrong(sent, 0, b"abcdef"), 0);
        assert_eq!(wrong(sent, 2, b"cXeX"), 2);
        assert_eq!(wrong(sent, 4, b"efgh"), 2);
        assert_eq!(wrong(sent, 9, b"xy"), 2);
    }
}
