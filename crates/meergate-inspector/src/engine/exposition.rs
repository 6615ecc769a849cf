//! `GET /metrics`.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request head may be so long, in bytes.
const MAX_HEAD: usize = 8192;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers on this socket until dropped, one client at a time.
pub(crate) async fn serve(listener: std::net::TcpListener, page: impl Fn() -> String) {
    let listener =
        match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "no metrics");
                return;
            }
        };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A client that breaks off or stalls is its own business.
                let _ = tokio::time::timeout(PATIENCE, answer(stream, &page)).await;
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
