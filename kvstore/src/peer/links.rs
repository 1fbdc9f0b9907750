//! Makes connections to peers and keeps them: of each pair, the node whose name sorts lower dials.
//! When it does not for a while, the other one does.
//!
//! Should both dial at the same moment, each may give up its own connection for that of the other.
//! Then both begin anew, the lower one at once and the other one after its patience.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{debug, info, warn};

use super::connection::{Greeted, answer, greet, serve};
use super::error::LinkEnd;
use super::peers::Peer;
use super::shared::Shared;
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
/// A node that should be dialed by a peer waits for so long before it dials itself.
const DIALED_PATIENCE: Duration = Duration::from_secs(2);
/// Each so-many-th attempt in a row goes to the address of the configuration, where the cluster has told
/// another one: the list of members that a node starts with may be older than its configuration. Not
/// more often, for an address that nobody answers at costs seconds.
const CONFIGURED_EVERY: u32 = 4;
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

/// Answers one connection and hands it to the task of its peer. The number of these is bounded by
/// the connections of an identity.
async fn accepted(shared: Arc<Shared>, stream: SecureStream) {
    let name = stream.identity().name.clone();
    let remote = stream.remote();
    let refused = |why: &str| {
        if let Some(suppressed) = shared.throttle.pass() {
            warn!(peer = name, %remote, why, suppressed, "connection of a peer refused");
        }
    };
    if name == shared.local.node_name {
        return refused("it has the name of this node");
    }
    if shared.local.joins() && shared.formed().is_none() {
        // Members may dial it as soon as they have added it. It asks them itself.
        debug!(peer = name, end = %LinkEnd::NotJoined, "connection of a peer closed");
        return;
    }
    keep_send_buffer_small(stream.tcp());
    let greeted = match hello_in_time(answer(Box::new(stream), &shared, &name)).await {
        Ok(greeted) => greeted,
        Err(LinkEnd::Joiner) => return,
        Err(end) => return refused(&end.to_string()),
    };
    match shared.admit(&name, greeted.node()) {
        None => refused("it is not a member"),
        Some(peer) if peer.dials && peer.is_busy() => refused("this node dials it and has a link"),
        // A task that has ended means that the peer has left, or the network is stopping.
        Some(peer) => drop(peer.incoming.send(greeted).await),
    }
}

/// Keeps a link to a peer, until the peer leaves or the network stops.
pub(super) async fn keep(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    mut incoming: mpsc::Receiver<Greeted>,
) {
    let _turn = peer.turn.lock().await;
    let throttle = Throttle::default();
    let mut dialing = Dialing::new(&shared, &peer);
    let mut next = None;
    loop {
        let greeted = match next.take() {
            Some(greeted) => greeted,
            None => tokio::select! {
                Some(greeted) = incoming.recv() => greeted,
                greeted = dialing.next() => greeted,
                () = peer.stop.cancelled() => return,
            },
        };
        tokio::select! {
            end = serve(&shared, &peer, greeted) => log_end(&peer, &end, &throttle),
            // A peer dials again when it has given up the old connection, whatever we think of it.
            newer = incoming.recv() => next = newer,
        }
        if peer.stop.is_cancelled() {
            return;
        }
    }
}

/// Dials a peer wherever it is known to listen. Of each pair one node does so at once; the other
/// one only after it was not dialed for a while, because the first may not know its address: it has
/// joined a moment ago, or the address has changed.
struct Dialing<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    addresses: watch::Receiver<Option<Address>>,
    tls: Arc<ClientConfig>,
    throttle: Throttle,
    back_off: BackOff,
    pause: Duration,
    /// Attempts since the last link.
    attempts: u32,
}

impl<'a> Dialing<'a> {
    fn new(shared: &'a Shared, peer: &'a Peer) -> Self {
        Self {
            shared,
            peer,
            addresses: peer.addresses(),
            tls: shared.material.peer_dialer(&peer.name),
            throttle: Throttle::default(),
            back_off: BackOff::default(),
            pause: Duration::ZERO,
            attempts: 0,
        }
    }

    /// Dials until the peer has answered. Cancel-safe.
    async fn next(&mut self) -> Greeted {
        if !self.peer.dials {
            time::sleep(DIALED_PATIENCE).await;
        }
        loop {
            let listed = self.addresses.borrow_and_update().clone();
            let Some(address) = self.choose(listed) else {
                if self.peer.dials {
                    info!(peer = self.peer.name, "no address known: waiting to be dialed");
                }
                self.changed().await;
                continue;
            };
            tokio::select! {
                () = time::sleep(self.pause) => {}
                () = Self::wait(&mut self.addresses) => {
                    self.start_anew();
                    continue;
                }
            }
            // Before the attempt, which may be given up for a connection that the peer makes.
            self.pause = self.back_off.next();
            self.attempts = self.attempts.saturating_add(1);
            let dialed = tokio::select! {
                dialed = dial(self.shared, self.peer, &address, &self.tls) => dialed,
                // An attempt at the old address may take seconds to fail.
                () = Self::wait(&mut self.addresses) => {
                    self.start_anew();
                    continue;
                }
            };
            match dialed {
                Ok(greeted) => {
                    self.start_anew();
                    self.pause = self.back_off.next();
                    self.attempts = 0;
                    return greeted;
                }
                // Members of a cluster start together; that one is not there yet is worth no line.
                Err(end) if end.is_absence() && self.back_off.attempts < QUIET_ATTEMPTS => {}
                Err(end) => log_end(self.peer, &end, &self.throttle),
            }
        }
    }

    /// Where to dial next.
    fn choose(&self, listed: Option<Address>) -> Option<Address> {
        let configured = self.shared.configured_address(&self.peer.name);
        let its_turn = self.attempts % CONFIGURED_EVERY == CONFIGURED_EVERY - 1;
        let (first, second) = if its_turn { (configured, listed) } else { (listed, configured) };
        first.or(second)
    }

    async fn changed(&mut self) {
        Self::wait(&mut self.addresses).await;
        self.start_anew();
    }

    async fn wait(addresses: &mut watch::Receiver<Option<Address>>) {
        addresses.changed().await.expect("the peer is borrowed and holds the sender");
    }

    fn start_anew(&mut self) {
        self.back_off = BackOff::default();
        self.pause = Duration::ZERO;
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
    let stream = connect(address, tls).await?;
    hello_in_time(greet(Box::new(stream), shared, &peer.name)).await
}

/// What came of an exchange of hellos, unless it takes too long.
pub(super) async fn hello_in_time<T>(
    exchange: impl Future<Output = Result<T, LinkEnd>>,
) -> Result<T, LinkEnd> {
    let exchanged = time::timeout(HELLO_TIMEOUT, exchange).await;
    exchanged.map_err(|_| LinkEnd::Late("hello"))?
}

/// Connects and shakes hands, unless that takes too long.
pub(super) async fn connect(
    address: &Address,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, LinkEnd> {
    let connected = time::timeout(CONNECT_TIMEOUT, shake_hands(address, tls)).await;
    Ok(connected.map_err(|_| LinkEnd::Late("connection"))??)
}

async fn shake_hands(
    address: &Address,
    tls: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
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
pub(super) struct BackOff {
    ceiling: Duration,
    attempts: u32,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { ceiling: 2 * BACK_OFF_MIN, attempts: 0 }
    }
}

impl BackOff {
    pub(super) fn next(&mut self) -> Duration {
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
