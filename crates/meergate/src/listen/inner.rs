//! A connection whose target is known: what is spoken on it is found out from its first bytes.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::io::{Io, Prefixed};
use crate::protocol::{self, End};
use crate::session::{Scheme, Session};
use crate::tls::{self, ClientHello, Intercepted, MAX_HELLO, looks_like_tls};
use crate::upstream::{Route, UpstreamSlot};

/// What a connection begins with.
enum Opening {
    Hello(ClientHello),
    Http,
    Unknown,
}

/// Serves the connection along `route` to its end; why it ended, in one word.
pub(super) async fn serve(
    mut session: Session,
    mut client: Io,
    mut read_ahead: BytesMut,
    route: Route,
) -> &'static str {
    let limit = session.settings.config.limits.begin_timeout.0;
    let opening = match timeout(limit, open(&mut client, &mut read_ahead)).await {
        Err(_) => return "silent",
        Ok(Err(_)) => return "client-closed",
        Ok(Ok(opening)) => opening,
    };
    match opening {
        Opening::Hello(hello) => {
            let client = Prefixed::new(read_ahead.freeze(), client);
            intercept(session, hello, client, route).await
        }
        Opening::Http => {
            session.scheme = Scheme::Http;
            session.route = Some(route);
            finish(client, read_ahead, &session, UpstreamSlot::Unconnected).await
        }
        Opening::Unknown => {
            tracing::warn!(
                target = %route.target,
                "closed: neither TLS nor HTTP, so nobody can inspect it"
            );
            "unknown-protocol"
        }
    }
}

async fn intercept(
    mut session: Session,
    hello: ClientHello,
    client: Prefixed<Io>,
    route: Route,
) -> &'static str {
    let target = route.target.clone();
    let intercepted =
        tls::intercept(&session.shared, &session.settings, &hello, client, route).await;
    match intercepted {
        Ok(Intercepted { client, route, upstream, facts }) => {
            session.scheme = Scheme::Https;
            session.route = Some(route);
            session.tls = Some(Arc::new(facts));
            let upstream = match upstream {
                Ok(upstream) => UpstreamSlot::Ready(Box::new(upstream)),
                Err(error) => UpstreamSlot::Failed(error),
            };
            finish(Box::new(client), BytesMut::new(), &session, upstream).await
        }
        Err(error) => {
            tracing::info!(
                %target,
                sni = hello.server_name.as_deref(),
                %error,
                "not intercepted"
            );
            error.as_str()
        }
    }
}

async fn finish(
    client: Io,
    read_ahead: BytesMut,
    session: &Session,
    upstream: UpstreamSlot,
) -> &'static str {
    match protocol::serve(client, read_ahead, session, upstream).await {
        End::Closed(why) => why,
        // Only connections without a target of their own may ask for one.
        End::Connect(_) => "connect-inside",
    }
}

/// Reads until it is clear what is spoken; all that was read stays in `read_ahead`.
async fn open(client: &mut Io, read_ahead: &mut BytesMut) -> io::Result<Opening> {
    loop {
        match read_ahead.first() {
            None => {}
            Some(first) if looks_like_tls(*first) => match ClientHello::read(read_ahead) {
                Ok(Some(hello)) => return Ok(Opening::Hello(hello)),
                Ok(None) if read_ahead.len() <= MAX_HELLO => {}
                Ok(None) | Err(_) => return Ok(Opening::Unknown),
            },
            // Methods are tokens in capitals; what else HTTP allows nobody sends (RFC 9110
            // section 9.1). Blank lines may stand before them.
            Some(first) if first.is_ascii_uppercase() || matches!(first, b'\r' | b'\n') => {
                return Ok(Opening::Http);
            }
            Some(_) => return Ok(Opening::Unknown),
        }
        if client.read_buf(read_ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
