//! The bars: what the figures must reach, and whether they do.

use crate::load::Sample;
use crate::plan::Who;
use crate::results::{Median, Results};

/// One bar and what was reached.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What is compared.
    pub what: String,
    /// What it must reach.
    pub target: Target,
    /// What it reached; none when that was not measured.
    pub reached: Option<Median>,
    /// Where the time goes: the flame graph of our program at that work, below `profiles/`.
    pub profile: Option<&'static str>,
}

/// The flame graph of what `who` does in `work`.
fn profile(work: &str, who: Who) -> Option<&'static str> {
    use Who::{
        Echo, Meergate, MeergateCIcap, MeergateEcho, MeergateSuricata, MeergateSuricataUnix,
        Suricata, SuricataEt,
    };
    let small = work.contains("1 KB");
    Some(match who {
        Meergate if work.contains("new") => "new.svg",
        Meergate if small => "kept.svg",
        Meergate => "large.svg",
        MeergateSuricata | MeergateSuricataUnix | MeergateEcho | MeergateCIcap if small => {
            "kept-inspected.svg"
        }
        MeergateSuricata | MeergateSuricataUnix | MeergateEcho | MeergateCIcap => {
            "large-inspected.svg"
        }
        Echo => "echo.svg",
        Suricata => "inspector.svg",
        SuricataEt if small => "et-open.svg",
        SuricataEt => "et-open-large.svg",
        _ => return None,
    })
}

/// What a ratio must reach.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
}

impl Bar {
    /// Whether the median reaches the target; none when it was not measured.
    pub fn is_met(&self) -> Option<bool> {
        let reached = self.reached?.value;
        Some(match self.target {
            Target::AtLeast(target) => reached >= target,
            Target::AtMost(target) => reached <= target,
        })
    }
}

/// All bars against `results`.
pub fn all(results: &Results) -> Vec<Bar> {
    use Target::{AtLeast, AtMost};
    use Who::{
        CIcapEcho, CIcapEx206, Echo, Engine, EngineEt, Meergate, MeergateCIcap, MeergateEcho,
        MeergateSuricata, MeergateSuricataUnix, Nginx, Null, Squid, SquidEcho, Sslsplit, Suricata,
        SuricataEt,
    };
    let rate = |sample: &Sample| sample.rate;
    let cpu = |sample: &Sample| sample.cpu_us;
    let all_cpu = |sample: &Sample| sample.cpu_us + sample.services_cpu_us;
    let p99 = |sample: &Sample| sample.p99_ms;
    let mut bars = Vec::new();
    let mut add = |what: String, target, reached, profile| {
        bars.push(Bar { what, target, reached, profile });
    };
    let mut compare =
        |work: &str, one: Who, other: Who, figure: &dyn Fn(&Sample) -> f64, name: &str, target| {
            let what = format!("{work}: {name}, {} / {}", one.name(), other.name());
            add(what, target, results.ratio(work, one, other, figure), profile(work, one));
        };

    for work in ["1 KB 200, 8", "1 KB 200, 64", "1 MB 200, 8", "1 MB 200, 64"] {
        let work = format!("icap RESPMOD {work}");
        compare(&work, Echo, CIcapEcho, &rate, "rate", AtLeast(1.5));
        compare(&work, Echo, CIcapEcho, &cpu, "CPU", AtMost(0.6));
    }
    for work in ["icap RESPMOD 1 KB 204, 8", "icap RESPMOD 1 KB 204, 64"] {
        compare(work, Echo, CIcapEx206, &rate, "rate", AtLeast(1.3));
    }
    for work in ["icap pair 1 KB, 8", "icap pair 1 MB, 8"] {
        compare(work, Suricata, CIcapEcho, &rate, "rate", AtLeast(1.0));
        compare(work, Suricata, CIcapEcho, &cpu, "CPU", AtMost(1.0));
    }
    for work in ["https 1 KB kept, 8", "https 1 KB kept, 32"] {
        compare(work, Meergate, Squid, &rate, "rate", AtLeast(2.0));
        compare(work, Meergate, Sslsplit, &rate, "rate", AtLeast(1.2));
        compare(work, Meergate, Nginx, &rate, "rate", AtLeast(0.55));
        compare(work, Meergate, Nginx, &cpu, "CPU", AtMost(1.7));
    }
    let new = "https 1 KB new, 8";
    compare(new, Meergate, Squid, &rate, "rate", AtLeast(3.0));
    compare(new, Meergate, Nginx, &rate, "rate", AtLeast(0.55));
    compare(new, Meergate, Nginx, &cpu, "CPU", AtMost(2.1));
    let large = "https 1 MB kept, 8";
    compare(large, Meergate, Squid, &rate, "rate", AtLeast(3.0));
    compare(large, Meergate, Nginx, &rate, "rate", AtLeast(0.72));
    let small = "https 1 KB kept, 8";
    compare(small, MeergateSuricata, SquidEcho, &rate, "rate", AtLeast(2.5));
    compare(small, MeergateSuricata, Nginx, &rate, "rate", AtLeast(0.27));
    compare(small, MeergateSuricata, SquidEcho, &p99, "p99", AtMost(0.5));
    compare(large, MeergateSuricata, SquidEcho, &rate, "rate", AtLeast(3.0));
    compare(large, MeergateSuricata, Nginx, &rate, "rate", AtLeast(0.55));
    compare(large, MeergateSuricata, SquidEcho, &p99, "p99", AtMost(0.5));
    compare(small, MeergateEcho, MeergateSuricata, &rate, "rate", AtLeast(1.0));
    compare(large, MeergateEcho, MeergateSuricata, &rate, "rate", AtLeast(1.0));
    // As they are installed on one host.
    compare(small, MeergateSuricataUnix, Nginx, &rate, "rate", AtLeast(0.27));
    compare(large, MeergateSuricataUnix, Nginx, &rate, "rate", AtLeast(0.55));
    // vey-proxy's own figures with the same ICAP server.
    compare(small, MeergateCIcap, Nginx, &rate, "rate (vey-proxy: 0.22)", AtLeast(0.22));
    compare(large, MeergateCIcap, Nginx, &rate, "rate (vey-proxy: 0.47)", AtLeast(0.47));

    // The engine's limit.
    for (who, engine, target) in [(Suricata, Engine, 1.5), (SuricataEt, EngineEt, 1.3)] {
        let work = "icap RESPMOD 1 KB 204, 8";
        let (null, engine) = (results.samples(work, Null), results.samples(work, engine));
        let mine = results.samples(work, who);
        let ratios = mine.iter().filter_map(|(round, sample)| {
            Some(sample.cpu_us / (null.get(round)?.cpu_us + engine.get(round)?.cpu_us))
        });
        add(
            format!("{work}: CPU, {} / (null server + engine)", who.name()),
            AtMost(target),
            Median::of(ratios.collect()),
            profile(work, who),
        );
    }
    let work = "icap RESPMOD 100 MB 200, 1";
    let megabytes = |sample: &Sample| sample.megabytes;
    add(
        format!("{work}: MB/s, {} / engine in 64 KB packets", SuricataEt.name()),
        AtLeast(0.8),
        results.ratio(work, SuricataEt, EngineEt, megabytes),
        profile(work, SuricataEt),
    );
    let work = "icap pair 1 MB, 8";
    let gigabytes = |sample: &Sample| sample.megabytes / 225.0;
    add(
        format!("{work}: MB/s, {} / icapsuricata's 225 MB/s", Suricata.name()),
        AtLeast(3.0),
        results.median(work, Suricata, gigabytes),
        profile(work, Suricata),
    );

    // HTTP/2 against HTTP/1.1, and flat cost.
    for who in [Meergate, MeergateSuricata] {
        let h2 =
            results.ratio_across(("https h2 1 KB, 100 streams, 8", who), (small, who), all_cpu);
        let what = format!("CPU of {}, HTTP/2 with 100 streams / HTTP/1.1", who.name());
        add(what, AtMost(1.3), h2, profile(small, who));
        let flat = results.ratio_across(("https 1 KB kept, 512", who), (small, who), all_cpu);
        add(
            format!("CPU of {}, 512 / 8 connections", who.name()),
            AtMost(1.2),
            flat,
            profile(small, who),
        );
    }
    for who in [Echo, Suricata] {
        let flat = results.ratio_across(
            ("icap RESPMOD 1 KB 204, 512", who),
            ("icap RESPMOD 1 KB 204, 8", who),
            cpu,
        );
        let what = format!("CPU of {}, 512 / 8 connections", who.name());
        add(what, AtMost(1.2), flat, profile("icap RESPMOD 1 KB 204, 512", who));
    }
    let idle = results.growth.iter().find(|curve| curve.plot == "Memory of idle connections");
    let most = idle.and_then(|curve| curve.points.last());
    let figure = |pick: fn(&(f64, f64)) -> f64| most.and_then(|p| Median::of(vec![pick(p)]));
    add("idle connections held".into(), AtLeast(10_000.0), figure(|point| point.0), None);
    add("KiB of each of them".into(), AtMost(64.0), figure(|point| point.1), None);
    let failed = |sample: &Sample| (sample.errors + sample.wrong) as f64;
    let ours = results.records.iter().filter(|record| record.who.is_ours());
    let sum = ours.map(|record| failed(&record.sample)).sum();
    let what = "errors and wrong bodies of ours in all runs".into();
    add(what, AtMost(0.0), Median::of(vec![sum]), None);
    bars
}

/// The bars that are multiples of nginx's figures, put to vey-proxy itself where it took part: they stand for
/// its own multiples on another machine and a margin, and the multiples differ from machine to machine.
pub fn against_vey_proxy(results: &Results) -> Vec<Bar> {
    use Target::{AtLeast, AtMost};
    use Who::{Meergate, MeergateCIcap, MeergateSuricata, VeyProxy, VeyProxyEcho};
    let rate = |sample: &Sample| sample.rate;
    let cpu = |sample: &Sample| sample.cpu_us;
    let mut bars = Vec::new();
    let mut compare =
        |work: &str, one: Who, other: Who, figure: &dyn Fn(&Sample) -> f64, name: &str, target| {
            let Some(reached) = results.ratio(work, one, other, figure) else { return };
            let what = format!("{work}: {name}, {} / {}", one.name(), other.name());
            bars.push(Bar { what, target, reached: Some(reached), profile: profile(work, one) });
        };
    for work in ["https 1 KB kept, 8", "https 1 KB kept, 32"] {
        compare(work, Meergate, VeyProxy, &rate, "rate", AtLeast(1.22));
        compare(work, Meergate, VeyProxy, &cpu, "CPU", AtMost(0.85));
    }
    let new = "https 1 KB new, 8";
    compare(new, Meergate, VeyProxy, &rate, "rate", AtLeast(1.25));
    compare(new, Meergate, VeyProxy, &cpu, "CPU", AtMost(0.84));
    let (small, large) = ("https 1 KB kept, 8", "https 1 MB kept, 8");
    compare(large, Meergate, VeyProxy, &rate, "rate", AtLeast(1.16));
    for (work, inspected) in [(small, 1.23), (large, 1.17)] {
        compare(work, MeergateSuricata, VeyProxyEcho, &rate, "rate", AtLeast(inspected));
        compare(work, MeergateCIcap, VeyProxyEcho, &rate, "rate", AtLeast(1.0));
    }
    bars
}
