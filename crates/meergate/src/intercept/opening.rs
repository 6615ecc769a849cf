//! What a connection begins with, found out from its first bytes.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::io::Io;
use crate::tls::{ClientHello, MAX_HELLO, looks_like_tls};

/// Bytes that are read at once while it is not clear what is spoken.
const OPENING: usize = 2048;

/// What a connection begins with.
pub(super) enum Opening {
    Hello(ClientHello),
    Http,
    Unknown,
}

/// Reads until it is clear what is spoken; all that was read stays in `read_ahead`.
pub(super) async fn open(client: &mut Io, read_ahead: &mut BytesMut) -> io::Result<Opening> {
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
        // Room for a whole ClientHello of today's browsers, so that one read is enough.
        read_ahead.reserve(OPENING);
        if client.read_buf(read_ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
