//! The admin listener: health and metrics over plain HTTP, on loopback only.
//!
//! | path | 200 when |
//! |---|---|
//! | `/livez` | the loop of the node makes progress |
//! | `/readyz` | linearizable reads and writes can be answered |
//! | `/readyz/local` | reads of this replica's own state can be answered |
//! | `/metrics` | always; OpenMetrics text |
//!
//! Otherwise 503. With `?verbose` each check stands on a line of its own. Only GET is answered.
//! `Host` must name the listen address and no `Origin` may be given, so that a web page in a
//! browser of the same machine reaches nothing here. No key and no client name is ever shown.

mod answer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use self::answer::{Asked, answer};
use crate::metrics::Snapshot;
use crate::rpc::front::Front;

/// Connections at a time. One more closes the oldest, so that silent ones lock nobody out.
const CONNECTIONS_MAX: usize = 64;
/// A connection that has not sent its headers by then is closed.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The pause after an error of accept, such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What the admin listener shows.
pub struct Admin {
    address: SocketAddr,
    front: Arc<Front>,
    snapshot: Box<dyn Fn() -> Snapshot + Send + Sync>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Admin {
    /// Shows `front` and what `snapshot` reads off, on `address` as it was bound.
    ///
    /// # Panics
    /// When the address is not a loopback address: there is no encryption here.
    pub fn new(
        address: SocketAddr,
        front: Arc<Front>,
        snapshot: impl Fn() -> Snapshot + Send + Sync + 'static,
    ) -> Self {
        assert!(address.ip().is_loopback(), "the admin listener is plain HTTP");
        Self { address, front, snapshot: Box::new(snapshot) }
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        let admin = Arc::new(self);
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    open.retain(|connection| !connection.is_finished());
                    if open.len() >= CONNECTIONS_MAX
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    let connection = tokio::spawn(Arc::clone(&admin).connection(stream));
                    open.push_back(connection.abort_handle());
                }
                Err(error) => {
                    tracing::warn!(%error, "admin listener cannot accept");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request: http::Request<Incoming>| {
            let response = self.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "admin connection");
        }
    }

    fn respond(&self, request: &http::Request<Incoming>) -> http::Response<Body> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let asked = Asked {
            method: request.method(),
            host: header(http::header::HOST),
            has_origin: request.headers().contains_key(http::header::ORIGIN),
            path: request.uri().path(),
            query: request.uri().query(),
        };
        let checks = self.front.checks();
        let metrics = || self.front.metrics().render(&(self.snapshot)());
        let answer = answer(self.address, &asked, &checks, metrics);
        http::Response::builder()
            .status(answer.status)
            .header(http::header::CONTENT_TYPE, answer.content_type)
            .header(http::header::CACHE_CONTROL, "no-store")
            .header(http::header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .body(Body::from(answer.body))
            .expect("status and headers are constants")
    }
}
