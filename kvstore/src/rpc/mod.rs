//! The client port: gRPC over mutual TLS.
//!
//! A request passes, in this order: the TLS acceptor (who is it), HTTP/2 limits, [`wrap`] (gives a
//! code to what the transport refuses), a handler ([`kv`], [`cluster`], [`keyspaces`], [`node`]) that checks and converts
//! ([`convert`]), admission, the node. A reply carries what it proves; an error carries a stable
//! code and whether a write was applied.
//!
//! Health checks (`grpc.health.v1`) answer from memory and never pass admission.

pub mod cluster;
mod convergence;
pub mod convert;
pub mod front;
pub mod health;
pub mod keyspaces;
pub mod kv;
mod manage;
pub mod node;
pub mod patience;
pub mod state;
pub mod wrap;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use proto::limits::REQUEST_BYTES_MAX;
use proto::v1::cluster_server::ClusterServer;
use proto::v1::keyspaces_server::KeyspacesServer;
use proto::v1::kv_server::KvServer;
use proto::v1::node_server::NodeServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::util::MapResponseLayer;

use self::cluster::ClusterService;
use self::front::Front;
use self::keyspaces::KeyspacesService;
use self::kv::KvService;
use self::node::NodeService;
use self::patience::PATIENCE_MAX;

/// Streams of one connection at a time; behind them stands the admission queue.
const STREAMS_MAX: u32 = 1_024;
/// Streams reset by the client before they were accepted (rapid reset, CVE-2023-44487).
const PENDING_ACCEPT_RESETS_MAX: usize = 20;
/// Streams reset by this side for errors of the client (RUSTSEC-2024-0003).
const LOCAL_ERROR_RESETS_MAX: usize = 128;
/// Headers of one request.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// One HTTP/2 frame.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of one request that may be on the way before they are read.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of all requests of one connection that may be on the way.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A silent connection is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And closed when it does not say so in time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A request whose body takes longer than this is dropped; answers come long before.
const REQUEST_TIME_MAX: Duration = PATIENCE_MAX.saturating_add(Duration::from_secs(5));
/// A connection is asked to begin anew after this time, so that revoked certificates go.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// Serves connections until `shutdown` completes, then lets each finish what it has begun.
///
/// # Errors
/// None are known; connections fail on their own.
pub async fn serve<I, IO, E>(
    front: Arc<Front>,
    connections: I,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    I: Stream<Item = Result<IO, E>>,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let kv = KvServer::new(KvService::new(Arc::clone(&front)))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let cluster = ClusterServer::new(ClusterService::new(Arc::clone(&front)))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let keyspaces = KeyspacesServer::new(KeyspacesService::new(Arc::clone(&front)))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let node = NodeServer::new(NodeService::new(Arc::clone(&front)))
        .max_decoding_message_size(REQUEST_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reporting = tokio::spawn(health::report(front, reporter));
    let result = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_ACCEPT_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS_MAX))
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE_MAX)
        .timeout(REQUEST_TIME_MAX)
        .layer(MapResponseLayer::new(wrap::wrap as fn(http::Response<Body>) -> _))
        .add_service(health)
        .add_service(kv)
        .add_service(cluster)
        .add_service(keyspaces)
        .add_service(node)
        .serve_with_incoming_shutdown(connections, shutdown)
        .await;
    reporting.abort();
    result
}
