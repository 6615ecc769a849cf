//! What a service is.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use icap::{Headers, IsTag, Method};

use crate::{TransactError, Transaction};

/// What adapts messages. One instance serves many connections of one thread (`Rc`), or of all
/// (`Arc`).
pub trait Service {
    /// Names the service's state (RFC 3507 section 4.7). Asked for each reply, so that it changes
    /// when, say, rules are loaded anew.
    fn istag(&self) -> IsTag;

    /// What OPTIONS says.
    fn options(&self) -> Options;

    /// The methods that are served; others get 405.
    fn methods(&self) -> &'static [Method] {
        &[Method::Reqmod, Method::Respmod]
    }

    /// Runs one transaction: reads the body as far as it needs, replies. What it leaves unread is
    /// read off by the server.
    ///
    /// # Errors
    /// See [`TransactError`]. To return without a complete reply is an error too, answered with
    /// 500 or a closed connection.
    fn transact(
        &self,
        transaction: &mut Transaction<'_>,
    ) -> impl Future<Output = Result<(), TransactError>>;
}

/// What a service says of itself in answer to OPTIONS (RFC 3507 section 4.10.2). Methods, ISTag
/// and Encapsulated are added to it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A sentence for people, with a version.
    pub service: String,
    /// Bytes of body that the service wants to see before it decides; `None` for no previews.
    pub preview: Option<u32>,
    /// Whether the service answers 204 outside previews where allowed.
    pub allow_204: bool,
    /// Whether the service answers 206 where allowed.
    pub allow_206: bool,
    /// How many connections a client should open at most.
    pub max_connections: Option<u32>,
    /// How long the client may rely on this answer, in full seconds.
    pub ttl: Option<Duration>,
    /// File extensions to be sent with a preview: a list, or `*`. If any of the three lists is
    /// given, exactly one must hold `*`, which says what happens to all other files; where none
    /// does, they are sent whole.
    pub transfer_preview: Option<String>,
    /// File extensions not to be sent.
    pub transfer_ignore: Option<String>,
    /// File extensions to be sent without a preview.
    pub transfer_complete: Option<String>,
    /// Further fields.
    pub headers: Headers,
}

impl Options {
    pub(crate) fn to_headers(&self, methods: &[Method]) -> Result<Headers, icap::Error> {
        let mut headers = Headers::new();
        let lists = [&self.transfer_preview, &self.transfer_ignore, &self.transfer_complete];
        let mut elements = lists.into_iter().flatten().flat_map(|list| list.split(','));
        let open = lists.iter().any(|list| list.is_some()) && !elements.any(|e| e.trim() == "*");
        let complete = match &self.transfer_complete {
            Some(list) if open => Some(format!("{list}, *")),
            None if open => Some("*".to_owned()),
            list => list.clone(),
        };
        let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
        headers.push("Methods", methods.join(", "))?;
        if !self.service.is_empty() {
            headers.push("Service", &self.service)?;
        }
        let allow = match (self.allow_204, self.allow_206) {
            (true, true) => Some("204, 206".to_owned()),
            (true, false) => Some("204".to_owned()),
            (false, true) => Some("206".to_owned()),
            (false, false) => None,
        };
        for (name, value) in [
            ("Max-Connections", self.max_connections.map(|n| n.to_string())),
            ("Options-TTL", self.ttl.map(|ttl| ttl.as_secs().to_string())),
            ("Allow", allow),
            ("Preview", self.preview.map(|n| n.to_string())),
            ("Transfer-Preview", self.transfer_preview.clone()),
            ("Transfer-Ignore", self.transfer_ignore.clone()),
            ("Transfer-Complete", complete),
        ] {
            if let Some(value) = value {
                headers.push(name, value)?;
            }
        }
        for (name, value) in self.headers.iter() {
            headers.push(&String::from_utf8_lossy(name), value)?;
        }
        Ok(headers)
    }
}

macro_rules! delegate {
    ($($pointer:ty),*) => {$(
        impl<S: Service + ?Sized> Service for $pointer {
            fn istag(&self) -> IsTag {
                (**self).istag()
            }

            fn options(&self) -> Options {
                (**self).options()
            }

            fn methods(&self) -> &'static [Method] {
                (**self).methods()
            }

            async fn transact(
                &self,
                transaction: &mut Transaction<'_>,
            ) -> Result<(), TransactError> {
                (**self).transact(transaction).await
            }
        }
    )*};
}

delegate!(&S, Rc<S>, Arc<S>);
