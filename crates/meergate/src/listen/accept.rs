//! One accepted connection: admitted, named, and led the way of its listener.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::Instrument;

use super::proxy_header::{self, Header};
use super::{Entry, Gateway, lead, original};
use crate::config::Way;
use crate::io::{Cut, Socket};
use crate::metrics::LimitLabels;
use crate::session::{Arrival, Settings, Totals, record_connection};
use crate::words::Limited;

impl Gateway {
    /// Starts a task for the connection, unless a limit is met: then it is closed at once.
    pub(super) fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, entry: Arc<Entry>) {
        let settings = self.settings.load_full();
        let peer = canonical(peer);
        let is_balancer = entry.proxy_protocol.iter().any(|net| net.contains(&peer.ip()));
        // A balancer is not a client; its clients are counted once they are known.
        let client = (!is_balancer).then_some(peer.into());
        let mut guard = match self.admission.admit(client, &settings.config.limits) {
            Ok(guard) => guard,
            Err(limit) => return self.refuse(limit),
        };
        // Taken off the event loop that accepted it, for a worker's to take it up.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return tracing::info!(%peer, %error, "refused"),
        };
        let gateway = self.clone();
        self.workers.serve(async move {
            let accepted = match TcpStream::from_std(stream) {
                Ok(stream) => Accepted::new(stream, peer, is_balancer, &entry, &settings).await,
                Err(error) => Err(error),
            };
            let cut = Cut::default();
            let mut accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => return tracing::info!(%peer, %error, "refused"),
            };
            if is_balancer
                && let Err(limit) = guard.identify(accepted.client.into(), &settings.config.limits)
            {
                return gateway.refuse(limit);
            }
            let arrival = Arrival {
                id: gateway.shared.next_connection_id(),
                client: accepted.client,
                local: accepted.local,
                listener: entry.way.as_str(),
                protocol: entry.protocol,
                tls: settings.tls.versions().within(entry.tls),
                cut: cut.clone(),
                user: None,
                settings,
                shared: gateway.shared.clone(),
                totals: Arc::new(Totals::default()),
            };
            let (began, ended) = (SystemTime::now(), arrival.clone());
            let span =
                tracing::debug_span!("connection", id = %arrival.id, client = %arrival.client);
            gateway.shared.metrics.connections.inc();
            let read_ahead = std::mem::take(&mut accepted.read_ahead);
            let stream = Socket::new(accepted.stream, cut);
            let why = lead(&entry, arrival, stream, read_ahead).instrument(span).await;
            tracing::debug!(%why, "closed");
            record_connection(&ended, began, why);
            gateway.shared.metrics.connections.dec();
            drop(guard);
        });
    }

    fn refuse(&self, limit: Limited) {
        self.shared.metrics.limited.get_or_create(&LimitLabels { limit }).inc();
    }
}

/// A connection whose two ends are known.
struct Accepted {
    stream: TcpStream,
    read_ahead: BytesMut,
    client: SocketAddr,
    /// What the client connected to.
    local: SocketAddr,
}

impl Accepted {
    async fn new(
        mut stream: TcpStream,
        peer: SocketAddr,
        is_balancer: bool,
        entry: &Entry,
        settings: &Settings,
    ) -> io::Result<Self> {
        // Without it, small answers wait for acknowledgements that the client delays.
        stream.set_nodelay(true)?;
        let mut local = match entry.way {
            Way::Redirect if !is_balancer => original::destination(&stream)?,
            _ => stream.local_addr()?,
        };
        let mut client = peer;
        let mut read_ahead = BytesMut::new();
        if is_balancer {
            let limit = settings.config.limits.begin_timeout.0;
            match timeout(limit, proxy_header::read(&mut stream, &mut read_ahead)).await?? {
                Header::Local => {}
                Header::Proxied { source, destination } => {
                    client = source;
                    local = destination;
                }
            }
        }
        if matches!(entry.way, Way::Tproxy { .. }) {
            original::refuse_own(local, entry.own)?;
        }
        Ok(Self { stream, read_ahead, client: canonical(client), local: canonical(local) })
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
