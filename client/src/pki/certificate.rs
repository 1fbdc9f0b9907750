//! The facts of a certificate that people are shown.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use proto::Hex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::PkiError;
use super::identity::Identity;
use super::load;

/// What a certificate says, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject's distinguished name, such as `CN=n1`.
    pub subject: String,
    /// The serial number in hex.
    pub serial: String,
    /// First second at which it is valid, Unix time.
    pub not_before: i64,
    /// Last second at which it is valid, Unix time.
    pub not_after: i64,
    /// It may sign other certificates.
    pub is_ca: bool,
    /// The owner, where it names exactly one.
    pub identity: Option<Identity>,
    /// DNS names and addresses it is valid for.
    pub hosts: Vec<String>,
}

impl CertificateInfo {
    /// Reads a DER certificate; `None` when it cannot be parsed.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
        Some(Self {
            subject: certificate.subject().to_string(),
            serial: Hex(certificate.raw_serial()).to_string(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            is_ca: certificate.is_ca(),
            identity: Identity::of(&certificate).ok(),
            hosts: names.iter().filter_map(host).collect(),
        })
    }

    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// [`PkiError::Read`], [`PkiError::Malformed`].
    pub fn from_pem_file(path: &Path) -> Result<Self, PkiError> {
        let chain = load::certificates(path)?;
        Self::from_der(&chain[0]).ok_or_else(|| PkiError::Malformed {
            path: path.to_owned(),
            why: "the certificate cannot be parsed".into(),
        })
    }

    /// The span of its validity for people: `2026-01-01T00:00:00Z to 2027-01-01T00:00:00Z`.
    #[must_use]
    pub fn dates(&self) -> String {
        format!("{} to {}", rfc3339(self.not_before), rfc3339(self.not_after))
    }
}

impl fmt::Display for CertificateInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (valid {})", self.subject, self.dates())
    }
}

/// Unix seconds as RFC 3339 in UTC; out-of-range times as the bare number.
#[must_use]
pub fn rfc3339(unix_seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_seconds.to_string())
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    }
}
