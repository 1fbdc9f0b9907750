//! The accept loop of a TLS port.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use client::pki::Identity;
use rustls::{CertificateError, ServerConfig};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tracing::{debug, warn};

use super::counters::{AcceptCounters, Rejection};
use super::identity_limits::IdentityLimits;
use super::stream::SecureStream;
use super::throttle::Throttle;

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;
/// Wait after the system could not give a connection. Without it, a process that is out of file
/// descriptors would spend all its time in failing calls.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Connections after their handshake that wait to be taken; handshakes wait beyond that.
const READY_MAX: usize = 64;

/// Bounds of an accept loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptorOptions {
    /// A handshake that takes longer is dropped.
    pub handshake_timeout: Duration,
    /// Handshakes in flight. Beyond that the oldest is dropped, so that whoever opens connections
    /// and stays silent only drops its own kind: an honest handshake is over by the time that as
    /// many others have come.
    pub handshakes_max: usize,
    /// Open connections of one identity. Beyond that new ones are closed.
    pub per_identity_max: usize,
}

impl Default for AcceptorOptions {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: 256,
            per_identity_max: 256,
        }
    }
}

/// Accepts connections, runs their handshakes, and gives out those whose owner may be here.
/// Dropping it closes the port and drops handshakes in flight; connections given out stay.
#[derive(Debug)]
pub struct Acceptor {
    local: SocketAddr,
    ready: mpsc::Receiver<SecureStream>,
    counters: Arc<AcceptCounters>,
    accepting: AbortHandle,
}

impl Acceptor {
    /// Binds the address and begins to accept. Call it inside a tokio runtime. Port 0 takes a
    /// free port.
    ///
    /// # Errors
    /// What the system says about the address.
    pub fn bind(
        address: SocketAddr,
        tls: Arc<ServerConfig>,
        options: AcceptorOptions,
    ) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restarted server takes its port back while old connections still time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let local = listener.local_addr()?;
        let counters = Arc::new(AcceptCounters::default());
        let (deliver, ready) = mpsc::channel(READY_MAX);
        let handshake = Handshake {
            timeout: options.handshake_timeout,
            limits: IdentityLimits::new(options.per_identity_max),
            tls,
            deliver,
            counters: Arc::clone(&counters),
            throttle: Throttle::default(),
        };
        let accepting = AcceptLoop {
            listener,
            handshake: Arc::new(handshake),
            handshakes_max: options.handshakes_max,
            throttle: Throttle::default(),
        };
        let accepting = tokio::spawn(accepting.run()).abort_handle();
        Ok(Self { local, ready, counters, accepting })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The counts, which go on after the acceptor has become a stream.
    #[must_use]
    pub fn counters(&self) -> Arc<AcceptCounters> {
        Arc::clone(&self.counters)
    }

    /// The next connection. Cancel-safe.
    pub async fn accept(&mut self) -> Option<SecureStream> {
        self.ready.recv().await
    }

    /// The connections as a stream, in the form that a gRPC server takes.
    #[must_use]
    pub fn into_stream(self) -> Incoming {
        Incoming { acceptor: self }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Connections of an [`Acceptor`]. Never yields an error.
#[derive(Debug)]
pub struct Incoming {
    acceptor: Acceptor,
}

impl Stream for Incoming {
    type Item = io::Result<SecureStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().acceptor.ready.poll_recv(cx).map(|next| next.map(Ok))
    }
}

struct AcceptLoop {
    listener: TcpListener,
    handshake: Arc<Handshake>,
    handshakes_max: usize,
    throttle: Throttle,
}

impl AcceptLoop {
    async fn run(self) {
        let mut running = JoinSet::new();
        // Oldest first; may hold some that have ended.
        let mut ages: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, remote)) => {
                        self.make_room(&mut ages);
                        ages.push_back(running.spawn(Arc::clone(&self.handshake).run(tcp, remote)));
                    }
                    Err(error) => self.accept_failed(&error).await,
                },
                Some(_) = running.join_next(), if !running.is_empty() => {}
            }
        }
    }

    /// Drops the oldest handshake when there are too many.
    fn make_room(&self, ages: &mut VecDeque<AbortHandle>) {
        if ages.len() < self.handshakes_max {
            return;
        }
        ages.retain(|handshake| !handshake.is_finished());
        while ages.len() >= self.handshakes_max {
            let Some(oldest) = ages.pop_front() else { return };
            oldest.abort();
            self.handshake.counters.count_rejected(Rejection::Crowded);
        }
    }

    async fn accept_failed(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        // These are about one connection that is gone already, not about the listener.
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        self.handshake.counters.count_error();
        if let Some(suppressed) = self.throttle.pass() {
            warn!(%error, suppressed, "cannot accept connections");
        }
        time::sleep(BACK_OFF).await;
    }
}

/// What all handshakes of a port share.
struct Handshake {
    timeout: Duration,
    limits: Arc<IdentityLimits>,
    tls: Arc<ServerConfig>,
    deliver: mpsc::Sender<SecureStream>,
    counters: Arc<AcceptCounters>,
    throttle: Throttle,
}

impl Handshake {
    async fn run(self: Arc<Self>, tcp: TcpStream, remote: SocketAddr) {
        let outcome = match time::timeout(self.timeout, self.shake(tcp, remote)).await {
            Ok(outcome) => outcome,
            Err(_) => Err((Rejection::Timeout, "no handshake in time".to_owned())),
        };
        match outcome {
            Ok(stream) => {
                self.counters.count_accepted();
                debug!(identity = %stream.identity(), %remote, "connection accepted");
                // Nobody takes connections any more: the server is stopping.
                let _ = self.deliver.send(stream).await;
            }
            Err((reason, why)) => {
                self.counters.count_rejected(reason);
                if let Some(suppressed) = self.throttle.pass() {
                    warn!(%remote, reason = reason.as_str(), why, suppressed, "connection rejected");
                }
            }
        }
    }

    async fn shake(
        &self,
        tcp: TcpStream,
        remote: SocketAddr,
    ) -> Result<SecureStream, (Rejection, String)> {
        // Fails only on a connection that is gone, which the handshake finds out.
        let _ = tcp.set_nodelay(true);
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        let stream =
            acceptor.accept(tcp).await.map_err(|error| (classify(&error), error.to_string()))?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != self.tls.alpn_protocols.first().map(Vec::as_slice) {
            return Err((
                Rejection::Protocol,
                "the protocol was not negotiated by ALPN".to_owned(),
            ));
        }
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let identity = certificate
            .and_then(|certificate| Identity::from_certificate(certificate).ok())
            .ok_or_else(|| (Rejection::WrongRole, "the certificate names nobody".to_owned()))?;
        let slot = self.limits.take(&identity).ok_or_else(|| {
            (Rejection::IdentityLimit, format!("{identity} holds too many connections"))
        })?;
        Ok(SecureStream::new(stream, slot, remote))
    }
}

/// Sorts the error of a handshake.
fn classify(error: &io::Error) -> Rejection {
    use rustls::Error as Tls;
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) else {
        return Rejection::Broken;
    };
    match error {
        Tls::NoCertificatesPresented => Rejection::NoCertificate,
        Tls::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            Rejection::WrongRole
        }
        Tls::InvalidCertificate(_) => Rejection::BadCertificate,
        Tls::AlertReceived(_) => Rejection::Alert,
        // The library may grow kinds of errors; all that are not about certificates are about
        // what was spoken.
        _ => Rejection::Protocol,
    }
}

#[cfg(test)]
mod tests;
