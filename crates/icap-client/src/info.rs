//! What a service is told about the transaction besides the message.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::Copies;

/// Facts about one HTTP (or other) transaction, the same for its REQMOD and its RESPMOD.
///
/// Clone it, or hand the same value to both calls: the headers that services share between the
/// two (as E2Guardian's `X-ICAP-E2G`) travel in [`TransactionInfo::shared`].
#[derive(Clone, Debug)]
pub struct TransactionInfo {
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// The origin's address, once it is known.
    pub server: Option<SocketAddr>,
    /// `http`, `h2`, `h3`, `smtp`, …
    pub proto: &'static str,
    /// Opaque, one per client connection. Also the key of connection affinity.
    pub connection_id: Arc<str>,
    /// The stream, for HTTP/2 and HTTP/3.
    pub stream_id: Option<u64>,
    /// Opaque, one per transaction; logs and block pages name it.
    pub transaction_id: Arc<str>,
    /// Who the client is, if it has logged in.
    pub username: Option<Arc<str>>,
    /// The message is a part of a resource (206), wider than what the client gets of it: on both
    /// sides, but for the resource's ends, at least so many bytes are shown and not delivered. Told
    /// to services of ours as `X-Range-Overlap`.
    pub range_overlap: Option<u64>,
    /// Where the memory for copies of the message is counted; without it, there is enough.
    pub copies: Option<Copies>,
    /// Headers that a service's reply left for the services after it.
    pub shared: SharedHeaders,
}

impl TransactionInfo {
    /// The least that is needed; the other fields are empty.
    pub fn new(
        proto: &'static str,
        connection_id: impl Into<Arc<str>>,
        transaction_id: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            client: None,
            server: None,
            proto,
            connection_id: connection_id.into(),
            stream_id: None,
            transaction_id: transaction_id.into(),
            username: None,
            range_overlap: None,
            copies: None,
            shared: SharedHeaders::default(),
        }
    }
}

/// ICAP headers carried from one service's reply to later requests of the same transaction.
///
/// Clones share one list. At most [`SharedHeaders::MAX`] names of at most 8 KiB are kept.
#[derive(Clone, Debug, Default)]
pub struct SharedHeaders(Arc<Mutex<List>>);

type List = Vec<(Arc<str>, Bytes)>;

impl SharedHeaders {
    /// The most names that are kept.
    pub const MAX: usize = 16;
    const MAX_VALUE: usize = 8 * 1024;

    /// Keeps a value under a name, in place of an older one. Values past the limits are left out,
    /// and `false` tells so.
    pub(crate) fn set(&self, name: &Arc<str>, value: Bytes) -> bool {
        if value.len() > Self::MAX_VALUE {
            return false;
        }
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = list.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            entry.1 = value;
        } else if list.len() < Self::MAX {
            list.push((name.clone(), value));
        } else {
            return false;
        }
        true
    }

    pub(crate) fn for_each(&self, mut f: impl FnMut(&str, &[u8])) {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in list.iter() {
            f(name, value);
        }
    }
}
