//! Who may be on the other side of a connection.
//!
//! Chain, dates, key usage and host name are checked by the TLS library; these verifiers add what
//! the identity in the certificate says. A refusal here ends the handshake with the alert
//! `access_denied`.

use std::sync::Arc;

use client::pki::{Identity, Role};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tracing::warn;

use super::throttle::Throttle;

/// What the identity of the other side must be.
#[derive(Debug)]
struct Expected {
    role: Role,
    /// `None`: any name.
    name: Option<String>,
    /// The cluster that the own certificate names. The other side's names the same, or neither
    /// does.
    cluster: Option<String>,
    throttle: Throttle,
}

impl Expected {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let identity = Identity::from_certificate(certificate);
        let good = identity.as_ref().is_ok_and(|identity| {
            identity.role == self.role
                && identity.cluster == self.cluster
                && self.name.as_ref().is_none_or(|name| *name == identity.name)
        });
        if good {
            return Ok(());
        }
        if let Some(suppressed) = self.throttle.pass() {
            let found = identity.map_or_else(|error| error.to_string(), |found| found.to_string());
            let cluster = self.cluster.as_deref().unwrap_or_default();
            let name = self.name.as_deref().unwrap_or("NAME");
            let expected = format!("kv://{cluster}/{}/{name}", self.role);
            warn!(found, expected, suppressed, "certificate refused");
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }
}

/// CAs of two clusters may well have the same subject, and then a certificate of the other one is
/// found to be badly signed. What the owner needs to hear is that its CA is unknown here.
pub(super) fn foreign_ca(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        other => other,
    }
}

/// Verifies the certificate of whoever connects: by the CA, and of the role of the port.
#[derive(Debug)]
pub(super) struct RoleVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    expected: Expected,
}

impl RoleVerifier {
    pub(super) fn new(
        inner: Arc<dyn ClientCertVerifier>,
        role: Role,
        cluster: Option<String>,
    ) -> Self {
        let expected = Expected { role, name: None, cluster, throttle: Throttle::default() };
        Self { inner, expected }
    }
}

impl ClientCertVerifier for RoleVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified =
            self.inner.verify_client_cert(end_entity, intermediates, now).map_err(foreign_ca)?;
        self.expected.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Verifies the certificate of a node that was dialed: by the CA, for the host that was dialed,
/// and of the node that was expected there, if a certain one was.
#[derive(Debug)]
pub(super) struct NodeVerifier {
    inner: Arc<WebPkiServerVerifier>,
    expected: Expected,
}

impl NodeVerifier {
    pub(super) fn new(
        inner: Arc<WebPkiServerVerifier>,
        node: Option<String>,
        cluster: Option<String>,
    ) -> Self {
        let throttle = Throttle::default();
        let expected = Expected { role: Role::Node, name: node, cluster, throttle };
        Self { inner, expected }
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(foreign_ca)?;
        self.expected.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
