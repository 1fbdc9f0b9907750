//! Makes connections to peers and keeps them: of each pair, the node whose name sorts lower dials.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time;
use tokio_rustls::TlsConnector;
use tracing::{debug, warn};

use super::connection::{Greeted, greet, serve};
use super::error::LinkEnd;
use super::network::Shared;
use super::peers::Peer;
use crate::config::Address;
use crate::tls::{ALPN_PEER, Acceptor, SecureStream, Throttle};

/// Connecting and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the end of the handshake to the end of the other side's hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// What the system takes before it makes us wait. What lies there goes out before any urgent
/// message that comes later, so it is kept small.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Wait before the first new attempt to connect, and the longest one.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_millis(1_000);
/// Failed attempts in a row before a peer that cannot be reached is worth a line.
const QUIET_ATTEMPTS: u32 = 3;

/// Takes connections of peers that dial this node, until the network stops.
pub(super) async fn accept(shared: Arc<Shared>, mut acceptor: Acceptor) {
    let mut greetings = JoinSet::new();
    loop {
        tokio::select! {
            Some(stream) = acceptor.accept() => {
                greetings.spawn(accepted(Arc::clone(&shared), stream));
            }
            Some(_) = greetings.join_next(), if !greetings.is_empty() => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Greets one connection and hands it to the task of its peer. The number of these is bounded by
/// the connections of an identity.
async fn accepted(shared: Arc<Shared>, stream: SecureStream) {
    let name = stream.identity().name.clone();
    let remote = stream.remote();
    let refused = |why: &str| {
        if let Some(suppressed) = shared.throttle.pass() {
            warn!(peer = name, %remote, why, suppressed, "connection of a peer refused");
        }
    };
    let Some(peer) = shared.peers.get(&name) else { return refused("it is not a member") };
    if peer.dials {
        return refused("this node dials it, not the other way round");
    }
    keep_send_buffer_small(stream.tcp());
    match time::timeout(HELLO_TIMEOUT, greet(Box::new(stream), &shared, &name)).await {
        // The task of the peer has ended: the network is stopping.
        Ok(Ok(greeted)) => drop(peer.incoming.send(greeted).await),
        Ok(Err(end)) => refused(&end.to_string()),
        Err(_) => refused(&LinkEnd::Late("hello").to_string()),
    }
}

/// Keeps a link to a peer, until the network stops.
pub(super) async fn keep(shared: Arc<Shared>, peer: Arc<Peer>, incoming: mpsc::Receiver<Greeted>) {
    match &peer.address {
        Some(address) if peer.dials => keep_dialing(&shared, &peer, address).await,
        None if peer.dials => {
            warn!(peer = peer.name, "no address known in `cluster.initial`: it cannot be dialed");
        }
        Some(_) | None => keep_accepting(&shared, &peer, incoming).await,
    }
}

async fn keep_dialing(shared: &Shared, peer: &Peer, address: &Address) {
    let tls = shared.material.peer_dialer(&peer.name);
    let throttle = Throttle::default();
    let mut back_off = BackOff::default();
    loop {
        let end = tokio::select! {
            dialed = dial(shared, peer, address, &tls) => match dialed {
                Ok(greeted) => {
                    back_off = BackOff::default();
                    serve(shared, peer, greeted).await
                }
                Err(end) => end,
            },
            () = shared.stop.cancelled() => return,
        };
        // Members of a cluster start together; that one is not there yet is worth no line.
        if !end.is_absence() || back_off.attempts >= QUIET_ATTEMPTS {
            log_end(peer, &end, &throttle);
        }
        tokio::select! {
            () = time::sleep(back_off.next()) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

async fn keep_accepting(shared: &Shared, peer: &Peer, mut incoming: mpsc::Receiver<Greeted>) {
    let throttle = Throttle::default();
    let mut next = None;
    loop {
        let greeted = match next.take() {
            Some(greeted) => greeted,
            None => tokio::select! {
                Some(greeted) = incoming.recv() => greeted,
                () = shared.stop.cancelled() => return,
            },
        };
        tokio::select! {
            end = serve(shared, peer, greeted) => log_end(peer, &end, &throttle),
            // A peer dials again when it has given up the old connection, whatever we think of it.
            newer = incoming.recv() => next = newer,
        }
    }
}

fn log_end(peer: &Peer, end: &LinkEnd, throttle: &Throttle) {
    if matches!(end, LinkEnd::Stopping) {
        return;
    }
    if let Some(suppressed) = throttle.pass() {
        warn!(peer = peer.name, why = %end, suppressed, "no connection to the peer");
    }
}

async fn dial(
    shared: &Shared,
    peer: &Peer,
    address: &Address,
    tls: &Arc<ClientConfig>,
) -> Result<Greeted, LinkEnd> {
    let connected = time::timeout(CONNECT_TIMEOUT, connect(address, tls)).await;
    let stream = connected.map_err(|_| LinkEnd::Late("connection"))??;
    let greeted = time::timeout(HELLO_TIMEOUT, greet(Box::new(stream), shared, &peer.name)).await;
    greeted.map_err(|_| LinkEnd::Late("hello"))?
}

async fn connect(
    address: &Address,
    tls: &Arc<ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    use std::io::{Error, ErrorKind};
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
    tcp.set_nodelay(true)?;
    keep_send_buffer_small(&tcp);
    let host = ServerName::try_from(address.host.clone())
        .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(host, tcp).await?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN_PEER) {
        return Err(Error::new(ErrorKind::InvalidData, "the other side is not a peer port"));
    }
    Ok(stream)
}

fn keep_send_buffer_small(tcp: &TcpStream) {
    if let Err(error) = SockRef::from(tcp).set_send_buffer_size(SEND_BUFFER_BYTES) {
        // Urgent messages then wait longer on a slow network; nothing else depends on it.
        debug!(%error, "cannot set the size of the send buffer");
    }
}

/// Waits between attempts: random, so that nodes started together do not stay in step, and longer
/// each time.
struct BackOff {
    ceiling: Duration,
    attempts: u32,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { ceiling: 2 * BACK_OFF_MIN, attempts: 0 }
    }
}

impl BackOff {
    fn next(&mut self) -> Duration {
        let wait = rand::rng().random_range(BACK_OFF_MIN..=self.ceiling);
        self.ceiling = (2 * self.ceiling).min(BACK_OFF_MAX);
        self.attempts = self.attempts.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let mut back_off = BackOff::default();
        for ceiling in [200, 400, 800, 1_000, 1_000] {
            let wait = back_off.next();
            assert!((BACK_OFF_MIN..=Duration::from_millis(ceiling)).contains(&wait), "{wait:?}");
        }
    }
}
