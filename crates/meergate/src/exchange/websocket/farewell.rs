//! How a WebSocket ends that is not to go on.

use std::io;
use std::time::Duration;

use icap_client::Streams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::io::Stream;

/// How long a side may take to read its last frame, and to end its connection.
const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes that are still read of a side meanwhile.
const MOST_UNREAD: usize = 4 << 20;
/// How long a service may take to end a stream that is over.
const SERVICES: Duration = Duration::from_secs(10);

/// Sends both sides their last bytes, and lets them end their connections.
pub(super) async fn of_sides(sides: [&mut dyn Stream; 2], last: [Vec<u8>; 2]) {
    let [client, server] = sides;
    let [to_client, to_server] = last;
    tokio::join!(of_side(client, &to_client), of_side(server, &to_server));
}

async fn of_side(side: &mut dyn Stream, last: &[u8]) {
    let ended = timeout(FAREWELL, async {
        side.write_all(last).await?;
        side.shutdown().await?;
        // Who closes at once, with something unread, may take back what was just sent.
        let mut scratch = vec![0; 16 << 10];
        let mut left = MOST_UNREAD;
        while left > 0 {
            match side.read(&mut scratch).await? {
                0 => break,
                length => left = left.saturating_sub(length),
            }
        }
        io::Result::Ok(())
    });
    // Whether it still listens is its own affair.
    drop(ended.await);
}

/// Gives the services' connections back, if they are done in time.
pub(super) async fn of_services(streams: Streams) {
    match timeout(SERVICES, streams.finish()).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            tracing::debug!(%failure, "a WebSocket's services did not end with it");
        }
        Err(_) => tracing::debug!("a WebSocket's services did not end with it in time"),
    }
}
