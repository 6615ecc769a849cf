//! Whom the console serves: so many connections, each for so long, asked for by a name of its own.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use shares::{Ledger, Limit};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::listen::Gateway;
use crate::metrics::LimitLabels;
use crate::words::Limited;

/// Bytes of a request that are kept: nobody sends the console more than a head.
const BUFFER: usize = 16 * 1024;
/// How long accepting pauses when the system has no more file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` until the gateway stops.
pub(super) async fn serve(socket: TcpListener, gateway: Arc<Gateway>, router: Router) {
    let ledger = Ledger::new();
    let limited = LimitLabels { limit: Limited::ConsoleConnections };
    let limited: Counter = gateway.shared.metrics.limited.get_or_create(&limited).clone();
    let router = router.layer(from_fn_with_state(gateway.clone(), check_host));
    let service = TowerToHyperService::new(router);
    let stopping = gateway.shared.stopping();
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = &mut stopping => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the console cannot accept connections for a moment");
                sleep(PAUSE).await;
                continue;
            }
        };
        let config = &gateway.settings.load().config;
        let limit = Limit::of(config.console.connections);
        let Ok(share) = ledger.take(Some(peer.into()), 1, limit) else {
            limited.inc();
            continue;
        };
        let (head, life) = (config.limits.begin_timeout.0, config.limits.idle_timeout.0);
        let service = service.clone();
        tokio::spawn(async move {
            // Whoever reads or writes without end is cut.
            let _ = timeout(life, serve_one(stream, head, service)).await;
            drop(share);
        });
    }
}

/// Serves one connection; each request's head must have come in `head`.
async fn serve_one<S>(stream: TcpStream, head: Duration, service: S)
where
    S: Service<hyper::Request<Incoming>, Response = Response, Error = Infallible>,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the console has ended");
    }
}

/// A page of somebody else's may have a name that leads here (DNS rebinding), and a browser then takes
/// the console for a part of it. So requests must be for an address, or for a name that is known to be
/// the console's.
async fn check_host(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let named = request.headers().get(HOST).map(|value| value.as_bytes());
    let settings = gateway.settings.load();
    match named {
        Some(host) if !is_ours(host, &settings.config.console.hosts) => {
            let why = "The console is not known by this name; name it in console.hosts.\n";
            (StatusCode::MISDIRECTED_REQUEST, why).into_response()
        }
        // Without it, as HTTP/1.0 allows, it is no browser.
        _ => next.run(request).await,
    }
}

/// Whether `host`, as `Host` has it, is an address, `localhost`, or one of `names`.
fn is_ours(host: &[u8], names: &[String]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_not_ours() {
        let names = ["console.example".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:8088",
            "[::1]:8088",
            "[2001:db8::1]",
            "localhost:1",
            "LocalHost",
            "console.example:8088",
            "Console.Example",
        ] {
            assert!(is_ours(host.as_bytes(), &names), "{host}");
        }
        for host in [
            "",
            "rebound.example",
            "127.0.0.1.example",
            "localhost.example:80",
            "example:127.0.0.1",
            "x.console.example",
            "\u{ff}",
        ] {
            assert!(!is_ours(host.as_bytes(), &names), "{host}");
        }
    }
}
