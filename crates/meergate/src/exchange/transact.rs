//! One transaction from its request to the end of its response.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use http_wire::{RequestHead, ResponseHead};
use icap_client::{Adapted, Body, Chain, Failure, Shown, TransactionInfo};

use super::account::Message;
use super::ask::ask;
use super::drive::{Drive, Watch};
use super::pump::{Counted, Pump, Stopped};
use super::ranges::{self, Cut, Fitted};
use super::record::Transaction;
use super::review::{Former, origin_is_known, review, wrong};
use super::rules::{Ready, Rules};
use super::trouble::Trouble;
use super::websocket::{self, Inside};
use super::{Client, Origin, Request, Sink};
use crate::config::Action;
use crate::io::InTurns;
use crate::policy::{Decision, covering};
use crate::words::{Outcome, Unseen};

/// How a transaction ended, for the connection that carried it.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The response is complete, the connection may carry on if its state allows.
    Complete,
    /// The client must see a cut: nothing more may follow.
    Cut,
    /// The origin agreed to another protocol: this head is the answer, then it is relayed.
    Upgraded(ResponseHead, Inside),
}

/// Takes `request` through the services to `origin` and the response back to `client`.
pub(crate) async fn transact<C: Client, O: Origin>(
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

/// Answers a request that goes nowhere.
pub(crate) async fn refuse<C: Client>(
    tx: &mut Transaction<'_>,
    trouble: Trouble,
    client: &mut C,
    watch: &mut Watch,
) -> Ended {
    let ended = explain(tx, trouble, client, watch).await;
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
    let settings = &tx.session.settings;
    let looks_at_responses = settings.policy.looks_at_responses();
    let rules = Rules::new(&settings.config.http, chain, tx.ranges)
        .upgrading(tx.upgrades)
        .expecting(&settings.policy);
    let progress = tx.progress.clone();
    let mut drive: Drive<'_, O::Sink> = Drive::new(watch, &progress, tx.session.party());

    let named = request.head.clone();
    let Ready { head, opaque, part } = rules.request(request.head)?;
    if let Some(why) = opaque {
        tx.account.opaque(Message::Request, why);
    }
    let (limits, party) = (&settings.config.limits, tx.session.party());
    let body = request.body.map(|body| {
        let pace = tx.pace.insert(Arc::default());
        InTurns::of(party, pace.keep(limits, &head, body))
    });
    let mut request = Request { head, body };
    // Before the services are asked: they are told the origin's address.
    tx.server = Some(drive.run_for(client, pin!(origin.connect())).await??);
    origin_is_known(tx, origin.tls(), chain, &[&named])?;

    // One for both messages: what a service says of the request may be told with the response.
    let info = (chain.is_some() || looks_at_responses).then(|| tx.info());
    let mut changed = false;
    if let (Some(chain), Some(info)) = (chain, &info) {
        let shown = request.head.clone();
        let adapted = pin!(chain.reqmod(info, request.head, request.body));
        request = match reqmod(tx, adapted, client, &mut drive).await? {
            Ok(request) => request,
            Err(ended) => return Ok(ended),
        };
        // The connection may have ended while the services looked.
        tx.server = Some(drive.run_for(client, pin!(origin.connect())).await??);
        let follows_host = origin.follows_host();
        let former = Former { named: &named, shown: &shown, chain, follows_host };
        (request, changed) = review(tx, &rules, &former, request)?;
        origin_is_known(tx, origin.tls(), Some(chain), &[&named, &request.head])?;
    }

    let (upgrade, head) = websocket::Asked::of(chain, request.head)?;
    request.head = head;
    let (mut asked, had_content) = (request.head.clone(), request.body.is_some());
    let whose = (&named, chain);
    let (head, body) = ask(tx, request, whose, &rules, client, origin, &mut drive).await?;
    let (head, body, cut) = match part {
        Some(part) if part.is_of(&asked) => match part.fit(head, body)? {
            Fitted::AsItIs(head, body) => (head, body, None),
            Fitted::Coded => {
                asked = ranges::whole(&asked, had_content)?;
                let request = Request { head: asked.clone(), body: None };
                drive.run_for(client, pin!(origin.connect())).await??;
                origin_is_known(tx, origin.tls(), chain, &[&named, &asked])?;
                let (head, body) =
                    ask(tx, request, whose, &rules, client, origin, &mut drive).await?;
                (ranges::all(head)?, body, None)
            }
            Fitted::Part(head, body, cut) => (head, body, Some(cut)),
        },
        _ => (head, body, None),
    };
    if head.status() == 101 {
        let inside = match upgrade.filter(|_| websocket::agrees(&head)) {
            Some(asked) => drive.run_for(client, pin!(asked.open(tx, &head))).await??,
            None => Inside::Unseen(Unseen::Upgrade),
        };
        tx.status = Some(101);
        tx.outcome = Outcome::Upgraded;
        tx.account.switched(head.bytes().len());
        return Ok(Ended::Upgraded(head, inside));
    }
    let info = info.as_ref();
    let exchange = Exchange { named: &named, asked: &asked, changed, chain, info, cut };
    answer(tx, exchange, head, body, client, &mut drive).await
}

/// A request that has been sent, as far as its response depends on it.
pub(super) struct Exchange<'a> {
    /// The head as the client sent it, which rules look at.
    pub(super) named: &'a RequestHead,
    /// The head as the origin got it.
    pub(super) asked: &'a RequestHead,
    /// Whether a service changed it.
    pub(super) changed: bool,
    /// The services that the request was shown to.
    pub(super) chain: Option<&'a Chain>,
    /// There if the response may be shown to any.
    pub(super) info: Option<&'a TransactionInfo>,
    /// What the client gets of the response, if that is less than what came.
    pub(super) cut: Option<Cut>,
}

/// Shows the final response to the services and sends it to the client.
pub(super) async fn answer<C: Client, S: Sink>(
    tx: &mut Transaction<'_>,
    exchange: Exchange<'_>,
    head: ResponseHead,
    body: Option<Body>,
    client: &mut C,
    drive: &mut Drive<'_, S>,
) -> Result<Ended, Trouble> {
    let settings = &tx.session.settings;
    let chain = match settings.policy.looks_at_responses() {
        true => services_of_response(tx, &exchange, &head)?,
        false => exchange.chain,
    };
    let rules = Rules::new(&settings.config.http, chain, tx.ranges).upgrading(tx.upgrades);
    let cut = exchange.cut;
    let (mut head, opaque) = rules.response(head, body.is_some(), cut.is_some())?;
    if let Some(why) = opaque {
        tx.account.opaque(Message::Response, why);
    }
    let mut body = body;
    if let (Some(chain), Some(info)) = (chain, exchange.info) {
        let began = Instant::now();
        let wider = cut
            .as_ref()
            .map(|cut| TransactionInfo { range_overlap: Some(cut.overlap()), ..info.clone() });
        let info = wider.as_ref().unwrap_or(info);
        body = body.map(|body| InTurns::of(tx.session.party(), body));
        let adapted = pin!(chain.respmod(info, exchange.asked, head, body));
        let adapted = drive.run_for(client, adapted).await?.map_err(Trouble::Chain)?;
        tx.adapted(Message::Response, &adapted.trail, began.elapsed());
        if let Some(block) = &adapted.blocked_by {
            tx.blocked(Some(block), &block.service);
            // Their page is no part of anything, and not coded.
            tx.account.service_page();
        }
        if adapted.unshown {
            tx.account.skipped(Message::Response, Unseen::ServiceAnswer);
        }
        head = adapted.head;
        body = adapted.body;
    }
    if let Some(cut) = cut {
        (head, body) = cut.apply(head, body)?;
    }
    deliver(tx, head, body, client, drive).await
}

/// The services that the rules choose for the request, unless they choose to refuse it.
pub(super) fn services<'s>(
    tx: &mut Transaction<'s>,
    head: &RequestHead,
) -> Result<Option<&'s Chain>, Trouble> {
    let decision = tx.decide(head);
    let (chain, unseen) = obey(tx, decision)?;
    if let Some(why) = unseen {
        tx.account.skipped(Message::Request, why);
        tx.account.skipped(Message::Response, why);
    }
    Ok(chain)
}

/// The services that the rules choose for the response to a request. Where a service changed that,
/// what the client asked for and what the origin was asked for both count.
fn services_of_response<'s>(
    tx: &mut Transaction<'s>,
    exchange: &Exchange<'_>,
    response: &ResponseHead,
) -> Result<Option<&'s Chain>, Trouble> {
    let mut decision = tx.decide_response(exchange.named, response);
    if exchange.changed {
        let now = tx.decide_response(exchange.asked, response);
        decision = covering(decision, now).ok_or_else(|| {
            wrong("the rules want other services for the response to what it is now")
        })?;
    }
    let (chain, unseen) = obey(tx, decision)?;
    if let Some(why) = unseen {
        tx.account.skipped(Message::Response, why);
    }
    Ok(chain)
}

/// The services to be asked, or why there are none.
fn obey<'s>(
    tx: &mut Transaction<'s>,
    decision: &'s Decision,
) -> Result<(Option<&'s Chain>, Option<Unseen>), Trouble> {
    tx.rule = decision.rule.as_deref();
    tx.ranges = decision.ranges;
    tx.upgrades = &decision.upgrades;
    match decision.action {
        Action::Block => Err(Trouble::blocked(decision)),
        Action::Bypass => Ok((None, Some(Unseen::Bypass))),
        Action::Intercept => match decision.chain.as_deref() {
            Some(chain) => Ok((Some(chain), None)),
            None => Ok((None, Some(Unseen::NoService))),
        },
        Action::Reset => Err(Trouble::Reset),
    }
}

/// Awaits what the services say of the request. `Err` if one of them answered it.
pub(super) async fn reqmod<C: Client, S: Sink>(
    tx: &mut Transaction<'_>,
    adapted: Pin<&mut impl Future<Output = Result<Adapted, Failure>>>,
    client: &mut C,
    drive: &mut Drive<'_, S>,
) -> Result<Result<Request, Ended>, Trouble> {
    let began = Instant::now();
    match drive.run_for(client, adapted).await?.map_err(Trouble::Chain)? {
        Adapted::Forward { head, body, trail, .. } => {
            tx.adapted(Message::Request, &trail, began.elapsed());
            Ok(Ok(Request { head, body }))
        }
        Adapted::Respond { head, body, by, block, trail, shown } => {
            tx.adapted(Message::Request, &trail, began.elapsed());
            match shown {
                Shown::Alone => tx.account.answered_alone(),
                Shown::Nobody => {
                    tx.account.skipped(Message::Response, Unseen::ServiceAnswer);
                }
                Shown::Others(trail) => tx.adapted(Message::Response, &trail, began.elapsed()),
            }
            tx.blocked(block.as_ref(), &by);
            deliver(tx, head, body, client, drive).await.map(Err)
        }
    }
}

/// Sends the final response while what is left of the request flows on.
pub(super) async fn deliver<C: Client, S: Sink>(
    tx: &mut Transaction<'_>,
    head: ResponseHead,
    body: Option<Body>,
    client: &mut C,
    drive: &mut Drive<'_, S>,
) -> Result<Ended, Trouble> {
    let (status, length) = (head.status(), head.bytes().len());
    let sink = client.respond(head, body.as_ref())?;
    tx.status = Some(status);
    tx.account.sent_head(Message::Response, length);
    if let Some(pace) = &tx.pace {
        pace.relax();
    }
    let mut pump = Pump::new(body, sink, Counted::ToClient, tx.session.party());
    let progress = tx.progress.clone();
    let sent = pin!(poll_fn(|cx| pump.poll(cx, &progress)));
    let cut = match drive.run_for(client, sent).await {
        Ok(Ok(())) => {
            drive.finish().await;
            return Ok(Ended::Complete);
        }
        Ok(Err(Stopped::Sink(e))) => Trouble::ClientGone(e),
        Ok(Err(Stopped::Source(e))) => match e.failure() {
            Some(failure) => Trouble::Chain(failure.clone()),
            None => Trouble::OriginGone(io::Error::other(e)),
        },
        Err(trouble) => {
            pump.abort();
            trouble
        }
    };
    drive.abort();
    tx.failed(&cut);
    Ok(Ended::Cut)
}

/// Tells the client what went wrong, if it can still be told.
pub(super) async fn explain<C: Client>(
    tx: &mut Transaction<'_>,
    trouble: Trouble,
    client: &mut C,
    watch: &mut Watch,
) -> Ended {
    let trouble = match (trouble, client.fault()) {
        (Trouble::RequestBody(e), Some(fault)) if e.failure().is_none() => {
            Trouble::RequestFault(fault)
        }
        (trouble, _) => tx.cause(trouble),
    };
    tx.failed(&trouble);
    if matches!(trouble, Trouble::OriginChanged) {
        client.close_after();
    }
    if tx.status.is_some() {
        return Ended::Cut;
    }
    let Some((head, body)) = trouble.page().and_then(|page| page.render(tx.id())) else {
        return Ended::Cut;
    };
    let status = head.status();
    let Ok(sink) = client.respond(head, Some(&body)) else { return Ended::Cut };
    tx.status = Some(status);
    tx.account.own_page();
    let progress = tx.progress.clone();
    let mut pump = Pump::new(Some(body), sink, Counted::ToClient, tx.session.party());
    let mut drive: Drive<'_, C::Sink> = Drive::new(watch, &progress, tx.session.party());
    match drive.run(|cx| pump.poll(cx, &progress)).await {
        Ok(Ok(())) => Ended::Complete,
        _ => Ended::Cut,
    }
}
