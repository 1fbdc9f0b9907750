//! Makes a CA and the certificates it signs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::CertificateInfo;
use super::error::PkiError;
use super::identity::{Identity, Role, is_name};
use super::load;
use crate::durability::sync_parent;

/// Base name of the CA's files.
const CA: &str = "ca";

/// Certificates are valid from this long ago, so that a clock that is an hour behind accepts them, such
/// as one that is set as if summer time had not begun.
const BACKDATED: Duration = Duration::from_secs(2 * 60 * 60);

/// The two files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, PEM, readable by all.
    pub cert: PathBuf,
    /// The private key, PEM, mode 0600.
    pub key: PathBuf,
}

impl Issued {
    fn named(dir: &Path, name: &str) -> Self {
        Self { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) }
    }
}

/// Makes a CA: `ca.crt` and `ca.key` in `dir`, which is created where it is missing.
///
/// With a cluster, the certificates of this CA are good for that cluster alone.
///
/// # Errors
/// [`PkiError::Exists`] when one of the files is there, [`PkiError::Unfit`], [`PkiError::Write`].
pub fn init_ca(dir: &Path, cluster: Option<&str>, validity: Duration) -> Result<Issued, PkiError> {
    if let Some(cluster) = cluster {
        check_name("cluster name", cluster)?;
    }
    let mut params = params(CA, validity)?;
    // Two CAs differ by name, so that a certificate of the other one is told from a forged one.
    let common_name = format!("kvstore CA {:08x}", rand::random::<u32>());
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(cluster) = cluster {
        params.distinguished_name.push(DnType::OrganizationName, cluster);
    }
    // Path length 0: what this CA signs can sign nothing.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if let Some(cluster) = cluster {
        params.subject_alt_names.push(uri(&format!("kv://{cluster}/ca"))?);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    store(dir, CA, &certificate.pem(), &key)
}

/// Issues the certificate of a node for the given DNS names and addresses: server and client use,
/// because nodes call each other.
///
/// # Errors
/// [`PkiError::Unfit`] without a host or for a name that cannot stand in a certificate,
/// [`PkiError::Exists`], [`PkiError::Read`] when `dir` holds no CA, [`PkiError::Write`].
pub fn issue_node(
    dir: &Path,
    name: &str,
    hosts: &[String],
    validity: Duration,
) -> Result<Issued, PkiError> {
    if hosts.is_empty() {
        let why = "a node's certificate names at least one host";
        return Err(PkiError::Unfit { what: "host", text: String::new(), why });
    }
    issue(dir, Role::Node, name, hosts, validity)
}

/// Issues the certificate of a client.
///
/// # Errors
/// Those of [`issue_node`], but for the hosts.
pub fn issue_client(dir: &Path, name: &str, validity: Duration) -> Result<Issued, PkiError> {
    issue(dir, Role::Client, name, &[], validity)
}

/// Issues a certificate anew in the place of the one of this owner, for the key that it has. Without
/// hosts it is for those of the old one.
///
/// The key stays, so one rename replaces all that changes: whoever reads the two files at any moment,
/// also after a crash, finds a certificate and the key that fits it. For another key, remove both files
/// and issue anew.
///
/// # Errors
/// [`PkiError::Read`] when a file of the CA or of the owner is missing, [`PkiError::OtherOwner`] when the
/// certificate is somebody else's, those of [`private_key`](super::private_key), and those of
/// [`issue_node`].
pub fn renew(
    dir: &Path,
    role: Role,
    name: &str,
    hosts: &[String],
    validity: Duration,
) -> Result<Issued, PkiError> {
    check_owner(name)?;
    let files = Issued::named(dir, name);
    let old = CertificateInfo::from_pem_file(&files.cert)?;
    if !old.identity.as_ref().is_some_and(|found| found.role == role && found.name == name) {
        let expected = format!("{role} {name}");
        return Err(PkiError::OtherOwner { path: files.cert, expected, found: old.subject });
    }
    let key = KeyPair::try_from(&load::private_key(&files.key)?)?;
    let hosts = if hosts.is_empty() { &old.hosts } else { hosts };
    let pem = sign(dir, role, name, hosts, validity, &key)?;
    replace(&files.cert, pem.as_bytes())?;
    Ok(files)
}

fn issue(
    dir: &Path,
    role: Role,
    name: &str,
    hosts: &[String],
    validity: Duration,
) -> Result<Issued, PkiError> {
    check_owner(name)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let pem = sign(dir, role, name, hosts, validity, &key)?;
    store(dir, name, &pem, &key)
}

/// The certificate of an owner with this key, signed by the CA in `dir`; PEM.
fn sign(
    dir: &Path,
    role: Role,
    name: &str,
    hosts: &[String],
    validity: Duration,
    key: &KeyPair,
) -> Result<String, PkiError> {
    let ca = Issued::named(dir, CA);
    let ca_der = load::certificates(&ca.cert)?.remove(0);
    let ca_key = KeyPair::try_from(&load::private_key(&ca.key)?)?;
    let issuer = Issuer::from_ca_cert_der(&ca_der, ca_key)?;
    let identity = Identity { cluster: cluster_of(&ca_der), role, name: name.to_owned() };

    let mut params = params(name, validity)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match role {
        Role::Node => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names.push(uri(&identity.to_string())?);
    for host in hosts {
        params.subject_alt_names.push(host_name(host)?);
    }
    // What outlives its CA is refused anyway; the date should not promise more.
    if let Some(ca) = CertificateInfo::from_der(&ca_der) {
        let end = OffsetDateTime::from_unix_timestamp(ca.not_after);
        params.not_after = end.map_or(params.not_after, |end| params.not_after.min(end));
    }
    Ok(params.signed_by(key, &issuer)?.pem())
}

/// Parameters that all certificates share: dates and a random serial number.
fn params(name: &str, validity: Duration) -> Result<CertificateParams, PkiError> {
    let now = OffsetDateTime::now_utc();
    let not_after =
        time::Duration::try_from(validity).ok().and_then(|validity| now.checked_add(validity));
    let Some(not_after) = not_after.filter(|end| end.year() < 9_999) else {
        let why = "its validity ends beyond the year 9999";
        return Err(PkiError::Unfit { what: "validity of", text: name.to_owned(), why });
    };
    let mut serial: [u8; 16] = rand::random();
    // A positive number whose encoding keeps all 16 bytes.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = not_after;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

/// The cluster that the CA was made for, from its SAN URI `kv://CLUSTER/ca`.
fn cluster_of(ca_der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(ca_der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => {
            let cluster = uri.strip_prefix("kv://")?.strip_suffix("/ca")?;
            is_name(cluster).then(|| cluster.to_owned())
        }
        _ => None,
    })
}

/// Names of owners; their files lie beside those of the CA.
fn check_owner(name: &str) -> Result<(), PkiError> {
    check_name("name", name)?;
    if name == CA {
        let why = "its files would be those of the CA";
        return Err(PkiError::Unfit { what: "name", text: name.to_owned(), why });
    }
    Ok(())
}

fn check_name(what: &'static str, text: &str) -> Result<(), PkiError> {
    if is_name(text) {
        return Ok(());
    }
    let why = "it has 1 to 64 letters, digits, '.', '_' and '-'";
    Err(PkiError::Unfit { what, text: text.to_owned(), why })
}

fn uri(text: &str) -> Result<SanType, PkiError> {
    Ok(SanType::URI(text.try_into()?))
}

fn host_name(host: &str) -> Result<SanType, PkiError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    if rustls::pki_types::DnsName::try_from(host).is_err() {
        let why = "it is neither an address nor a DNS name";
        return Err(PkiError::Unfit { what: "host", text: host.to_owned(), why });
    }
    Ok(SanType::DnsName(host.try_into()?))
}

/// Writes key and certificate; leaves neither when one of them cannot be written.
fn store(dir: &Path, name: &str, cert_pem: &str, key: &KeyPair) -> Result<Issued, PkiError> {
    fs::create_dir_all(dir).map_err(|source| PkiError::Write { path: dir.to_owned(), source })?;
    let files = Issued::named(dir, name);
    for path in [&files.cert, &files.key] {
        if path.exists() {
            return Err(PkiError::Exists { path: path.clone() });
        }
    }
    create(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    if let Err(error) = create(&files.cert, cert_pem.as_bytes(), 0o644) {
        // The first error is the one to report; a key without certificate is of no use.
        let _ = fs::remove_file(&files.key);
        return Err(error);
    }
    Ok(files)
}

/// Puts a certificate in the place of another one: written beside it, and renamed once it is on disk.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let beside = path.with_extension("crt.new");
    // A killed process may have left it.
    if let Err(source) = fs::remove_file(&beside)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(PkiError::Write { path: beside, source });
    }
    create(&beside, bytes, 0o644)?;
    let renamed = fs::rename(&beside, path).and_then(|()| sync_parent(path));
    renamed.map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    set_mode(&mut options, mode);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists { path: path.to_owned() },
        _ => PkiError::Write { path: path.to_owned(), source },
    })
}

#[cfg(unix)]
fn set_mode(options: &mut OpenOptions, mode: u32) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(mode);
}

#[cfg(not(unix))]
fn set_mode(_options: &mut OpenOptions, _mode: u32) {}
