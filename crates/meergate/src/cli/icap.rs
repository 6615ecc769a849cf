//! `meergate icap`: an ICAP client for people, to look at a service, try it and measure it.

mod bench;
mod file;
mod latency;
mod options;
mod send;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use icap_client::{Failure, FailureKind, Headers, Probe, ServiceConfig, Size, Span};

use start_error::StartError;

/// `meergate icap …`
#[derive(Args, Debug)]
pub(super) struct Icap {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure a service: rate and times, with every byte that comes back compared.
    Bench(bench::Bench),
    /// Ask a service what it offers, and say it in words.
    Options(options::Options),
    /// Send a file as the body of a request or response, and show what comes back.
    Send(send::Send),
}

impl Icap {
    /// Does what it says.
    pub(super) fn run(&self) -> Result<(), StartError> {
        let runtime = tokio::runtime::Runtime::new().map_err(|e| {
            StartError::new(format!("no threads ({e})"), "meergate icap", "raise its limits")
        })?;
        runtime.block_on(async {
            match &self.command {
                Command::Bench(bench) => bench.run().await,
                Command::Options(options) => options.run().await,
                Command::Send(send) => send.run().await,
            }
        })
    }
}

/// Which service is asked, and how it is reached.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The service: `icap://HOST[:PORT]/SERVICE`, `icaps://…` or `unix:/PATH:/SERVICE`.
    #[arg(value_name = "URL")]
    service: String,
    /// Authorities (PEM) to trust, for icaps://.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our certificate (PEM), for a service that asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The name to find in the service's certificate [default: the URL's host].
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Seconds that a connection, or the next piece of an answer, may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

impl Place {
    /// Something to ask it with; `keep` is how many bytes of a body stay in memory, for answers
    /// that leave the body to us.
    fn probe(&self, keep: u64) -> Result<Probe, StartError> {
        let secure = self.service.get(..8).is_some_and(|s| s.eq_ignore_ascii_case("icaps://"));
        if secure && self.ca.is_none() {
            let advice = "name the authorities to trust with --ca FILE";
            return Err(StartError::new("nobody to trust", &self.service, advice));
        }
        let mut service = ServiceConfig::new("service", &self.service);
        service.tls.ca.clone_from(&self.ca);
        service.tls.cert.clone_from(&self.cert);
        service.tls.key.clone_from(&self.key);
        service.tls.server_name.clone_from(&self.server_name);
        service.keep_copy = Size(keep);
        let limit = Span(Duration::from_secs(self.timeout.max(1)));
        service.timeouts.connect = limit;
        service.timeouts.options = limit;
        service.timeouts.answer = limit;
        service.timeouts.idle = limit;
        Probe::new(&service).map_err(|e| {
            StartError::new(
                e.to_string(),
                &self.service,
                "see `meergate icap --help` for what it takes",
            )
        })
    }

    /// A failure of the service, for the person who asked it.
    fn failed(&self, failure: &Failure) -> StartError {
        let advice = match failure.kind() {
            FailureKind::Connect => "see that it runs there, and for icaps:// its certificate",
            FailureKind::Timeout => "see what keeps it, or allow more with --timeout",
            _ => "see the service's own log",
        };
        StartError::new(failure.detail(), &self.service, advice)
    }
}

/// What a message is adapted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// A request with a body.
    Reqmod,
    /// The response to a request.
    Respmod,
}

/// What a request promises the service.
#[derive(Args, Clone, Copy, Debug)]
struct Ask {
    /// Send so many bytes first, and the rest when the service asks for it.
    #[arg(long, value_name = "BYTES")]
    preview: Option<u64>,
    /// Allow the answer 204: "no change".
    #[arg(long = "204")]
    allow_204: bool,
    /// Allow the answer 206: "changed up to here, the rest as it was"; with --204.
    #[arg(long = "206", requires = "allow_204")]
    allow_206: bool,
}

impl Ask {
    fn terms(self) -> icap_client::Ask {
        icap_client::Ask {
            preview: self.preview,
            allow_204: self.allow_204,
            allow_206: self.allow_206,
        }
    }

    /// How much of a body of this length must stay in memory until the answer.
    fn keep(self, length: u64) -> u64 {
        match self.allow_204 {
            true => length,
            false => self.preview.unwrap_or_default().min(length),
        }
    }
}

/// Bytes that a service sent, for a terminal: whatever could control it is shown as an escape.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c.is_control() && c != '\t' {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
    text
}

/// Header fields, one a line, indented.
fn fields(headers: &Headers) -> String {
    headers.iter().map(|(name, value)| format!("  {}: {}\n", shown(name), shown(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_sends_cannot_control_the_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\r\n\tc\x9b"), "a\\u{1b}[2Jb\\r\\n\tc\u{fffd}");
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\\u{9b}2J");
    }

    #[test]
    fn a_204_may_need_the_whole_body_again() {
        let ask = |preview, allow_204| Ask { preview, allow_204, allow_206: false };
        assert_eq!(ask(None, true).keep(1000), 1000);
        assert_eq!(ask(Some(10), false).keep(1000), 10);
        assert_eq!(ask(Some(2000), false).keep(1000), 1000);
        assert_eq!(ask(None, false).keep(1000), 0);
    }
}
