//! `GET /metrics`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A request head may be so long, in bytes.
const MAX_HEAD: usize = 8192;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many clients are answered at once. For another one the oldest connection goes: those that say nothing keep nobody waiting.
const MOST: usize = 32;

/// Answers on this socket until dropped.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    page: impl Fn() -> String + Send + Sync + 'static,
) {
    let listener =
        match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "no metrics");
                return;
            }
        };
    let page = Arc::new(page);
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MOST);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|client| !client.is_finished());
                if open.len() == MOST
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                // A client that breaks off or stalls is its own business.
                let page = page.clone();
                let answered = tokio::time::timeout(PATIENCE, answer(stream, move || page()));
                open.push_back(tokio::spawn(answered).abort_handle());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, page: impl Fn() -> String) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match head.split(|&b| b == b' ').take(2).collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics"] => ("200 OK", page()),
        [b"GET", _] => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "GET /metrics\n".to_owned()),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing over unread bytes would reset the connection and lose the page.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_that_say_nothing_keep_nobody_waiting() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, || "a 1\n".to_owned()));
        let mut silent = Vec::new();
        for _ in 0..MOST * 2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        let read = tokio::time::timeout(PATIENCE / 2, client.read_exact(&mut first));
        read.await.expect("an answer before others are given up").unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        server.abort();
    }
}
