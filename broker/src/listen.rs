//! Where clients come in: TCP, TLS, WebSocket and secure WebSocket.
//!
//! Invariants: an accept loop does nothing but accept; handshakes are done in the connection's own task, under a
//! deadline, and count against the bounds of connections from the first moment. So whoever is silent, slow or wrong
//! holds up nobody else. Behind the handshake all four are the same to [`crate::connection`]: a byte stream.

mod certificate;
pub(crate) mod reload;
pub(crate) mod tls;
mod websocket;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service::{BindError, CancellationToken, Context, Stage, bind_tcp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use self::tls::Tls;
use crate::Config;
use crate::connection::{self, Front};
use crate::metrics::Reason;

/// What is spoken below MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wire {
    tls: bool,
    websocket: bool,
}

/// The listeners, bound and not yet served.
#[derive(Debug)]
pub(crate) struct Listeners {
    bound: Vec<(&'static str, Wire, TcpListener)>,
    limits: Limits,
    origins: websocket::Origins,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    per_address: Option<usize>,
}

/// What is known of a client before it says anything in MQTT.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Common name of its certificate, which was verified.
    pub(crate) certificate: Option<Box<str>>,
}

/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that answers nothing this long, asked by the kernel, is gone though it never said so.
const PROBE_AFTER: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

impl Listeners {
    /// Binds every address that is configured.
    pub(crate) async fn bind(config: &Config) -> Result<Self, BindError> {
        let listeners = &config.listeners;
        let wire = |tls, websocket| Wire { tls, websocket };
        let wanted = [
            ("mqtt", "MQTT", wire(false, false), Some(config.mqtt_listen)),
            (
                "mqtt_tls",
                "MQTT over TLS",
                wire(true, false),
                listeners.mqtt_tls_listen,
            ),
            (
                "mqtt_ws",
                "MQTT over WebSocket",
                wire(false, true),
                listeners.mqtt_ws_listen,
            ),
            (
                "mqtt_wss",
                "MQTT over secure WebSocket",
                wire(true, true),
                listeners.mqtt_wss_listen,
            ),
        ];
        let mut bound = Vec::new();
        for (name, purpose, wire, address) in wanted {
            if let Some(address) = address {
                bound.push((name, wire, bind_tcp(purpose, address).await?));
            }
        }
        Ok(Self {
            bound,
            limits: Limits {
                connections: config.mqtt_max_connections,
                per_address: config.limits.mqtt_max_connections_per_address,
            },
            origins: websocket::Origins::parse(&listeners.mqtt_ws_origins),
        })
    }

    /// Returns the names of the listeners and where they are.
    pub(crate) fn addresses(&self) -> io::Result<Vec<(&'static str, SocketAddr)>> {
        let addresses = self.bound.iter();
        addresses
            .map(|(name, _, listener)| Ok((*name, listener.local_addr()?)))
            .collect()
    }

    /// Accepts until intake stops.
    pub(crate) fn serve(self, front: &Arc<Front>, tls: Option<Arc<Tls>>, context: &Context) {
        let door = Arc::new(Door {
            front: Arc::clone(front),
            tls,
            origins: self.origins,
            limits: self.limits,
            addresses: Addresses::default(),
        });
        for (_, wire, listener) in self.bound {
            let (door, tasks) = (Arc::clone(&door), context.tasks.clone());
            context
                .tasks
                .spawn(Stage::Intake, "mqtt-listener", move |stop| async move {
                    let spawn = |connection| tasks.spawn_child(Stage::Intake, connection);
                    door.accept(wire, listener, spawn, stop).await;
                    Ok(())
                });
        }
    }
}

/// What all listeners share.
#[derive(Debug)]
struct Door {
    front: Arc<Front>,
    tls: Option<Arc<Tls>>,
    origins: websocket::Origins,
    limits: Limits,
    addresses: Addresses,
}

impl Door {
    async fn accept<F>(
        self: Arc<Self>,
        wire: Wire,
        listener: TcpListener,
        spawn: F,
        stop: CancellationToken,
    ) where
        F: Fn(futures_util::future::BoxFuture<'static, ()>),
    {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = self.place(peer) {
                        let door = Arc::clone(&self);
                        spawn(Box::pin(async move {
                            door.serve(wire, stream, peer).await;
                            drop(place);
                        }));
                    }
                }
                Err(error) => {
                    if let Some(suppressed) = self.front.warning.permit() {
                        tracing::warn!(%error, suppressed, "a connection was not accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes a place for a connection, if there is one.
    fn place(&self, peer: SocketAddr) -> Option<Place> {
        let metrics = &self.front.metrics;
        let open = usize::try_from(metrics.connections.get()).unwrap_or_default();
        let refuse = |reason, limit| {
            metrics.rejected(reason);
            if let Some(suppressed) = self.front.warning.permit() {
                tracing::warn!(%peer, limit, ?reason, suppressed, "too many connections");
            }
            None
        };
        if open >= self.limits.connections {
            return refuse(Reason::ConnectionLimit, self.limits.connections);
        }
        let address = match self.limits.per_address {
            None => None,
            Some(limit) => match self.addresses.enter(peer.ip(), limit) {
                None => return refuse(Reason::AddressLimit, limit),
                entered => entered,
            },
        };
        metrics.connections.inc();
        Some(Place {
            connections: metrics.connections.clone(),
            _address: address,
        })
    }

    async fn serve(&self, wire: Wire, stream: TcpStream, address: SocketAddr) {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, %address, "an option of a socket was refused");
        }
        let mut peer = Peer {
            address,
            certificate: None,
        };
        if let (false, false) = (wire.tls, wire.websocket) {
            // Without a lock between the halves.
            let (reader, writer) = stream.into_split();
            return connection::serve(Arc::clone(&self.front), peer, reader, writer).await;
        }
        let stopped = self.front.intake.clone();
        // On the heap, so that its room is not kept for the life of the connection.
        let shake = Box::pin(self.shake(wire, stream));
        let shaken = tokio::select! {
            shaken = timeout(self.front.connect_timeout, shake) => shaken,
            () = stopped.cancelled() => return,
        };
        match shaken {
            Ok(Ok((stream, certificate))) => {
                peer.certificate = certificate;
                let (reader, writer) = tokio::io::split(stream);
                connection::serve(Arc::clone(&self.front), peer, reader, writer).await;
            }
            Ok(Err(error)) => {
                self.front.metrics.rejected(Reason::Handshake);
                if let Some(suppressed) = self.front.warning.permit() {
                    tracing::warn!(%address, %error, suppressed, "a handshake failed");
                }
            }
            Err(_) => self.front.metrics.rejected(Reason::HandshakeTimeout),
        }
    }

    /// Does the handshakes that come before MQTT.
    async fn shake(
        &self,
        wire: Wire,
        stream: TcpStream,
    ) -> io::Result<(BoxStream, Option<Box<str>>)> {
        let frame_bytes = self.front.max_packet_bytes + connection::READ_BYTES;
        if !wire.tls {
            let stream = websocket::accept(stream, &self.origins, frame_bytes).await?;
            return Ok((Box::new(stream), None));
        }
        let tls = self.tls.as_deref().ok_or(io::ErrorKind::Unsupported)?;
        let stream = tls.acceptor().accept(stream).await?;
        let chain = stream.get_ref().1.peer_certificates();
        let name = chain.and_then(|chain| certificate::common_name(chain.first()?));
        if wire.websocket {
            let stream = websocket::accept(stream, &self.origins, frame_bytes).await?;
            Ok((Box::new(stream), name))
        } else {
            Ok((Box::new(stream), name))
        }
    }
}

/// A byte stream over whatever it is: one copy of the connection's code serves TLS and WebSocket.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}
type BoxStream = Box<dyn Duplex>;

fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

/// A connection's place among all; given back with the drop.
#[derive(Debug)]
struct Place {
    connections: prometheus_client::metrics::gauge::Gauge,
    _address: Option<AddressPlace>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.dec();
    }
}

/// Connections by address.
#[derive(Debug, Default, Clone)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

#[derive(Debug)]
struct AddressPlace {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    fn enter(&self, address: IpAddr, limit: usize) -> Option<AddressPlace> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(AddressPlace {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut counts = self
            .addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let addresses = Addresses::default();
        let here = IpAddr::from([127, 0, 0, 1]);
        let there = IpAddr::from([127, 0, 0, 2]);
        let first = addresses.enter(here, 2).unwrap();
        let _second = addresses.enter(here, 2).unwrap();
        assert!(addresses.enter(here, 2).is_none());
        let other = addresses.enter(there, 2).unwrap();
        drop(first);
        assert!(addresses.enter(here, 2).is_some());
        drop(other);
        assert_eq!(addresses.0.lock().unwrap().len(), 1);
    }
}
