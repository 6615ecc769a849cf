//! How connections come in: listeners, admission, and finding out what is spoken.

mod admission;
mod explicit;
mod inner;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::Instrument;

use crate::config::{Listen, ListenKind};
use crate::error::StartError;
use crate::metrics::{LimitLabels, ListenerLabels};
use crate::session::{Scheme, Session, Settings, Shared, Totals};

use admission::Admission;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when the system has no more file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// What listeners hand to each connection.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: ArcSwap<Settings>,
    admission: Admission,
}

impl Gateway {
    pub(crate) fn new(shared: Arc<Shared>, settings: Arc<Settings>) -> Self {
        Self { shared, settings: ArcSwap::new(settings), admission: Admission::default() }
    }

    /// Resolves when no connection is open.
    pub(crate) async fn drained(&self) {
        self.admission.empty().await;
    }
}

/// One open listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    kind: ListenKind,
}

impl Listener {
    /// Opens the listener that `listen` describes.
    pub(crate) fn bind(listen: &Listen) -> Result<Self, StartError> {
        let address = listen.address;
        let socket = bind(address).map_err(|e| {
            let advice = match e.kind() {
                io::ErrorKind::AddrInUse => "stop what uses it, or choose another with --listen",
                io::ErrorKind::PermissionDenied => {
                    "choose a port above 1023, or give the program CAP_NET_BIND_SERVICE"
                }
                _ => "choose an address of this machine",
            };
            StartError::new(format!("cannot listen ({e})"), address.to_string(), advice)
        })?;
        Ok(Self { socket, kind: listen.kind })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn kind(&self) -> ListenKind {
        self.kind
    }

    /// Accepts until the gateway stops.
    pub(crate) async fn serve(self, gateway: Arc<Gateway>) {
        let accepted = gateway
            .shared
            .metrics
            .accepted
            .get_or_create(&ListenerLabels { listener: self.kind.as_str() })
            .clone();
        let stopping = gateway.shared.stopping();
        tokio::pin!(stopping);
        loop {
            let next = tokio::select! {
                next = self.socket.accept() => next,
                () = &mut stopping => return,
            };
            match next {
                Ok((stream, client)) => {
                    accepted.inc();
                    gateway.clone().admit(stream, client, self.kind);
                }
                Err(e) if is_of_one_connection(&e) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for a moment");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Gateway {
    /// Starts a task for the connection, unless a limit is met: then it is closed at once.
    fn admit(self: Arc<Self>, stream: TcpStream, client: SocketAddr, kind: ListenKind) {
        let settings = self.settings.load_full();
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let guard = match self.admission.admit(client.ip(), &settings.config.limits) {
            Ok(guard) => guard,
            Err(limit) => {
                self.shared.metrics.limited.get_or_create(&LimitLabels { limit }).inc();
                return;
            }
        };
        let Ok(local) = stream.local_addr() else { return };
        // Without it, small answers wait for acknowledgements that the client delays.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let session = Session {
            id: self.shared.next_connection_id(),
            client,
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
            listener: kind.as_str(),
            user: None,
            scheme: Scheme::Http,
            route: None,
            tls: None,
            settings,
            shared: self.shared.clone(),
            totals: Arc::new(Totals::default()),
        };
        let span = tracing::debug_span!("connection", id = %session.id, %client);
        tokio::spawn(
            async move {
                self.shared.metrics.connections.inc();
                let why = match kind {
                    ListenKind::Proxy => explicit::serve(session, stream).await,
                };
                tracing::debug!(why, "closed");
                self.shared.metrics.connections.dec();
                drop(guard);
            }
            .instrument(span),
        );
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Errors that concern the connection that was about to be accepted, not the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}
