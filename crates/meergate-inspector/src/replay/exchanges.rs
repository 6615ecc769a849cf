//! Streams to HTTP/1 exchanges, as a proxy would take them apart.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http_wire::{ChunkEvent, ChunkedDecoder, Framing, Limits, RequestHead, ResponseHead};

use super::streams::Stream;
use super::{Connection, Exchange, Message};

/// Bytes of trailers, at most.
const MAX_TRAILERS: usize = 64 << 10;

/// Why the rest of a stream is left out.
#[derive(Debug)]
struct Skipped {
    /// `request` or `response`.
    message: &'static str,
    fault: Fault,
}

/// What a message lacks.
#[derive(Debug)]
enum Fault {
    /// It is not HTTP/1.
    Wire(http_wire::Error),
    /// The capture ends in its head.
    Head,
    /// The capture ends in its body.
    Body { announced: u64, captured: usize },
    /// The capture ends in its chunks.
    Chunks,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.message)?;
        match &self.fault {
            Fault::Wire(error) => error.fmt(f),
            Fault::Head => f.write_str("its head is incomplete"),
            Fault::Body { announced, captured } => {
                write!(f, "{captured} of {announced} bytes of its body are in the capture")
            }
            Fault::Chunks => f.write_str("its chunked body is incomplete"),
        }
    }
}

impl From<http_wire::Error> for Fault {
    fn from(error: http_wire::Error) -> Self {
        Self::Wire(error)
    }
}

fn of_request(fault: Fault) -> Skipped {
    Skipped { message: "request", fault }
}

fn of_response(fault: Fault) -> Skipped {
    Skipped { message: "response", fault }
}

/// The exchanges of a stream; `None` if it does not begin as HTTP/1 at all.
pub(super) fn read(stream: Stream, limits: &Limits) -> Option<Connection> {
    let mut requests = BytesMut::from(&stream.request[..]);
    let mut responses = BytesMut::from(&stream.response[..]);
    let mut connection = Connection {
        client: stream.client,
        server: stream.server,
        exchanges: Vec::new(),
        skipped: None,
        handshake: stream.handshake,
    };
    while !requests.is_empty() && connection.skipped.is_none() {
        match exchange(&mut requests, &mut responses, limits) {
            Ok((exchange, last)) => {
                connection.exchanges.push(exchange);
                if last {
                    break;
                }
            }
            Err(reason) => connection.skipped = Some(reason.to_string()),
        }
    }
    let looks_like_http = !connection.exchanges.is_empty()
        || stream.request.windows(8).take(4096).any(|w| w.starts_with(b" HTTP/1."));
    looks_like_http.then_some(connection)
}

/// The next exchange, and whether it is the last that is HTTP.
fn exchange(
    requests: &mut BytesMut,
    responses: &mut BytesMut,
    limits: &Limits,
) -> Result<(Exchange, bool), Skipped> {
    let head = RequestHead::parse(requests, limits)
        .map_err(|e| of_request(e.into()))?
        .ok_or_else(|| of_request(Fault::Head))?;
    let framing = head.framing().map_err(|e| of_request(e.into()))?;
    let request = message(head.bytes().clone(), framing, requests).map_err(of_request)?;
    let mut last = head.method() == b"CONNECT";
    let response = loop {
        if responses.is_empty() {
            break None;
        }
        let answer = ResponseHead::parse(responses, limits)
            .map_err(|e| of_response(e.into()))?
            .ok_or_else(|| of_response(Fault::Head))?;
        let framing = answer.framing(head.method()).map_err(|e| of_response(e.into()))?;
        last |= answer.status() == 101 || framing == Framing::UntilClose;
        let message = message(answer.bytes().clone(), framing, responses).map_err(of_response)?;
        // Interim responses do not travel over ICAP.
        if answer.status() >= 200 || last {
            break Some(message);
        }
    };
    Ok((Exchange { request, response }, last))
}

fn message(head: Bytes, framing: Framing, from: &mut BytesMut) -> Result<Message, Fault> {
    let mut message = Message { head, ..Message::default() };
    match framing {
        Framing::None => {}
        Framing::UntilClose => message.body.push(from.split().freeze()),
        Framing::Length(n) => match usize::try_from(n) {
            Ok(n) if n <= from.len() => message.body.push(from.split_to(n).freeze()),
            _ => return Err(Fault::Body { announced: n, captured: from.len() }),
        },
        Framing::Chunked => {
            let mut decoder = ChunkedDecoder::new(MAX_TRAILERS);
            loop {
                match decoder.decode(from)? {
                    Some(ChunkEvent::Data(data)) => message.body.push(data),
                    Some(ChunkEvent::End { trailers }) => {
                        message.trailers = trailers;
                        break;
                    }
                    None => return Err(Fault::Chunks),
                }
            }
        }
    }
    message.body.retain(|piece| !piece.is_empty());
    Ok(message)
}
