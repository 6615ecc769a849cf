//! Asking the origin, once more where that is safe, until its final response comes.

use std::io;
use std::pin::pin;

use http_wire::{RequestHead, ResponseHead, tokens};
use icap_client::{Body, Chain};

use super::account::Message;
use super::drive::Drive;
use super::record::Transaction;
use super::review::origin_is_known;
use super::rules::Rules;
use super::trouble::Trouble;
use super::{Client, Origin, Request, Sink};

/// Interim responses before a final one: a peer that sends more is playing.
const MAX_INTERIM: usize = 32;

/// How often a request is sent that an origin does not process.
const MAX_UNPROCESSED: usize = 3;

/// Sends the request and awaits the final response, over a new connection if a kept one is dead.
pub(super) async fn ask<C: Client, O: Origin>(
    tx: &mut Transaction<'_>,
    request: Request,
    (named, chain): (&RequestHead, Option<&Chain>),
    rules: &Rules<'_>,
    client: &mut C,
    origin: &mut O,
    drive: &mut Drive<'_, O::Sink>,
) -> Result<(ResponseHead, Option<Body>), Trouble> {
    let Request { head: asked, mut body } = request;
    let waits = asked.expects_continue().map_err(Trouble::RequestFault)?;
    // Only what may be done twice is asked twice (RFC 9110 section 9.2.2).
    let mut again = body.is_none() && is_idempotent(asked.method());
    // What nothing came of may be asked anew, whatever it is.
    let mut unprocessed = 0;
    let mut interim = 0;
    'send: loop {
        let sink = match origin.send(&asked, body.as_ref()) {
            Err(Trouble::Unprocessed) if unprocessed < MAX_UNPROCESSED => {
                unprocessed += 1;
                drive.run_for(client, pin!(origin.connect())).await??;
                origin_is_known(tx, origin.tls(), chain, &[named, &asked])?;
                continue 'send;
            }
            sent => sent?,
        };
        tx.account.sent_head(Message::Request, asked.bytes().len());
        let had_body = body.is_some();
        drive.begin(body.take(), sink, waits);
        loop {
            let progress = drive.progress();
            let response = drive.run_for(client, pin!(origin.response(&progress))).await?;
            let (head, content) = match response {
                Err(Trouble::Stale) if again => {
                    again = false;
                    drive.run_for(client, pin!(origin.connect())).await??;
                    origin_is_known(tx, origin.tls(), chain, &[named, &asked])?;
                    continue 'send;
                }
                Err(Trouble::Unprocessed) if unprocessed < MAX_UNPROCESSED => {
                    body = drive.take_back();
                    if had_body && body.is_none() {
                        // Some of its content is gone, and is nowhere kept.
                        return Err(Trouble::Unprocessed);
                    }
                    unprocessed += 1;
                    drive.run_for(client, pin!(origin.connect())).await??;
                    origin_is_known(tx, origin.tls(), chain, &[named, &asked])?;
                    continue 'send;
                }
                response => response?,
            };
            match head.status() {
                100 => drive.release(),
                101 => return may_switch(rules, &asked, &head, drive).map(|()| (head, None)),
                102..=199 => {
                    tx.account.sent_interim(head.bytes().len());
                    let mut sent = pin!(client.interim(&head));
                    let sent = drive.run(|cx| sent.as_mut().poll(cx)).await?;
                    sent.map_err(Trouble::ClientGone)?;
                }
                _ => {
                    drive.answered();
                    return Ok((head, content));
                }
            }
            interim += 1;
            if interim > MAX_INTERIM {
                return Err(Trouble::OriginGone(io::Error::other("too many interim responses")));
            }
        }
    }
}

/// Whether the origin may change to another protocol now: from then on nothing is inspected.
fn may_switch<S: Sink>(
    rules: &Rules<'_>,
    asked: &RequestHead,
    answer: &ResponseHead,
    drive: &Drive<'_, S>,
) -> Result<(), Trouble> {
    let may = rules.may_upgrade(asked) && names_one_of(asked, answer);
    let wrong = match (may, drive.is_sent()) {
        (true, true) => return Ok(()),
        (true, false) => "another protocol in the midst of the request",
        (false, _) => "a protocol that nobody asked for",
    };
    Err(Trouble::OriginGone(io::Error::other(wrong)))
}

/// Whether the answer says which protocol it is, and that is one of those asked for (RFC 9110 section 7.8).
fn names_one_of(asked: &RequestHead, answer: &ResponseHead) -> bool {
    let mut wanted = asked.all("Upgrade").flat_map(|field| tokens(field.value));
    let mut named = answer.all("Upgrade").flat_map(|field| tokens(field.value));
    match (named.next(), named.next()) {
        (Some(name), None) => wanted.any(|token| token.eq_ignore_ascii_case(name)),
        _ => false,
    }
}

fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}
