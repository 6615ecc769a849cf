//! A request for another protocol inside a stream (extended CONNECT, RFC 8441): the request passes
//! the services, what then flows is shown to those that take streams if it is WebSocket, else relayed and counted as
//! uninspected.

use std::pin::pin;

use http_wire::ResponseHead;
use icap_client::{Body, Full, Way};

use super::account::Message;
use super::drive::{Drive, Watch};
use super::pump::Counted;
use super::record::Transaction;
use super::review::{Former, origin_is_known, review, wrong};
use super::rules::Rules;
use super::stream::block_record;
use super::transact::{Exchange, answer, deliver, explain, reqmod, services};
use super::trouble::Trouble;
use super::websocket::{Asked, Content, End, Inside, Moved, WebSocket};
use super::{Client, Ended, Origin, Request, Sink};
use crate::pages::Page;
use crate::words::{Outcome, Unseen};

/// Opens the tunnel that `request` (in HTTP/1.1 form, with `Upgrade`) asks for and serves it to its
/// end. The request's body is what the client says inside.
pub(crate) async fn tunnel<C: Client, O: Origin>(
    tx: &mut Transaction<'_>,
    request: Request,
    client: &mut C,
    origin: &mut O,
    watch: &mut Watch,
) -> Ended {
    let ended = match run(tx, request, client, origin, watch).await {
        Ok(ended) => ended,
        Err(trouble) => explain(tx, trouble, client, watch).await,
    };
    tx.finish();
    ended
}

async fn run<C: Client, O: Origin>(
    tx: &mut Transaction<'_>,
    request: Request,
    client: &mut C,
    origin: &mut O,
    watch: &mut Watch,
) -> Result<Ended, Trouble> {
    let chain = services(tx, &request.head)?;
    let rules =
        Rules::new(&tx.session.settings.config.http, chain, tx.ranges).upgrading(tx.upgrades);
    let progress = tx.progress.clone();
    let mut drive: Drive<'_, O::Sink> = Drive::new(watch, &progress, tx.session.party());
    let Request { head, body: inside } = request;
    if !rules.may_upgrade(&head) {
        let page = Page::new(403, "This protocol is not allowed here");
        return Err(Trouble::Refused(Box::new(page)));
    }
    let named = head.clone();
    tx.server = Some(drive.run_for(client, pin!(origin.connect())).await??);
    origin_is_known(tx, origin.tls(), chain, &[&named])?;
    let mut request = Request { head, body: None };
    let looks_at_responses = tx.session.settings.policy.looks_at_responses();
    let info = (chain.is_some() || looks_at_responses).then(|| tx.info());
    let mut changed = false;
    if let (Some(chain), Some(info)) = (chain, &info) {
        let shown = request.head.clone();
        let adapted = pin!(chain.reqmod(info, request.head, request.body));
        request = match reqmod(tx, adapted, client, &mut drive).await? {
            Ok(request) => request,
            Err(ended) => return Ok(ended),
        };
        let former = Former { named: &named, shown: &shown, chain, follows_host: false };
        (request, changed) = review(tx, &rules, &former, request)?;
        if !rules.may_upgrade(&request.head) {
            return Err(wrong("it no longer asks for the protocol that the client asked for"));
        }
    }
    let inside: Body = inside.unwrap_or_else(|| Full::default().boxed());
    let (upgrade, head) = Asked::of(chain, request.head)?;
    request.head = head;
    let sink = origin.send(&request.head, Some(&inside))?;
    tx.account.sent_head(Message::Request, request.head.bytes().len());
    let (head, body) = loop {
        let (head, body) = drive.run_for(client, pin!(origin.response(&progress))).await??;
        if head.status() >= 200 {
            break (head, body);
        }
    };
    if !(200..300).contains(&head.status()) {
        // A refusal is a response like any other, and may hold anything.
        let asked = &request.head;
        let info = info.as_ref();
        let exchange = Exchange { named: &named, asked, changed, chain, info, cut: None };
        return answer(tx, exchange, head, body, client, &mut drive).await;
    }
    let within = match upgrade {
        Some(asked) => drive.run_for(client, pin!(asked.open(tx, &head))).await??,
        None => Inside::Unseen(Unseen::Upgrade),
    };
    tx.outcome = Outcome::Upgraded;
    let why = match within {
        Inside::Seen(websocket) => {
            let body = body.unwrap_or_else(|| Full::default().boxed());
            return seen(tx, *websocket, head, (inside, sink), body, client).await;
        }
        Inside::Unseen(why) => why,
    };
    tx.account.opaque(Message::Request, why);
    tx.account.skipped(Message::Response, why);
    drive.begin(Some(inside), sink, false);
    deliver(tx, head, body, client, &mut drive).await
}

/// Serves a WebSocket that services see into. `body` is what the origin says, `inside` what the client says.
async fn seen<C: Client, S: Sink>(
    tx: &mut Transaction<'_>,
    websocket: WebSocket,
    head: ResponseHead,
    (inside, to_origin): (Body, S),
    body: Body,
    client: &mut C,
) -> Result<Ended, Trouble> {
    let (status, length) = (head.status(), head.bytes().len());
    let to_client = client.respond(head, Some(&body))?;
    tx.status = Some(status);
    tx.account.switched(length);
    let mut client = Content::new(inside, to_client);
    let mut server = Content::new(body, to_origin);
    let progress = tx.progress.clone();
    let mut count = |moved, way, bytes: usize| match (moved, way) {
        // Who reads the contents counts them.
        (Moved::In, _) => {}
        (Moved::Out, Way::ToClient) => progress.add(Counted::ToClient, bytes as u64),
        (Moved::Out, Way::ToServer) => progress.add(Counted::ToOrigin, bytes as u64),
    };
    let end = websocket.serve(tx.session, &mut client, &mut server, &mut count).await;
    let outcome = match &end {
        End::Blocked(_) => Outcome::Blocked,
        End::Crowded | End::Refused(_) => Outcome::Refused,
        End::Done | End::Failed(_) | End::Idle => Outcome::Upgraded,
        End::NotInspected(_) => Outcome::ServiceFailed,
    };
    let block = match &end {
        End::Blocked(dropped) => Some(block_record(dropped)),
        _ => None,
    };
    tx.inside_ended(outcome, block, end.detail());
    match end {
        End::Failed(_) => {
            client.abort();
            server.abort();
            Ok(Ended::Cut)
        }
        _ => Ok(Ended::Complete),
    }
}
