//! Bad input: each row gets the documented error or exit code, and nothing is applied.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes};
use client::pki;
use proto::{Applied, Code, Failure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::programs::{self, Kv, READY_MAX};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Runs `serve` with a configuration that cannot work; returns exit code and stderr.
fn serve(config: &Path) -> (i32, String) {
    let output = Command::new(programs::server())
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A node that could start, in a directory of its own; tests break one thing each.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        pki::init_ca(&pki, None, DAY).unwrap();
        let hosts = ["127.0.0.1".to_owned()];
        pki::issue_node(&pki, "n1", &hosts, DAY).unwrap();
        Self { dir }
    }

    fn config(&self, change: impl Fn(String) -> String) -> PathBuf {
        let text = r#"[node]
name = "n1"
data_dir = "data"
[listen]
client = "127.0.0.1:0"
peer = "127.0.0.1:0"
admin = "127.0.0.1:0"
[cluster]
name = "test"
initial = ["n1=127.0.0.1:1"]
[tls]
ca = "pki/ca.crt"
cert = "pki/n1.crt"
key = "pki/n1.key"
"#;
        let path = self.dir.path().join("kvstore.toml");
        std::fs::write(&path, change(text.to_owned())).unwrap();
        path
    }
}

#[test]
fn an_unknown_config_key_is_named_with_its_line_and_a_suggestion() {
    let site = Site::new();
    let config = site.config(|text| text.replace("data_dir", "data_dirr"));
    let (code, err) = serve(&config);
    assert_eq!(code, 2, "{err}");
    for word in ["KV1701", "kvstore.toml", "data_dirr", "data_dir", "3"] {
        assert!(err.contains(word), "{word} is missing: {err}");
    }
}

#[test]
fn contradictory_config_keys_are_refused() {
    let site = Site::new();
    let both = |text: String| text.replace("[tls]", "join = [\"127.0.0.1:7611\"]\n[tls]");
    let (code, err) = serve(&site.config(both));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("join"), "{err}");
    let stranger = |text: String| text.replace("n1=127", "n9=127");
    let (code, err) = serve(&site.config(stranger));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("initial"), "{err}");
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_chmod() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let key = site.dir.path().join("pki/n1.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, err) = serve(&site.config(|text| text));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("KV1702") && err.contains("chmod 600") && err.contains("n1.key"), "{err}");
}

/// Waits until a certificate that was issued for no time at all has expired; at most a second.
fn wait_until_expired() {
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let issued = seconds();
    while seconds() <= issued {
        std::thread::yield_now();
    }
}

#[test]
fn an_expired_own_certificate_is_refused_with_its_dates() {
    let site = Site::new();
    let pki = site.dir.path().join("pki");
    std::fs::remove_file(pki.join("n1.crt")).unwrap();
    std::fs::remove_file(pki.join("n1.key")).unwrap();
    pki::issue_node(&pki, "n1", &["127.0.0.1".to_owned()], Duration::ZERO).unwrap();
    wait_until_expired();
    let (code, err) = serve(&site.config(|text| text));
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("KV1703") && err.contains("expired"), "{err}");
}

#[test]
fn a_certificate_for_another_node_is_refused() {
    let site = Site::new();
    let pki = site.dir.path().join("pki");
    pki::issue_node(&pki, "n2", &["127.0.0.1".to_owned()], DAY).unwrap();
    let (code, err) = serve(&site.config(|text| text.replace("pki/n1.", "pki/n2.")));
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("KV1703") && err.contains("n2"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_client_certificate_is_refused() {
    let cluster = programs::cluster().await;
    pki::issue_client(cluster.pki(), "late", Duration::ZERO).unwrap();
    wait_until_expired();
    let kv = Kv::to(&cluster.endpoints(), cluster.pki(), "late");
    let (code, _, err) = kv.outcome(&["put", "a", "1"]);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("error[KV1601]") && err.contains("expired"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_certificate_is_refused_and_named() {
    let cluster = programs::cluster().await;
    let foreign = tempfile::tempdir().unwrap();
    let pki = foreign.path().join("pki");
    pki::init_ca(&pki, None, DAY).unwrap();
    pki::issue_client(&pki, "mallory", DAY).unwrap();
    // Trusts the cluster, but is not trusted by it.
    std::fs::copy(cluster.pki().join("ca.crt"), pki.join("ca.crt")).unwrap();
    let (code, _, err) = Kv::to(&cluster.endpoints(), &pki, "mallory").outcome(&["get", "a"]);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("error[KV1601]"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_cannot_speak_on_the_peer_port() {
    let cluster = programs::cluster().await;
    let config = std::fs::read_to_string(cluster.config(0)).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let peer = config["listen"]["peer"].as_str().unwrap();
    let answer = match connect(peer, cluster.pki(), "lab", b"kvstore-peer/1").await {
        // TLS 1.3 lets a client finish before the server has looked at its certificate.
        Ok(mut stream) => {
            let mut byte = [0];
            stream.read(&mut byte).await
        }
        Err(error) => Err(error),
    };
    assert!(!matches!(answer, Ok(1..)), "the peer port spoke to a client: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_malformed_has_a_code_and_is_not_applied() {
    let cluster = programs::cluster().await;
    let mut raw = Raw::connect(&cluster.endpoint(0), cluster.pki()).await;
    let put = |key: usize, value: usize| proto::v1::PutRequest {
        keyspace: "default".into(),
        key: vec![b'k'; key].into(),
        value: vec![b'v'; value].into(),
        ..Default::default()
    };
    let cases = [
        (put(4097, 1), Code::KeyTooLarge),
        (put(1, 1024 * 1024 + 1), Code::ValueTooLarge),
        (put(1, 1600 * 1024), Code::RequestTooLarge),
        (put(0, 1), Code::KeyEmpty),
    ];
    for (request, code) in cases {
        let body = prost::Message::encode_to_vec(&request);
        let failure = raw.call("/kv.v1.Kv/Put", body.into()).await;
        assert_eq!((failure.code, failure.applied), (code, Some(Applied::No)), "{failure}");
    }
    let get = |number: usize| proto::v1::Op {
        op: Some(proto::v1::op::Op::Get(proto::v1::GetOp { key: format!("{number}").into() })),
    };
    let txn = proto::v1::TxnRequest {
        keyspace: "default".into(),
        then_ops: (0..129).map(get).collect(),
        ..Default::default()
    };
    let body = prost::Message::encode_to_vec(&txn);
    let failure = raw.call("/kv.v1.Kv/Txn", body.into()).await;
    assert_eq!((failure.code, failure.applied), (Code::TooManyOperations, Some(Applied::No)));
    let failure = raw.call("/kv.v1.Kv/Put", Bytes::from_static(b"\x0a\xff\xff\xff\xff\x0f")).await;
    assert_eq!((failure.code, failure.applied), (Code::InvalidRequest, Some(Applied::No)));
    let failure = raw.call("/kv.v1.Kv/Nonsense", Bytes::new()).await;
    assert_eq!((failure.code, failure.applied), (Code::Unimplemented, Some(Applied::No)));

    // The command line checks before it sends, with the same codes.
    let kv = Kv::to(&cluster.endpoints(), cluster.pki(), "lab");
    let long = "k".repeat(4097);
    let (code, _, err) = kv.outcome(&["put", &long, "1"]);
    assert!(code == 8 && err.contains("error[KV1003]"), "{code}: {err}");
    // And the cluster is as it was.
    assert_eq!(kv.outcome(&["ls", "--count"]).1.trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_on_each_port_harm_nobody() {
    let mut cluster = programs::cluster().await;
    let config = std::fs::read_to_string(cluster.config(0)).unwrap();
    let config: toml::Table = config.parse().unwrap();
    for port in ["client", "peer", "admin"] {
        let address = config["listen"][port].as_str().unwrap();
        for seed in 0..50_u8 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let noise: Vec<u8> =
                (0..512_u32).map(|n| (n as u8).wrapping_mul(seed) ^ seed).collect();
            // The server may close at any time; what it must not do is fall over.
            if stream.write_all(&noise).await.is_ok() {
                let _closed = stream.shutdown().await;
            }
        }
    }
    // Noise inside TLS, where a certificate opens the door.
    let client_port = config["listen"]["client"].as_str().unwrap();
    for _ in 0..20 {
        let mut stream = connect(client_port, cluster.pki(), "lab", b"h2").await.unwrap();
        let _refused = stream.write_all(&[0xff; 1024]).await;
    }
    cluster.check_alive().unwrap();
    let client = cluster.client(cluster.endpoints(), READY_MAX).unwrap();
    client.put_value("a", "1", &client::CallOptions::default()).await.unwrap();
}

/// TLS to `address` with the certificate `name`.
pub async fn connect(
    address: &str,
    pki: &Path,
    name: &str,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for ca in CertificateDer::pem_file_iter(pki.join("ca.crt")).unwrap() {
        roots.add(ca.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(pki.join(format!("{name}.crt"))).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(pki.join(format!("{name}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let server = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(server, stream).await
}

/// A gRPC client that sends bodies as they are.
struct Raw {
    grpc: tonic::client::Grpc<tonic::transport::Channel>,
}

impl Raw {
    async fn connect(address: &str, pki: &Path) -> Self {
        let (target, pki) = (address.to_owned(), pki.to_owned());
        let connector = tower::service_fn(move |_| {
            let (target, pki) = (target.clone(), pki.clone());
            async move {
                let stream = connect(&target, &pki, "lab", b"h2").await?;
                std::io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.unwrap().connect_with_connector(connector).await.unwrap();
        Self { grpc: tonic::client::Grpc::new(channel) }
    }

    /// Calls and expects a refusal with our detail.
    async fn call(&mut self, path: &'static str, body: Bytes) -> Failure {
        self.grpc.ready().await.unwrap();
        let path = path.parse().unwrap();
        let status = self.grpc.unary(tonic::Request::new(body), path, RawCodec).await.unwrap_err();
        Failure::from_status(&status).unwrap_or_else(|| panic!("no detail: {status:?}"))
    }
}

/// Passes bodies through.
#[derive(Clone, Copy, Debug)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
