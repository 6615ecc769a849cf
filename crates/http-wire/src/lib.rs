//! HTTP/1 on the wire: heads kept **byte for byte**, message framing, the chunked coding and the
//! hop-by-hop rules. No IO, no clock: bytes are handed in, parts of the same bytes come out.
//!
//! The parser is strict on purpose. A proxy that inspects must read a message exactly as the peer
//! behind it will, so everything that two careful parsers could read differently is an [`Error`]:
//! bare CR or LF, folded lines, control characters, space around a field name, two lengths,
//! a length beside a transfer coding, odd numbers, unknown transfer codings.
//!
//! Servers are not so careful. For what they send there is a second reading,
//! [`ResponseHead::parse_lenient`]: each fault is read in one defined way, and the head is written anew,
//! so that the services that inspect it and the client behind get the same, without the fault.
//!
//! ```text
//!   bytes ──► RequestHead / ResponseHead ──► framing() ──► Framing::Chunked ──► ChunkedDecoder
//!                  │  fields(), host(), target_form()             ▲
//!                  └► edit() … build(): untouched lines stay byte for byte
//! ```
//!
//! What it does not do: header semantics beyond framing and connection management, HTTP/2,
//! percent-decoding, any kind of normalisation.
#![forbid(unsafe_code)]

mod chunked;
mod edit;
mod error;
mod facts;
mod field;
mod framing;
mod head;
mod lenient;
mod lines;
mod syntax;
mod target;

pub use chunked::{
    CRLF, ChunkEvent, ChunkedDecoder, LAST_CHUNK, MAX_CHUNK_HEADER, check_trailers, chunk_header,
};
pub use edit::{HeadEdit, RequestEdit, ResponseEdit};
pub use error::{Error, ErrorKind};
pub use facts::Expectation;
pub use field::{AWS_CHUNKED, Field, Fields, HOP_BY_HOP, names_no_coding, tokens};
pub use framing::Framing;
pub use head::{Limits, RequestHead, ResponseHead, Version};
pub use lenient::Lenient;
pub use target::{Authority, TargetForm};

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
