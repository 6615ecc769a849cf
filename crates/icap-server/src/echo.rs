//! The echo service.

use std::time::Duration;

use icap::{Headers, IsTag, Method};

use crate::{BodyEvent, Http, Options, ReplyHead, Service, TransactError, Transaction};

/// A service that changes nothing: for measuring, and for trying out clients.
///
/// It answers 204 where the client takes that; else it sends the message back as it comes, without
/// waiting for its end.
#[derive(Clone, Debug)]
pub struct Echo {
    copying: bool,
}

/// The most that is kept of a preview, to be sent back once the client went on.
const MAX_PREVIEW: u64 = 64 << 10;

impl Echo {
    /// Answers 204 where it can.
    pub fn new() -> Self {
        Self { copying: false }
    }

    /// Sends messages back also where it could answer 204.
    pub fn copying() -> Self {
        Self { copying: true }
    }
}

impl Default for Echo {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Echo {
    fn istag(&self) -> IsTag {
        IsTag::from_state("echo", 1)
    }

    fn options(&self) -> Options {
        Options {
            service: concat!("echo ", env!("CARGO_PKG_VERSION")).to_owned(),
            preview: Some(1024),
            allow_204: !self.copying,
            ttl: Some(Duration::from_secs(3600)),
            transfer_preview: Some("*".to_owned()),
            ..Options::default()
        }
    }

    async fn transact(&self, transaction: &mut Transaction<'_>) -> Result<(), TransactError> {
        let none = Headers::new();
        let http = match transaction.head().method() {
            Method::Reqmod => transaction.req_hdr().map(|head| Http::Request(head)),
            Method::Options | Method::Respmod => {
                transaction.res_hdr().map(|head| Http::Response(head))
            }
        };
        let has_body = transaction.has_body();
        let head = ReplyHead {
            status: 200,
            headers: &none,
            http: http.unwrap_or(Http::Headless),
            has_body,
        };
        // A preview must be kept until the client goes on, so a huge one is not asked for.
        let can_copy = transaction.preview().is_none_or(|bytes| bytes <= MAX_PREVIEW);
        let previewed = transaction.preview().is_some();
        let (body, reply) = transaction.split();
        if reply.allows_204() && !(self.copying && can_copy) {
            return reply.no_content(&none);
        }
        if !(has_body && previewed) {
            reply.start(&head)?;
        }
        if !has_body {
            return Ok(());
        }
        let mut kept = Vec::new();
        let mut in_preview = previewed;
        loop {
            match body.next().await? {
                BodyEvent::PreviewEnd => {
                    reply.continue_()?;
                    in_preview = false;
                }
                BodyEvent::Data(data) if in_preview => kept.extend_from_slice(data),
                event => {
                    if !reply.is_started() {
                        reply.start(&head)?;
                        reply.data(&kept).await?;
                    }
                    match event {
                        BodyEvent::Data(data) => reply.data(data).await?,
                        BodyEvent::End { trailers } => {
                            return reply.finish_with_trailers(&trailers);
                        }
                        BodyEvent::PreviewEnd => {}
                    }
                }
            }
        }
    }
}
