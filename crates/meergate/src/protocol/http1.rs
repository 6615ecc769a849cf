//! HTTP/1.1 and 1.0: the loop over the requests of one client connection.

mod body;
mod client;
mod framing;
mod origin;
mod sink;
mod target;
mod wire;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use http_wire::{Error, Limits, RequestHead, ResponseHead};
use icap_client::Way;
use tokio::time::timeout;

use super::{ConnectRequest, End};
use crate::exchange::{
    Client, Ended, Inside, Moved, Progress, Request, Transaction, Trouble, Watch, refuse,
    relay_unseen, transact,
};
use crate::io::{Io, Prefixed, RelayEnd};
use crate::policy::{challenge, is_of};
use crate::session::Session;
use crate::upstream::{Route, UpstreamSlot};
use crate::words::{ConnectionEnd, Outcome, Protocol, Scheme};
use body::{Sender, WireBody};
use client::WireClient;
use target::{Destination, destination, is_for_revocations};
use wire::SharedWire;

pub(super) use origin::WireOrigin;
pub(super) use sink::WireSink;

/// How long, and how much, is still read from a client that sends on after its last answer: closing
/// at once would make its system throw the answer away (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(10);
const LINGER_BYTES: usize = 64 << 20;

/// Serves one client connection until it ends.
pub(super) async fn serve(
    client: Io,
    read_ahead: BytesMut,
    session: &Session,
    upstream: UpstreamSlot,
) -> End {
    let config = &session.settings.config;
    let limits = Limits {
        max_head: usize::try_from(config.http.max_head.0).unwrap_or(usize::MAX),
        max_fields: config.http.max_fields,
    };
    let mut connection = Connection {
        wire: SharedWire::new(client, read_ahead),
        origin: WireOrigin::new(session, session.route().cloned(), upstream, limits),
        session,
        limits,
        progress: Arc::default(),
        watch: Watch::new(config.limits.begin_timeout.0),
        requests: Requests::None,
    };
    loop {
        let head = match connection.next_head().await {
            Next::Head(head) => head,
            Next::Fault(e) => {
                connection.refuse(None, Trouble::RequestFault(e)).await;
                return connection.close(ConnectionEnd::BadRequest).await;
            }
            Next::End(why) => return End::Closed(why),
            Next::Foreign => {
                tracing::warn!(
                    target = session.target().map(tracing::field::display),
                    "closed: what is said inside TLS is not HTTP, so nobody can inspect it; a rule may bypass its host"
                );
                return connection.close(ConnectionEnd::UnknownProtocol).await;
            }
        };
        if !connection.is_of_its_user(&head).await {
            return connection.close(ConnectionEnd::Unidentified).await;
        }
        if is_for_revocations(&head, session) {
            return connection.list_revocations(&head).await;
        }
        let destination = match destination(&head, session).await {
            Ok(destination) => destination,
            Err(trouble) => {
                let why = match trouble.outcome() {
                    Outcome::BadRequest => ConnectionEnd::BadRequest,
                    _ => ConnectionEnd::Refused,
                };
                connection.refuse(Some(&head), trouble).await;
                return connection.close(why).await;
            }
        };
        let (head, route) = match destination {
            Destination::Fixed(route) => (head, route),
            Destination::Named { head, route } => (head, route),
            Destination::Tunnel(target) => {
                let Some((client, read_ahead)) = connection.wire.into_parts() else {
                    return End::Closed(ConnectionEnd::Failed);
                };
                return End::Connect(Box::new(ConnectRequest { client, read_ahead, head, target }));
            }
        };
        match connection.exchange(head, route).await {
            After::Another => {}
            After::Close(why) => return connection.close(why).await,
            After::Cut(why) => return End::Closed(why),
            After::Relay(head, inside) => return connection.relay(&head, inside).await,
        }
    }
}

/// Whether `bytes` begin, after blank lines, with what is in no method (RFC 9110 section 5.6.2). Most protocols of
/// bytes show themselves so; of those of text, the first line does.
fn begins_no_request(bytes: &[u8]) -> bool {
    let first = bytes.iter().find(|b| !matches!(b, b'\r' | b'\n'));
    first.is_some_and(|b| !b.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(b))
}

struct Connection<'a> {
    wire: SharedWire,
    origin: WireOrigin<'a>,
    session: &'a Session,
    limits: Limits,
    progress: Arc<Progress>,
    watch: Watch,
    requests: Requests,
}

/// How many requests have been waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Requests {
    /// None: the time to begin is running.
    None,
    /// The one that has identified the client.
    One,
    Several,
}

enum Next {
    End(ConnectionEnd),
    Fault(Error),
    /// Another protocol than HTTP.
    Foreign,
    Head(RequestHead),
}

enum After {
    Another,
    Close(ConnectionEnd),
    Cut(ConnectionEnd),
    Relay(ResponseHead, Inside),
}

impl Connection<'_> {
    /// Awaits the next request. The time limit of a head runs from its first byte, however slowly
    /// the others come.
    async fn next_head(&mut self) -> Next {
        let limits = &self.session.settings.config.limits;
        let (begin, idle) = (limits.begin_timeout.0, limits.idle_timeout.0);
        let mut began = self.requests == Requests::None;
        self.requests = if began { Requests::One } else { Requests::Several };
        // Where TLS is intercepted, nobody has looked yet at what is spoken.
        let may_be_foreign = began && self.session.scheme == Scheme::Https;
        let next = poll_fn(|cx| {
            let mut wire = self.wire.lock();
            loop {
                if may_be_foreign && begins_no_request(&wire.input) {
                    return Poll::Ready(Next::Foreign);
                }
                match RequestHead::parse(&mut wire.input, &self.limits) {
                    Ok(Some(head)) => return Poll::Ready(Next::Head(head)),
                    Ok(None) => {}
                    Err(e) => return Poll::Ready(Next::Fault(e)),
                }
                match wire.poll_fill(cx, 0) {
                    Poll::Ready(Ok(0)) if wire.input.is_empty() => {
                        return Poll::Ready(Next::End(ConnectionEnd::ClientClosed));
                    }
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(Next::End(ConnectionEnd::ClientGone));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if !began && !wire.input.is_empty() {
                began = true;
                self.watch.restart(begin);
            }
            self.origin.poll_idle(cx);
            let over = match began {
                true => self.watch.poll_over(cx),
                false => self.watch.poll_stalled(cx, self.progress.total()),
            };
            over.map(|()| {
                Next::End(if began { ConnectionEnd::SlowClient } else { ConnectionEnd::Idle })
            })
        })
        .await;
        if began {
            self.watch.restart(idle);
        }
        next
    }

    /// Whether the request comes with the credentials of the user whose the connection is; if not, the
    /// client has been asked for them.
    async fn is_of_its_user(&mut self, head: &RequestHead) -> bool {
        let session = self.session;
        let (Some(users), None) = (&session.settings.users, session.route()) else { return true };
        // The first request has made it the user's.
        if self.requests == Requests::One {
            return true;
        }
        let limit = session.settings.config.limits.begin_timeout.0;
        let (attempts, client) = (&session.shared.attempts, session.party());
        if is_of(session.user.as_ref(), users, attempts, client, head, limit).await {
            return true;
        }
        self.wire.lock().out.put(challenge(users).as_bytes());
        // Whether the client still listens shows when the connection is closed.
        let _ = self.wire.flush().await;
        false
    }

    async fn exchange(&mut self, head: RequestHead, route: Option<Route>) -> After {
        let target = self.session.target();
        let tx = Transaction::begin(
            self.session,
            Protocol::Http,
            None,
            &self.progress,
            Some(&head),
            target,
        );
        let mut tx = tx.along(route.as_ref());
        let mut client = WireClient::new(&self.wire, &head, &self.progress);
        let framing = match head.expects_continue().and_then(|c| Ok((head.framing()?, c))) {
            Ok((framing, continues)) => {
                WireBody::begin(&self.wire, framing, &self.progress, Sender::Client { continues })
            }
            Err(e) => {
                client.close_after();
                refuse(&mut tx, Trouble::RequestFault(e), &mut client, &mut self.watch).await;
                return After::Close(ConnectionEnd::BadRequest);
            }
        };
        if let Some(route) = route {
            self.origin.lead_to(route);
        }
        let request = Request { head, body: framing };
        let ended =
            transact(&mut tx, request, &mut client, &mut self.origin, &mut self.watch).await;
        match ended {
            Ended::Complete if client.carries_on() => After::Another,
            Ended::Complete => After::Close(ConnectionEnd::Done),
            Ended::Cut => After::Cut(ConnectionEnd::Cut),
            Ended::Upgraded(head, inside) => After::Relay(head, inside),
        }
    }

    /// Answers with the list of forged leaves that are revoked, and ends the connection.
    async fn list_revocations(self, head: &RequestHead) -> End {
        let (status, list) = match self.session.settings.tls.revocation_list() {
            Ok(list) => ("200 OK", list),
            Err(error) => {
                tracing::warn!(%error, "the list of revoked leaves");
                ("500 Internal Server Error", Arc::default())
            }
        };
        {
            let out = &mut self.wire.lock().out;
            let length = list.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/pkix-crl\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            out.put(answer.as_bytes());
            if head.method() != b"HEAD" {
                out.put(&list);
            }
        }
        // Whether the client still listens shows when the connection is closed.
        let _ = self.wire.flush().await;
        self.close(ConnectionEnd::Done).await
    }

    async fn refuse(&mut self, head: Option<&RequestHead>, trouble: Trouble) {
        let mut tx =
            Transaction::begin(self.session, Protocol::Http, None, &self.progress, head, None);
        let mut client = WireClient::unknown(&self.wire, head, &self.progress);
        refuse(&mut tx, trouble, &mut client, &mut self.watch).await;
    }

    /// Ends the connection after a complete answer.
    async fn close(self, why: ConnectionEnd) -> End {
        let Self { wire, .. } = self;
        let lingers = {
            let wire = wire.lock();
            let unread =
                wire.is_in_content() || !wire.input.is_empty() || why == ConnectionEnd::BadRequest;
            // Who speaks something else gets no answer that could be lost.
            unread && why != ConnectionEnd::UnknownProtocol
        };
        let ended = timeout(LINGER, async {
            poll_fn(|cx| wire.lock().poll_shutdown(cx)).await?;
            let mut left = if lingers { LINGER_BYTES } else { 0 };
            while left > 0 {
                let read = poll_fn(|cx| {
                    let mut wire = wire.lock();
                    wire.input.clear();
                    wire.poll_fill(cx, 0)
                });
                match read.await? {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            io::Result::Ok(())
        });
        // The answer is out; what happens to the connection now is the client's affair.
        drop(ended.await);
        End::Closed(why)
    }

    /// After a 101: what is said then is relayed, seen by services or counted as uninspected.
    async fn relay(self, head: &ResponseHead, inside: Inside) -> End {
        let Self { wire, origin, session, .. } = self;
        wire.lock().out.put_head(head.bytes());
        if wire.flush().await.is_err() {
            return End::Closed(ConnectionEnd::ClientGone);
        }
        let (Some((client, ahead)), Some((server, answered))) =
            (wire.into_parts(), origin.into_parts())
        else {
            return End::Closed(ConnectionEnd::Failed);
        };
        let mut client = Prefixed::new(ahead.freeze(), client);
        let mut server = Prefixed::new(answered.freeze(), server);
        let why = match inside {
            Inside::Seen(websocket) => {
                let mut count = |moved, way, bytes: usize| match (moved, way) {
                    (Moved::In, Way::ToClient) => session.totals.add_from_server(bytes as u64),
                    (Moved::In, Way::ToServer) => session.totals.add_from_client(bytes as u64),
                    (Moved::Out, _) => {}
                };
                let end = websocket.serve(session, &mut client, &mut server, &mut count).await;
                return End::Closed(end.of_connection());
            }
            Inside::Unseen(why) => why,
        };
        let end = relay_unseen(session, &mut client, &mut server, why);
        End::Closed(match end.await {
            RelayEnd::Finished => ConnectionEnd::UpgradedDone,
            RelayEnd::Idle => ConnectionEnd::UpgradedIdle,
            RelayEnd::Failed(_) => ConnectionEnd::UpgradedFailed,
        })
    }
}
