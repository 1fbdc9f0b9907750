//! Certificates for tests, also bad ones.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use client::pki;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use rustls::client::WantsClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use tempfile::TempDir;

use super::Material;
use crate::config::TlsSection;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A CA in a directory of its own.
pub(crate) struct Pki {
    dir: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init_ca(dir.path(), None, 10 * DAY).unwrap();
        Self { dir }
    }

    /// A CA for one cluster.
    pub(crate) fn for_cluster(cluster: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init_ca(dir.path(), Some(cluster), 10 * DAY).unwrap();
        Self { dir }
    }

    /// A CA with any dates.
    pub(crate) fn valid(from: SystemTime, to: SystemTime) -> Self {
        let pki = Self { dir: tempfile::tempdir().unwrap() };
        let mut params = params("kvstore CA", from, to);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        pki.write("ca", &certificate.pem(), &key);
        pki
    }

    pub(crate) fn node(&self, name: &str) {
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        self.node_for(name, &hosts);
    }

    pub(crate) fn node_for(&self, name: &str, hosts: &[String]) {
        pki::issue_node(self.path(), name, hosts, DAY).unwrap();
    }

    pub(crate) fn client(&self, name: &str) {
        pki::issue_client(self.path(), name, DAY).unwrap();
    }

    /// A node's certificate with any dates.
    pub(crate) fn node_valid(&self, name: &str, from: SystemTime, to: SystemTime) {
        let uri = format!("kv:///node/{name}");
        self.issue(name, from, to, &[&uri]);
    }

    /// A certificate with any URIs.
    pub(crate) fn issue(&self, name: &str, from: SystemTime, to: SystemTime, uris: &[&str]) {
        let ca = pki::certificates(&self.path().join("ca.crt")).unwrap().remove(0);
        let key = pki::private_key(&self.path().join("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_der(&ca, KeyPair::try_from(&key).unwrap()).unwrap();
        let mut params = params(name, from, to);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        self.write(name, &certificate.pem(), &key);
    }

    pub(crate) fn section(&self, name: &str) -> TlsSection {
        let file = |name: &str| self.path().join(name);
        TlsSection {
            ca: file("ca.crt"),
            cert: file(&format!("{name}.crt")),
            key: file(&format!("{name}.key")),
        }
    }

    /// What a node of this name loads.
    pub(crate) fn material(&self, name: &str) -> Material {
        Material::load(&self.section(name), name).unwrap()
    }

    /// TLS of whoever holds these files, good or bad, towards a listener of this CA.
    pub(crate) fn dialer(&self, name: &str, alpn: &[u8]) -> Arc<ClientConfig> {
        let section = self.section(name);
        let chain = pki::certificates(&section.cert).unwrap();
        let key = pki::private_key(&section.key).unwrap();
        let builder = self.trusting();
        let certified = CertifiedKey::from_der(chain, key, builder.crypto_provider()).unwrap();
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let mut config = builder.with_client_cert_resolver(certified);
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }

    /// TLS of somebody without a certificate.
    pub(crate) fn anonymous(&self, alpn: &[u8]) -> Arc<ClientConfig> {
        let mut config = self.trusting().with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }

    fn trusting(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        for ca in pki::certificates(&self.path().join("ca.crt")).unwrap() {
            roots.add(ca).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, cert: &str, key: &KeyPair) {
        let file = |extension: &str| -> PathBuf { self.path().join(format!("{name}.{extension}")) };
        fs::write(file("crt"), cert).unwrap();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(file("key")).unwrap();
        file.write_all(key.serialize_pem().as_bytes()).unwrap();
    }
}

fn params(name: &str, from: SystemTime, to: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = from.into();
    params.not_after = to.into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
