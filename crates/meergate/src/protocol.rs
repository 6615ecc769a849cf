//! What is spoken inside a connection.

mod first_line;
mod http1;
mod http2;
mod streams;

use bytes::BytesMut;
use http_wire::RequestHead;

use crate::io::{Io, Prefixed};
use crate::session::Session;
use crate::upstream::UpstreamSlot;
use crate::words::{Alpn, ConnectionEnd, Target};

pub(crate) use first_line::FirstLine;
pub(crate) use streams::{Agreed, Served, TcpStreams, serve as serve_stream};

/// How a client connection left its protocol.
#[derive(Debug)]
pub enum End {
    /// It is closed; why, for the connection's record.
    Closed(ConnectionEnd),
    /// The client of an explicit proxy asked for a tunnel, and was not answered yet.
    Connect(Box<ConnectRequest>),
}

/// A CONNECT request (RFC 9110 section 9.3.6), with its connection.
pub struct ConnectRequest {
    /// The client's connection.
    pub client: Io,
    /// What came after the request's head already.
    pub read_ahead: BytesMut,
    /// The request's head.
    pub head: RequestHead,
    /// Where the tunnel shall lead.
    pub target: Target,
}

impl std::fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectRequest").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Serves one client connection until it ends. `read_ahead` is what was read from `client` before.
///
/// To be called in a task of its own; dropping the future cuts the connection.
pub async fn serve(
    client: Io,
    read_ahead: BytesMut,
    session: &Session,
    upstream: UpstreamSlot,
) -> End {
    let alpn = session.tls.as_ref().and_then(|tls| tls.alpn);
    if alpn == Some(Alpn::H2) {
        let client = Box::new(Prefixed::new(read_ahead.freeze(), client));
        return http2::serve(client, session, upstream).await;
    }
    http1::serve(client, read_ahead, session, upstream).await
}
