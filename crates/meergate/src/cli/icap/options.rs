//! `meergate icap options`: what a service offers, in words.

use std::fmt::Write as _;

use clap::Args;
use icap_client::{Capabilities, Headers};
use start_error::StartError;

use super::{Place, fields, shown};
use crate::say::say;

#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
}

impl Options {
    /// Asks, and tells.
    pub(super) async fn run(&self) -> Result<(), StartError> {
        let probe = self.place.probe(0)?;
        let (headers, offered) = probe.options().await.map_err(|e| self.place.failed(&e))?;
        say(words(&headers, &offered).trim_end())
    }
}

fn words(headers: &Headers, offered: &Capabilities) -> String {
    let mut text = String::new();
    for (name, value) in facts(headers, offered) {
        // Memory takes every write.
        let _ = writeln!(text, "{name:<13}{value}");
    }
    format!("{text}\nas it came:\n{}", fields(headers))
}

fn facts(headers: &Headers, offered: &Capabilities) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let service = headers.get("Service").map_or("does not say its name".into(), shown);
    facts.push(("service", service));
    facts.push((
        "adapts",
        match (offered.reqmod, offered.respmod) {
            (true, true) => "requests (REQMOD) and responses (RESPMOD)".into(),
            (true, false) => "requests only (REQMOD)".into(),
            (false, true) => "responses only (RESPMOD)".into(),
            (false, false) => "nothing: it names neither REQMOD nor RESPMOD".into(),
        },
    ));
    facts.push((
        "preview",
        match offered.preview {
            None => "none: bodies are sent whole".into(),
            Some(0) => "0 bytes: it decides by the heads whether it wants the body".into(),
            Some(bytes) => format!("the first {bytes} bytes of each body"),
        },
    ));
    for (header, meaning) in [
        ("Transfer-Preview", "with preview"),
        ("Transfer-Complete", "whole"),
        ("Transfer-Ignore", "not at all"),
    ] {
        if let Some(list) = headers.get(header) {
            let list = if list == b"*" { "all other files".into() } else { shown(list) };
            facts.push(("wants", format!("{list}: {meaning}")));
        }
    }
    let answers = match (offered.allow_204, offered.allow_206) {
        (true, true) => "204 (no change) and 206 (partly changed), outside previews too",
        (true, false) => "204 (no change), outside previews too",
        (false, true) => "206 (partly changed)",
        (false, false) => "204 (no change) in previews only",
    };
    facts.push(("may answer", answers.into()));
    facts.push((
        "connections",
        offered.max_connections.map_or("no limit".into(), |n| format!("{n} at most")),
    ));
    facts.push(("holds for", format!("{} s", offered.ttl.as_secs())));
    if let Some(istag) = &offered.istag {
        facts.push(("state", format!("{} (ISTag)", shown(istag.as_bytes()))));
    }
    if !offered.include.is_empty() {
        let list = offered.include.join(", ");
        facts.push(("asks for", format!("{} (X-Include)", shown(list.as_bytes()))));
    }
    if offered.raw_heads {
        let hold = offered.hold.map_or("all of a body".into(), |n| format!("{n} bytes of a body"));
        facts.push(("holds back", format!("{hold} until it has judged them")));
    }
    facts
}
