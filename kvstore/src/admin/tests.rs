//! The admin listener over a loopback socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proto::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Admin;
use crate::metrics::{Metrics, Snapshot};
use crate::rpc::front::{Front, Identity};

async fn start() -> SocketAddr {
    let identity = Identity {
        cluster_name: "test".into(),
        name: "n1".into(),
        id: NodeId(1),
        client_address: String::new(),
        peer_address: String::new(),
        certificate_expiry: 0,
    };
    let front = Arc::new(Front::new(identity, Arc::new(Metrics::default()), Vec::new));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let snapshot = || Snapshot { admission_requests: 7, ..Snapshot::default() };
    tokio::spawn(Admin::new(address, front, snapshot).serve(listener));
    address
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn probes_and_scrapes_are_answered() {
    let address = start().await;
    let live = ask(address, &get(address, "/livez")).await;
    assert!(live.starts_with("HTTP/1.1 200 OK\r\n"), "{live}");
    assert!(live.ends_with("\r\n\r\nok\n"), "{live}");
    let ready = ask(address, &get(address, "/readyz?verbose")).await;
    assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
    assert!(ready.contains("[-] running: n1 waits for the other members"), "{ready}");
    let metrics = ask(address, &get(address, "/metrics")).await;
    assert!(metrics.contains("content-type: application/openmetrics-text"), "{metrics}");
    assert!(metrics.contains("kvstore_admission_queue_requests 7\n"), "{metrics}");
}

#[tokio::test]
async fn a_page_in_a_browser_reaches_nothing() {
    let address = start().await;
    let rebound = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let rebound = ask(address, rebound).await;
    assert!(rebound.starts_with("HTTP/1.1 403 "), "{rebound}");
    let crossing = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nOrigin: http://evil.example\r\n\
         Connection: close\r\n\r\n"
    );
    let crossing = ask(address, &crossing).await;
    assert!(crossing.starts_with("HTTP/1.1 403 "), "{crossing}");
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let address = start().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nX: ");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The listener may close while this is still being written.
    let _ = stream.write_all(&vec![b'x'; 64 * 1024]).await;
    let mut answer = Vec::new();
    // A reset instead of an answer is as good: it ended.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
