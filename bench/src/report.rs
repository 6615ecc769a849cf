//! One page with the bars, the plots and every figure; it loads nothing from anywhere.

use std::fmt::Write as _;

use crate::bars::{self, Bar, Target};
use crate::load::Sample;
use crate::results::{Curve, Median, Results};
use crate::svg::{self, Line, escape, number};

/// The works that have a plot, and what it shows.
const PLOTS: &[(&str, &str)] = &[
    ("icap RESPMOD 1 KB 200, 8", "requests/s"),
    ("icap RESPMOD 1 MB 200, 8", "requests/s"),
    ("icap RESPMOD 1 KB 204, 8", "requests/s"),
    ("icap pair 1 KB, 8", "pairs/s"),
    ("icap pair 1 MB, 8", "pairs/s"),
    ("https 1 KB kept, 8", "requests/s"),
    ("https 1 KB new, 8", "requests/s"),
    ("https 1 MB kept, 8", "requests/s"),
];

/// Of plots, wherever they are shown.
const PLOT_STYLE: &str = ".ours{fill:#0b6e4f}.peer{fill:#b8c4cc}.limit{fill:#e3d5b8}\
.spread{stroke:#222}.axis{fill:none;stroke:#222}.grid{stroke:#eee}polyline{stroke-width:2}";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;\
padding:0 1em;color:#222;background:#fff}h1,h2,h3{line-height:1.2}table{border-collapse:collapse;\
font-size:14px;margin:.5em 0}th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}\
th:first-child,td:first-child{text-align:left}svg{width:100%;max-width:720px;font:12px system-ui,\
sans-serif}.met{color:#0b6e4f}\
.missed{color:#b3261e}.unknown{color:#777}.wide{overflow-x:auto}";

/// The page.
pub fn page(results: &Results) -> String {
    let mut html = format!(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width'><title>Meergate: figures</title>\
         <style>{STYLE}{PLOT_STYLE}</style></head><body><h1>Meergate: figures</h1>\
         <p>Client, proxies, ICAP servers and origin share the machine and talk over loopback. \
         Each work is done by everyone in turn, round after round; shown are medians over the \
         rounds, with the lowest and highest. Ratios are taken within a round. Every body is \
         compared byte for byte. CPU is user and system time of all threads and processes of the \
         program under test; what it called on (the ICAP service of a proxy) is counted apart. \
         <code>engine</code> is <code>suricata -r</code> over a capture of the same transactions in \
         packets of up to 64 KB, its start taken off: one thread, and a second is one of its CPU. \
         <code>make bench</code> repeats all of it.</p>"
    );
    facts(&mut html, results);
    bars_table(&mut html, "Bars", &bars::all(results));
    let against = bars::against_vey_proxy(results);
    if !against.is_empty() {
        bars_table(&mut html, "The multiples of nginx, put to vey-proxy itself", &against);
    }
    html.push_str("<h2>Side by side</h2>");
    for (work, unit) in PLOTS {
        if let Some(plot) = plot(results, work, unit) {
            let _infallible = write!(html, "<h3>{}</h3>{plot}", escape(&title(work)));
        }
    }
    growth(&mut html, results);
    html.push_str("<h2>Every figure</h2>");
    for work in results.works() {
        table(&mut html, results, work);
    }
    html + "</body></html>\n"
}

/// The plots that say most, as an SVG file.
pub fn picture(results: &Results) -> String {
    let plots: Vec<(String, String)> = PLOTS
        .iter()
        .filter_map(|(work, unit)| Some((title(work), plot(results, work, unit)?)))
        .collect();
    svg::stacked(PLOT_STYLE, &plots)
}

/// The bars as plain text.
pub fn bars_text(results: &Results) -> String {
    let mut text = String::new();
    for bar in bars::all(results).iter().chain(&bars::against_vey_proxy(results)) {
        let verdict = match bar.is_met() {
            Some(true) => "met    ",
            Some(false) => "NOT MET",
            None => "unknown",
        };
        let reached = bar.reached.map_or_else(|| "-".into(), spread);
        let target = target(bar.target);
        let _infallible = writeln!(text, "{verdict} {target:>8}  {reached:28} {}", bar.what);
    }
    text
}

fn facts(html: &mut String, results: &Results) {
    let facts = results.facts.iter().map(|(name, value)| escape(&format!("{name}: {value}")));
    let _infallible = write!(html, "<p>{}</p>", facts.collect::<Vec<_>>().join(" · "));
}

fn bars_table(html: &mut String, title: &str, bars: &[Bar]) {
    let _infallible = write!(
        html,
        "<h2>{title}</h2><div class='wide'><table><tr><th>what<th>bar<th>reached (low–high)<th></tr>",
    );
    for bar in bars {
        let (class, verdict) = match bar.is_met() {
            Some(true) => ("met", "met"),
            Some(false) => ("missed", "not met"),
            None => ("unknown", "not measured"),
        };
        let profile = bar.profile.filter(|_| class == "missed").map_or_else(String::new, |file| {
            format!(": <a href='profiles/{file}'>where the time goes</a>")
        });
        let _infallible = write!(
            html,
            "<tr><td>{}<td>{}<td>{}<td class='{class}'>{verdict}{profile}</tr>",
            escape(&bar.what),
            target(bar.target),
            bar.reached.map_or_else(|| "–".into(), spread)
        );
    }
    html.push_str("</table></div>");
}

fn target(target: Target) -> String {
    match target {
        Target::AtLeast(value) => format!("≥ {value}"),
        Target::AtMost(value) => format!("≤ {value}"),
    }
}

fn spread(median: Median) -> String {
    let Median { value, low, high } = median;
    format!("{} ({}–{})", number(value), number(low), number(high))
}

fn plot(results: &Results, work: &str, unit: &str) -> Option<String> {
    let mut rows = Vec::new();
    for who in results.who(work) {
        let median = results.median(work, who, |sample| sample.rate)?;
        rows.push(svg::Bar {
            label: who.name(),
            value: median.value,
            low: median.low,
            high: median.high,
            ours: who.is_ours() && !who.is_limit(),
            limit: who.is_limit(),
        });
    }
    (!rows.is_empty()).then(|| svg::bars(unit, &rows))
}

fn title(work: &str) -> String {
    match work.rsplit_once(", ") {
        Some((what, connections)) => format!("{what}, {connections} connections"),
        None => work.to_owned(),
    }
}

fn growth(html: &mut String, results: &Results) {
    let mut plots: Vec<&str> = results.growth.iter().map(|curve| curve.plot.as_str()).collect();
    plots.dedup();
    if plots.is_empty() {
        return;
    }
    html.push_str("<h2>Growth</h2>");
    for plot in plots {
        let curves: Vec<&Curve> =
            results.growth.iter().filter(|curve| curve.plot == plot).collect();
        let Some(first) = curves.first() else { continue };
        let lines: Vec<Line<'_>> =
            curves.iter().map(|curve| Line { name: &curve.line, points: &curve.points }).collect();
        let _infallible =
            write!(html, "<h3>{}</h3>{}", escape(plot), svg::lines(&first.axes, &lines));
    }
}

fn table(html: &mut String, results: &Results, work: &str) {
    let everyone = results.who(work);
    let rounds = everyone.iter().map(|who| results.samples(work, *who).len()).max().unwrap_or(0);
    let limit = everyone.iter().copied().find(|who| who.is_limit());
    let _infallible = write!(
        html,
        "<h3>{} ({rounds} rounds)</h3><div class='wide'><table><tr><th>who<th>a second<th>of the limit<th>MB/s\
         <th>p50 ms<th>p99 ms<th>CPU µs<th>service CPU µs<th>peak MiB<th>errors<th>wrong</tr>",
        escape(&title(work))
    );
    for who in everyone {
        let show = |figure: fn(&Sample) -> f64| {
            // What is nothing does not apply: the engine alone has no latency, most have no service.
            let median = results.median(work, who, figure).filter(|median| median.value > 0.0);
            median.map_or_else(String::new, |median| number(median.value))
        };
        let rate = results.median(work, who, |s| s.rate).map_or_else(String::new, spread);
        let share = limit
            .filter(|limit| *limit != who)
            .and_then(|limit| results.ratio(work, who, limit, |s| s.rate))
            .map_or_else(String::new, |m| format!("{:.2} ×", m.value));
        let samples = results.samples(work, who);
        let sum = |figure: fn(&Sample) -> u64| samples.values().map(|s| figure(s)).sum::<u64>();
        let _infallible = write!(
            html,
            "<tr><td>{}<td>{rate}<td>{share}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            escape(&who.name()),
            show(|s| s.megabytes),
            show(|s| s.p50_ms),
            show(|s| s.p99_ms),
            show(|s| s.cpu_us),
            show(|s| s.services_cpu_us),
            show(|s| s.peak_mib),
            sum(|s| s.errors),
            sum(|s| s.wrong)
        );
    }
    html.push_str("</table></div>");
}
