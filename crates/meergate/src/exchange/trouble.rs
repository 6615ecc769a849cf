//! Why a transaction can't go on as it should, and what the client is told.

use std::io;

use icap_client::{BodyError, Failure, FailureKind};

use crate::pages::Page;
use crate::policy::Decision;
use crate::session::Refused;
use crate::words::{Outcome, UpstreamError, UpstreamErrorKind};

/// Why a transaction can't go on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No service could be asked, or it failed: nothing passes.
    Chain(Failure),
    /// A service changed the request into one that can't go on; why not.
    Changed(String),
    /// The client went away.
    ClientGone(io::Error),
    /// The origin takes this request over HTTP/1.1 only, and the client is to be told that.
    Http11Required,
    /// The origin is not what it was when the client's connection began: that connection ends, for
    /// the next one to be decided about as a whole.
    OriginChanged,
    /// The origin's connection ended or failed before its response was complete.
    OriginGone(io::Error),
    /// The origin's response is not one that is safe to pass on.
    OriginFault(http_wire::Error),
    /// A rule of ours refuses it: the page says which.
    Refused(Box<Page>),
    /// The request is not one that is safe to pass on.
    RequestFault(http_wire::Error),
    /// The request's content failed, in the client's connection or in a service.
    RequestBody(BodyError),
    /// A rule of ours cuts it without a word.
    Reset,
    /// The request's content comes too slowly.
    SlowClient,
    /// Nothing moved for too long.
    Stalled,
    /// A kept origin connection had ended already.
    Stale,
    /// The origin ended the connection, or refused the request, before anything came of it.
    Unprocessed,
    /// The origin can't be reached or trusted.
    Upstream(UpstreamError),
}

impl Trouble {
    /// What a rule's `decision` to block makes of a request.
    pub(super) fn blocked(decision: &Decision) -> Self {
        let rule = decision.rule.as_deref().unwrap_or_default();
        let detail = format!("The rules of this network do not allow this request ({rule}).");
        Self::Refused(Box::new(Page::new(403, "Blocked by a rule").detail(detail)))
    }

    /// How the transaction ended.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Chain(_) | Self::Changed(_) => Outcome::ServiceFailed,
            Self::ClientGone(_) => Outcome::ClientGone,
            Self::OriginFault(_) => Outcome::BadResponse,
            Self::Http11Required => Outcome::Http11Required,
            Self::OriginGone(_) | Self::Stale | Self::Unprocessed => Outcome::OriginGone,
            Self::OriginChanged | Self::Refused(_) => Outcome::Refused,
            Self::RequestBody(e) if e.failure().is_some() => Outcome::ServiceFailed,
            Self::RequestBody(_) => Outcome::ClientGone,
            Self::RequestFault(_) => Outcome::BadRequest,
            Self::Reset => Outcome::Reset,
            Self::SlowClient => Outcome::SlowClient,
            Self::Stalled => Outcome::Timeout,
            Self::Upstream(e) => match e.kind() {
                UpstreamErrorKind::Blocked | UpstreamErrorKind::Destination => Outcome::Refused,
                UpstreamErrorKind::Dropped => Outcome::Blocked,
                UpstreamErrorKind::Uninspected => Outcome::ServiceFailed,
                UpstreamErrorKind::Certificate
                | UpstreamErrorKind::Connect
                | UpstreamErrorKind::Name
                | UpstreamErrorKind::Proxy
                | UpstreamErrorKind::Timeout
                | UpstreamErrorKind::Tls => Outcome::OriginUnreachable,
            },
        }
    }

    /// What the client is told, if it can still be told anything.
    pub(crate) fn page(&self) -> Option<Page> {
        Some(match self {
            Self::Chain(failure) => chain_page(failure),
            Self::Changed(_) => Page::new(502, "The request can't go on")
                .detail("An inspection service changed it into one that is not allowed.".to_owned())
                .status("proxy_internal_response"),
            Self::ClientGone(_) | Self::Http11Required | Self::Reset | Self::Stale => return None,
            Self::OriginChanged => Page::new(421, "The server shows another certificate")
                .detail("The rules for it are not those of this connection. Try again.".to_owned())
                .status("tls_certificate_error"),
            Self::OriginFault(e) => Page::new(502, "The server's answer is malformed")
                .detail(e.to_string())
                .status("http_protocol_error"),
            Self::OriginGone(e) => Page::new(502, "The server ended the connection")
                .detail(e.to_string())
                .status("connection_terminated"),
            Self::Refused(page) => (**page).clone(),
            Self::RequestBody(e) => match e.failure() {
                Some(failure) => chain_page(failure),
                None => return None,
            },
            Self::RequestFault(e) => Page::new(e.status(), "The request is malformed")
                .detail(e.to_string())
                .status("http_request_error"),
            Self::SlowClient => Page::new(408, "The request comes too slowly")
                .detail("Too little of its content came in time.".to_owned())
                .status("connection_read_timeout"),
            Self::Stalled => Page::new(504, "The server does not answer")
                .detail("Nothing came in time.".to_owned())
                .status("connection_read_timeout"),
            Self::Unprocessed => Page::new(502, "The server takes no request")
                .detail("It ended each connection before anything came of the request.".to_owned())
                .status("connection_terminated"),
            Self::Upstream(e) => upstream_page(e),
        })
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Reset => Self::Reset,
            Refused::Upstream(e) => Self::Upstream(e),
        }
    }
}

/// What went wrong, for the transaction's record.
impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Chain(e) => e.fmt(f),
            Self::Changed(why) => write!(f, "a service changed the request, and {why}"),
            Self::ClientGone(e) => write!(f, "the client's connection failed: {e}"),
            Self::Http11Required => f.write_str("the origin requires HTTP/1.1"),
            Self::OriginChanged => f.write_str("the origin shows another certificate than before"),
            Self::OriginFault(e) => write!(f, "the response: {e}"),
            Self::OriginGone(e) => write!(f, "the origin's connection failed: {e}"),
            Self::Refused(page) => f.write_str(page.title()),
            Self::RequestBody(e) => e.fmt(f),
            Self::RequestFault(e) => write!(f, "the request: {e}"),
            Self::Reset => f.write_str("a rule cuts it"),
            Self::Stale => f.write_str("the origin ended a kept connection"),
            Self::SlowClient => f.write_str("the request's content comes too slowly"),
            Self::Stalled => f.write_str("nothing moved in time"),
            Self::Unprocessed => f.write_str("the origin did not take the request"),
            Self::Upstream(e) => e.fmt(f),
        }
    }
}

fn chain_page(failure: &Failure) -> Page {
    let status = match failure.kind() {
        FailureKind::Overload => 503,
        FailureKind::Timeout => 504,
        _ => 502,
    };
    // What exactly is wrong with a service is for the operator's log, not for whoever asks.
    Page::new(status, "The content could not be inspected")
        .detail(format!("The inspection service did not do its work ({}).", failure.kind().name()))
        .status("proxy_internal_response")
}

fn upstream_page(e: &UpstreamError) -> Page {
    let (title, status) = match e.kind() {
        UpstreamErrorKind::Blocked => ("Blocked by a rule", "http_request_denied"),
        UpstreamErrorKind::Certificate => {
            ("The server's certificate is not valid", "tls_certificate_error")
        }
        UpstreamErrorKind::Connect => ("The server can't be reached", "destination_unavailable"),
        UpstreamErrorKind::Destination => {
            ("The proxy leads nobody there", "destination_ip_prohibited")
        }
        UpstreamErrorKind::Dropped => ("Blocked by a signature", "http_request_denied"),
        UpstreamErrorKind::Name => ("The server's name has no address", "dns_error"),
        UpstreamErrorKind::Proxy => {
            ("The upstream proxy does not lead there", "destination_unavailable")
        }
        UpstreamErrorKind::Timeout => ("The server does not answer", "connection_timeout"),
        UpstreamErrorKind::Tls => ("No secure connection to the server", "tls_protocol_error"),
        UpstreamErrorKind::Uninspected => {
            // What exactly is wrong with a service is for the operator's log, not for whoever asks.
            return Page::new(e.kind().status(), "The connection could not be inspected")
                .detail(format!("{}: the inspection service did not do its work.", e.target()))
                .status("proxy_internal_response");
        }
    };
    Page::new(e.kind().status(), title)
        .detail(format!("{}: {}", e.target(), e.detail()))
        .status(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Target;

    #[test]
    fn what_a_rule_refuses_is_not_an_origin_that_cannot_be_reached() {
        let target = Target::new("a.example", 443).unwrap();
        let ended = |kind| Trouble::Upstream(UpstreamError::new(kind, &target, "why")).outcome();
        assert_eq!(ended(UpstreamErrorKind::Blocked), Outcome::Refused);
        assert_eq!(ended(UpstreamErrorKind::Destination), Outcome::Refused);
        assert_eq!(ended(UpstreamErrorKind::Connect), Outcome::OriginUnreachable);
    }
}
