//! Which side rejects which certificate, and that the user is told.

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{CallOptions, Client, ClientError, Config, UnreachedReason, pki};
use fake::{DAY, FakeCluster, FakeNode, Pki, dead_address};
use proto::{Applied, Code};

fn options() -> CallOptions {
    CallOptions { timeout: Some(Duration::from_secs(20)), ..Default::default() }
}

async fn put(config: Config) -> ClientError {
    Client::connect(config).unwrap().put_value("a", "1", &options()).await.unwrap_err()
}

async fn node(name: &str, own: &Pki, trusts: &Pki) -> FakeNode {
    FakeNode::start(name, own, trusts, Arc::default(), Arc::new(Mutex::new(vec![]))).await
}

fn reason(error: &ClientError) -> &UnreachedReason {
    match error {
        ClientError::Unreached { endpoints, .. } => &endpoints[0].reason,
        other => panic!("unexpected: {other}"),
    }
}

#[tokio::test]
async fn a_node_of_another_ca_is_rejected_by_us() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    pki::issue_node(theirs.dir.path(), "n1", &["127.0.0.1".into()], DAY).unwrap();
    let node = node("n1", &theirs, &theirs).await;
    let error = put(Config::new(vec![node.address.clone()], ours.load("alice"))).await;
    assert_eq!((error.code(), error.applied()), (Code::TlsRejected, Some(Applied::No)));
    assert_eq!(error.exit(), 7);
    let UnreachedReason::NodeCertificate { why, certificate } = reason(&error) else {
        panic!("unexpected: {error}")
    };
    assert!(why.contains("not issued by our CA"), "{why}");
    assert_eq!(certificate.as_ref().unwrap().subject, "CN=n1");
    assert!(error.to_string().contains("we rejected the node's certificate"), "{error}");
}

#[tokio::test]
async fn a_client_of_another_ca_is_rejected_by_the_node() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    pki::issue_node(theirs.dir.path(), "n1", &["127.0.0.1".into()], DAY).unwrap();
    let node = node("n1", &theirs, &theirs).await;
    let mut credentials = ours.load("alice");
    credentials.roots = pki::certificates(&theirs.path("ca.crt")).unwrap();
    // The alert races the end of the connection: it has to be found each time.
    for _ in 0..50 {
        let error = put(Config::new(vec![node.address.clone()], credentials.clone())).await;
        assert_eq!((error.code(), error.exit()), (Code::TlsRejected, 7), "{error}");
        let UnreachedReason::OwnCertificate { certificate, .. } = reason(&error) else {
            panic!("unexpected: {error}")
        };
        assert_eq!(certificate.subject, "CN=alice");
    }
}

#[tokio::test]
async fn expired_certificates_are_named() {
    let cluster = FakeCluster::start(1).await;
    let dir = cluster.pki.dir.path();
    // Backdating makes a certificate of no validity one that ended just now.
    pki::issue_client(dir, "old", Duration::ZERO).unwrap();
    let expiry = cluster.pki.load("old").info.not_after;
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    while i64::try_from(now().as_secs()).unwrap() <= expiry {
        tokio::task::yield_now().await;
    }
    let error = put(Config::new(cluster.endpoints(), cluster.pki.load("old"))).await;
    assert_eq!(error.exit(), 7, "{error}");
    let text = error.to_string();
    assert!(text.contains("rejected our certificate: it is expired"), "{text}");
    assert!(text.contains("CN=old (valid 2"), "{text}");

    pki::issue_node(dir, "n9", &["127.0.0.1".into()], Duration::ZERO).unwrap();
    let expiry = cluster.pki.load("n9").info.not_after;
    while i64::try_from(now().as_secs()).unwrap() <= expiry {
        tokio::task::yield_now().await;
    }
    let node = node("n9", &cluster.pki, &cluster.pki).await;
    let error = put(Config::new(vec![node.address.clone()], cluster.pki.load("alice"))).await;
    assert_eq!(error.exit(), 7, "{error}");
    let text = error.to_string();
    assert!(text.contains("we rejected the node's certificate: it is expired"), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_rejected() {
    let pki = Pki::new();
    pki::issue_node(pki.dir.path(), "n1", &["10.0.0.1".into()], DAY).unwrap();
    let node = node("n1", &pki, &pki).await;
    let error = put(Config::new(vec![node.address.clone()], pki.load("alice"))).await;
    assert_eq!(error.exit(), 7, "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_no_node() {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
    let pki = Pki::new();
    let ca = std::fs::read_to_string(pki.path("ca.crt")).unwrap();
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(pki.path("ca.key")).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca, ca_key).unwrap();
    for (name, uri) in [
        ("mallory", Some("kv:///client/mallory")),
        ("other", Some("kv://other/node/n1")),
        ("nameless", None),
    ] {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        // Start a node under a proper name, then let it show this certificate instead.
        pki::issue_node(pki.dir.path(), name, &["127.0.0.1".into()], DAY).unwrap();
        let shown = FakeNode::start_showing(
            name,
            &pki,
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .await;
        let error = put(Config::new(vec![shown.address.clone()], pki.load("alice"))).await;
        assert_eq!(error.exit(), 7, "{name}: {error}");
        assert!(matches!(reason(&error), UnreachedReason::NodeCertificate { .. }), "{error}");
    }
}

#[tokio::test]
async fn identity_decides_the_code_only_when_it_failed_everywhere() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    pki::issue_node(theirs.dir.path(), "n1", &["127.0.0.1".into()], DAY).unwrap();
    let node = node("n1", &theirs, &theirs).await;
    let endpoints = vec![node.address.clone(), dead_address().await];
    let error = put(Config::new(endpoints, ours.load("alice"))).await;
    assert_eq!((error.code(), error.exit()), (Code::CannotConnect, 5), "{error}");
}
