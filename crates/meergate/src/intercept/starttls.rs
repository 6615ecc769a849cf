//! Streams whose client and server agree to go on in TLS (STARTTLS and its like): that is intercepted, as TLS is that a
//! connection begins with.

use tokio::time::timeout;

use super::opening::{Opening, open};
use super::tls::{Begun, intercept};
use crate::config::ListenProtocol;
use crate::protocol::Agreed;
use crate::session::Arrival;
use crate::upstream::Route;
use crate::words::ConnectionEnd;

/// Serves what follows where both sides of a stream along `route` agreed on TLS.
pub(super) async fn serve_agreed(arrival: Arrival, agreed: Agreed, route: Route) -> ConnectionEnd {
    let Agreed { mut client, mut read_ahead, upstream, greeting } = agreed;
    let limit = arrival.settings.config.limits.begin_timeout.0;
    let opening = open(&mut client, &mut read_ahead, ListenProtocol::Any);
    match timeout(limit, opening).await {
        Err(_) => ConnectionEnd::Silent,
        Ok(Err(_)) => ConnectionEnd::ClientClosed,
        Ok(Ok(Opening::Hello(hello))) => {
            let begun = Begun { upstream, greeting };
            intercept(arrival, hello, client, read_ahead, route, Some(begun)).await
        }
        Ok(Ok(Opening::Http | Opening::Unknown)) => {
            let why = "both sides agreed on TLS, and its ClientHello can't be read";
            tracing::warn!(connection = %arrival.id, target = %route.target, why, "a stream is cut");
            arrival.totals.notes().detail = Some(why.to_owned());
            arrival.cut.set(true);
            ConnectionEnd::TlsInside
        }
    }
}
