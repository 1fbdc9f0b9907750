//! The client's side of TLS: 1.3 only, own certificate shown, and a node at the other end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError,
    OtherError, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::error::{ClientError, UnreachedReason};
use crate::pki::{CertificateInfo, Credentials, Identity, Role};

/// The only protocol inside TLS.
const ALPN: &[u8] = b"h2";

/// What all connections of a client share.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    base: ClientConfig,
    verifier: Arc<WebPkiServerVerifier>,
    cluster: Option<String>,
    own: CertificateInfo,
}

impl TlsSettings {
    /// Checks the credentials and keeps what every connection needs.
    pub(crate) fn new(credentials: &Credentials) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        for root in &credentials.roots {
            roots
                .add(root.clone())
                .map_err(|error| ClientError::setup(format!("CA certificate: {error}")))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| ClientError::setup(format!("CA certificate: {error}")))?;
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider offers TLS 1.3")
            .with_webpki_verifier(verifier.clone())
            .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())
            .map_err(|error| ClientError::setup(format!("own certificate: {error}")))?;
        base.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would skip the check of the node's certificate.
        base.resumption = rustls::client::Resumption::disabled();
        let cluster = credentials.identity.cluster.clone();
        Ok(Self { base, verifier, cluster, own: credentials.info.clone() })
    }

    /// The configuration of one connection, and where it records the certificate it is shown.
    pub(crate) fn connection(&self) -> (Arc<ClientConfig>, Arc<ShownCertificate>) {
        let shown = Arc::new(ShownCertificate::default());
        let verifier = NodeVerifier {
            inner: self.verifier.clone(),
            cluster: self.cluster.clone(),
            shown: shown.clone(),
        };
        let mut config = self.base.clone();
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        (Arc::new(config), shown)
    }

    /// Reads a failed handshake or a broken stream: whose certificate was rejected, if any.
    pub(crate) fn explain(&self, error: &io::Error, shown: &ShownCertificate) -> UnreachedReason {
        match tls_error(error) {
            Some(TlsError::InvalidCertificate(why)) => UnreachedReason::NodeCertificate {
                why: certificate_words(why),
                certificate: shown.get(),
            },
            Some(TlsError::AlertReceived(alert)) if rejects_certificate(*alert) => {
                self.rejected_by_node(*alert)
            }
            Some(other) => UnreachedReason::Protocol(other.to_string()),
            None => UnreachedReason::Protocol(error.to_string()),
        }
    }

    /// The node sent this alert about our certificate.
    pub(crate) fn rejected_by_node(&self, alert: AlertDescription) -> UnreachedReason {
        let why = alert_words(alert);
        UnreachedReason::OwnCertificate { why, certificate: self.own.clone() }
    }
}

/// The certificate that the node showed in a handshake.
#[derive(Debug, Default)]
pub(crate) struct ShownCertificate(Mutex<Option<CertificateInfo>>);

impl ShownCertificate {
    fn get(&self) -> Option<CertificateInfo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, info: Option<CertificateInfo>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }
}

/// Accepts a certificate of the CA for the host that was called, if its owner is a node of our
/// cluster.
#[derive(Debug)]
struct NodeVerifier {
    inner: Arc<WebPkiServerVerifier>,
    cluster: Option<String>,
    shown: Arc<ShownCertificate>,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.shown.set(CertificateInfo::from_der(end_entity));
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        check_node(end_entity, self.cluster.as_deref())
            .map_err(|why| CertificateError::Other(OtherError(Arc::new(NotANode(why)))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Why a certificate of the CA is not that of a node of ours.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotANode(String);

fn check_node(der: &[u8], cluster: Option<&str>) -> Result<(), String> {
    let identity = Identity::from_certificate(der).map_err(|error| error.to_string())?;
    if identity.role != Role::Node {
        return Err(format!("{identity} is no node"));
    }
    if identity.cluster.as_deref() != cluster {
        let ours = cluster.unwrap_or_default();
        return Err(format!("{identity} belongs to another cluster; we belong to {ours:?}"));
    }
    Ok(())
}

/// A stream that remembers the alert it broke with, and tells when the other side first spoke.
///
/// In TLS 1.3 a client finishes its handshake before the server has looked at its certificate; the
/// rejection arrives as an alert on a stream that seems fine. Above TLS the alert is lost: HTTP/2
/// keeps only the text of an error. So the connection counts as up once the node has spoken.
#[derive(Debug)]
pub(crate) struct WatchedStream<S> {
    stream: S,
    state: watch::Sender<Heard>,
}

/// What was heard from the other side since the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing yet.
    Nothing,
    /// The node accepted us and spoke.
    Node,
    /// The stream ended before the node spoke; the alert, where one came.
    End(Option<AlertDescription>),
}

impl<S> WatchedStream<S> {
    pub(crate) fn new(stream: S) -> (Self, watch::Receiver<Heard>) {
        let (state, heard) = watch::channel(Heard::Nothing);
        (Self { stream, state }, heard)
    }

    fn note(&self, heard: Heard) {
        self.state.send_if_modified(|state| {
            let first = *state == Heard::Nothing;
            if first {
                *state = heard;
            }
            first
        });
    }

    fn note_read(&self, outcome: &io::Result<()>, bytes: usize) {
        match outcome {
            Ok(()) if bytes > 0 => self.note(Heard::Node),
            Ok(()) => self.note(Heard::End(None)),
            Err(error) => self.note(Heard::End(match tls_error(error) {
                Some(TlsError::AlertReceived(alert)) => Some(*alert),
                Some(_) | None => None,
            })),
        }
    }
}

impl<S: AsyncRead + Unpin> WatchedStream<S> {
    /// A write failed before the node spoke: the reason waits to be read, because whoever hangs up
    /// with bytes of ours unread resets the connection right behind its alert. The failed write
    /// stays pending until the read side has brought the reason.
    fn after_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if !matches!(polled, Poll::Ready(Err(_))) || *self.state.borrow() != Heard::Nothing {
            return polled;
        }
        let mut scratch = [0; 64];
        let mut buf = ReadBuf::new(&mut scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Ready(outcome) => {
                self.note_read(&outcome, buf.filled().len());
                polled
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(outcome) = &polled {
            self.note_read(outcome, buf.filled().len() - before);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.after_write(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.after_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// Whether an alert says that the sender rejects our certificate.
pub(crate) fn rejects_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "it is expired".into(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "its CA is not the cluster's".into()
        }
        AlertDescription::CertificateRevoked => "it is revoked".into(),
        AlertDescription::AccessDenied => "its owner may not come in here".into(),
        AlertDescription::CertificateRequired => "none was shown".into(),
        other => format!("alert {other:?}"),
    }
}

fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it is expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is a clock wrong?".into()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it was not issued by our CA".into()
        }
        CertificateError::Other(OtherError(why)) => why.to_string(),
        other => other.to_string(),
    }
}
