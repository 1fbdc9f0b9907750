//! Real connections over loopback.

use std::time::SystemTime;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::material::{ALPN_CLIENT, ALPN_PEER};
use crate::tls::testing::{DAY, Pki};

/// How long a test waits for what should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

fn localhost() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn client_port(pki: &Pki, options: AcceptorOptions) -> Acceptor {
    Acceptor::bind(localhost(), pki.material("n1").client_listener(), options).unwrap()
}

async fn dial(
    tls: Arc<rustls::ClientConfig>,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(tls).connect(ServerName::from(address.ip()), tcp).await
}

/// What the server says to a connection: its bytes, or why it was refused. The client's half of a
/// TLS 1.3 handshake ends before the server has judged its certificate.
async fn first_bytes(tls: Arc<rustls::ClientConfig>, address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = dial(tls, address).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Waits until the server counted a rejection for this reason.
async fn rejected(counters: &AcceptCounters, reason: Rejection, times: u64) {
    let reached = async {
        while counters.rejected(reason) < times {
            tokio::task::yield_now().await;
        }
    };
    time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{reason:?}: {counters:?}"));
    assert_eq!(counters.rejected(reason), times, "{counters:?}");
}

fn pki() -> Pki {
    let pki = Pki::new();
    pki.node("n1");
    pki.client("alice");
    pki
}

#[tokio::test]
async fn a_client_is_let_in_and_known_by_name() {
    let pki = pki();
    let mut acceptor = client_port(&pki, AcceptorOptions::default());
    let mut client = dial(pki.dialer("alice", ALPN_CLIENT), acceptor.local_addr()).await.unwrap();
    let mut stream = acceptor.accept().await.unwrap();
    assert_eq!(stream.identity().to_string(), "kv:///client/alice");
    assert_eq!(stream.remote(), client.get_ref().0.local_addr().unwrap());
    assert!(stream.tcp().nodelay().unwrap());
    client.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
    assert_eq!(acceptor.counters().accepted(), 1);
}

#[tokio::test]
async fn the_wrong_role_is_told_access_denied() {
    let pki = pki();
    pki.node("n2");
    let now = SystemTime::now();
    pki.issue("nobody", now - DAY, now + DAY, &[]);
    pki.issue("scoped", now - DAY, now + DAY, &["kv://other/client/alice"]);
    pki.issue("both", now - DAY, now + DAY, &["kv:///client/alice", "kv:///node/n1"]);
    let material = pki.material("n1");
    let clients = client_port(&pki, AcceptorOptions::default());
    let peers =
        Acceptor::bind(localhost(), material.peer_listener(), AcceptorOptions::default()).unwrap();
    for (acceptor, names, alpn) in [
        (&clients, ["n2", "nobody", "scoped", "both"].as_slice(), ALPN_CLIENT),
        (&peers, ["alice", "nobody", "scoped", "both"].as_slice(), ALPN_PEER),
    ] {
        for name in names {
            let error =
                first_bytes(pki.dialer(name, alpn), acceptor.local_addr()).await.unwrap_err();
            assert!(error.to_string().contains("AccessDenied"), "{name}: {error}");
        }
        rejected(&acceptor.counters(), Rejection::WrongRole, names.len() as u64).await;
        assert_eq!(acceptor.counters().accepted(), 0);
    }
}

#[tokio::test]
async fn bad_certificates_are_refused() {
    let pki = pki();
    let now = SystemTime::now();
    pki.issue("old", now - 3 * DAY, now - DAY, &["kv:///client/old"]);
    pki.issue("new", now + DAY, now + 3 * DAY, &["kv:///client/new"]);
    let foreign = Pki::new();
    foreign.client("alice");
    let acceptor = client_port(&pki, AcceptorOptions::default());
    let address = acceptor.local_addr();
    for (name, alert) in [("old", "CertificateExpired"), ("new", "CertificateExpired")] {
        let error = first_bytes(pki.dialer(name, ALPN_CLIENT), address).await.unwrap_err();
        assert!(error.to_string().contains(alert), "{name}: {error}");
    }
    rejected(&acceptor.counters(), Rejection::BadCertificate, 2).await;
    // The foreign client does not trust this server either; it gives up first.
    let error = first_bytes(foreign.dialer("alice", ALPN_CLIENT), address).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    rejected(&acceptor.counters(), Rejection::Alert, 1).await;
}

#[tokio::test]
async fn a_foreign_certificate_is_refused_by_the_server_too() {
    let (pki, foreign) = (pki(), Pki::new());
    foreign.client("alice");
    // Trusts our CA, shows a certificate of another.
    std::fs::copy(pki.path().join("ca.crt"), foreign.path().join("ca.crt")).unwrap();
    let acceptor = client_port(&pki, AcceptorOptions::default());
    let error = first_bytes(foreign.dialer("alice", ALPN_CLIENT), acceptor.local_addr());
    let error = error.await.unwrap_err();
    assert!(error.to_string().contains("UnknownCA"), "{error}");
    rejected(&acceptor.counters(), Rejection::BadCertificate, 1).await;
}

#[tokio::test]
async fn without_a_certificate_or_our_protocol_nobody_is_let_in() {
    let pki = pki();
    let acceptor = client_port(&pki, AcceptorOptions::default());
    let address = acceptor.local_addr();
    let error = first_bytes(pki.anonymous(ALPN_CLIENT), address).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    rejected(&acceptor.counters(), Rejection::NoCertificate, 1).await;
    let error = first_bytes(pki.dialer("alice", b"http/1.1"), address).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    let mut silent = (*pki.dialer("alice", ALPN_CLIENT)).clone();
    silent.alpn_protocols.clear();
    let closed = first_bytes(Arc::new(silent), address).await;
    assert!(closed.is_err(), "{closed:?}");
    rejected(&acceptor.counters(), Rejection::Protocol, 2).await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // The answer is an alert, then the end; how the end looks depends on what was left unread.
    let _ = plain.read_to_end(&mut Vec::new()).await;
    rejected(&acceptor.counters(), Rejection::Protocol, 3).await;
    drop(TcpStream::connect(address).await.unwrap());
    rejected(&acceptor.counters(), Rejection::Broken, 1).await;
    assert_eq!(acceptor.counters().accepted(), 0);
}

#[tokio::test]
async fn a_silent_connection_is_dropped_in_time() {
    let pki = pki();
    let options =
        AcceptorOptions { handshake_timeout: Duration::from_millis(50), ..Default::default() };
    let acceptor = client_port(&pki, options);
    let mut silent = TcpStream::connect(acceptor.local_addr()).await.unwrap();
    let end = time::timeout(PATIENCE, silent.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap(), 0);
    rejected(&acceptor.counters(), Rejection::Timeout, 1).await;
}

#[tokio::test]
async fn the_oldest_handshake_makes_room() {
    let pki = pki();
    let options = AcceptorOptions { handshakes_max: 2, ..Default::default() };
    let acceptor = client_port(&pki, options);
    let address = acceptor.local_addr();
    let mut oldest = TcpStream::connect(address).await.unwrap();
    let second = TcpStream::connect(address).await.unwrap();
    let third = TcpStream::connect(address).await.unwrap();
    let end = time::timeout(PATIENCE, oldest.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap(), 0);
    rejected(&acceptor.counters(), Rejection::Crowded, 1).await;
    // The others are still there: a fourth drops the second.
    let mut fourth = dial(pki.dialer("alice", ALPN_CLIENT), address).await.unwrap();
    rejected(&acceptor.counters(), Rejection::Crowded, 2).await;
    fourth.write_all(b"x").await.unwrap();
    drop((second, third));
}

#[tokio::test]
async fn a_thousand_silent_connections_do_not_stop_an_honest_one() {
    let pki = pki();
    let mut acceptor = client_port(&pki, AcceptorOptions::default());
    let address = acceptor.local_addr();
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let client = dial(pki.dialer("alice", ALPN_CLIENT), address);
    let (client, stream) =
        time::timeout(PATIENCE, async { tokio::join!(client, acceptor.accept()) }).await.unwrap();
    assert!(client.is_ok());
    assert_eq!(stream.unwrap().identity().name, "alice");
    let crowded = acceptor.counters().rejected(Rejection::Crowded);
    assert!(crowded >= 1_000 - 256, "{crowded}");
    drop(silent);
}

#[tokio::test]
async fn an_identity_holds_no_more_than_its_limit() {
    let pki = pki();
    pki.client("bob");
    let options = AcceptorOptions { per_identity_max: 2, ..Default::default() };
    let mut acceptor = client_port(&pki, options);
    let address = acceptor.local_addr();
    let tls = pki.dialer("alice", ALPN_CLIENT);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let client = dial(Arc::clone(&tls), address).await.unwrap();
        kept.push((client, acceptor.accept().await.unwrap()));
    }
    let refused = first_bytes(Arc::clone(&tls), address).await;
    assert!(refused.as_ref().map_or(true, Vec::is_empty), "{refused:?}");
    rejected(&acceptor.counters(), Rejection::IdentityLimit, 1).await;
    let bob = dial(pki.dialer("bob", ALPN_CLIENT), address).await.unwrap();
    assert_eq!(acceptor.accept().await.unwrap().identity().name, "bob");
    // A place is free again once a connection is dropped.
    kept.pop();
    let again = dial(tls, address).await.unwrap();
    assert_eq!(acceptor.accept().await.unwrap().identity().name, "alice");
    drop((bob, again, kept));
}

#[tokio::test]
async fn dropping_the_acceptor_closes_the_port() {
    let pki = pki();
    let mut acceptor = client_port(&pki, AcceptorOptions::default());
    let address = acceptor.local_addr();
    let mut client = dial(pki.dialer("alice", ALPN_CLIENT), address).await.unwrap();
    let mut stream = acceptor.accept().await.unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    drop(acceptor);
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    time::timeout(PATIENCE, refused).await.unwrap();
    // What was given out goes on.
    client.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    drop(silent);
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let pki = pki();
    let acceptor = client_port(&pki, AcceptorOptions::default());
    let tls = pki.material("n1").client_listener();
    let error = Acceptor::bind(acceptor.local_addr(), tls, AcceptorOptions::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_dialer_checks_host_and_node() {
    let pki = pki();
    pki.node("n2");
    pki.node_for("n3", &["localhost".to_owned()]);
    let bind = |name: &str| {
        let tls = pki.material(name).peer_listener();
        Acceptor::bind(localhost(), tls, AcceptorOptions::default()).unwrap()
    };
    let (n2, n3) = (bind("n2"), bind("n3"));
    let material = pki.material("n1");
    assert!(dial(material.peer_dialer("n2"), n2.local_addr()).await.is_ok());
    let error = dial(material.peer_dialer("n3"), n2.local_addr()).await.unwrap_err();
    assert!(error.to_string().contains("ApplicationVerificationFailure"), "{error}");
    let error = dial(material.peer_dialer("n3"), n3.local_addr()).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}
