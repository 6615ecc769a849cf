//! `meergate icap send`: one message through a service, and what became of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use http_wire::{Limits, RequestHead, ResponseHead};
use icap_client::{Body, Frame, Told, TransactionInfo, next_frame};
use start_error::StartError;

use super::file::{Comparison, FileBody, open};
use super::{Ask, Method, Place, fields, shown};
use crate::say::say;

#[derive(Args, Debug)]
pub(super) struct Send {
    #[command(flatten)]
    place: Place,
    /// The body; without it the message has none.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the file is sent as.
    #[arg(long, value_enum, default_value_t = Method::Respmod)]
    method: Method,
    #[command(flatten)]
    ask: Ask,
    /// The request's URL [default: `http://localhost/` and the file's name].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A field of the HTTP head that the file belongs to, as "Name: value"; may be repeated.
    #[arg(long, value_name = "FIELD")]
    header: Vec<String>,
    /// Where to write the body that comes back.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Send {
    /// Sends, and shows.
    pub(super) async fn run(&self) -> Result<(), StartError> {
        let file = self.file.as_deref().map(open).transpose()?;
        let length = file.as_ref().map(|(_, length)| *length);
        let (request, response) = self.heads(length)?;
        let body = file.map(|(file, length)| Box::pin(FileBody::new(file, length)) as Body);
        let probe = self.place.probe(self.ask.keep(length.unwrap_or_default()))?;
        let info = TransactionInfo::new("http", "meergate-icap", "meergate-icap-1");
        let told = probe.send(self.ask.terms(), &info, request, response, body).await;
        let told = told.map_err(|e| self.place.failed(&e))?;
        self.show(&told)?;
        self.receive(told.body, length).await?;
        match told.status {
            200..300 => Ok(()),
            status => Err(StartError::new(
                format!("answered with ICAP status {status}"),
                &self.place.service,
                "see the service's own log",
            )),
        }
    }

    /// The heads that the file is sent with: a request, and for RESPMOD the response to it.
    fn heads(
        &self,
        length: Option<u64>,
    ) -> Result<(RequestHead, Option<ResponseHead>), StartError> {
        let url = self.url.clone().unwrap_or_else(|| default_url(self.file.as_deref()));
        let advice = "give one such as http://www.example.org/path with --url";
        let host = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
        let host = host.filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| StartError::new("not a URL", &url, advice))?;
        let has = |name: &str| {
            let is = |field: &&String| {
                field.split(':').next().is_some_and(|n| n.trim().eq_ignore_ascii_case(name))
            };
            self.header.iter().any(|field| is(&field))
        };
        let mut own = String::new();
        if let Some(length) = length {
            if !has("Content-Type") {
                own += "Content-Type: application/octet-stream\r\n";
            }
            own += &format!("Content-Length: {length}\r\n");
        }
        let given: String = self.header.iter().map(|field| format!("{field}\r\n")).collect();
        let host = if has("Host") { String::new() } else { format!("Host: {host}\r\n") };
        let bad = |e: http_wire::Error| {
            let advice = "correct --url and --header (\"Name: value\")";
            StartError::new(format!("not an HTTP head ({e})"), "the message", advice)
        };
        let limits = Limits::default();
        let verb = if length.is_some() { "POST" } else { "GET" };
        Ok(match self.method {
            Method::Reqmod => {
                let head = format!("{verb} {url} HTTP/1.1\r\n{host}{own}{given}\r\n");
                (RequestHead::from_bytes(head.into(), &limits).map_err(bad)?, None)
            }
            Method::Respmod => {
                let request = format!("GET {url} HTTP/1.1\r\n{host}\r\n");
                let response = format!("HTTP/1.1 200 OK\r\n{own}{given}\r\n");
                (
                    RequestHead::from_bytes(request.into(), &limits).map_err(bad)?,
                    Some(ResponseHead::from_bytes(response.into(), &limits).map_err(bad)?),
                )
            }
        })
    }

    fn show(&self, told: &Told) -> Result<(), StartError> {
        if told.continued {
            say("preview: the service asked for the rest")?;
        }
        say(&format!("ICAP {} {}", told.status, shown(told.reason.as_bytes())))?;
        say(fields(&told.headers).trim_end())?;
        match (&told.http, told.status) {
            (Some(head), _) => {
                let head = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
                for (at, line) in head.split(|b| *b == b'\n').enumerate() {
                    let indent = if at == 0 { "" } else { "  " };
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    say(&format!("{indent}{}", shown(line)))?;
                }
                Ok(())
            }
            (None, 204) => say("no change: the message goes on as it is"),
            (None, _) => Ok(()),
        }
    }

    /// Reads the body that comes back, if one does.
    async fn receive(&self, body: Option<Body>, length: Option<u64>) -> Result<(), StartError> {
        let Some(mut body) = body else { return Ok(()) };
        let mut comparison = self.file.as_deref().map(Comparison::new).transpose()?;
        let mut output = self.output.as_deref().map(create).transpose()?;
        let mut received = 0;
        while let Some(frame) = next_frame(&mut body).await {
            let cut = |error| {
                let what = format!("the body broke off after {received} bytes ({error})");
                StartError::new(what, &self.place.service, "see the service's own log")
            };
            match frame.map_err(cut)? {
                Frame::Data(data) => {
                    received += data.len() as u64;
                    if let Some(comparison) = &mut comparison {
                        comparison.add(&data);
                    }
                    if let Some((path, file)) = &mut output {
                        file.write_all(&data).map_err(|e| unwritable(path, &e))?;
                    }
                }
                Frame::Trailers(lines) => {
                    for line in lines.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end) {
                        if !line.is_empty() {
                            say(&format!("trailer: {}", shown(line)))?;
                        }
                    }
                }
            }
        }
        match (comparison, length) {
            (Some(comparison), Some(length)) => say(&format!("body: {}", comparison.words(length))),
            _ => say(&format!("body: {received} bytes")),
        }
    }
}

fn create(path: &Path) -> Result<(PathBuf, File), StartError> {
    let file = File::create(path).map_err(|e| unwritable(path, &e))?;
    Ok((path.to_owned(), file))
}

fn unwritable(path: &Path, error: &std::io::Error) -> StartError {
    let place = path.display().to_string();
    StartError::new(format!("cannot write ({error})"), place, "name another file with --output")
}

/// Services look at a name's extension, so it is kept.
fn default_url(file: Option<&Path>) -> String {
    let name = file.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
    format!("http://localhost/{}", name.unwrap_or_default().chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        send: Send,
    }

    fn heads(args: &[&str], length: Option<u64>) -> Result<(String, String), StartError> {
        let line = ["send", "icap://h/s"].iter().chain(args);
        let (request, response) = Line::parse_from(line).send.heads(length)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok((text(request.bytes()), response.map(|r| text(r.bytes())).unwrap_or_default()))
    }

    #[test]
    fn the_heads_are_what_was_asked_for() {
        let (request, response) = heads(&["a b.exe"], Some(5)).unwrap();
        assert_eq!(request, "GET http://localhost/a_b.exe HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(
            response,
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 5\r\n\r\n"
        );
        let args = ["f", "--method", "reqmod", "--url", "http://o.test:81/x?y", "--header", "A: 1"];
        let args = [&args[..], &["--header", "content-type: text/html"]].concat();
        let (request, response) = heads(&args, Some(5)).unwrap();
        assert_eq!(
            request,
            "POST http://o.test:81/x?y HTTP/1.1\r\nHost: o.test:81\r\nContent-Length: 5\r\nA: 1\r\n\
             content-type: text/html\r\n\r\n"
        );
        assert_eq!(response, "");
        let (request, _) = heads(&["--method", "reqmod", "--url", "http://o.test/"], None).unwrap();
        assert_eq!(request, "GET http://o.test/ HTTP/1.1\r\nHost: o.test\r\n\r\n");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        assert!(heads(&["f", "--url", "o.test/x"], Some(5)).is_err());
        assert!(heads(&["f", "--url", "http:///x"], Some(5)).is_err());
        assert!(heads(&["f", "--header", "no colon"], Some(5)).is_err());
        assert!(heads(&["f", "--header", "A: b\r\n\r\nevil"], Some(5)).is_err());
    }
}
