//! The record of a connection that ended.

use std::time::SystemTime;

use super::arrival::Arrival;
use crate::records::{ConnectionRecord, TlsRecord, rfc3339};
use crate::words::ConnectionEnd;

/// Writes the record of a connection that ended, if there is a log for it.
pub fn record(arrival: &Arrival, began: SystemTime, end: ConnectionEnd) {
    let Some(log) = &arrival.shared.logs.connections else { return };
    let (bytes_from_client, bytes_from_server, transactions) = arrival.totals.sums();
    let notes = arrival.totals.notes();
    let record = ConnectionRecord {
        time: rfc3339(began),
        connection_id: &arrival.id,
        listener: arrival.listener,
        client: arrival.client,
        local: arrival.local,
        user: notes.user.as_deref(),
        target: notes.target.clone(),
        server: notes.server,
        upstream_proxy: notes.proxy.as_ref().map(|proxy| &*proxy.name),
        action: notes.decision.as_ref().map(|(action, _)| action.as_str()),
        rule: notes.decision.as_ref().and_then(|(_, rule)| rule.as_deref()),
        mirror: notes.mirror.as_ref(),
        tls: notes.tls.as_deref().map(TlsRecord::new),
        protocol: notes.protocol.as_deref(),
        block: notes.block.as_ref(),
        bytes_from_client,
        bytes_from_server,
        transactions,
        end,
        detail: notes.detail.as_deref(),
        ms: began.elapsed().map_or(0.0, |took| took.as_secs_f64() * 1000.0),
    };
    log.write(&record);
}
