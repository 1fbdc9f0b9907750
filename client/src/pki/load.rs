//! Reads the three files that make a side of mTLS: CA, certificate and private key.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::CertificateInfo;
use super::error::PkiError;
use super::identity::Identity;

/// Permission bits that a private key file must not have.
#[cfg(unix)]
const FORBIDDEN_KEY_MODE: u32 = 0o077;

/// Longest file that is read as PEM; a certificate has about 1 KiB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// One side of mTLS: whom it trusts and what it shows.
///
/// The private key never appears in `Debug`.
pub struct Credentials {
    /// Certificates of the CA.
    pub roots: Vec<CertificateDer<'static>>,
    /// Own certificate, then intermediates. Never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the own certificate.
    pub key: PrivateKeyDer<'static>,
    /// Who the own certificate belongs to.
    pub identity: Identity,
    /// What the own certificate says.
    pub info: CertificateInfo,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            roots: self.roots.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            identity: self.identity.clone(),
            info: self.info.clone(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Reads CA, certificate and key.
///
/// # Errors
/// [`PkiError::Read`], [`PkiError::Malformed`], [`PkiError::KeyFileMode`],
/// [`PkiError::Identity`] when the certificate does not name its owner.
pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Credentials, PkiError> {
    let roots = certificates(ca)?;
    let chain = certificates(cert)?;
    let key = private_key(key)?;
    let identity = Identity::from_certificate(&chain[0])
        .map_err(|source| PkiError::Identity { path: cert.to_owned(), source })?;
    let info = CertificateInfo::from_pem_file(cert)?;
    Ok(Credentials { roots, chain, key, identity, info })
}

/// Reads all certificates of a PEM file, at least one.
///
/// # Errors
/// [`PkiError::Read`], [`PkiError::Malformed`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let pem = read(path, open(path)?)?;
    let malformed = |why: String| PkiError::Malformed { path: path.to_owned(), why };
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(format!("not a PEM file of certificates: {error}")))?;
    if chain.is_empty() {
        return Err(malformed("holds no certificate".into()));
    }
    Ok(chain)
}

/// Reads a private key and refuses a file that others can read.
///
/// # Errors
/// [`PkiError::Read`], [`PkiError::KeyFileMode`], [`PkiError::Malformed`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PkiError> {
    let file = open(path)?;
    check_key_mode(path, &file)?;
    let pem = read(path, file)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| PkiError::Malformed {
        path: path.to_owned(),
        why: format!("holds no private key: {error}"),
    })
}

/// Looks at the opened file, not at the path, so that the file checked is the file read.
#[cfg(unix)]
fn check_key_mode(path: &Path, file: &File) -> Result<(), PkiError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata =
        file.metadata().map_err(|source| PkiError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & FORBIDDEN_KEY_MODE != 0 {
        return Err(PkiError::KeyFileMode { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_key_mode(_path: &Path, _file: &File) -> Result<(), PkiError> {
    Ok(())
}

fn open(path: &Path) -> Result<File, PkiError> {
    File::open(path).map_err(|source| PkiError::Read { path: path.to_owned(), source })
}

fn read(path: &Path, file: File) -> Result<Vec<u8>, PkiError> {
    let failed = |source| PkiError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "too long for a PEM file")));
    }
    Ok(bytes)
}
