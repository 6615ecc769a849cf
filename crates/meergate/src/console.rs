//! The console: a status page, metrics, and the CA's certificate for clients to trust.

mod door;

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::listen::Gateway;

struct Console {
    gateway: Arc<Gateway>,
    began: Instant,
    listeners: Vec<(SocketAddr, &'static str)>,
}

/// Serves the console until the gateway stops.
pub(crate) async fn serve(
    socket: TcpListener,
    gateway: Arc<Gateway>,
    listeners: Vec<(SocketAddr, &'static str)>,
) {
    let console = Arc::new(Console { gateway: gateway.clone(), began: Instant::now(), listeners });
    let router = Router::new()
        .route("/", get(status))
        .route("/metrics", get(metrics))
        .route("/ca.pem", get(ca_pem))
        .route("/ca.der", get(ca_der))
        .route("/ca.crl", get(ca_crl))
        .route("/ca.mobileconfig", get(ca_mobileconfig))
        .with_state(console);
    door::serve(socket, gateway, router).await;
}

async fn metrics(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], console.gateway.shared.metrics.text())
}

async fn ca_pem(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let text = console.gateway.settings.load().tls.authority().trusted_pem();
    download("application/x-pem-file", "meergate-ca.pem", text.into_bytes())
}

async fn ca_der(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let der = console.gateway.settings.load().tls.authority().trusted()[0].to_vec();
    download("application/x-x509-ca-cert", "meergate-ca.crt", der)
}

async fn ca_crl(State(console): State<Arc<Console>>) -> Result<impl IntoResponse, StatusCode> {
    let list = console.gateway.settings.load().tls.revocation_list().map_err(|error| {
        tracing::warn!(%error, "the list of revoked leaves");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    Ok(([(CONTENT_TYPE, "application/pkix-crl")], list.to_vec()))
}

async fn ca_mobileconfig(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let text = console.gateway.settings.load().tls.authority().mobileconfig();
    download("application/x-apple-aspen-config", "meergate-ca.mobileconfig", text.into_bytes())
}

fn download(kind: &'static str, name: &'static str, content: Vec<u8>) -> impl IntoResponse {
    let disposition = format!("attachment; filename=\"{name}\"");
    (
        [
            (CONTENT_TYPE, kind.to_owned()),
            (CONTENT_DISPOSITION, disposition),
            (CACHE_CONTROL, "no-store".to_owned()),
        ],
        content,
    )
}

async fn status(State(console): State<Arc<Console>>) -> impl IntoResponse {
    let shared = &console.gateway.shared;
    let settings = console.gateway.settings.load();
    let mut rows = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a `String` cannot fail.
        let _ = writeln!(rows, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    };
    row("Version", env!("CARGO_PKG_VERSION").into());
    row("Up for", format!("{} s", console.began.elapsed().as_secs()));
    for (address, kind) in &console.listeners {
        row("Listening", format!("{address} ({kind})"));
    }
    match &settings.policy.default_decision().chain {
        Some(chain) => {
            for service in chain.services() {
                row("Inspected by", service.name().to_string());
            }
        }
        None => row("Inspected by", "nobody: no ICAP service is set".into()),
    }
    row("Open connections", shared.metrics.connections.get().to_string());
    for refuser in shared.pinning.refusers(20) {
        let why = if refuser.pins { "pins it" } else { "pins it, or does not trust the CA" };
        row("Refuses our certificate", format!("{} of {}: {why}", refuser.client, refuser.host));
    }
    let authority = settings.tls.authority();
    row("CA", authority.subject_text());
    row("CA fingerprint (SHA-256)", authority.fingerprint());
    row("CA valid until", authority.valid_until());
    if let Some(former) = authority.former() {
        row("Former CA counts until", former.until());
    }
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Meergate</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;\
         padding:0 1rem}}th{{text-align:left;padding-right:2rem;vertical-align:top;\
         font-weight:500}}td{{overflow-wrap:anywhere}}</style>\
         <h1>Meergate</h1><table>{rows}</table>\
         <p>Have clients trust the CA: <a href=\"/ca.pem\">PEM</a>, \
         <a href=\"/ca.der\">DER</a> (Windows, Android), \
         <a href=\"/ca.mobileconfig\">profile</a> (iPhone, Mac). \
         <a href=\"/metrics\">Metrics</a>.</p>"
    );
    ([("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")], Html(page))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
