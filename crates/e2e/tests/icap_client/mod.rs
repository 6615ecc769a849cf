//! Messages to send through real ICAP services, and what must come back.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use e2e::interop::Seen;
use http_wire::{Limits, RequestHead, ResponseHead};
use icap_client::{
    Adapted, AdaptedResponse, Body, BodyError, BodySource, Chain, Failure, Frame, Full,
    TransactionInfo, next_frame,
};

/// Bounds how long a failing test hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The preview that c-icap's services ask for.
pub const PREVIEW: usize = 1024;

/// Body sizes around every edge, and the sizes of the pieces they come in.
pub const BODIES: [(usize, usize); 14] = [
    (0, 1),
    (1, 1),
    (PREVIEW - 1, 100),
    (PREVIEW - 1, 1 << 20),
    (PREVIEW, 1),
    (PREVIEW, PREVIEW),
    (PREVIEW + 1, 1),
    (PREVIEW + 1, PREVIEW),
    (64 * 1024, 1),
    (64 * 1024, 64 * 1024),
    (100 * 1024, 4096),
    (100 * 1024, 1 << 20),
    (1 << 20, 333),
    (1 << 20, 1 << 20),
];

pub fn info(id: usize) -> TransactionInfo {
    let mut info = TransactionInfo::new("http", format!("c{}", id % 4), format!("t{id}"));
    info.client = Some("127.0.0.1:40000".parse().expect("an address"));
    info
}

pub fn post(host: &str, length: Option<usize>) -> RequestHead {
    let framing = framing(length);
    request(&format!(
        "POST http://{host}/up HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n{framing}\r\n"
    ))
}

pub fn get(host: &str) -> RequestHead {
    request(&format!("GET http://{host}/file.dat HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

pub fn ok(length: Option<usize>) -> ResponseHead {
    let framing = framing(length);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{framing}X-Kept: as it was\r\n\r\n"
    );
    ResponseHead::from_bytes(head.into(), &Limits::default()).expect("a head")
}

pub fn request(text: &str) -> RequestHead {
    RequestHead::from_bytes(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
        .expect("a head")
}

fn framing(length: Option<usize>) -> String {
    match length {
        Some(length) => format!("Content-Length: {length}\r\n"),
        None => "Transfer-Encoding: chunked\r\n".into(),
    }
}

/// A body in pieces of `piece` bytes; of unknown length, it also makes its reader wait at times.
pub fn body(bytes: &[u8], piece: usize, known: bool) -> Option<Body> {
    let bytes = Bytes::copy_from_slice(bytes);
    let pieces =
        (0..bytes.len()).step_by(piece).map(|at| bytes.slice(at..bytes.len().min(at + piece)));
    let full = Full::new(pieces, None);
    Some(if known { full.boxed() } else { Box::pin(Unknown { full, turn: 0 }) })
}

struct Unknown {
    full: Full,
    turn: usize,
}

impl BodySource for Unknown {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        self.turn += 1;
        if self.turn.is_multiple_of(7) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.full).poll_frame(cx)
    }
}

pub async fn collect(body: Option<Body>) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    let Some(mut body) = body else { return Ok(bytes) };
    let all = async {
        while let Some(frame) = next_frame(&mut body).await {
            if let Frame::Data(data) = frame? {
                bytes.extend_from_slice(&data);
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the body must end").map(|()| bytes)
}

pub async fn reqmod(
    chain: &Chain,
    info: &TransactionInfo,
    head: RequestHead,
    body: Option<Body>,
) -> Result<Adapted, Failure> {
    tokio::time::timeout(PATIENCE, chain.reqmod(info, head, body))
        .await
        .expect("an outcome in time")
}

pub async fn respmod(
    chain: &Chain,
    info: &TransactionInfo,
    request: &RequestHead,
    head: ResponseHead,
    body: Option<Body>,
) -> Result<AdaptedResponse, Failure> {
    tokio::time::timeout(PATIENCE, chain.respmod(info, request, head, body))
        .await
        .expect("an outcome in time")
}

/// Sends every body of [`BODIES`] both ways, of known and of unknown length, and compares every
/// byte of what comes back.
pub async fn bodies_stay_as_they_are(chain: &Chain, host: &str) -> Seen {
    let mut seen = Seen::default();
    let all = e2e::content::noise(7, 1 << 20);
    let mut id = 0;
    for (size, piece) in BODIES {
        for known in [true, false] {
            id += 1;
            let sent = &all[..size];
            let length = known.then_some(size);
            let what = format!("{size} bytes in pieces of {piece}, length known: {known}");
            let info = info(id);
            let adapted = reqmod(chain, &info, post(host, length), body(sent, piece, known)).await;
            match adapted.unwrap_or_else(|e| panic!("REQMOD, {what}: {e}")) {
                Adapted::Forward { head, body, trail, .. } => {
                    let got = collect(body).await.unwrap_or_else(|e| panic!("REQMOD, {what}: {e}"));
                    assert!(got == sent, "REQMOD, {what}: {} bytes, {:?}", got.len(), head.bytes());
                    assert_eq!(trail.bypassed().count(), 0, "REQMOD, {what}");
                }
                Adapted::Respond { head, .. } => panic!("REQMOD, {what}: {:?}", head.bytes()),
            }
            let adapted =
                respmod(chain, &info, &get(host), ok(length), body(sent, piece, known)).await;
            let adapted = adapted.unwrap_or_else(|e| panic!("RESPMOD, {what}: {e}"));
            assert!(adapted.head.field("X-Kept").is_some(), "RESPMOD, {what}");
            assert!(adapted.blocked_by.is_none(), "RESPMOD, {what}");
            let got =
                collect(adapted.body).await.unwrap_or_else(|e| panic!("RESPMOD, {what}: {e}"));
            assert!(got == sent, "RESPMOD, {what}: {} bytes", got.len());
            seen.body("REQMOD", size);
            seen.body("RESPMOD", size);
        }
    }
    let metrics = chain.services().map(|service| service.metrics());
    for metrics in metrics {
        if metrics.passed.value() > 0 {
            seen.note("204");
        }
        if metrics.adapted.value() > 0 {
            seen.note("200");
        }
        if metrics.reused.value() > 0 {
            seen.note("kept connections");
        }
    }
    seen
}

/// Sends 100 MB one way, pieces of 1 MB, and compares every byte as it comes.
pub async fn a_hundred_megabytes_stay_as_they_are(chain: &Chain, host: &str) -> Seen {
    let piece = Bytes::from(e2e::content::noise(9, 1 << 20));
    let full = Full::new((0..100).map(|_| piece.clone()), None);
    let sent = Some(full.boxed());
    let (info, request) = (info(0), get(host));
    // E2Guardian wants to have seen the request.
    let adapted = reqmod(chain, &info, request.clone(), None).await;
    assert!(matches!(adapted, Ok(Adapted::Forward { .. })));
    let adapted = respmod(chain, &info, &request, ok(Some(100 << 20)), sent).await;
    let mut body = adapted.expect("an answer").body.expect("a body");
    let mut at = 0usize;
    let all = async {
        while let Some(frame) = next_frame(&mut body).await {
            let Frame::Data(mut data) = frame.expect("no failure") else { continue };
            while !data.is_empty() {
                let from = at % piece.len();
                let part = data.split_to(data.len().min(piece.len() - from));
                assert!(part == piece[from..from + part.len()], "differs after byte {at}");
                at += part.len();
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the body must end");
    assert_eq!(at, 100 << 20);
    let mut seen = Seen::default();
    seen.body("RESPMOD", at);
    seen
}
