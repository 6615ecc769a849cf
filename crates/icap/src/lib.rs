//! ICAP (RFC 3507, its errata, and draft-icap-ext-partial-content-07) as bytes in, bytes out.
//!
//! What it does: parses and produces ICAP heads, the `Encapsulated` header, chunked bodies with
//! their extensions (`ieof`, `use-original-body`) and trailers, and runs both ends of a
//! transaction as state machines. What it does not: it opens no socket, owns no thread, reads no
//! clock, and does not look into the encapsulated HTTP heads.
//!
//! ```text
//!             RequestHead ─┬─ Headers (spans over one buffer)
//!   bytes ──► ResponseHead ┘       │
//!                                  ▼
//!             Encapsulated: which HTTP heads follow, how long, and whether a body does
//!                                  │
//!                                  ▼
//!             ChunkDecoder: which bytes are framing, which are data, where a preview ends
//!                                  │
//!             server::Connection ◄─┴─► client: what may be said next
//! ```
//!
//! All input is taken to be hostile: every length, count and offset is compared with [`Limits`]
//! before memory is spent on it.
#![forbid(unsafe_code)]

mod chunk;
mod chunk_encode;
pub mod client;
mod encapsulated;
mod error;
mod fields;
mod headers;
mod istag;
mod limits;
mod method;
mod request;
mod response;
pub mod server;

pub use chunk::{BodyEvent, ChunkDecoder, ChunkEvent, Step};
pub use chunk_encode::{
    CHUNK_HEADER_MAX, LAST_CHUNK, LAST_CHUNK_IEOF, chunk_header, encode_chunk, encode_last_chunk,
    encode_use_original_body,
};
pub use encapsulated::{BodyKind, Encapsulated};
pub use error::{Error, ErrorKind};
pub use headers::Headers;
pub use istag::IsTag;
pub use limits::Limits;
pub use method::{Method, reason_phrase};
pub use request::RequestHead;
pub use response::ResponseHead;

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
