//! Streams to HTTP/1 exchanges, as a proxy would take them apart.

use bytes::{Bytes, BytesMut};
use http_wire::{ChunkEvent, ChunkedDecoder, Framing, Limits, RequestHead, ResponseHead};

use super::streams::Stream;
use super::{Connection, Exchange, Message};

/// Bytes of trailers, at most.
const MAX_TRAILERS: usize = 64 << 10;

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
            Err(reason) => connection.skipped = Some(reason),
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
) -> Result<(Exchange, bool), String> {
    let head = RequestHead::parse(requests, limits)
        .map_err(|e| format!("request: {e}"))?
        .ok_or("request: its head is incomplete")?;
    let framing = head.framing().map_err(|e| format!("request: {e}"))?;
    let request =
        message(head.bytes().clone(), framing, requests).map_err(|e| format!("request: {e}"))?;
    let mut last = head.method() == b"CONNECT";
    let response = loop {
        if responses.is_empty() {
            break None;
        }
        let answer = ResponseHead::parse(responses, limits)
            .map_err(|e| format!("response: {e}"))?
            .ok_or("response: its head is incomplete")?;
        let framing = answer.framing(head.method()).map_err(|e| format!("response: {e}"))?;
        last |= answer.status() == 101 || framing == Framing::UntilClose;
        let message = message(answer.bytes().clone(), framing, responses)
            .map_err(|e| format!("response: {e}"))?;
        // Interim responses do not travel over ICAP.
        if answer.status() >= 200 || last {
            break Some(message);
        }
    };
    Ok((Exchange { request, response }, last))
}

fn message(head: Bytes, framing: Framing, from: &mut BytesMut) -> Result<Message, String> {
    let mut message = Message { head, ..Message::default() };
    match framing {
        Framing::None => {}
        Framing::UntilClose => message.body.push(from.split().freeze()),
        Framing::Length(n) => {
            let n = usize::try_from(n).map_err(|e| e.to_string())?;
            if n > from.len() {
                return Err(format!("{} of {n} bytes of its body are in the capture", from.len()));
            }
            message.body.push(from.split_to(n).freeze());
        }
        Framing::Chunked => {
            let mut decoder = ChunkedDecoder::new(MAX_TRAILERS);
            loop {
                match decoder.decode(from).map_err(|e| e.to_string())? {
                    Some(ChunkEvent::Data(data)) => message.body.push(data),
                    Some(ChunkEvent::End { trailers }) => {
                        message.trailers = trailers;
                        break;
                    }
                    None => return Err("its chunked body is incomplete".to_owned()),
                }
            }
        }
    }
    message.body.retain(|piece| !piece.is_empty());
    Ok(message)
}
