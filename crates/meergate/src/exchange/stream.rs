//! A client connection's stream that is shown to the services of a chain while it flows
//! (`docs/stream-carrier.md`): how it is asked for, and what goes without.

use std::net::SocketAddr;
use std::sync::Arc;

use icap_client::{Chain, Failure, Opening, StreamDrop, Streams};

use crate::records::BlockRecord;
use crate::session::Arrival;
use crate::words::{Target, Towards, Unseen};

/// What services are told of a stream before its first byte.
#[derive(Debug)]
pub(crate) struct StreamSubject<'a> {
    /// What is spoken, as far as that is known: `tls`, ...
    pub(crate) protocol: &'static str,
    /// Tells it from the transactions of its connection, in all logs (see [`stream_id`]).
    pub(crate) id: Arc<str>,
    /// Where the client wants to go.
    pub(crate) target: &'a Target,
    /// The server's address.
    pub(crate) server: SocketAddr,
}

/// Who looks at a stream.
#[derive(Debug)]
pub(crate) enum Audience {
    /// These services; what they clear may leave. [`Audience::unseen`] says whether that is enough
    /// for its bytes to count as inspected.
    Services(Box<Streams>),
    /// None of the chain takes streams. Whether the connection may go on is the caller's to say.
    Nobody,
    /// All that take streams failed and are set to fail open: it goes on, and its bytes count as
    /// [`Unseen::ServiceBypassed`].
    Bypassed,
}

impl Audience {
    /// Asks the services of `chain` to look at a stream of the client's connection, that begins with
    /// `opening`.
    ///
    /// # Errors
    /// A service failed, and is set to fail closed: nothing may pass.
    pub(crate) async fn find(
        arrival: &Arrival,
        chain: Option<&Chain>,
        subject: &StreamSubject<'_>,
        opening: Option<&Opening<'_>>,
    ) -> Result<Self, Failure> {
        let Some(chain) = chain else { return Ok(Self::Nobody) };
        let info = arrival.info(subject.protocol, subject.id.clone(), Some(subject.server));
        let authority = subject.target.to_string();
        let streams = match opening {
            None => chain.stream(&info, &authority).await?,
            Some(opening) => chain.stream_with(&info, &authority, opening).await?,
        };
        Ok(match streams {
            None => Self::Nobody,
            Some(streams) if streams.is_inspected() => Self::Services(Box::new(streams)),
            Some(_) => Self::Bypassed,
        })
    }

    /// What the stream's bytes count as if they pass; `None` if all who should look at them do.
    pub(crate) fn unseen(&self) -> Option<Unseen> {
        match self {
            Self::Services(streams) if streams.bypassed().is_empty() => None,
            Self::Services(_) | Self::Bypassed => Some(Unseen::ServiceBypassed),
            Self::Nobody => Some(Unseen::NoService),
        }
    }
}

/// What logs call a stream of the client's connection; `word` is another one for each.
pub(crate) fn stream_id(arrival: &Arrival, word: &str) -> Arc<str> {
    format!("{}-{word}", arrival.id).into()
}

/// Counts bytes of a stream that passed unseen.
pub(crate) fn count_unseen(arrival: &Arrival, why: Unseen, towards: Towards, bytes: usize) {
    arrival.shared.metrics.uninspected(why, towards, bytes as u64);
}

/// What logs say of a drop.
pub(crate) fn block_record(dropped: &StreamDrop) -> BlockRecord {
    let signature = dropped.why.signature.as_ref();
    BlockRecord {
        service: dropped.service.to_string(),
        signature_id: signature.map(|signature| signature.id.to_string()),
        violations: signature.map(|signature| signature.message.clone()),
    }
}
