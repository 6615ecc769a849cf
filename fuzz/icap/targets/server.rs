//! A whole connection: whatever a client sends and however it is cut, the server ends, and what it
//! says is a sequence of well-formed replies, the same for all cuts.
#![no_main]

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use icap::{BodyEvent, ChunkDecoder, Limits, ResponseHead};
use icap_fuzz::{Cuts, split};
use icap_server::{Config, Echo, Outcome, Peer, Router, Shutdown, serve_connection};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = split(input) else { return };
    let whole = replies(serve(bytes, 0));
    let cut = replies(serve(bytes, seed | 1));
    assert_eq!(whole, cut);
});

thread_local! {
    static RUNTIME: Runtime = {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    };
}

fn serve(bytes: &[u8], seed: u64) -> BytesMut {
    let said = Rc::new(RefCell::new(BytesMut::new()));
    let cuts = (seed != 0).then(|| Cuts::new(seed));
    let io = Script { input: BytesMut::from(bytes), cuts, said: Rc::clone(&said) };
    let config = Config {
        limits: Limits { max_head: 4096, max_encapsulated: 4096, ..Limits::default() },
        ..Config::default()
    };
    let router = Router::new().route("/e", Echo::new()).route("/c", Echo::copying());
    let shutdown = Shutdown::new();
    let serving = serve_connection(io, BytesMut::new(), Peer::Unix, &router, &config, &shutdown);
    let outcome = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            // The clock stands still but for deadlines: this ends at once or never would.
            tokio::time::timeout(Duration::from_secs(3600), serving).await.unwrap()
        })
    });
    assert!(matches!(outcome, Outcome::Closed));
    said.take()
}

/// Statuses with their bodies, and how it ended.
fn replies(mut said: BytesMut) -> (Vec<(u16, Vec<u8>)>, &'static str) {
    let limits = Limits::default();
    let mut replies = Vec::new();
    loop {
        if said.is_empty() {
            return (replies, "whole");
        }
        let head = ResponseHead::parse(&mut said, &limits).unwrap().unwrap();
        if head.status() == 100 {
            replies.push((100, Vec::new()));
            continue;
        }
        assert!(head.headers().get("ISTag").is_some());
        let parts = head.encapsulated().unwrap();
        let mut body = said.split_to(parts.heads_len()).to_vec();
        let mut decoder = ChunkDecoder::new(false, &limits);
        while parts.body.follows() {
            match decoder.next(&mut said).unwrap() {
                Some(BodyEvent::Data(len)) => {
                    body.extend_from_slice(&said[..len]);
                    said.advance(len);
                }
                Some(BodyEvent::End { .. }) => break,
                Some(BodyEvent::PreviewEnd) => unreachable!(),
                None => {
                    replies.push((head.status(), body));
                    return (replies, "cut");
                }
            }
        }
        replies.push((head.status(), body));
    }
}

/// Sends its input in pieces, then nothing; keeps what it is told.
struct Script {
    input: BytesMut,
    cuts: Option<Cuts>,
    said: Rc<RefCell<BytesMut>>,
}

impl Script {
    fn piece(&mut self) -> usize {
        self.cuts.as_mut().and_then(Iterator::next).unwrap_or(usize::MAX)
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.piece().min(buf.remaining()).min(self.input.len());
        buf.put_slice(&self.input.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let piece = self.piece();
        if piece % 5 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = piece.min(bytes.len());
        self.said.borrow_mut().extend_from_slice(&bytes[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
