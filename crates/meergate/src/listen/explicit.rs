//! Clients that know of the proxy: absolute-form requests and CONNECT (RFC 9110 section 9.3.6).

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::inner;
use crate::io::Io;
use crate::protocol::{self, ConnectRequest, End};
use crate::session::Session;
use crate::upstream::{Route, UpstreamSlot};

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Serves one connection to its end; why it ended, in one word.
pub(super) async fn serve(session: Session, client: Io, read_ahead: BytesMut) -> &'static str {
    match protocol::serve(client, read_ahead, &session, UpstreamSlot::PerRequest).await {
        End::Closed(why) => why,
        End::Connect(request) => tunnel(session, *request).await,
    }
}

async fn tunnel(session: Session, request: ConnectRequest) -> &'static str {
    let ConnectRequest { mut client, read_ahead, target, .. } = request;
    // Answered before the origin is known to be reachable: only what the client then says tells
    // whether it is TLS and with which protocols. An origin that fails is explained on a page.
    if client.write_all(ESTABLISHED).await.is_err() || client.flush().await.is_err() {
        return "client-closed";
    }
    inner::serve(session, client, read_ahead, Route::plain(target)).await
}
