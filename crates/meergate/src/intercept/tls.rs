//! A connection that begins with a ClientHello: whether it is intercepted, and that.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::bypass::{Past, bypass_tls, shown, way_past};
use super::handshake::{self, InterceptError, Intercepted, Origin, Prepared};
use super::stream::serve_inside;
use super::{finish, note};
use crate::capture::Tap;
use crate::config::{
    Action, CertificateAsked, InvalidCertificate, ListenProtocol, Pinned, UnsupportedTls,
};
use crate::exchange::MirrorPlan;
use crate::io::{Io, Prefixed};
use crate::policy::Decision;
use crate::session::{Arrival, CERTIFICATE_ASKED, Session, as_decided, decide_tls};
use crate::tls::{ClientHello, Refuser, TlsFacts};
use crate::upstream::{Route, Upstream, UpstreamSlot};
use crate::words::{Alpn, ConnectionEnd, Spoken, UpstreamError, UpstreamErrorKind};

/// What is known of the connection before its handshakes.
struct Way<'a> {
    arrival: &'a Arrival,
    hello: &'a ClientHello,
    /// Where the client asked to go.
    asked: Route,
    /// Where it is led, as the rules say.
    route: Route,
    /// The records of the hello.
    records: Vec<u8>,
}

/// A connection on which something else was said before both sides agreed on TLS.
pub(super) struct Begun {
    /// The server's end.
    pub(super) upstream: Upstream,
    /// What the server said first.
    pub(super) greeting: Bytes,
}

/// Why a connection is not intercepted.
enum Not {
    /// Nobody is to look into it: it goes this way.
    Bypass(Box<Past>),
    /// A rule cuts it.
    Reset,
    /// The client offers nothing that can be inspected.
    Unable(InterceptError),
}

/// Serves a connection that began with `hello`, which is still to be read from `read_ahead`; or that goes on
/// with it where that is `begun`.
pub(super) async fn intercept(
    arrival: Arrival,
    hello: ClientHello,
    client: Io,
    read_ahead: BytesMut,
    mut route: Route,
    begun: Option<Begun>,
) -> ConnectionEnd {
    route.spoken = Spoken::TLS;
    arrival.look_up(&mut route).await;
    let asked = route.clone();
    let decision = decide_tls(&arrival, hello.server_name.as_ref(), &mut route, None);
    note(&arrival, &decision, &route);
    let route = as_decided(&arrival, route, &decision);
    let records = read_ahead.get(..hello.length).unwrap_or_default().to_vec();
    let way = Way { arrival: &arrival, hello: &hello, asked, route, records };
    let is_begun = begun.is_some();
    let (mut plain, greeting) = match begun {
        Some(Begun { upstream, greeting }) => (Some(upstream), greeting),
        None => (None, Bytes::new()),
    };
    let (prepared, decision) = match way.prepare(decision, &mut plain).await {
        Ok(prepared) => prepared,
        Err(Not::Bypass(past)) if !is_begun => {
            return bypass_tls(&arrival, &hello, client, read_ahead, *past).await;
        }
        Err(Not::Bypass(past)) => {
            return match plain.filter(|_| past.may_stay) {
                Some(plain) => {
                    shown(&arrival, Some(&hello), client, read_ahead, &past, plain).await
                }
                None => way.no_way_past(),
            };
        }
        Err(Not::Reset) => return ConnectionEnd::Reset,
        Err(Not::Unable(error)) => {
            handshake::reject(client).await;
            return way.not_intercepted(&error);
        }
    };
    let host = prepared.host().clone();
    let mut read_ahead = read_ahead.freeze();
    let hello_records = read_ahead.split_to(way.records.len());
    let client = Prefixed::new(read_ahead, client);
    match handshake::intercept(&arrival, &hello, hello_records, client, prepared).await {
        Ok(Intercepted { client, route, upstream, facts }) => {
            let records = way.records;
            arrival.shared.pinning.accepted(arrival.client.ip(), &host);
            let facts = Arc::new(facts);
            note_interception(&arrival, &facts, &upstream);
            let upstream = match upstream {
                Ok(upstream) => UpstreamSlot::Ready(Box::new(upstream)),
                Err(error) => UpstreamSlot::Failed(error),
            };
            let client = captured(&arrival, &decision, &upstream, Box::new(client));
            let is_http = facts.alpn.is_some_and(Alpn::is_served);
            let session = Session::intercepted(arrival, route, facts, records);
            if session.protocol == ListenProtocol::Any && !is_http {
                return serve_inside(session, client, upstream, greeting).await;
            }
            finish(client, BytesMut::new(), &session, upstream).await
        }
        Err(error) => {
            if error.rejects_certificate()
                && let Some(refuser) = arrival.shared.pinning.refused(arrival.client.ip(), &host)
            {
                tell_of(&refuser);
            }
            way.not_intercepted(&error)
        }
    }
}

impl Way<'_> {
    /// The origin's side, with what the rules say now that it is known; or why there is none. It goes over the
    /// `plain` connection if there is one already.
    async fn prepare(
        &self,
        decision: Decision,
        plain: &mut Option<Upstream>,
    ) -> Result<(Prepared<'_>, Decision), Not> {
        let refusal = self.obey(&decision)?;
        let host = self.hello.server_name.as_ref().unwrap_or(&self.route.target.host);
        let pins = || self.arrival.shared.pinning.pins(self.arrival.client.ip(), host);
        if decision.pinned == Pinned::Bypass && pins() {
            return Err(self.past(&decision, |own| own.pinned == Pinned::Bypass));
        }
        let route = self.route.clone();
        let origin = match refusal {
            Some(refusal) => Origin::Refused(refusal),
            None => plain.take().map_or(Origin::New, Origin::Begun),
        };
        let prepared =
            Prepared::new(self.arrival, self.hello, route, &decision, origin, &self.records).await;
        let mut prepared = prepared.map_err(Not::Unable)?;
        // What the origin said may lead elsewhere, but not before it was judged.
        let looks = self.arrival.settings.policy.looks_at_certificates();
        if looks || prepared.is_certificate_asked() {
            prepared = prepared.settled().await;
        }
        let (prepared, decision) = self.reconsider(prepared, decision)?;
        if prepared.is_certificate_invalid()
            && decision.invalid_certificate == InvalidCertificate::Bypass
        {
            let permits = |own: &Decision| own.invalid_certificate == InvalidCertificate::Bypass;
            return Err(self.past(&decision, permits));
        }
        if prepared.is_unsupported() && decision.unsupported_tls == UnsupportedTls::Bypass {
            let permits = |own: &Decision| own.unsupported_tls == UnsupportedTls::Bypass;
            return Err(self.past(&decision, permits));
        }
        let prepared = match decision.certificate_asked {
            _ if !prepared.is_certificate_asked() => prepared,
            CertificateAsked::Bypass => {
                let permits = |own: &Decision| own.certificate_asked == CertificateAsked::Bypass;
                return Err(self.past(&decision, permits));
            }
            CertificateAsked::Ignore => prepared,
            CertificateAsked::Refuse => prepared.refuse(self.refusal(CERTIFICATE_ASKED)),
        };
        Ok((prepared, decision))
    }

    /// Asks the rules once more with the origin's certificate, if any looks at that.
    fn reconsider<'p>(
        &self,
        prepared: Prepared<'p>,
        decision: Decision,
    ) -> Result<(Prepared<'p>, Decision), Not> {
        let looks = self.arrival.settings.policy.looks_at_certificates();
        let Some(certificate) = prepared.origin().filter(|_| looks) else {
            return Ok((prepared, decision));
        };
        let name = self.hello.server_name.as_ref();
        let known = decide_tls(self.arrival, name, &mut self.route.clone(), Some(certificate));
        note(self.arrival, &known, &self.route);
        let prepared = match self.obey(&known)? {
            None => prepared,
            Some(refusal) => prepared.refuse(refusal),
        };
        Ok((prepared, known))
    }

    /// What is to be told on a page instead of what the origin says, if `decision` is that.
    fn obey(&self, decision: &Decision) -> Result<Option<UpstreamError>, Not> {
        match decision.action {
            Action::Intercept => Ok(None),
            Action::Block => {
                let rule = decision.rule.as_deref().unwrap_or_default();
                let detail = format!("the rules of this network do not allow it ({rule})");
                Ok(Some(self.refusal(&detail)))
            }
            Action::Bypass => Err(self.past(decision, |own| own.action == Action::Bypass)),
            Action::Reset => Err(Not::Reset),
        }
    }

    fn past(&self, decision: &Decision, permits: impl FnOnce(&Decision) -> bool) -> Not {
        let (route, may_stay) = way_past(self.arrival, &self.asked, self.route.clone(), permits);
        Not::Bypass(Box::new(Past { route, may_stay, mirror: MirrorPlan::of(decision) }))
    }

    /// Cuts what a rule bypasses where it can't go another way any more.
    fn no_way_past(&self) -> ConnectionEnd {
        let why = "a rule bypasses what is known only now that both sides agreed on TLS";
        tracing::warn!(connection = %self.arrival.id, target = %self.route.target, why, "a stream is cut");
        self.arrival.totals.notes().detail = Some(why.to_owned());
        self.arrival.cut.set(true);
        ConnectionEnd::TlsInside
    }

    fn refusal(&self, detail: &str) -> UpstreamError {
        UpstreamError::new(UpstreamErrorKind::Blocked, &self.route.target, detail)
    }

    fn not_intercepted(&self, error: &InterceptError) -> ConnectionEnd {
        let sni = self.hello.server_name.as_deref();
        tracing::info!(target = %self.route.target, sni, %error, "not intercepted");
        self.arrival.totals.notes().detail = Some(error.to_string());
        error.end()
    }
}

/// The client's side of intercepted TLS, captured if the rules say so: as if the client had spoken to
/// the origin in the clear, or to us where no origin was reached.
fn captured(arrival: &Arrival, decision: &Decision, upstream: &UpstreamSlot, client: Io) -> Io {
    let Some(capture) = arrival.shared.capture.as_ref().filter(|_| decision.capture) else {
        return client;
    };
    let server = match upstream {
        UpstreamSlot::Ready(upstream) => upstream.address,
        _ => arrival.local,
    };
    Box::new(Tap::of_client(client, capture.flow(arrival.client, server, &arrival.id)))
}

fn note_interception(
    arrival: &Arrival,
    facts: &Arc<TlsFacts>,
    upstream: &Result<Upstream, UpstreamError>,
) {
    let mut notes = arrival.totals.notes();
    notes.tls = Some(facts.clone());
    match upstream {
        Ok(upstream) => notes.server = Some(upstream.address),
        Err(error) => notes.detail = Some(error.to_string()),
    }
}

fn tell_of(refuser: &Refuser) {
    let Refuser { client, host, pins } = refuser;
    if *pins {
        tracing::warn!(
            %client,
            %host,
            "this client keeps refusing our certificates for this host, though it trusts the CA: \
             it pins the real one; a rule may bypass it"
        );
    } else {
        tracing::warn!(
            %client,
            %host,
            "this client keeps refusing our certificates: it does not trust the CA, or pins"
        );
    }
}
