//! What a chain made of a message.

use std::sync::Arc;
use std::time::Duration;

use http_wire::{RequestHead, ResponseHead};

use crate::{Body, Comparison, FailureKind};

/// What became of a request.
pub enum Adapted {
    /// The request goes on.
    Forward {
        /// The head to send. Untouched, byte for byte, when `changed` is false.
        head: RequestHead,
        /// The body to send, `None` if there is none.
        body: Option<Body>,
        /// Whether any service answered with a message of its own.
        changed: bool,
        /// What each service did.
        trail: Trail,
    },
    /// A service answers the request itself (RFC 3507 section 4.8.3): a block page, mostly.
    Respond {
        /// The response head, its framing fields true to the body.
        head: ResponseHead,
        /// The response body.
        body: Option<Body>,
        /// The service that answered.
        by: Arc<str>,
        /// Why, if the service called it a block.
        block: Option<Block>,
        /// What each service did with the request.
        trail: Trail,
        /// Who else has seen the answer.
        shown: Shown,
    },
}

/// Which services have seen what another one answered.
#[derive(Clone, Debug)]
pub enum Shown {
    /// There is no other that takes messages of its kind.
    Alone,
    /// There are others, and the chain is set not to ask them. Such an answer must be logged as
    /// uninspected.
    Nobody,
    /// What the others did with it.
    Others(Trail),
}

/// What became of a response.
pub struct AdaptedResponse {
    /// The head to send. Untouched, byte for byte, when `changed` is false.
    pub head: ResponseHead,
    /// The body to send, `None` if there is none.
    pub body: Option<Body>,
    /// Whether any service answered with a message of its own.
    pub changed: bool,
    /// The service that put a page of its own in place of the response, and why.
    pub blocked_by: Option<Block>,
    /// What each service did.
    pub trail: Trail,
    /// Services that follow did not see the page of `blocked_by`, since the chain is set so. Such a
    /// page must be logged as uninspected.
    pub unshown: bool,
}

/// A service's account of a block, from its ICAP reply headers.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The service that blocked.
    pub service: Arc<str>,
    /// `X-Signature-Id`.
    pub signature_id: Option<String>,
    /// `X-Violations-Found`, or else `X-Infection-Found` or `X-Virus-ID`.
    pub violations: Option<String>,
    /// `X-Response-Info`.
    pub info: Option<String>,
}

/// What each service of the chain did with one message, in order.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// One step a service.
    pub steps: Vec<Step>,
    /// A change of the message that services before it have not seen. Such a message must be logged
    /// as uninspected.
    pub late: Option<LateChange>,
    /// Contents that a service returned after another service had seen the original. When the bytes
    /// have passed we know whether they differ (`Comparison::differs`). If they do, log the message
    /// as uninspected.
    pub contents: Vec<Arc<Comparison>>,
}

/// A request's head, or a response, was changed after another service had its turn, which has not
/// seen the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateChange {
    /// The service that changed it.
    pub by: Arc<str>,
    /// A service that has not seen what became of it.
    pub unseen_by: Arc<str>,
}

impl Trail {
    /// Whether any service has seen the message. One that none has seen, because the chain is
    /// empty or nobody in it takes part in messages of its kind, must be logged as uninspected.
    pub fn is_inspected(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.did, Did::Adapted | Did::Passed))
    }

    /// Services that should have seen the message and did not, because they failed and are set to
    /// fail open. Such a message must be logged as uninspected.
    pub fn bypassed(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|s| matches!(s.did, Did::Bypassed(_)))
    }
}

/// One service's part in a transaction.
#[derive(Clone, Debug)]
pub struct Step {
    /// The service.
    pub service: Arc<str>,
    /// What it did.
    pub did: Did,
    /// How long it took until that was known.
    pub took: Duration,
}

/// What a service did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Did {
    /// It answered with a message of its own (200, 206).
    Adapted,
    /// It failed and the message went on without it, as its policy says.
    Bypassed(FailureKind),
    /// It wished not to see messages of this kind (`Transfer-Ignore`).
    Ignored,
    /// It passed the message unchanged (204).
    Passed,
}
