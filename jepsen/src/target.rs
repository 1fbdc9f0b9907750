//! What a workload is run against: a cluster of the lab, or one that was there before.

use std::path::PathBuf;
use std::time::Duration;

use client::{Client, Config, pki};

use crate::error::LabError;

/// Something with endpoints that clients can talk to.
pub trait Target: Send + Sync {
    /// The client addresses of all nodes.
    fn endpoints(&self) -> Vec<String>;

    /// A client of these endpoints and no others.
    ///
    /// # Errors
    ///
    /// [`LabError::Client`] if the certificates cannot be used.
    fn client(&self, endpoints: Vec<String>, timeout: Duration) -> Result<Client, LabError>;
}

/// A cluster that the lab did not start: its processes are not the lab's to disturb.
#[derive(Clone, Debug)]
pub struct Given {
    /// Client addresses, `host:port`.
    pub endpoints: Vec<String>,
    /// Certificate of the cluster's CA.
    pub ca: PathBuf,
    /// Certificate of the lab.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The keyspace in which clients work; without one `default`. A run that is given a cluster
    /// without one makes its own.
    pub keyspace: Option<String>,
}

impl Target for Given {
    fn endpoints(&self) -> Vec<String> {
        self.endpoints.clone()
    }

    fn client(&self, endpoints: Vec<String>, timeout: Duration) -> Result<Client, LabError> {
        let credentials = pki::load(&self.ca, &self.cert, &self.key)
            .map_err(LabError::client("load certificates"))?;
        let mut config = Config { timeout, discover: false, ..Config::new(endpoints, credentials) };
        if let Some(keyspace) = &self.keyspace {
            config.keyspace.clone_from(keyspace);
        }
        Client::connect(config).map_err(LabError::client("set up a client"))
    }
}
