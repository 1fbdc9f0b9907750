//! Which endpoint a call goes to.

use std::sync::{Arc, PoisonError, RwLock};

use proto::v1;

use crate::connection::Endpoint;
use crate::error::ClientError;
use crate::tls::TlsSettings;

/// Most endpoints that are kept, listed ones and learned ones together.
const ENDPOINTS_MAX: usize = 64;

/// All endpoints of a client, and which of them leads.
#[derive(Debug)]
pub(crate) struct Routes {
    tls: Arc<TlsSettings>,
    connections: usize,
    discover: bool,
    table: RwLock<Table>,
}

#[derive(Clone, Debug)]
struct Table {
    /// Listed ones first, in their order. Paths share it; it only grows.
    endpoints: Arc<Vec<Arc<Endpoint>>>,
    leader: Option<usize>,
    /// Where the last call that does not need the leader was answered.
    preferred: usize,
}

impl Routes {
    pub(crate) fn new(
        addresses: &[String],
        connections: usize,
        discover: bool,
        tls: TlsSettings,
    ) -> Result<Self, ClientError> {
        Self::shared(addresses, connections, discover, Arc::new(tls))
    }

    /// The routes to this endpoint alone, with the same certificates.
    pub(crate) fn alone(&self, address: &str) -> Result<Self, ClientError> {
        Self::shared(&[address.to_owned()], self.connections, false, self.tls.clone())
    }

    fn shared(
        addresses: &[String],
        connections: usize,
        discover: bool,
        tls: Arc<TlsSettings>,
    ) -> Result<Self, ClientError> {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for address in addresses {
            let endpoint = Endpoint::new(address, connections, tls.clone())?;
            if endpoints.iter().all(|known| known.address() != endpoint.address()) {
                endpoints.push(Arc::new(endpoint));
            }
        }
        let endpoints = Arc::new(endpoints);
        let table = RwLock::new(Table { endpoints, leader: None, preferred: 0 });
        Ok(Self { tls, connections, discover, table })
    }

    /// A path for one call: the leader first where that helps, then all others in turn.
    pub(crate) fn path(&self, leader_first: bool) -> Path {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let first = match table.leader {
            Some(leader) if leader_first && !table.endpoints[leader].is_resting() => leader,
            Some(_) | None => table.preferred,
        };
        Path { endpoints: table.endpoints.clone(), at: first, stays: false }
    }

    /// Remembers that this endpoint answers.
    pub(crate) fn prefer(&self, endpoint: &Endpoint) {
        let current = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if current.endpoints[current.preferred].address() == endpoint.address() {
            return;
        }
        drop(current);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = position(&table.endpoints, endpoint.address()) {
            table.preferred = at;
        }
    }

    /// Remembers the leader's address; an address that is new becomes an endpoint.
    pub(crate) fn leader_is(&self, address: &str) {
        let current = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let known = match position(&current.endpoints, address) {
            Some(at) => current.leader == Some(at),
            None => current.leader.is_none() && !self.discover,
        };
        drop(current);
        if !known {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            table.leader = self.add(&mut table, address);
        }
    }

    /// Forgets the leader, if this endpoint is taken for it.
    pub(crate) fn not_leader(&self, endpoint: &Endpoint) {
        let current = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let taken =
            current.leader.is_some_and(|at| current.endpoints[at].address() == endpoint.address());
        drop(current);
        if taken {
            self.table.write().unwrap_or_else(PoisonError::into_inner).leader = None;
        }
    }

    /// Adds the members that are not known yet.
    pub(crate) fn learn(&self, members: &[v1::Member]) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for member in members {
            self.add(&mut table, &member.client_address);
        }
    }

    /// The place of an address, added where allowed. Advertised addresses that cannot be used are
    /// left out: they come from the cluster, the user cannot mend them here.
    fn add(&self, table: &mut Table, address: &str) -> Option<usize> {
        if let Some(at) = position(&table.endpoints, address) {
            return Some(at);
        }
        if !self.discover || table.endpoints.len() >= ENDPOINTS_MAX {
            return None;
        }
        let endpoint = Endpoint::new(address, self.connections, self.tls.clone()).ok()?;
        Arc::make_mut(&mut table.endpoints).push(Arc::new(endpoint));
        Some(table.endpoints.len() - 1)
    }
}

fn position(endpoints: &[Arc<Endpoint>], address: &str) -> Option<usize> {
    endpoints.iter().position(|endpoint| endpoint.address() == address)
}

/// The order in which one call visits the endpoints.
#[derive(Debug)]
pub(crate) struct Path {
    endpoints: Arc<Vec<Arc<Endpoint>>>,
    at: usize,
    stays: bool,
}

impl Path {
    /// How many endpoints it goes over.
    pub(crate) fn len(&self) -> usize {
        if self.stays { 1 } else { self.endpoints.len() }
    }

    /// Goes nowhere else any more.
    pub(crate) fn stay(&mut self) {
        self.stays = true;
    }

    /// Whether it goes nowhere else.
    pub(crate) fn stays(&self) -> bool {
        self.stays
    }

    /// The endpoint to try now.
    pub(crate) fn current(&self) -> &Arc<Endpoint> {
        &self.endpoints[self.at]
    }

    /// Goes on to the next endpoint, unless it stays.
    pub(crate) fn advance(&mut self) {
        if !self.stays {
            self.at = (self.at + 1) % self.endpoints.len();
        }
    }
}
