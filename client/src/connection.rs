//! Connections to one endpoint: brought up on first use, shared by all calls, replaced when broken.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use crate::error::{ClientError, UnreachedReason};
use crate::tls::{Heard, TlsSettings, WatchedStream, rejects_certificate};

/// How long a connection may take to come up. Longer than most attempts: a later one profits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that one call's answer may have in flight: a page or a value of the largest size.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes that all answers of a connection may have in flight.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A connection with open calls is probed when it was silent this long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// An unanswered probe breaks the connection after this time.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Given-up calls whose late answers are ignored rather than counted against the server.
const RESET_STREAMS_MAX: usize = 4_096;

/// An endpoint that could not be reached is not preferred for this long; it doubles up to
/// [`REST_MAX`]. Without it, a leader whose advertised address cannot be reached from here would cost
/// each write a vain attempt.
const REST_MIN: Duration = Duration::from_millis(500);
/// The longest such time.
const REST_MAX: Duration = Duration::from_secs(30);

type Sender = SendRequest<Body>;

/// A node's client address and the connections to it.
pub(crate) struct Endpoint {
    address: String,
    host: ServerName<'static>,
    origin: Uri,
    tls: Arc<TlsSettings>,
    slots: Vec<Arc<Slot>>,
    next: AtomicUsize,
    rest: Mutex<Rest>,
}

/// How long an endpoint that cannot be reached is not preferred.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    failures: u32,
    until: Option<Instant>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.address).finish()
    }
}

impl Endpoint {
    /// An endpoint `host:port` with so many connections; connects nothing yet.
    pub(crate) fn new(
        address: &str,
        connections: usize,
        tls: Arc<TlsSettings>,
    ) -> Result<Self, ClientError> {
        let malformed =
            || ClientError::setup(format!("endpoint {address:?} is not of the form host:port"));
        let address = address.trim().strip_prefix("https://").unwrap_or(address.trim());
        let authority: http::uri::Authority = address.parse().map_err(|_| malformed())?;
        if authority.port_u16().is_none() || address.contains('@') {
            return Err(malformed());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let host = ServerName::try_from(host).map_err(|_| malformed())?;
        let origin = Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query("/")
            .build()
            .map_err(|_| malformed())?;
        let slots = (0..connections).map(|_| Arc::new(Slot::default())).collect();
        Ok(Self {
            address: address.to_owned(),
            host,
            origin,
            tls,
            slots,
            next: AtomicUsize::new(0),
            rest: Mutex::default(),
        })
    }

    /// The address, `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What calls on a connection of this endpoint are addressed to.
    pub(crate) fn origin(&self) -> Uri {
        self.origin.clone()
    }

    /// Whether it was not reached lately: others are tried first, even before a leader.
    pub(crate) fn is_resting(&self) -> bool {
        let rest = *self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes that a call could not reach it. Calls that fail while it rests say nothing new.
    pub(crate) fn note_unreached(&self) {
        let now = Instant::now();
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if rest.until.is_none_or(|until| until <= now) {
            let time = REST_MAX.min(REST_MIN * 2u32.saturating_pow(rest.failures));
            *rest = Rest { failures: (rest.failures + 1).min(16), until: Some(now + time) };
        }
    }

    fn note_reached(&self) {
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Rest::default();
    }

    /// A connection that is up, taking turns over all of them. Whoever comes while it is being
    /// brought up waits for the same attempt; cancelling the wait does not cancel the attempt.
    ///
    /// # Errors
    /// Why it did not come up. Nothing was sent.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Connection, UnreachedReason> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let slot = &self.slots[turn];
        let mut attempt = match slot.enter(self) {
            Entered::Up(sender) => return Ok(Connection { sender }),
            Entered::Connecting(attempt) => attempt,
        };
        let outcome = attempt.wait_for(Option::is_some).await;
        let outcome = outcome.map(|outcome| outcome.clone());
        match outcome {
            Ok(Some(Ok(sender))) => Ok(Connection { sender }),
            Ok(Some(Err(reason))) => Err(reason),
            // The runtime that ran the attempt is shutting down.
            Ok(None) | Err(_) => Err(UnreachedReason::TimedOut),
        }
    }

    /// Lets all connections be up. They lead nowhere.
    #[cfg(test)]
    pub(crate) async fn pretend_up(&self) {
        for slot in &self.slots {
            let (near, far) = tokio::io::duplex(4_096);
            let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                .handshake(TokioIo::new(near))
                .await
                .expect("nothing is asked of the other side");
            tokio::spawn(async move {
                let _far = far;
                let _ = driver.await;
            });
            *slot.lock() = Link::Up(sender);
        }
    }

    /// Brings one connection up: TCP, TLS, HTTP/2, and a first word of the node.
    async fn connect(&self) -> Result<Sender, UnreachedReason> {
        let authority = self.origin.authority().expect("an origin has an authority");
        let port = authority.port_u16().expect("an endpoint has a port");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(|error| UnreachedReason::Refused(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| UnreachedReason::Refused(error.to_string()))?;

        let (config, shown) = self.tls.connection();
        let stream = TlsConnector::from(config)
            .connect(self.host.clone(), tcp)
            .await
            .map_err(|error| self.tls.explain(&error, &shown))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(UnreachedReason::Protocol("it does not speak HTTP/2".into()));
        }

        let (stream, mut heard) = WatchedStream::new(stream);
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| UnreachedReason::Protocol(error.to_string()))?;
        // How a connection ends is seen by the calls on it.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        let first = heard.wait_for(|heard| *heard != Heard::Nothing).await.map(|heard| *heard);
        match first {
            Ok(Heard::Node) => Ok(sender),
            Ok(Heard::End(Some(alert))) if rejects_certificate(alert) => {
                Err(self.tls.rejected_by_node(alert))
            }
            Ok(Heard::End(_) | Heard::Nothing) | Err(_) => {
                Err(UnreachedReason::Protocol("it hung up before it said anything".into()))
            }
        }
    }
}

/// The place of one connection.
#[derive(Default)]
struct Slot(Mutex<Link>);

type Outcome = Option<Result<Sender, UnreachedReason>>;

/// The state of a connection.
#[derive(Default)]
enum Link {
    /// Not there; the next call brings it up.
    #[default]
    Down,
    /// A task brings it up.
    Connecting(watch::Receiver<Outcome>),
    /// It came up; it may have broken since.
    Up(Sender),
}

/// What a call finds in a slot.
enum Entered {
    Up(Sender),
    Connecting(watch::Receiver<Outcome>),
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Link> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, endpoint: &Arc<Endpoint>) -> Entered {
        let mut link = self.lock();
        match &*link {
            Link::Up(sender) if !sender.is_closed() => return Entered::Up(sender.clone()),
            Link::Connecting(attempt) if attempt.has_changed().is_ok() => {
                return Entered::Connecting(attempt.clone());
            }
            Link::Up(_) | Link::Connecting(_) | Link::Down => {}
        }
        let (finish, attempt) = watch::channel(None);
        *link = Link::Connecting(attempt.clone());
        let (slot, endpoint) = (self.clone(), endpoint.clone());
        tokio::spawn(async move {
            let outcome = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect())
                .await
                .unwrap_or(Err(UnreachedReason::TimedOut));
            *slot.lock() = match &outcome {
                Ok(sender) => {
                    endpoint.note_reached();
                    Link::Up(sender.clone())
                }
                Err(_) => Link::Down,
            };
            finish.send_replace(Some(outcome));
        });
        Entered::Connecting(attempt)
    }
}

/// A connection that came up, as the transport of gRPC calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: Sender,
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, SendError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        // Calls queue inside the connection; a broken one says so when it is given the call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.sender.try_send_request(request);
        Box::pin(async move {
            answer.await.map_err(|mut error| SendError {
                sent: error.take_message().is_none(),
                source: error.into_error(),
            })
        })
    }
}

/// A call that the transport could not carry.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct SendError {
    /// Whether any of it may have left.
    pub(crate) sent: bool,
    source: hyper::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Result<Endpoint, ClientError> {
        let dir = tempfile::tempdir().unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        let ca = crate::pki::init_ca(dir.path(), None, day).unwrap();
        let client = crate::pki::issue_client(dir.path(), "alice", day).unwrap();
        let credentials = crate::pki::load(&ca.cert, &client.cert, &client.key).unwrap();
        Endpoint::new(address, 1, Arc::new(TlsSettings::new(&credentials).unwrap()))
    }

    #[test]
    fn an_endpoint_that_is_not_reached_rests_until_it_is() {
        let endpoint = endpoint("127.0.0.1:1").unwrap();
        assert!(!endpoint.is_resting());
        for failures in 1..=40 {
            endpoint.note_unreached();
            endpoint.note_unreached();
            let mut rest = endpoint.rest.lock().unwrap();
            assert_eq!(rest.failures, 16.min(failures));
            let until = rest.until.unwrap();
            assert!(until > Instant::now() && until <= Instant::now() + REST_MAX);
            rest.until = Some(Instant::now());
        }
        endpoint.note_reached();
        assert!(!endpoint.is_resting());
    }

    #[test]
    fn addresses_are_host_and_port() {
        for (text, address) in [
            ("127.0.0.1:7610", "127.0.0.1:7610"),
            ("https://localhost:1", "localhost:1"),
            (" n1.example:7610", "n1.example:7610"),
            ("[::1]:7610", "[::1]:7610"),
        ] {
            assert_eq!(endpoint(text).unwrap().address(), address);
        }
        for text in ["", "localhost", "localhost:", "localhost:x", "a b:1", "me@host:1", ":7610"] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
    }
}
