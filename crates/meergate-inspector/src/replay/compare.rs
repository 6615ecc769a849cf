//! The same capture read by the `suricata` program.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use start_error::StartError;

use super::Connection;
use super::feed::Fed;
use crate::error::{Error, Reason};
use crate::settings::Settings;

/// Whether a line of EVE is an alert.
pub(super) fn is_alert(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|event| event["event_type"] == "alert")
}

/// An alert as far as both readings must agree: signature, action, and both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    sid: u64,
    action: String,
    ends: (SocketAddr, SocketAddr),
}

/// Runs `suricata -r` on the capture and prints what only one of both has found; true if nothing.
pub(super) fn with_suricata(
    capture: &Path,
    settings: &Settings,
    connections: &[Connection],
    fed: &Fed,
    folder: &Path,
) -> Result<bool, Error> {
    let theirs = read(&suricata(capture, settings, &fed.forced, folder)?, connections);
    let ours = read(&fed.events, connections);
    for (only, found) in
        [("suricata", theirs.difference(&ours)), ("replay", ours.difference(&theirs))]
    {
        for Finding { sid, action, ends } in found {
            crate::say::say(format_args!(
                "{}",
                json!({ "event_type": "difference", "only": only, "signature_id": sid, "action": action,
                        "ends": [ends.0.to_string(), ends.1.to_string()] })
            ));
        }
    }
    let mut left_out = 0;
    for (Connection { client, server, .. }, why) in
        connections.iter().filter_map(|c| Some((c, reason_to_leave_out(c)?)))
    {
        left_out += 1;
        crate::say::say(format_args!(
            "{}",
            json!({ "event_type": "left-out", "ends": [client.to_string(), server.to_string()], "reason": why })
        ));
    }
    crate::say::say(format_args!(
        "{}",
        json!({ "event_type": "comparison", "equal": ours == theirs, "suricata": theirs.len(), "replay": ours.len(),
                "connections": connections.len() - left_out, "left_out": left_out })
    ));
    Ok(ours == theirs)
}

/// With the same settings, so that what differs is the way to the engine.
fn suricata(
    capture: &Path,
    settings: &Settings,
    forced: &[(String, String)],
    folder: &Path,
) -> Result<String, Error> {
    let logs = folder.join("suricata");
    let cannot = |e: std::io::Error| Error::System("prepare the comparison", e);
    std::fs::create_dir_all(&logs).map_err(cannot)?;
    let rules = match &settings.rules[..] {
        // Where it is, since its rules may name files beside it.
        [only] => only.clone(),
        several => {
            let all = folder.join("all.rules");
            let texts = several.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>();
            texts.and_then(|texts| std::fs::write(&all, texts.join(&b'\n'))).map_err(cannot)?;
            all
        }
    };
    let config = crate::engine::process::engine_config(settings)?
        .eve(suricata::EveOutput::File("eve.json".into()));
    let yaml = match &settings.suricata_yaml {
        Some(path) => path.clone(),
        None => config.write_built_in_yaml(folder, &logs).map_err(cannot)?,
    };
    let output = Command::new(suricata::SURICATA_PROGRAM)
        .arg("-r")
        .arg(capture)
        .arg("-c")
        .arg(yaml)
        .arg("-S")
        .arg(&rules)
        .arg("-l")
        .arg(&logs)
        .args(["--simulate-ips", "-k", "none", "--runmode", "single"])
        .args(
            forced.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]),
        )
        .stdin(Stdio::null())
        .output()
        .map_err(|e| {
            let what = format!("cannot run Suricata's program ({e})");
            StartError::new(what, suricata::SURICATA_PROGRAM, "install it")
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        return Err(Reason::new(format!("suricata -r failed: {last}")).into());
    }
    std::fs::read_to_string(logs.join("eve.json"))
        .map_err(|e| Error::System("read the events that suricata -r has written", e))
}

/// A live gateway refuses what could not be replayed whole, and Suricata does not look at streams
/// without a handshake: there is nothing to compare.
fn reason_to_leave_out(connection: &Connection) -> Option<&str> {
    const NO_HANDSHAKE: &str = "no handshake: suricata does not look at it";
    let no_handshake = (!connection.handshake).then_some(NO_HANDSHAKE);
    connection.skipped.as_deref().or(no_handshake)
}

/// Alerts on the connections that can be compared.
fn read(events: &str, connections: &[Connection]) -> BTreeSet<Finding> {
    let known: BTreeSet<_> = connections
        .iter()
        .filter(|c| reason_to_leave_out(c).is_none())
        .map(|c| ordered(c.client, c.server))
        .collect();
    events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["event_type"] == "alert" && event["app_proto"] == "http")
        .filter_map(|event| finding(&event))
        .filter(|finding| known.contains(&finding.ends))
        .collect()
}

fn finding(event: &Value) -> Option<Finding> {
    let end = |ip: &str, port: &str| -> Option<SocketAddr> {
        let ip: IpAddr = event[ip].as_str()?.parse().ok()?;
        Some(SocketAddr::new(ip, u16::try_from(event[port].as_u64()?).ok()?))
    };
    Some(Finding {
        sid: event["alert"]["signature_id"].as_u64()?,
        action: event["alert"]["action"].as_str()?.to_owned(),
        ends: ordered(end("src_ip", "src_port")?, end("dest_ip", "dest_port")?),
    })
}

/// An alert may be raised by a packet of either direction.
fn ordered(a: SocketAddr, b: SocketAddr) -> (SocketAddr, SocketAddr) {
    (a.min(b), a.max(b))
}
