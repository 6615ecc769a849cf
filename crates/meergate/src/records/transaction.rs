//! The record of one transaction.

use std::net::SocketAddr;

use serde::Serialize;

use crate::words::{Deed, Outcome, Protocol, Unseen};

/// One line of the transaction log. Bytes are of contents, without heads and framing.
#[derive(Debug, Serialize)]
pub struct TransactionRecord<'a> {
    /// When the request's head had come, RFC 3339 in UTC.
    pub time: String,
    /// The transaction; the engine's own events carry the same.
    pub transaction_id: &'a str,
    /// The client connection.
    pub connection_id: &'a str,
    /// The stream, for HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<u64>,
    /// The client's address.
    pub client: SocketAddr,
    /// The origin's address, if it was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// The user, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// `http` or `h2`: what the client spoke.
    pub protocol: Protocol,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The method.
    pub method: &'a str,
    /// The host that was asked for.
    pub host: &'a str,
    /// Path and query, at most 4 KiB of it.
    pub path: &'a str,
    /// The status that the client got, if it got any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Content bytes read from the client.
    pub bytes_from_client: u64,
    /// Content bytes sent to the origin.
    pub bytes_to_server: u64,
    /// Content bytes read from the origin.
    pub bytes_from_server: u64,
    /// Content bytes sent to the client.
    pub bytes_to_client: u64,
    /// The rule that decided about it: about the response, where rules look at those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    /// What became of the request in the ICAP services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reqmod: Option<&'a Adaptation>,
    /// What became of the response in the ICAP services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respmod: Option<&'a Adaptation>,
    /// Who blocked it, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<&'a BlockRecord>,
    /// Why something of it went through without being looked into: heads, contents or trailers.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub uninspected: &'a [Unseen],
    /// How it ended, in one word: `forwarded`, `blocked`, ...
    pub outcome: Outcome,
    /// What exactly went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Milliseconds from the request's head to the end.
    pub ms: f64,
}

/// One message's way through the services.
#[derive(Debug, Serialize)]
pub struct Adaptation {
    /// Milliseconds until the outcome was known.
    pub ms: f64,
    /// What each service did, in order.
    pub services: Vec<ServiceRecord>,
}

/// What one service did.
#[derive(Debug, Serialize)]
pub struct ServiceRecord {
    /// The service.
    pub service: String,
    /// `passed`, `adapted`, `ignored` or `bypassed`.
    pub did: Deed,
    /// Milliseconds until that was known.
    pub ms: f64,
}

/// A block, as the service told of it.
#[derive(Debug, Serialize)]
pub struct BlockRecord {
    /// The service.
    pub service: String,
    /// The signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_id: Option<String>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<String>,
}
