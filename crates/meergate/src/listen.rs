//! How connections come in: listeners, admission, and finding out what is spoken.

mod accept;
mod admission;
mod explicit;
mod original;
mod proxy_header;
mod socks;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use ipnet::IpNet;
use socket2::{Domain, Protocol, Type};
use start_error::StartError;
use tokio::net::TcpListener;

use crate::config::{Listen, ListenProtocol, TlsBounds, Way};
use crate::intercept;
use crate::io::{Io, Socket};
use crate::metrics::ListenerLabels;
use crate::session::{Arrival, Settings, Shared};
use crate::upstream::{Chooser, Route};
use crate::words::ConnectionEnd;

use admission::Admission;

pub(crate) use workers::Workers;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when the system has no more file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// What listeners hand to each connection.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) shared: Arc<Shared>,
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) workers: Workers,
    admission: Admission,
}

impl Gateway {
    pub(crate) fn new(shared: Arc<Shared>, settings: Arc<Settings>, workers: Workers) -> Self {
        let settings = ArcSwap::new(settings);
        Self { shared, settings, workers, admission: Admission::default() }
    }

    /// Resolves when no connection is open.
    pub(crate) async fn drained(&self) {
        self.admission.empty().await;
    }
}

/// One open listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: std::net::TcpListener,
    /// What the settings say of it.
    entry: Arc<Entry>,
}

/// How connections of one listener are to be understood.
#[derive(Debug)]
struct Entry {
    way: Way,
    proxy_protocol: Vec<IpNet>,
    protocol: ListenProtocol,
    tls: TlsBounds,
    /// The listener's own address: connections for it itself lead nowhere.
    own: SocketAddr,
}

impl Listener {
    /// Opens the listener that `listen` describes, or goes on with the socket of a former program.
    pub(crate) fn bind(
        listen: &Listen,
        inherited: Option<std::net::TcpListener>,
    ) -> Result<Self, StartError> {
        let address = listen.address;
        let opened = inherited.map_or_else(|| bind(address, &listen.way), Ok);
        let opened = opened.and_then(|socket| {
            let own = socket.local_addr()?;
            Ok((socket, own))
        });
        let (socket, own) = opened.map_err(|e| {
            let transparent = matches!(listen.way, Way::Tproxy { .. });
            let advice = match e.kind() {
                io::ErrorKind::AddrInUse => "stop what uses it, or choose another address",
                io::ErrorKind::PermissionDenied if transparent => {
                    "kind = \"tproxy\" needs CAP_NET_ADMIN"
                }
                io::ErrorKind::PermissionDenied => {
                    "choose a port above 1023, or give the program CAP_NET_BIND_SERVICE"
                }
                _ => "choose an address of this machine",
            };
            StartError::new(format!("cannot listen ({e})"), address.to_string(), advice)
        })?;
        let entry = Entry {
            way: listen.way.clone(),
            proxy_protocol: listen.proxy_protocol.clone(),
            protocol: listen.protocol,
            tls: listen.tls,
            own,
        };
        Ok(Self { socket, entry: Arc::new(entry) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.entry.own
    }

    /// The socket once more, for a successor.
    pub(crate) fn duplicate(&self) -> io::Result<std::net::TcpListener> {
        self.socket.try_clone()
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.entry.way.as_str()
    }

    /// Accepts until the gateway stops.
    pub(crate) async fn serve(self, gateway: Arc<Gateway>) {
        let labels = ListenerLabels { listener: self.kind() };
        let accepted = gateway.shared.metrics.accepted.get_or_create(&labels).clone();
        let socket = match TcpListener::from_std(self.socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "a listener cannot be used"),
        };
        let stopping = gateway.shared.stopping();
        tokio::pin!(stopping);
        loop {
            let next = tokio::select! {
                next = socket.accept() => next,
                () = &mut stopping => return,
            };
            match next {
                Ok((stream, peer)) => {
                    accepted.inc();
                    gateway.clone().admit(stream, peer, self.entry.clone());
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

/// Leads a connection the way of its listener, to its end; why it ended.
async fn lead(
    entry: &Entry,
    arrival: Arrival,
    stream: Socket,
    read_ahead: BytesMut,
) -> ConnectionEnd {
    let client: Io = Box::new(stream);
    match &entry.way {
        Way::Proxy => explicit::serve(arrival, client, read_ahead).await,
        Way::Redirect => {
            let route = Route::original(arrival.local).of(arrival.client);
            intercept::serve(arrival, client, read_ahead, route).await
        }
        Way::Sni { port } => intercept::serve_by_name(arrival, client, read_ahead, *port).await,
        Way::Socks5 => socks::serve(arrival, client, read_ahead).await,
        Way::Target(target) => {
            let route = Route::plain(target.clone()).of(arrival.client);
            let route = Route { chooser: Chooser::Operator, ..route };
            intercept::serve(arrival, client, read_ahead, route).await
        }
        Way::Tproxy { keep_client_address } => {
            let mut route = Route::original(arrival.local).of(arrival.client);
            route.source = keep_client_address.then_some(arrival.client.ip());
            intercept::serve(arrival, client, read_ahead, route).await
        }
    }
}

fn bind(address: SocketAddr, way: &Way) -> io::Result<std::net::TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if let Way::Tproxy { .. } = way {
        if address.is_ipv6() {
            socket.set_ip_transparent_v6(true)?;
        }
        // On an IPv6 socket too: it may take IPv4 as well.
        socket.set_ip_transparent_v4(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
