//! How cost grows: with idle connections, body size, rules, and the length of a chain.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::interrupt::{self, Interrupted};
use crate::load::link::{Route, Tls};
use crate::load::{Amount, Effort, Watched, http1, icap};
use crate::peers::{Inspector, Meergate, Nginx, folder};
use crate::pki::Pki;
use crate::proc;
use crate::results::Curve;

/// What is measured with.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// The five rules.
    pub five: &'a Path,
    /// The ET Open rules, if they are there.
    pub et_open: Option<&'a Path>,
    /// Length of each window.
    pub window: Duration,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// All curves.
///
/// # Errors
/// It was interrupted.
pub fn curves(means: &Means<'_>) -> Result<Vec<Curve>, Interrupted> {
    let sizes: &[u64] = &[KIB, 10 * KIB, 100 * KIB, MIB, 10 * MIB, 100 * MIB, 1024 * MIB];
    let pki = Pki::new();
    let origin = Nginx::start(&pki, sizes);
    let inspector = Inspector::start(means.five);
    let mut curves = body_size(means, &pki, &origin, &inspector, sizes)?;
    curves.push(chain_length(means, &pki, &origin, &inspector)?);
    curves.extend(connections(means, &pki, &origin, &inspector)?);
    drop(inspector);
    curves.push(rules(means)?);
    curves.push(idle(&pki));
    interrupt::check()?;
    Ok(curves)
}

/// Nanoseconds of CPU a body byte against its length, ours and the service together.
fn body_size(
    means: &Means<'_>,
    pki: &Pki,
    origin: &Nginx,
    inspector: &Inspector,
    sizes: &[u64],
) -> Result<Vec<Curve>, Interrupted> {
    let plain = Meergate::start(pki, &[]);
    let inspected = Meergate::start(pki, &[url(inspector, "/suricata")]);
    [("meergate", &plain), ("meergate + /suricata", &inspected)]
        .into_iter()
        .map(|(line, gate)| {
            let point = |size: &u64| {
                let watched = watched(gate, inspector);
                let load = https(pki, origin, gate, *size);
                let sample = load.run(&effort(means, 8, *size), &watched);
                report(line, &format!("{size} bytes"), &sample)?;
                let cpu = sample.cpu_us + sample.services_cpu_us;
                Ok((*size as f64, cpu * 1000.0 / *size as f64))
            };
            let points = sizes.iter().map(point).collect::<Result<_, _>>()?;
            Ok(curve("CPU a byte", line, ("body, bytes", "ns"), points))
        })
        .collect()
}

/// CPU microseconds a request against the number of `/echo` services it passes.
fn chain_length(
    means: &Means<'_>,
    pki: &Pki,
    origin: &Nginx,
    inspector: &Inspector,
) -> Result<Curve, Interrupted> {
    let point = |length: usize| {
        // Services are named by their URL, so each has one of its own.
        let chain: Vec<String> =
            (0..length).map(|place| url(inspector, &format!("/echo?{place}"))).collect();
        let gate = Meergate::start(pki, &chain);
        let load = https(pki, origin, &gate, KIB);
        let sample = load.run(&effort(means, 8, KIB), &watched(&gate, inspector));
        report("chain", &format!("{length} services"), &sample)?;
        Ok((length as f64, sample.cpu_us + sample.services_cpu_us))
    };
    let points = (0..=8).map(point).collect::<Result<_, _>>()?;
    Ok(curve("CPU a request", "meergate + /echo …", ("services in the chain", "µs"), points))
}

/// CPU microseconds a request against the number of busy connections.
fn connections(
    means: &Means<'_>,
    pki: &Pki,
    origin: &Nginx,
    inspector: &Inspector,
) -> Result<Vec<Curve>, Interrupted> {
    const LEVELS: &[usize] = &[1, 8, 64, 512, 2048, 4096];
    let plain = Meergate::start(pki, &[]);
    let inspected = Meergate::start(pki, &[url(inspector, "/suricata")]);
    let mut curves = Vec::new();
    for (line, gate) in [("meergate", &plain), ("meergate + /suricata", &inspected)] {
        let mut cost = Vec::new();
        for level in LEVELS {
            let load = https(pki, origin, gate, KIB);
            let sample = load.run(&effort(means, *level, KIB), &watched(gate, inspector));
            report(line, &format!("{level} connections"), &sample)?;
            cost.push((*level as f64, sample.cpu_us + sample.services_cpu_us));
        }
        curves.push(curve("CPU a request, busy", line, ("connections", "µs"), cost));
    }
    Ok(curves)
}

/// CPU microseconds of an inspected RESPMOD of 1 KB against the number of rules.
fn rules(means: &Means<'_>) -> Result<Curve, Interrupted> {
    let folder = folder();
    let base = match means.et_open {
        Some(path) => std::fs::read_to_string(path).unwrap_or_default(),
        None => String::new(),
    };
    let real: Vec<&str> = base.lines().filter(|line| line.starts_with("alert")).collect();
    let mut points = Vec::new();
    for count in [5_usize, 1_000, 5_000, 14_019, 50_000] {
        let mut text = String::new();
        for rule in real.iter().take(count) {
            text.push_str(rule);
            text.push('\n');
        }
        // Beyond the real ones: literals in bodies, each its own.
        for number in real.len().min(count)..count {
            let word: String = (0..12_usize)
                .map(|place| {
                    let mixed = (number * 2_654_435_761).rotate_left(5 * place as u32);
                    char::from(b'A' + u8::try_from(mixed % 26).unwrap_or(0))
                })
                .collect();
            let _infallible = writeln!(
                text,
                "alert http any any -> any any (msg:\"BENCH {number}\"; \
                 flow:established,to_client; file.data; content:\"{word}{number}\"; \
                 sid:{}; rev:1;)",
                9_200_000 + number
            );
        }
        let file = folder.path().join("growth.rules");
        if std::fs::write(&file, text).is_err() {
            break;
        }
        let inspector = Inspector::start(&file);
        let load = icap::Load {
            server: inspector.addr(),
            paths: ("/suricata".into(), "/suricata".into()),
            kind: icap::Kind::Respmod,
            body: KIB,
            preview: None,
            allow_204: true,
            tuple: Some(0),
            extra: String::new(),
        };
        let watched = Watched { subject: vec![inspector.pid()], services: vec![] };
        let sample = load.run(&effort(means, 8, KIB), &watched);
        report("rules", &format!("{count} rules"), &sample)?;
        points.push((count as f64, sample.cpu_us));
    }
    Ok(curve("CPU of an inspected 1 KB", "inspector /suricata", ("rules", "µs"), points))
}

/// How long the origin keeps connections that idle, as origins do.
const ORIGIN_KEEPS: Duration = Duration::from_secs(20);

/// KB of memory a connection against the number of idle ones.
fn idle(pki: &Pki) -> Curve {
    let gate = Meergate::start(pki, &[]);
    let origin = Nginx::start_keeping(pki, &[KIB], ORIGIN_KEEPS);
    let load = https(pki, &origin, &gate, KIB);
    let before = proc::resident_kib(&[gate.pid()]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an event loop");
    let mut held = Vec::new();
    let mut points = Vec::new();
    for level in [100, 1_000, 5_000, 10_000] {
        // Mostly no process may have 20,000 sockets, which is two for each.
        if level > 5_000 {
            let end = Instant::now() + 3 * ORIGIN_KEEPS;
            while proc::open_files(gate.pid()) > held.len() * 5 / 4 && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        match runtime.block_on(http1::idle(&load, level - held.len())) {
            Ok(more) => held.extend(more),
            Err(error) => {
                eprintln!("idle connections, {level}: {error}");
                break;
            }
        }
        let grown = proc::resident_kib(&[gate.pid()]).saturating_sub(before);
        eprintln!("idle {level}: {} KiB each", grown / level as u64);
        points.push((level as f64, grown as f64 / level as f64));
    }
    curve("Memory of idle connections", "meergate", ("connections", "KiB each"), points)
}

fn url(inspector: &Inspector, path: &str) -> String {
    format!("icap://{}{path}", inspector.addr())
}

fn watched(gate: &Meergate, inspector: &Inspector) -> Watched {
    Watched { subject: vec![gate.pid()], services: vec![inspector.pid()] }
}

fn https(pki: &Pki, origin: &Nginx, gate: &Meergate, body: u64) -> http1::Load {
    let route = Route {
        connect: gate.addr(),
        proxy: true,
        host: "localhost".into(),
        port: origin.ec().number(),
        tls: Some(Tls::new(&pki.proxy_ca().0, &["http/1.1"], false)),
    };
    http1::Load { route, path: format!("/{body}"), body, new_connections: false }
}

fn effort(means: &Means<'_>, connections: usize, body: u64) -> Effort {
    let amount = if body > 10 * MIB {
        Amount::Transactions((1024 * MIB / body).max(2) as i64)
    } else {
        Amount::Window(means.window)
    };
    let connections = if body > 10 * MIB { 2 } else { connections };
    Effort { connections, warmup: Duration::from_millis(500), amount }
}

fn report(line: &str, point: &str, sample: &crate::load::Sample) -> Result<(), Interrupted> {
    interrupt::check()?;
    eprintln!(
        "growth {line:22} {point:18} {:>9.1}/s {:>7.1} MB/s cpu {:>9.1} + {:>9.1} us {:>5.0} MiB \
         errors {} wrong {} {:?}",
        sample.rate,
        sample.megabytes,
        sample.cpu_us,
        sample.services_cpu_us,
        sample.peak_mib,
        sample.errors,
        sample.wrong,
        sample.kinds
    );
    Ok(())
}

fn curve(plot: &str, line: &str, axes: (&str, &str), points: Vec<(f64, f64)>) -> Curve {
    Curve { plot: plot.into(), line: line.into(), axes: (axes.0.into(), axes.1.into()), points }
}
