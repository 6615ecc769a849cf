//! TLS handshakes shown to the services that take streams, on a flow of their own: the client's
//! hello, then the server's and the certificates. Of what TLS 1.3 encrypts they are shown what we
//! know of it, in the form that TLS 1.2 has for it.

use std::net::SocketAddr;
use std::sync::Arc;

use icap_client::{Chain, Failure, Opening, StreamDrop, StreamEvent, Streams, Way};

use super::stream::{Audience, StreamSubject, block_record, count_unseen, stream_id};
use super::trouble::Trouble;
use crate::config;
use crate::policy::Decision;
use crate::records::MirrorRecord;
use crate::session::{Arrival, Session, decide_tls};
use crate::tls::{ServerSide, with_known_versions};
use crate::upstream::{Route, Upstream};
use crate::words::{Mirrored, Target, Towards, Unseen, UpstreamError, UpstreamErrorKind};

/// How the handshake of a connection is to be shown, as the rules say.
#[derive(Clone, Debug)]
pub(crate) struct MirrorPlan {
    /// How much of it.
    pub(crate) extent: config::Mirror,
    /// To whom.
    pub(crate) chain: Option<Arc<Chain>>,
}

/// A handshake that is being shown. Dropped before its end, it counts as unfinished.
#[derive(Debug)]
pub(crate) struct Mirror<'a> {
    arrival: &'a Arrival,
    looking: Looking,
}

#[derive(Debug)]
enum Looking {
    /// These services wait for more.
    Services { streams: Box<Streams>, unseen: Option<Unseen> },
    /// They failed open: what would be shown counts as unseen.
    Bypassed(Unseen),
    /// Nobody any more, or nobody at all.
    Over,
}

/// Why a handshake ends here: nothing more of it may pass.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// A service dropped it.
    Dropped(StreamDrop),
    /// It can't be shown.
    Failed(String),
}

impl Stopped {
    /// What the client is told of it on a page.
    pub(crate) fn error(&self, target: &Target) -> UpstreamError {
        let kind = match self {
            Self::Dropped(_) => UpstreamErrorKind::Dropped,
            Self::Failed(_) => UpstreamErrorKind::Uninspected,
        };
        UpstreamError::new(kind, target, self.to_string())
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dropped(dropped) => match &dropped.why.signature {
                Some(signature) => write!(f, "signature {}: {}", signature.id, signature.message),
                None => write!(f, "{}", dropped.why.reason),
            },
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Shows the handshake of a further connection to the origin of `session`, if it shows another
/// certificate than the first one: the client's hello with what the server says now.
pub(crate) async fn mirror_again(
    session: &Session,
    route: &Route,
    upstream: &mut Upstream,
) -> Result<(), Trouble> {
    let (Some(side), Some(now)) = (upstream.side.take(), &upstream.tls) else { return Ok(()) };
    let first = session.tls.as_ref().and_then(|tls| tls.upstream.as_ref());
    if first.is_some_and(|first| first.fingerprint == now.fingerprint) {
        return Ok(());
    }
    let name = session.tls.as_ref().and_then(|tls| tls.sni.as_ref());
    let decision = decide_tls(session, name, &mut route.clone(), Some(now));
    let stop = |stopped: Stopped| Trouble::Upstream(stopped.error(&route.target));
    let plan = MirrorPlan::of(&decision);
    let (target, server) = (&route.target, upstream.address);
    let mirror = Mirror::begin(session, &plan, target, server, &session.hello).await;
    mirror.map_err(stop)?.end_with(Some(&side)).await.map_err(stop)
}

impl MirrorPlan {
    /// As `decision` says.
    pub(crate) fn of(decision: &Decision) -> Self {
        Self { extent: decision.mirror, chain: decision.chain.clone() }
    }
}

impl<'a> Mirror<'a> {
    /// Shows the services the records of the client's `hello`, for a connection to `target` at
    /// `server`, and waits for the verdict.
    ///
    /// # Errors
    /// Nothing may pass.
    pub(crate) async fn begin(
        arrival: &'a Arrival,
        plan: &MirrorPlan,
        target: &Target,
        server: SocketAddr,
        hello: &[u8],
    ) -> Result<Self, Stopped> {
        let mut this = Self { arrival, looking: Looking::Over };
        if plan.extent == config::Mirror::Off {
            this.settle(Mirrored::Off);
            return Ok(this);
        }
        let id = stream_id(arrival, "tls");
        let subject = StreamSubject { protocol: "tls", id, target, server };
        let is_all = plan.extent != config::Mirror::Full;
        let shown = with_known_versions(hello);
        let opening = Opening { way: Way::ToServer, bytes: &shown, is_all };
        let opening = (!hello.is_empty()).then_some(&opening);
        let audience = Audience::find(arrival, plan.chain.as_deref(), &subject, opening).await;
        let audience = audience.map_err(|failure| this.failed(&failure))?;
        if let Some(why @ Unseen::ServiceBypassed) = audience.unseen() {
            count_unseen(arrival, why, Towards::Server, hello.len());
        }
        let unseen = audience.unseen();
        this.looking = match audience {
            Audience::Services(streams) => Looking::Services { streams, unseen },
            Audience::Bypassed => Looking::Bypassed(Unseen::ServiceBypassed),
            Audience::Nobody => {
                this.settle(Mirrored::NoService);
                return Ok(this);
            }
        };
        match is_all {
            true => this.last_verdict().await?,
            false if opening.is_some() => {
                this.verdict(|_, event| matches!(event, StreamEvent::Pong)).await?;
            }
            false => {}
        }
        Ok(this)
    }

    /// Whether anybody looks at what comes next.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.looking, Looking::Services { .. })
    }

    /// It is shown anew, and was nothing.
    pub(crate) fn forget(mut self) {
        if let Looking::Services { mut streams, .. } =
            std::mem::replace(&mut self.looking, Looking::Over)
        {
            streams.cancel("shown again");
            finish(*streams);
        }
    }

    /// The connection goes on without anybody who looks.
    pub(crate) fn go_on_unseen(mut self) {
        if matches!(self.looking, Looking::Bypassed(_)) {
            self.settle(Mirrored::ServiceBypassed);
        }
    }

    /// Shows what the handshake with the origin told, which is the last of it, and awaits the verdict.
    ///
    /// # Errors
    /// Nothing may pass.
    pub(crate) async fn end_with(mut self, shown: Option<&ServerSide>) -> Result<(), Stopped> {
        if matches!(self.looking, Looking::Over) {
            return Ok(());
        }
        match shown.and_then(ServerSide::records) {
            Some(records) => self.show_last(Way::ToClient, &records).await,
            None => Err(self.unable("the server's part of the handshake can't be shown")),
        }
    }

    /// Shows the last records, and awaits the verdict about all.
    ///
    /// # Errors
    /// Nothing may pass.
    pub(crate) async fn show_last(&mut self, way: Way, records: &[u8]) -> Result<(), Stopped> {
        let towards = match way {
            Way::ToClient => Towards::Client,
            Way::ToServer => Towards::Server,
        };
        let shown = match &mut self.looking {
            Looking::Services { streams, unseen } => {
                if let Some(why) = unseen {
                    count_unseen(self.arrival, *why, towards, records.len());
                }
                streams.replay(way, &with_known_versions(records)).and_then(|()| streams.end())
            }
            Looking::Bypassed(why) => {
                count_unseen(self.arrival, *why, towards, records.len());
                Ok(())
            }
            Looking::Over => return Ok(()),
        };
        shown.map_err(|failure| self.failed(&failure))?;
        self.last_verdict().await
    }

    /// Awaits the verdict on the ends, which are behind all that was shown.
    async fn last_verdict(&mut self) -> Result<(), Stopped> {
        self.verdict(|streams, _| Way::BOTH.iter().all(|way| streams.end_cleared(*way))).await?;
        let outcome = match &self.looking {
            Looking::Services { unseen: None, .. } => Mirrored::Passed,
            Looking::Bypassed(_) | Looking::Services { .. } => Mirrored::ServiceBypassed,
            Looking::Over => return Ok(()),
        };
        self.settle(outcome);
        Ok(())
    }

    /// It can't be shown any further, for this reason.
    pub(crate) fn unable(&mut self, why: &str) -> Stopped {
        tracing::warn!(connection = %self.arrival.id, why, "a TLS handshake can't be shown");
        self.settle(Mirrored::Failed);
        Stopped::Failed(why.to_owned())
    }

    async fn verdict(
        &mut self,
        is_there: impl Fn(&Streams, &StreamEvent) -> bool,
    ) -> Result<(), Stopped> {
        let Looking::Services { streams, .. } = &mut self.looking else { return Ok(()) };
        loop {
            match streams.event().await {
                Ok(StreamEvent::Dropped(dropped)) => return Err(self.dropped(dropped)),
                Ok(event) if is_there(streams, &event) => return Ok(()),
                Ok(_) => {}
                Err(failure) => return Err(self.failed(&failure)),
            }
        }
    }

    fn dropped(&mut self, dropped: StreamDrop) -> Stopped {
        let signature = dropped.why.signature.as_ref();
        tracing::warn!(
            connection = %self.arrival.id,
            client = %self.arrival.client,
            service = %dropped.service,
            sid = signature.map(|signature| signature.id),
            message = signature.map(|signature| &*signature.message),
            reason = dropped.why.reason,
            "blocked: a TLS handshake"
        );
        self.settle(Mirrored::Blocked);
        let mut notes = self.arrival.totals.notes();
        if let Some(mirror) = &mut notes.mirror {
            mirror.block = Some(block_record(&dropped));
        }
        drop(notes);
        Stopped::Dropped(dropped)
    }

    fn failed(&mut self, failure: &Failure) -> Stopped {
        self.settle(Mirrored::Failed);
        Stopped::Failed(failure.to_string())
    }

    /// It is over: counts it, and lets go of the services.
    fn settle(&mut self, outcome: Mirrored) {
        self.arrival.shared.metrics.mirrored(outcome);
        self.arrival.totals.notes().mirror = Some(MirrorRecord { outcome, block: None });
        if let Looking::Services { mut streams, .. } =
            std::mem::replace(&mut self.looking, Looking::Over)
        {
            if outcome == Mirrored::Unfinished {
                streams.cancel("the handshake was not completed");
            }
            finish(*streams);
        }
    }
}

/// Gives the connections to the services back, for which the client does not wait.
fn finish(streams: Streams) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        if let Err(failure) = streams.finish().await {
            tracing::debug!(%failure, "the end of a mirrored handshake");
        }
    });
}

impl Drop for Mirror<'_> {
    fn drop(&mut self) {
        if !matches!(self.looking, Looking::Over) {
            self.settle(Mirrored::Unfinished);
        }
    }
}
