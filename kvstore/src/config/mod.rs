//! The configuration of a server.
//!
//! One TOML file, environment variables over it (`KVSTORE_LISTEN__CLIENT` is `listen.client`,
//! lists are separated by commas), defaults below it. [`example`] is the reference; it is made of
//! the table of keys by which files are read. Reading goes in two steps: `Settings` knows which
//! keys exist and keeps where each value was set; [`Config`] gives them their types and checks them
//! against each other. So every error names file, line and key, an unknown key is refused with the
//! one that was probably meant, and [`effective`] can say where each value comes from.

mod address;
mod effective;
mod error;
mod example;
mod keys;
mod settings;

pub use address::Address;
pub use effective::{Effective, Source, effective};
pub use error::{ConfigError, Origin};
pub use example::example;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use settings::{Setting, Settings};

/// Most members of a new cluster. Every one is a voter, and each voter makes every write dearer.
pub const INITIAL_MEMBERS_MAX: usize = 15;

/// Most addresses that a node which joins asks.
pub const JOIN_ADDRESSES_MAX: usize = 15;

/// What a server needs to know before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Section `node`.
    pub node: NodeSection,
    /// Section `listen`.
    pub listen: ListenSection,
    /// Section `advertise`.
    pub advertise: AdvertiseSection,
    /// Section `cluster`.
    pub cluster: ClusterSection,
    /// Section `tls`.
    pub tls: TlsSection,
}

/// Section `node`: who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSection {
    /// Unique in the cluster and stable; the node's certificate names it.
    pub name: String,
    /// Everything the node keeps lies below this directory. Absolute, or relative to the working
    /// directory when the path of the file was.
    pub data_dir: PathBuf,
}

/// Section `listen`: where the node listens. Port 0 takes a free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSection {
    /// gRPC for clients.
    pub client: SocketAddr,
    /// Links between nodes.
    pub peer: SocketAddr,
    /// Plain HTTP for health and metrics; a loopback address.
    pub admin: SocketAddr,
}

/// Section `advertise`: where the node is reached, when that differs from where it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdvertiseSection {
    /// Told to clients.
    pub client: Option<Address>,
    /// Told to the other nodes; without it, what `cluster.initial` has for this node counts first.
    pub peer: Option<Address>,
    /// For whoever reads the configuration: nothing is told of it yet.
    pub admin: Option<Address>,
}

/// Section `cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSection {
    /// The name of the cluster, equal on all nodes.
    pub name: String,
    /// The members of a new cluster, this node among them; the same list on each node. Names and
    /// addresses are unique. Once the cluster has formed it is only a list of addresses. Empty for
    /// a node that joins.
    pub initial: Vec<InitialMember>,
    /// Where members of a running cluster listen for peers: for a node that joins it, which asks
    /// all of them. Empty for a founding member. Once the node has joined it is not looked at.
    pub join: Vec<Address>,
}

impl ClusterSection {
    /// Where the list of founding members says that this one listens for peers.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<&Address> {
        self.initial.iter().find(|member| member.name == name).map(|member| &member.address)
    }
}

/// One member of a new cluster, written `NAME=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its name.
    pub name: String,
    /// Where it listens for peers.
    pub address: Address,
}

/// Section `tls`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSection {
    /// The certificate authorities of the cluster.
    pub ca: PathBuf,
    /// The node's certificate, then intermediates if there are any.
    pub cert: PathBuf,
    /// Its private key; readable by the owner alone.
    pub key: PathBuf,
}

impl Config {
    /// Reads a file and the environment over it.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::from_settings(&load_settings(path)?)
    }

    /// The address told to clients: the advertised one, or the one that was bound.
    #[must_use]
    pub fn client_address(&self, bound: SocketAddr) -> String {
        self.advertise.client.as_ref().map_or_else(|| bound.to_string(), Address::to_string)
    }

    /// The address told to other nodes: the advertised one, or that of the founding members' list,
    /// by which the others know this node already, or the one that was bound.
    #[must_use]
    pub fn peer_address(&self, bound: SocketAddr) -> String {
        let listed = || self.cluster.address_of(&self.node.name);
        let known = self.advertise.peer.as_ref().or_else(listed);
        known.map_or_else(|| bound.to_string(), Address::to_string)
    }

    /// The hosts by which clients and other nodes are told to reach this node, each with the key that
    /// says so. That of a listener on every address is known only where it is advertised.
    #[must_use]
    pub fn told_hosts(&self) -> Vec<(&'static str, String)> {
        let listed = self.cluster.address_of(&self.node.name);
        let client = self.advertise.client.as_ref().map(|told| ("advertise.client", told));
        let peer = self.advertise.peer.as_ref().map(|told| ("advertise.peer", told));
        let peer = peer.or_else(|| listed.map(|told| ("cluster.initial", told)));
        [(client, ("listen.client", self.listen.client)), (peer, ("listen.peer", self.listen.peer))]
            .into_iter()
            .map(|(told, (key, listens))| match told {
                Some((key, address)) => (key, address.host.clone()),
                None => (key, listens.ip().to_string()),
            })
            .collect()
    }

    /// Gives settings their types. Relative paths are relative to the directory of the file.
    fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let reader = Reader { settings };
        reader.check_one_of_both()?;
        let config = Self {
            node: NodeSection {
                name: reader.name("node.name")?,
                data_dir: reader.path("node.data_dir")?,
            },
            listen: ListenSection {
                client: reader.socket("listen.client")?,
                peer: reader.socket("listen.peer")?,
                admin: reader.socket("listen.admin")?,
            },
            advertise: AdvertiseSection {
                client: reader.address("advertise.client")?,
                peer: reader.address("advertise.peer")?,
                admin: reader.address("advertise.admin")?,
            },
            cluster: ClusterSection {
                name: reader.name("cluster.name")?,
                initial: reader.initial()?,
                join: reader.join()?,
            },
            tls: TlsSection {
                ca: reader.path("tls.ca")?,
                cert: reader.path("tls.cert")?,
                key: reader.path("tls.key")?,
            },
        };
        reader.check_membership(&config)?;
        reader.check_listeners(&config)?;
        Ok(config)
    }
}

/// Reads a file and the environment over it.
fn load_settings(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    // Variables that are not UTF-8 cannot be ours: our names are ASCII, and our values are
    // paths and addresses that a TOML file could hold as well.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Settings::read(path, &text, environment)
}

/// Gives settings their types.
struct Reader<'a> {
    settings: &'a Settings,
}

impl Reader<'_> {
    fn required(&self, key: &'static str) -> Result<&Setting, ConfigError> {
        self.settings.get(key).ok_or_else(|| self.missing(key, ""))
    }

    fn missing(&self, key: &'static str, hint: &'static str) -> ConfigError {
        ConfigError::Missing { path: self.settings.path.clone(), key, hint }
    }

    /// An error about a key that was set.
    fn invalid(&self, key: &'static str, why: impl Into<String>) -> ConfigError {
        let origin = match self.settings.get(key) {
            Some(setting) => setting.origin.clone(),
            None => Origin::File { path: self.settings.path.clone(), line: 1 },
        };
        ConfigError::Invalid { origin, key, why: why.into() }
    }

    fn text(&self, key: &'static str) -> Result<&str, ConfigError> {
        let text = self.required(key)?.values.first().map_or("", String::as_str);
        if text.is_empty() { Err(self.invalid(key, "is empty")) } else { Ok(text) }
    }

    fn name(&self, key: &'static str) -> Result<String, ConfigError> {
        let name = self.text(key)?;
        check_name(name).map_err(|why| self.invalid(key, why))?;
        Ok(name.to_owned())
    }

    fn path(&self, key: &'static str) -> Result<PathBuf, ConfigError> {
        Ok(self.settings.resolve(self.text(key)?))
    }

    fn socket(&self, key: &'static str) -> Result<SocketAddr, ConfigError> {
        let text = self.text(key)?;
        text.parse().map_err(|_| {
            let why = format!("\"{text}\" is not an IP address and a port, such as 127.0.0.1:7610");
            self.invalid(key, why)
        })
    }

    fn address(&self, key: &'static str) -> Result<Option<Address>, ConfigError> {
        if self.settings.get(key).is_none() {
            return Ok(None);
        }
        self.text(key)?.parse().map(Some).map_err(|why: String| self.invalid(key, why))
    }

    /// A node forms a cluster or joins one.
    fn check_one_of_both(&self) -> Result<(), ConfigError> {
        let (initial, join) = ("cluster.initial", "cluster.join");
        match (self.settings.get(initial), self.settings.get(join)) {
            (Some(_), Some(_)) => {
                let why = "stands beside `cluster.initial`; a node forms a cluster or joins one";
                Err(self.invalid(join, why))
            }
            (None, None) => {
                let hint = "; it lists the members of a new cluster as NAME=HOST:PORT (to join a \
                            running one, set `cluster.join` instead)";
                Err(self.missing(initial, hint))
            }
            (Some(_), None) | (None, Some(_)) => Ok(()),
        }
    }

    fn join(&self) -> Result<Vec<Address>, ConfigError> {
        const KEY: &str = "cluster.join";
        let Some(setting) = self.settings.get(KEY) else { return Ok(Vec::new()) };
        if setting.values.is_empty() {
            return Err(self.invalid(KEY, "is empty"));
        }
        if setting.values.len() > JOIN_ADDRESSES_MAX {
            return Err(self.invalid(KEY, format!("has more than {JOIN_ADDRESSES_MAX} addresses")));
        }
        let mut addresses: Vec<Address> = Vec::new();
        for text in &setting.values {
            let address = text.parse().map_err(|why: String| self.invalid(KEY, why))?;
            if addresses.contains(&address) {
                return Err(self.invalid(KEY, format!("has the address {address} twice")));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn initial(&self) -> Result<Vec<InitialMember>, ConfigError> {
        const KEY: &str = "cluster.initial";
        let Some(setting) = self.settings.get(KEY) else { return Ok(Vec::new()) };
        if setting.values.is_empty() {
            return Err(self.invalid(KEY, "is empty"));
        }
        if setting.values.len() > INITIAL_MEMBERS_MAX {
            let why = format!("has more than {INITIAL_MEMBERS_MAX} members");
            return Err(self.invalid(KEY, why));
        }
        let mut members: Vec<InitialMember> = Vec::new();
        for text in &setting.values {
            let member = read_member(text).map_err(|why| self.invalid(KEY, why))?;
            if members.iter().any(|other| other.name == member.name) {
                return Err(self.invalid(KEY, format!("names \"{}\" twice", member.name)));
            }
            if members.iter().any(|other| other.address == member.address) {
                return Err(self.invalid(KEY, format!("has the address {} twice", member.address)));
            }
            members.push(member);
        }
        Ok(members)
    }

    fn check_membership(&self, config: &Config) -> Result<(), ConfigError> {
        let name = &config.node.name;
        if !config.cluster.join.is_empty() {
            return self.check_join(config);
        }
        if config.cluster.address_of(name).is_some() {
            return Ok(());
        }
        let why = format!("does not hold this node, \"{name}\" (`node.name`)");
        Err(self.invalid("cluster.initial", why))
    }

    /// A node cannot be let in by itself.
    fn check_join(&self, config: &Config) -> Result<(), ConfigError> {
        let listened = config.listen.peer.to_string().parse().ok();
        let own = [config.advertise.peer.clone(), listened];
        let others =
            config.cluster.join.iter().find(|address| !own.contains(&Some((*address).clone())));
        if others.is_none() {
            let why = "holds nothing but this node's own address";
            return Err(self.invalid("cluster.join", why));
        }
        Ok(())
    }

    fn check_listeners(&self, config: &Config) -> Result<(), ConfigError> {
        let listeners = [
            ("listen.client", config.listen.client),
            ("listen.peer", config.listen.peer),
            ("listen.admin", config.listen.admin),
        ];
        for (at, (key, address)) in listeners.iter().enumerate() {
            if let Some((earlier, _)) =
                listeners[..at].iter().find(|(_, one)| overlap(*one, *address))
            {
                let why = format!("{address} is taken by `{earlier}` already");
                return Err(self.invalid(key, why));
            }
        }
        if !config.listen.admin.ip().is_loopback() {
            let why = "is not a loopback address; the admin listener speaks plain HTTP, TLS for it \
                       is not built yet";
            return Err(self.invalid("listen.admin", why));
        }
        if config.listen.client.ip().is_unspecified() && config.advertise.client.is_none() {
            let why =
                "listens on every address, so `advertise.client` must say which one clients use";
            return Err(self.invalid("listen.client", why));
        }
        // A founding member stands in `initial`, with its address.
        let told = config.advertise.peer.is_some() || !config.cluster.initial.is_empty();
        if config.listen.peer.ip().is_unspecified() && !told {
            let why = "listens on every address, so `advertise.peer` must say which one the other \
                       nodes use";
            return Err(self.invalid("listen.peer", why));
        }
        Ok(())
    }
}

/// Whether two listeners want the same port of the same address.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = |ip: IpAddr| ip.is_unspecified();
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || everywhere(a.ip()) || everywhere(b.ip()))
}

/// Names stand in certificates, so the rule is theirs.
fn check_name(name: &str) -> Result<(), String> {
    if client::pki::is_name(name) {
        return Ok(());
    }
    let name = name.escape_default();
    Err(format!("\"{name}\" is not a name: 1 to 64 letters, digits, '-', '_' and '.'"))
}

fn read_member(text: &str) -> Result<InitialMember, String> {
    let (name, address) = text
        .split_once('=')
        .ok_or_else(|| format!("\"{text}\" is not of the form NAME=HOST:PORT"))?;
    check_name(name)?;
    Ok(InitialMember { name: name.to_owned(), address: address.parse()? })
}

#[cfg(test)]
mod tests;
