//! What a connection begins with, found out from its first bytes.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::config::ListenProtocol;
use crate::io::Io;
use crate::protocol::FirstLine;
use crate::tls::{ClientHello, MAX_HELLO, looks_like_tls};

/// Bytes that are read at once while it is not clear what is spoken.
const OPENING: usize = 2048;
/// How long a client of a stream may pause before it is taken for one that waits for its server.
pub(super) const MOMENT: Duration = Duration::from_millis(250);

/// What a connection begins with.
pub(super) enum Opening {
    Hello(ClientHello),
    Http,
    Unknown,
}

/// Who spoke first, where either may.
pub(super) enum First {
    Client(Opening),
    Server,
}

/// Reads until it is clear what is spoken; all that was read stays in `read_ahead`.
pub(super) async fn open(
    client: &mut Io,
    read_ahead: &mut BytesMut,
    protocol: ListenProtocol,
) -> io::Result<Opening> {
    loop {
        if let Some(opening) = opening(read_ahead, protocol) {
            return Ok(opening);
        }
        read(client, read_ahead).await?;
    }
}

/// As [`open`], while the server may speak as well, whose words stay in `said`. A client that pauses
/// within a line waits for an answer, and so speaks something else than HTTP.
///
/// # Errors
/// One of them ended its connection without a word.
pub(super) async fn first_word(
    client: &mut Io,
    read_ahead: &mut BytesMut,
    server: &mut Io,
    said: &mut BytesMut,
) -> io::Result<First> {
    loop {
        if let Some(opening) = opening(read_ahead, ListenProtocol::Any) {
            return Ok(First::Client(opening));
        }
        let may_pause = !read_ahead.is_empty() && !is_hello_begun(read_ahead);
        tokio::select! {
            // Of both it is the client that says what is spoken.
            biased;
            read = read(client, read_ahead) => read?,
            read = read(server, said), if read_ahead.is_empty() => {
                read?;
                return Ok(First::Server);
            }
            () = sleep(MOMENT), if may_pause => return Ok(First::Client(Opening::Unknown)),
        }
    }
}

/// Whether these bytes are the beginning of a ClientHello.
pub(super) fn is_hello_begun(read_ahead: &[u8]) -> bool {
    read_ahead.first().is_some_and(|first| looks_like_tls(*first))
        && read_ahead.get(1).is_none_or(|major| *major == 3)
}

/// What the connection begins with, if these bytes tell.
fn opening(read_ahead: &[u8], protocol: ListenProtocol) -> Option<Opening> {
    let first = *read_ahead.first()?;
    let may_be_tls = match protocol {
        ListenProtocol::Any => is_hello_begun(read_ahead),
        ListenProtocol::Http => looks_like_tls(first),
    };
    if may_be_tls {
        return match ClientHello::read(read_ahead) {
            Ok(Some(hello)) => Some(Opening::Hello(hello)),
            Ok(None) if read_ahead.len() <= MAX_HELLO => None,
            Ok(None) | Err(_) => Some(Opening::Unknown),
        };
    }
    match protocol {
        ListenProtocol::Any => match FirstLine::of(read_ahead) {
            FirstLine::Http => Some(Opening::Http),
            FirstLine::Other => Some(Opening::Unknown),
            FirstLine::Unknown => None,
        },
        // Methods are tokens in capitals; what else HTTP allows nobody sends (RFC 9110
        // section 9.1). Blank lines may stand before them.
        ListenProtocol::Http if first.is_ascii_uppercase() || matches!(first, b'\r' | b'\n') => {
            Some(Opening::Http)
        }
        ListenProtocol::Http => Some(Opening::Unknown),
    }
}

async fn read(from: &mut Io, into: &mut BytesMut) -> io::Result<()> {
    // Room for a whole ClientHello of today's browsers, so that one read is enough.
    into.reserve(OPENING);
    match from.read_buf(into).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
