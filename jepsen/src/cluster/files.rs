//! The files of a cluster: certificates and configurations.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::pki;
use serde::Serialize;

use super::ports::Ports;
use crate::error::LabError;

/// File of the lab's own client certificate.
pub const CLIENT_CERT: &str = "lab.crt";
/// File of its key.
pub const CLIENT_KEY: &str = "lab.key";

/// How long certificates are valid; runs are shorter.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The name of the cluster.
const CLUSTER_NAME: &str = "lab";

/// Makes a directory that must not hold anything yet.
pub fn create_empty(dir: &Path) -> Result<(), LabError> {
    fs::create_dir_all(dir).map_err(LabError::io(dir))?;
    let mut entries = fs::read_dir(dir).map_err(LabError::io(dir))?;
    if entries.next().is_some() {
        return Err(LabError::Parameters(format!("{} is not empty", dir.display())));
    }
    Ok(())
}

/// Makes a CA, a certificate for each node, and one for clients.
pub fn create_pki(dir: &Path, names: &[String]) -> Result<(), LabError> {
    fs::create_dir_all(dir).map_err(LabError::io(dir))?;
    let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    pki::init_ca(dir, None, VALIDITY).map_err(LabError::client("make a CA"))?;
    for name in names {
        pki::issue_node(dir, name, &hosts, VALIDITY)
            .map_err(LabError::client(format!("issue the certificate of {name}")))?;
    }
    let client = CLIENT_CERT.trim_end_matches(".crt");
    pki::issue_client(dir, client, VALIDITY)
        .map_err(LabError::client("issue a client certificate"))?;
    Ok(())
}

/// The data directory of a node.
pub fn data_dir(root: &Path, name: &str) -> PathBuf {
    root.join(name).join("data")
}

/// The configuration file of `kvstore serve`.
#[derive(Serialize)]
struct Config<'a> {
    node: NodeSection<'a>,
    listen: ListenSection,
    cluster: ClusterSection<'a>,
    tls: TlsSection,
}

#[derive(Serialize)]
struct NodeSection<'a> {
    name: &'a str,
    data_dir: PathBuf,
}

#[derive(Serialize)]
struct ListenSection {
    client: String,
    peer: String,
    admin: String,
}

#[derive(Serialize)]
struct ClusterSection<'a> {
    name: &'a str,
    initial: Vec<String>,
}

#[derive(Serialize)]
struct TlsSection {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// Writes the configuration of one of the nodes in `names`, which have these ports, and makes its
/// directories.
pub fn write_config(
    root: &Path,
    name: &str,
    own: Ports,
    names: &[String],
    ports: &[Ports],
) -> Result<PathBuf, LabError> {
    let data_dir = data_dir(root, name);
    fs::create_dir_all(&data_dir).map_err(LabError::io(&data_dir))?;
    let members = names.iter().zip(ports);
    let pki = root.join("pki");
    let config = Config {
        node: NodeSection { name, data_dir },
        listen: ListenSection {
            client: own.client_address(),
            peer: own.peer_address(),
            admin: own.admin_address(),
        },
        cluster: ClusterSection {
            name: CLUSTER_NAME,
            initial: members.map(|(name, at)| format!("{name}={}", at.peer_address())).collect(),
        },
        tls: TlsSection {
            ca: pki.join("ca.crt"),
            cert: pki.join(format!("{name}.crt")),
            key: pki.join(format!("{name}.key")),
        },
    };
    let text = toml::to_string(&config)
        .map_err(|error| LabError::Parameters(format!("configuration of {name}: {error}")))?;
    let path = root.join(name).join("config.toml");
    fs::write(&path, text).map_err(LabError::io(&path))?;
    Ok(path)
}

/// Replaces what a configuration says about members: `initial` or `join`, never both.
pub fn set_members(path: &Path, key: &str, list: Vec<String>) -> Result<(), LabError> {
    change_section(path, "cluster", |cluster| {
        cluster.remove("initial");
        cluster.remove("join");
        cluster.insert(key.to_owned(), list.into());
    })
}

/// Lets a configuration name the address by which other nodes reach the node.
pub fn set_advertised(path: &Path, peer: &str) -> Result<(), LabError> {
    change_section(path, "advertise", |advertise| {
        advertise.insert("peer".to_owned(), peer.into());
    })
}

/// Changes a section of a configuration, which is made if it is not there.
fn change_section(
    path: &Path,
    section: &str,
    change: impl FnOnce(&mut toml::Table),
) -> Result<(), LabError> {
    let text = fs::read_to_string(path).map_err(LabError::io(path))?;
    let refused = |why: String| LabError::Parameters(format!("{}: {why}", path.display()));
    let mut config: toml::Table = text.parse().map_err(|error| refused(format!("{error}")))?;
    let found = config.entry(section).or_insert_with(|| toml::Table::new().into());
    let found = found.as_table_mut();
    change(found.ok_or_else(|| refused(format!("`{section}` is no section")))?);
    fs::write(path, config.to_string()).map_err(LabError::io(path))
}
