//! Attempts that nobody repeats: one request, one answer, as the server gave it.
//!
//! The client library repeats what may be repeated, so with it an overloaded cluster looks slow and
//! not overloaded. Here each write is sent once, to one node, under a client id of its own or of the
//! slot that sends it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use client::pki;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jepsen::cluster::Cluster;
use proto::v1::kv_client::KvClient;
use proto::{Failure, v1};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::Failed;

/// The server is told how long an answer is waited for; we wait a little longer, to get it.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Acknowledged.
    Acknowledged,
    /// Refused by the server, with a typed error.
    Refused(Box<Failure>),
    /// Ended without a typed error.
    Untyped(String),
    /// No answer came, long after the server was to give up. The request may have waited in a socket
    /// all the time.
    Silent,
}

/// Connections to one node.
#[derive(Clone, Debug)]
pub struct Single {
    connections: Vec<KvClient<Connection>>,
}

impl Single {
    /// Connects to a node, so many times.
    ///
    /// # Errors
    /// Certificates that cannot be used; the node does not answer.
    pub async fn connect(
        cluster: &Cluster,
        node: usize,
        connections: usize,
    ) -> Result<Self, Failed> {
        let tls = Arc::new(tls(&cluster.credentials()?)?);
        let address = cluster.endpoint(node);
        let origin: hyper::Uri = format!("https://{address}").parse()?;
        let mut opened = Vec::new();
        for _ in 0..connections {
            let connection = Connection::open(Arc::clone(&tls), &address).await?;
            opened.push(KvClient::with_origin(connection, origin.clone()));
        }
        Ok(Self { connections: opened })
    }

    /// The index of the node's log at which a client id is born that is used from now on.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn born(&self) -> Result<u64, Failed> {
        let mut connection = self.connections[0].clone();
        Ok(connection.hello(v1::HelloRequest {}).await?.into_inner().born)
    }

    /// Writes once. `slot` chooses the connection; `id` names the write.
    pub async fn put(
        &self,
        slot: usize,
        id: v1::WriteId,
        key: Bytes,
        value: Bytes,
        patience: Duration,
    ) -> Attempt {
        let request = v1::PutRequest {
            keyspace: client::DEFAULT_KEYSPACE.to_owned(),
            id: Some(id),
            key,
            value,
            ..v1::PutRequest::default()
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(patience);
        let mut connection = self.connections[slot % self.connections.len()].clone();
        match timeout(patience + ANSWER_MARGIN, connection.put(request)).await {
            Err(_) => Attempt::Silent,
            Ok(Ok(_)) => Attempt::Acknowledged,
            Ok(Err(status)) => match Failure::from_status(&status) {
                Some(failure) => Attempt::Refused(Box::new(failure)),
                None => Attempt::Untyped(status.to_string()),
            },
        }
    }
}

fn tls(credentials: &pki::Credentials) -> Result<rustls::ClientConfig, Failed> {
    let mut roots = rustls::RootCertStore::empty();
    for root in &credentials.roots {
        roots.add(root.clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// One HTTP/2 connection. Nothing is queued here: a request goes to the socket, or waits only because
/// the server lets no further stream begin.
#[derive(Clone, Debug)]
struct Connection(SendRequest<Body>);

impl Connection {
    async fn open(tls: Arc<rustls::ClientConfig>, address: &str) -> Result<Self, Failed> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let server = ServerName::try_from("127.0.0.1")?;
        let stream = TlsConnector::from(tls).connect(server, stream).await?;
        let io = TokioIo::new(stream);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        // Its end shows at the requests that it carries.
        tokio::spawn(connection);
        Ok(Self(sender))
    }
}

impl tower::Service<hyper::Request<Body>> for Connection {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
