//! Bytes from the client that nobody has read yet.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room made for a read while a connection is idle: enough for a small transaction in one read,
/// and little enough for ten thousand idle connections. Bytes.
const IDLE_ROOM: usize = 16 << 10;

/// Room made for a read within a transaction. Bytes.
const BUSY_ROOM: usize = 64 << 10;

/// Makes room and reads once. 0 is the end of the stream.
pub(crate) fn poll_read(
    cx: &mut Context<'_>,
    io: Pin<&mut (impl AsyncRead + ?Sized)>,
    buf: &mut BytesMut,
    idle: bool,
) -> Poll<io::Result<usize>> {
    let room = buf.capacity() - buf.len();
    if idle && room < IDLE_ROOM {
        buf.reserve(IDLE_ROOM);
    } else if !idle && room < BUSY_ROOM / 4 {
        buf.reserve(BUSY_ROOM);
    } else if buf.is_empty() {
        // What was used up before makes room again, if nobody else looks at it.
        let _ = buf.try_reclaim(BUSY_ROOM);
    }
    let mut io = io;
    let read = ready!(pin!(io.read_buf(buf)).poll(cx))?;
    Poll::Ready(Ok(read))
}
