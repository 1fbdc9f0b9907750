//! The node's own certificate, key and CA.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use client::pki::{self, CertificateInfo, Credentials, Role};
use rustls::client::{
    Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::error::TlsError;
use super::verifier::{NodeVerifier, RoleVerifier, foreign_ca};
use crate::config::TlsSection;

/// What is spoken on the client port.
pub const ALPN_CLIENT: &[u8] = b"h2";
/// What is spoken on the peer port.
pub const ALPN_PEER: &[u8] = b"kvstore-peer/1";

/// A certificate that was fit for use when it was loaded, and whom it trusts. Cheap to clone; the
/// key appears in no output.
#[derive(Clone, Debug)]
pub struct Material {
    info: CertificateInfo,
    /// The cluster that the certificate names, if its CA was made for one.
    cluster: Option<String>,
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Material {
    /// Reads and checks the files: modes, dates, that the key matches, that the certificate is
    /// that of node `node_name`, and that its chain leads to the CA.
    ///
    /// # Errors
    /// [`TlsError`], in the order of the checks.
    pub fn load(section: &TlsSection, node_name: &str) -> Result<Self, TlsError> {
        let credentials = pki::load(&section.ca, &section.cert, &section.key)?;
        let now = unix_seconds(SystemTime::now());
        check_dates(&section.cert, &credentials.info, now)?;
        let roots = load_roots(&section.ca, &credentials, now)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        check_chain(section, &credentials, &roots, &provider)?;
        let Credentials { chain, key, identity, info, .. } = credentials;
        let certified =
            CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    TlsError::KeyMismatch { key: section.key.clone(), cert: section.cert.clone() }
                }
                other => TlsError::Unusable { path: section.key.clone(), why: other.to_string() },
            })?;
        if identity.role != Role::Node || identity.name != node_name {
            return Err(TlsError::Owner {
                path: section.cert.clone(),
                info: Box::new(info),
                found: identity.to_string(),
                expected: format!("kv:///node/{node_name}"),
            });
        }
        let certified = Arc::new(certified);
        Ok(Self { info, cluster: identity.cluster, certified, roots: Arc::new(roots), provider })
    }

    /// Last second at which the certificate is valid, Unix time.
    #[must_use]
    pub fn certificate_expiry(&self) -> u64 {
        u64::try_from(self.info.not_after).unwrap_or(0)
    }

    /// What the certificate says.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// Whether whoever dials this host, a name or an address, will take the certificate.
    #[must_use]
    pub fn is_for_host(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else { return false };
        let parsed = self.certified.end_entity_cert().and_then(ParsedCertificate::try_from);
        parsed.is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
    }

    /// The one cluster that the certificate is good for; `None` when its CA was made for no
    /// particular one.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// TLS of the client port: certificates of clients, HTTP/2 inside.
    #[must_use]
    pub fn client_listener(&self) -> Arc<ServerConfig> {
        self.listener(Role::Client, ALPN_CLIENT)
    }

    /// TLS of the peer port: certificates of nodes, our own protocol inside.
    #[must_use]
    pub fn peer_listener(&self) -> Arc<ServerConfig> {
        self.listener(Role::Node, ALPN_PEER)
    }

    /// TLS towards the peer port of one node.
    #[must_use]
    pub fn peer_dialer(&self, node: &str) -> Arc<ClientConfig> {
        self.dialer(Some(node.to_owned()))
    }

    /// TLS towards the peer port of any node of the cluster: for one that joins and knows addresses
    /// only.
    #[must_use]
    pub fn any_peer_dialer(&self) -> Arc<ClientConfig> {
        self.dialer(None)
    }

    fn dialer(&self, node: Option<String>) -> Arc<ClientConfig> {
        let inner = WebPkiServerVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
        )
        .build()
        .expect("there is a CA and no revocation list");
        let verifier = NodeVerifier::new(inner, node, self.cluster.clone());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider speaks TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.resolver());
        config.alpn_protocols = vec![ALPN_PEER.to_vec()];
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    fn listener(&self, role: Role, alpn: &[u8]) -> Arc<ServerConfig> {
        let inner = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&self.provider),
        )
        .build()
        .expect("there is a CA and no revocation list");
        let verifier = RoleVerifier::new(inner, role, self.cluster.clone());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider speaks TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.resolver());
        config.alpn_protocols = vec![alpn.to_vec()];
        // A resumed session would skip the verifier, and with it dates and role.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified)))
    }
}

fn load_roots(ca: &Path, credentials: &Credentials, now: i64) -> Result<RootCertStore, TlsError> {
    let unusable = |why: String| TlsError::Unusable { path: ca.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for der in &credentials.roots {
        let info = CertificateInfo::from_der(der)
            .ok_or_else(|| unusable("a certificate cannot be parsed".into()))?;
        if !info.is_ca {
            return Err(unusable(format!("{info} is not the certificate of a CA")));
        }
        check_dates(ca, &info, now)?;
        roots.add(der.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(roots)
}

fn check_dates(path: &Path, info: &CertificateInfo, now: i64) -> Result<(), TlsError> {
    if (info.not_before..=info.not_after).contains(&now) {
        return Ok(());
    }
    let early = now < info.not_before;
    Err(TlsError::Dates { path: path.to_owned(), info: Box::new(info.clone()), early })
}

/// Would our own certificate be accepted by a node, both as a server and as a client?
fn check_chain(
    section: &TlsSection,
    credentials: &Credentials,
    roots: &RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<(), TlsError> {
    let untrusted = |error: rustls::Error| TlsError::Untrusted {
        path: section.cert.clone(),
        info: Box::new(credentials.info.clone()),
        ca: section.ca.clone(),
        why: foreign_ca(error).to_string(),
    };
    let now = UnixTime::now();
    let (own, intermediates) =
        credentials.chain.split_first().expect("a chain holds the own certificate");
    let algorithms = provider.signature_verification_algorithms.all;
    ParsedCertificate::try_from(own)
        .and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                now,
                algorithms,
            )
        })
        .map_err(untrusted)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(provider))
        .build()
        .expect("there is a CA and no revocation list")
        .verify_client_cert(own, intermediates, now)
        .map_err(untrusted)?;
    Ok(())
}

/// Whole seconds since 1970; a clock before that counts as 1970.
fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proto::{Code, Failure};

    use super::super::testing::{DAY, Pki};
    use super::*;

    fn failure(pki: &Pki, name: &str) -> Failure {
        Material::load(&pki.section(name), name).unwrap_err().into()
    }

    #[test]
    fn good_files_load() {
        let pki = Pki::new();
        pki.node("n1");
        let material = Material::load(&pki.section("n1"), "n1").unwrap();
        let now = u64::try_from(unix_seconds(SystemTime::now())).unwrap();
        assert!(material.certificate_expiry() > now);
        assert_eq!(material.cluster(), None);
        assert!(!format!("{material:?}").contains("PRIVATE"));
        assert_eq!(material.client_listener().alpn_protocols, [b"h2".to_vec()]);
        assert_eq!(material.peer_listener().alpn_protocols, [ALPN_PEER.to_vec()]);
    }

    #[test]
    fn a_scoped_ca_names_its_cluster() {
        let pki = Pki::for_cluster("prod");
        pki.node("n1");
        assert_eq!(Material::load(&pki.section("n1"), "n1").unwrap().cluster(), Some("prod"));
    }

    #[test]
    fn dates_are_checked_and_named() {
        let pki = Pki::new();
        let now = SystemTime::now();
        pki.node_valid("old", now - 3 * DAY, now - DAY);
        pki.node_valid("new", now + DAY, now + 3 * DAY);
        for (name, says) in [("old", "has expired"), ("new", "is not valid yet")] {
            let failure = failure(&pki, name);
            assert_eq!((failure.code, failure.code.exit()), (Code::CertificateUnusable, 7));
            for part in [says, &format!("CN={name}"), "T", "Z"] {
                assert!(failure.why.contains(part), "{}", failure.why);
            }
        }
    }

    #[test]
    fn an_expired_ca_is_named() {
        let now = SystemTime::now();
        let pki = Pki::valid(now - 2 * DAY, now - DAY);
        pki.node_valid("n1", now - DAY, now + DAY);
        let failure = failure(&pki, "n1");
        assert_eq!(failure.code, Code::CertificateUnusable);
        assert!(failure.why.contains("CN=kvstore CA"), "{}", failure.why);
        assert!(failure.why.contains("has expired"), "{}", failure.why);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let pki = Pki::new();
        pki.node("n1");
        let section = pki.section("n1");
        fs::set_permissions(&section.key, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = failure(&pki, "n1");
        assert_eq!((failure.code, failure.code.exit()), (Code::KeyFileMode, 2));
        assert!(failure.why.contains("chmod 600"), "{}", failure.why);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let pki = Pki::new();
        pki.node("n1");
        pki.node("n2");
        let section = TlsSection { key: pki.section("n2").key, ..pki.section("n1") };
        let error = Material::load(&section, "n1").unwrap_err();
        assert!(matches!(error, TlsError::KeyMismatch { .. }), "{error}");
        assert_eq!(error.code(), Code::CertificateUnusable);
    }

    #[test]
    fn a_certificate_of_somebody_else_is_refused() {
        let pki = Pki::new();
        pki.node("n2");
        pki.client("n1");
        for files in ["n1", "n2"] {
            let error = Material::load(&pki.section(files), "n1").unwrap_err();
            assert_eq!(error.code(), Code::CertificateUnusable, "{error}");
        }
        let error = Material::load(&pki.section("n2"), "n1").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("kv:///node/n2") && text.contains("kv:///node/n1"), "{text}");
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused() {
        let (ours, theirs) = (Pki::new(), Pki::new());
        theirs.node("n1");
        let section = TlsSection { ca: ours.section("n1").ca, ..theirs.section("n1") };
        let error = Material::load(&section, "n1").unwrap_err();
        assert!(matches!(error, TlsError::Untrusted { .. }), "{error}");
    }

    #[test]
    fn files_that_hold_something_else_are_refused() {
        let pki = Pki::new();
        pki.node("n1");
        let section = pki.section("n1");
        let absent = TlsSection { cert: section.cert.with_extension("absent"), ..section.clone() };
        let error = Material::load(&absent, "n1").unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid, "{error}");
        let swapped = TlsSection { cert: section.key.clone(), ..section.clone() };
        let error = Material::load(&swapped, "n1").unwrap_err();
        assert_eq!(error.code(), Code::CertificateUnusable, "{error}");
        let no_ca = TlsSection { ca: section.cert.clone(), ..section };
        let error = Material::load(&no_ca, "n1").unwrap_err();
        assert!(matches!(error, TlsError::Unusable { .. }), "{error}");
    }
}
