//! Clients that know of the proxy: absolute-form requests and CONNECT (RFC 9110 section 9.3.6).

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use http_wire::{Limits, RequestHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::intercept;
use crate::io::Io;
use crate::policy::{Login, Users, challenge};
use crate::protocol::{self, ConnectRequest, End};
use crate::session::{Arrival, Session};
use crate::upstream::{Route, UpstreamSlot};
use crate::words::ConnectionEnd;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// How long, and how much, is read from a client that is refused: closing at once would make its
/// system throw the answer away.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1 << 20;

/// Serves one connection to its end; why it ended.
pub(super) async fn serve(
    mut arrival: Arrival,
    mut client: Io,
    mut read_ahead: BytesMut,
) -> ConnectionEnd {
    if let Some(users) = arrival.settings.users.clone() {
        let limit = arrival.settings.config.limits.begin_timeout.0;
        let identified =
            timeout(limit, identify(&arrival, &users, &mut client, &mut read_ahead)).await;
        match identified {
            Ok(Ok(Login::Right(user))) => arrival.user = Some(user),
            Ok(Ok(Login::TooMany(wait))) => return refuse(client, &too_many(wait)).await,
            Ok(Ok(Login::Wrong)) => return refuse(client, &challenge(&users)).await,
            Ok(Err(_)) => return ConnectionEnd::ClientClosed,
            Err(_) => return ConnectionEnd::Silent,
        }
    }
    let session = Session::explicit(arrival.clone());
    match protocol::serve(client, read_ahead, &session, UpstreamSlot::Unconnected).await {
        End::Closed(why) => why,
        End::Connect(request) => tunnel(arrival, *request).await,
    }
}

async fn tunnel(arrival: Arrival, request: ConnectRequest) -> ConnectionEnd {
    let ConnectRequest { mut client, read_ahead, target, .. } = request;
    // Answered before the origin is known to be reachable: only what the client then says tells
    // whether it is TLS and with which protocols. An origin that fails is explained on a page.
    if client.write_all(ESTABLISHED).await.is_err() || client.flush().await.is_err() {
        return ConnectionEnd::ClientClosed;
    }
    let route = Route::plain(target).of(arrival.client);
    intercept::serve(arrival, client, read_ahead, route).await
}

/// The user that the first request names, whose head stays in `read_ahead`. The connection is the
/// user's from then on, and every request on it is to name the same (`policy::is_of`).
async fn identify(
    arrival: &Arrival,
    users: &Users,
    client: &mut Io,
    read_ahead: &mut BytesMut,
) -> io::Result<Login> {
    let http = &arrival.settings.config.http;
    let limits = Limits {
        max_head: usize::try_from(http.max_head.0).unwrap_or(usize::MAX),
        max_fields: http.max_fields,
    };
    loop {
        match RequestHead::parse(&mut read_ahead.clone(), &limits) {
            Ok(Some(head)) => {
                return Ok(match head.field("Proxy-Authorization") {
                    Some(field) => {
                        let attempts = &arrival.shared.attempts;
                        users.check_basic(attempts, arrival.party(), field.value).await
                    }
                    None => Login::Wrong,
                });
            }
            Ok(None) => {}
            // Nobody can be asked for a password by a request that cannot be read.
            Err(_) => return Ok(Login::Wrong),
        }
        if client.read_buf(read_ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// RFC 6585 section 4: not 407, after which a browser would ask its user for another password.
fn too_many(wait: Duration) -> String {
    let seconds = wait.as_secs() + 1;
    format!(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {seconds}\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

async fn refuse(mut client: Io, answer: &str) -> ConnectionEnd {
    let said = async {
        client.write_all(answer.as_bytes()).await?;
        client.shutdown().await?;
        tokio::io::copy(&mut client.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whether the client still listens does not matter.
    let _ = timeout(LINGER, said).await;
    ConnectionEnd::Unidentified
}
