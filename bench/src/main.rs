//! `meergate-bench`: runs the works side by side and writes the results.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use meergate_bench::load::Sample;
use meergate_bench::plan::{self, Extent};
use meergate_bench::results::{Record, Results};
use meergate_bench::stage::{Inputs, Named, Stage};
use meergate_bench::{facts, growth, interrupt, peers, report, streams};

#[derive(Parser)]
#[command(about = "Figures, side by side with the peers.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The null ICAP server, started by `run`.
    #[command(hide = true)]
    Null {
        /// `<bytes of request>=<file with the reply>`, in a cycle.
        turns: Vec<String>,
    },
    /// The relay, started by `run`.
    #[command(hide = true)]
    Relay(peers::Relaying),
    /// Draw a flame graph from the output of `perf script` on standard input.
    Flame {
        /// What stands above it.
        title: String,
        /// The SVG file.
        file: PathBuf,
    },
    /// Measure how cost grows, and add it to the results.
    Growth {
        /// Length of each window, seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        #[command(flatten)]
        rules: Rules,
        #[command(flatten)]
        output: Output,
    },
    /// Measure what reloads cost those who are served meanwhile, and print it.
    Reload {
        /// Rules to load again and again: many, such as the ET Open rules.
        rules: PathBuf,
        /// How often, under each load.
        #[arg(long, default_value_t = 20)]
        times: usize,
        /// Connections, each with one transaction at a time.
        #[arg(long, value_delimiter = ',', default_value = "8,64")]
        connections: Vec<usize>,
    },
    /// Make the page from the results, and print the bars.
    Report {
        /// Where the page goes.
        #[arg(long, default_value = "bench/report.html")]
        page: PathBuf,
        /// Where the plots go as a picture.
        #[arg(long, default_value = "bench/report.svg")]
        picture: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Measure, interleaved, and write the results as JSON.
    Run(Run),
    /// Measure what streams cost that are not HTTP, and print it.
    Streams {
        /// Rounds of rates and latencies.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Streams that are open and say nothing.
        #[arg(long, default_value_t = 4700)]
        idle: usize,
        /// MB that go through one stream while memory is watched.
        #[arg(long, default_value_t = 1024)]
        long: usize,
        #[command(flatten)]
        rules: Rules,
    },
}

#[derive(clap::Args)]
struct Run {
    /// How much of all is measured.
    #[arg(long, value_enum, default_value_t)]
    extent: Extent,
    /// Only works whose name contains one of these.
    #[arg(long)]
    only: Vec<String>,
    /// Only those with these names.
    #[arg(long)]
    who: Vec<String>,
    /// Keep what the results have of other works.
    #[arg(long)]
    add: bool,
    /// How often each work is done by each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of each window, seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    output: Output,
}

#[derive(clap::Args)]
struct Rules {
    /// The five rules.
    #[arg(long, default_value = "bench/rules/five.rules")]
    rules: PathBuf,
    /// The ET Open rules; what needs them is left out without.
    #[arg(long)]
    et_open: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Output {
    /// The file with the results, as JSON.
    #[arg(long, default_value = "bench/results.json")]
    results: PathBuf,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !matches!(
        command,
        Command::Null { .. } | Command::Flame { .. } | Command::Relay(_) | Command::Report { .. }
    ) && let Err(error) = interrupt::watch()
    {
        eprintln!("meergate-bench: signals: {error}");
        return ExitCode::FAILURE;
    }
    let done = match command {
        Command::Null { turns } => peers::serve_null(&turns).map_err(|error| error.to_string()),
        Command::Flame { title, file } => flame(&title, &file),
        Command::Growth { seconds, rules, output } => grow(seconds, &rules, &output),
        Command::Relay(relaying) => peers::serve_relay(&relaying).map_err(|e| e.to_string()),
        Command::Reload { rules, times, connections } => reload(&rules, times, &connections),
        Command::Report { page, picture, output } => report(&page, &picture, &output),
        Command::Run(run) => measure(&run),
        Command::Streams { rounds, idle, long, rules } => {
            streams(&rules, streams::Extent { rounds, idle, long: long << 20 })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meergate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn flame(title: &str, file: &Path) -> Result<(), String> {
    let script = std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string())?;
    std::fs::write(file, meergate_bench::flame::graph(title, &script))
        .map_err(|error| format!("{}: {error}", file.display()))
}

fn grow(seconds: f64, rules: &Rules, output: &Output) -> Result<(), String> {
    let mut results = output.read()?;
    let five = absolute(&rules.rules)?;
    let et_open = rules.et_open.as_deref().map(absolute).transpose()?;
    let means = growth::Means {
        five: &five,
        et_open: et_open.as_deref(),
        window: Duration::from_secs_f64(seconds),
    };
    results.growth = growth::curves(&means).map_err(|error| error.to_string())?;
    output.write(&results)
}

fn reload(rules: &Path, times: usize, connections: &[usize]) -> Result<(), String> {
    let rules = absolute(rules)?;
    for connections in connections {
        print!("{}", meergate_bench::reload::measure(&rules, *connections, times)?);
    }
    Ok(())
}

fn streams(rules: &Rules, extent: streams::Extent) -> Result<(), String> {
    print!("{}", streams::measure(&absolute(&rules.rules)?, extent)?);
    Ok(())
}

fn report(page: &Path, picture: &Path, output: &Output) -> Result<(), String> {
    let results = output.read()?;
    for (path, text) in [(page, report::page(&results)), (picture, report::picture(&results))] {
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    print!("{}", report::bars_text(&results));
    Ok(())
}

fn measure(run: &Run) -> Result<(), String> {
    let wanted = |name: &str, filters: &[String]| {
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let mut works = plan::works(run.extent);
    works.retain(|work| wanted(&work.name, &run.only));
    for work in &mut works {
        work.who.retain(|who| run.who.is_empty() || run.who.contains(&who.name()));
    }
    works.retain(|work| !work.who.is_empty());
    if works.is_empty() {
        return Err(
            "nothing to measure: --only and --who leave no work, --who takes whole names; \
                    bench/results.json has all names"
                .to_owned(),
        );
    }
    let inputs = Inputs {
        five: absolute(&run.rules.rules)?,
        et_open: run.rules.et_open.as_deref().map(absolute).transpose()?,
        window: Duration::from_secs_f64(run.seconds),
        named: run.named.clone(),
    };
    let bodies: Vec<u64> = plan::bodies(&works).into_iter().collect();
    let stage = Stage::new(inputs, &bodies);
    // The growth curves of an earlier run stay until they are measured again.
    let mut results = output_or_empty(&run.output);
    results.facts = facts::gather(&run.named);
    results.records.retain(|old| run.add && works.iter().all(|work| work.name != old.work));
    for round in 0..run.rounds {
        for work in &works {
            let mut order = work.who.clone();
            // Whoever comes first finds the caches of another work; so that is not always the same.
            let turn = round % order.len();
            order.rotate_left(turn);
            for who in order {
                let sample = stage.run(work, who);
                interrupt::check().map_err(|error| error.to_string())?;
                let Some(sample) = sample else { continue };
                show(round, &work.name, &who.name(), &sample);
                results.records.push(Record { work: work.name.clone(), who, round, sample });
            }
        }
        // After each round, so that a run that is ended early has given something.
        run.output.write(&results)?;
    }
    Ok(())
}

fn output_or_empty(output: &Output) -> Results {
    output.read().unwrap_or_default()
}

fn show(round: usize, work: &str, who: &str, sample: &Sample) {
    eprintln!(
        "{round} {work:28} {who:25} {:>8.0}/s {:>6.0} MB/s p50 {:>7.3} p99 {:>7.3} ms cpu {:>8.1} + \
         {:>6.1} gen {:>6.1} us {:>4.0} MiB err {} wrong {} {}",
        sample.rate,
        sample.megabytes,
        sample.p50_ms,
        sample.p99_ms,
        sample.cpu_us,
        sample.services_cpu_us,
        sample.generator_cpu_us,
        sample.peak_mib,
        sample.errors,
        sample.wrong,
        if sample.kinds.is_empty() { String::new() } else { format!("{:?}", sample.kinds) }
    );
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
}

impl Output {
    fn read(&self) -> Result<Results, String> {
        let path = self.results.display();
        let text = std::fs::read_to_string(&self.results).map_err(|e| format!("{path}: {e}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))
    }

    fn write(&self, results: &Results) -> Result<(), String> {
        let path = self.results.display();
        let text = serde_json::to_string(results).map_err(|error| error.to_string())?;
        std::fs::write(&self.results, text).map_err(|error| format!("{path}: {error}"))
    }
}
