//! What the tasks of a network share: who the peers are, and what this node says and knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use proto::peer::hello::Refusal;
use proto::peer::{self, PeerMessage};
use proto::{NodeId, v1};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::Greeted;
use super::hello::{HelloRefused, Local};
use super::links;
use super::network::{LinkEvent, NetworkConfig, Sink};
use super::peers::{Peer, PeerView, Turn};
use super::roster::{Roster, Standing};
use crate::config::Address;
use crate::forming::{Answer, Formed, Report};
use crate::identity::MemberList;
use crate::tls::{Material, Throttle};

/// Peers beyond those of the list: what others may know of before this node does.
const STRANGERS_MAX: usize = 16;

/// A peer and the connections that it will make: what its task works with.
pub(super) type PeerTask = (Arc<Peer>, mpsc::Receiver<Greeted>);

/// What the tasks of a network share.
pub(super) struct Shared {
    pub(super) local: Local,
    pub(super) material: Material,
    pub(super) stop: CancellationToken,
    /// For log lines about connections of nobody we know.
    pub(super) throttle: Throttle,
    peers: RwLock<Peers>,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
    /// Of the configuration, by name.
    addresses: BTreeMap<String, Address>,
    formed: watch::Sender<Option<Formed>>,
    reports: watch::Sender<BTreeMap<String, Report>>,
    answers: watch::Sender<BTreeMap<String, Option<Answer>>>,
    list: watch::Sender<Option<MemberList>>,
    removed: watch::Sender<Option<String>>,
    status: watch::Sender<Option<v1::NodeStatus>>,
    sink: Sink,
    started: Instant,
}

/// Who the peers are. Invariants: no peer has this node's name; a peer that stands in `by_id`
/// stands in `by_name` too and has that id; no id in `by_id` was removed.
#[derive(Default)]
struct Peers {
    by_name: BTreeMap<String, Arc<Peer>>,
    by_id: BTreeMap<NodeId, Arc<Peer>>,
    roster: Roster,
    turns: BTreeMap<String, Turn>,
    /// Messages that were not sent to peers which have left.
    dropped: (u64, u64),
}

impl Shared {
    /// State without tasks, and for each peer the connections that it will make. Call it inside a
    /// tokio runtime.
    pub(super) fn new(config: NetworkConfig, sink: Sink) -> (Self, Vec<PeerTask>) {
        let NetworkConfig {
            cluster_name,
            node_name,
            node,
            boot,
            initial,
            seed,
            formed,
            members,
            material,
            ..
        } = config;
        let addresses: BTreeMap<String, Address> =
            initial.into_iter().map(|member| (member.name, member.address)).collect();
        let initial = addresses.keys().cloned().collect();
        let shared = Self {
            local: Local { cluster_name, node_name, node, boot, initial, seed },
            material,
            stop: CancellationToken::new(),
            throttle: Throttle::default(),
            peers: RwLock::default(),
            tasks: Mutex::default(),
            runtime: Handle::current(),
            addresses,
            formed: watch::Sender::new(None),
            reports: watch::Sender::new(BTreeMap::new()),
            answers: watch::Sender::new(BTreeMap::new()),
            list: watch::Sender::new(members.clone()),
            removed: watch::Sender::new(None),
            status: watch::Sender::new(None),
            sink,
            started: Instant::now(),
        };
        let tasks = match formed {
            None => shared.add_initial(),
            Some(formed) => {
                let roster = match &members {
                    Some(list) => Roster::listed(list),
                    None => Roster::founding(&formed, &shared.addresses),
                };
                shared.begin(formed, roster)
            }
        };
        (shared, tasks)
    }

    /// Where the configuration says that a member listens.
    pub(super) fn configured_address(&self, name: &str) -> Option<Address> {
        self.addresses.get(name).cloned()
    }

    /// What this node has formed with.
    pub(super) fn formed(&self) -> Option<Formed> {
        self.formed.borrow().clone()
    }

    pub(super) fn formed_changes(&self) -> watch::Receiver<Option<Formed>> {
        self.formed.subscribe()
    }

    /// The node has formed, and starts with what a cluster begins with.
    pub(super) fn set_formed(self: &Arc<Self>, formed: Formed) {
        let roster = Roster::founding(&formed, &self.addresses);
        for task in self.begin(formed, roster) {
            self.spawn(task);
        }
    }

    /// Judges the hello of the node that `certified` names, on a link.
    pub(super) fn check(
        &self,
        formed: Option<&Formed>,
        certified: &str,
        hello: &peer::Hello,
    ) -> Result<Report, HelloRefused> {
        let judged = self.local.check(formed, &self.read().roster, certified, hello);
        if judged == Err(HelloRefused::RemovedUs) {
            self.hear_removed(certified);
        }
        judged
    }

    /// What a node hears that wants to join.
    pub(super) fn answer_joiner(
        &self,
        formed: Option<&Formed>,
        certified: &str,
        hello: &peer::Hello,
    ) -> Result<peer::Hello, HelloRefused> {
        let standing = self.local.check_joiner(&self.read().roster, certified, hello)?;
        let Some(formed) = formed else { return Ok(self.local.hello(None)) };
        let node = NodeId(hello.node_id);
        let refusal = match &standing {
            Standing::Member => Refusal::Unspecified,
            Standing::Removed => Refusal::Removed,
            Standing::Unbound => {
                self.tell(LinkEvent::Joining { name: certified.to_owned(), node });
                Refusal::NotAdded
            }
            Standing::Unknown | Standing::OtherId(_) | Standing::OtherName(_) => {
                if let Some(suppressed) = self.throttle.pass() {
                    let name = certified;
                    let why = "a node wants to join and was not added";
                    warn!(name, %node, ?standing, suppressed, "{why}");
                }
                Refusal::NotAdded
            }
        };
        Ok(self.local.refusing(formed, refusal))
    }

    /// Notes what a peer said about itself, for forming.
    pub(super) fn report(&self, name: &str, report: &Report) {
        note(&self.reports, name, report.clone());
    }

    pub(super) fn reports(&self) -> watch::Receiver<BTreeMap<String, Report>> {
        self.reports.subscribe()
    }

    /// Notes what an address answered to this node, which wants to join.
    pub(super) fn answered(&self, address: &str, answer: Option<Answer>) {
        note(&self.answers, address, answer);
    }

    pub(super) fn answers(&self) -> watch::Receiver<BTreeMap<String, Option<Answer>>> {
        self.answers.subscribe()
    }

    /// A member says that this node was removed.
    pub(super) fn hear_removed(&self, witness: &str) {
        let first = self.removed.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| witness.to_owned());
            first
        });
        if first {
            warn!(witness, "this node was removed from the cluster");
        }
    }

    /// The member that said that this node was removed, once one did.
    pub(super) fn removed(&self) -> watch::Receiver<Option<String>> {
        self.removed.subscribe()
    }

    pub(super) fn tell(&self, event: LinkEvent) {
        (self.sink)(event);
    }

    pub(super) fn set_status(&self, status: v1::NodeStatus) {
        self.status.send_if_modified(|known| {
            let told = known.as_ref().map(|known| (&known.state, known.role));
            let news = told != Some((&status.state, status.role));
            *known = Some(status);
            news
        });
    }

    /// Changes when this node's state or role did: worth a ping of its own.
    pub(super) fn status_changes(&self) -> watch::Receiver<Option<v1::NodeStatus>> {
        self.status.subscribe()
    }

    pub(super) fn status(&self) -> Option<v1::NodeStatus> {
        self.status.borrow().clone()
    }

    /// Microseconds since the start of the network.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The last list of members that was given, also by an earlier process.
    pub(super) fn lists(&self) -> watch::Receiver<Option<MemberList>> {
        self.list.subscribe()
    }

    pub(super) fn send(&self, to: NodeId, message: PeerMessage) {
        if let Some(peer) = self.read().by_id.get(&to) {
            peer.lanes.push(message);
        }
    }

    pub(super) fn views(&self) -> Vec<PeerView> {
        self.read().by_name.values().map(|peer| peer.view()).collect()
    }

    pub(super) fn dropped(&self) -> (u64, u64) {
        let peers = self.read();
        let dropped = peers.by_name.values().map(|peer| peer.lanes.dropped());
        dropped.fold(peers.dropped, sum)
    }

    /// Runs the task of a peer. May be called from any thread.
    pub(super) fn spawn(self: &Arc<Self>, (peer, incoming): PeerTask) {
        let mut tasks = self.tasks.lock().expect("nothing panics under this lock");
        // Those of peers that have left are of no use any more.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(links::keep(Arc::clone(self), peer, incoming), &self.runtime);
    }

    /// Waits for the tasks of all peers; they end once the network stops.
    pub(super) async fn join_tasks(&self) {
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().expect("nothing panics under this lock"));
        while tasks.join_next().await.is_some() {}
    }

    /// The peer for a connection that the node `name` made; one that nobody has told of yet becomes
    /// a peer. `None` when the members have changed and it does not fit any more, or there are too
    /// many strangers.
    pub(super) fn admit(self: &Arc<Self>, name: &str, node: NodeId) -> Option<Arc<Peer>> {
        let mut peers = self.write();
        let formed = self.formed.borrow().is_some();
        match peers.roster.standing(name, node) {
            Standing::Member | Standing::Unbound | Standing::Unknown => {}
            Standing::Removed | Standing::OtherId(_) | Standing::OtherName(_) => return None,
        }
        if let Some(peer) = peers.by_name.get(name) {
            let known = peer.node();
            return (known == NodeId(0) || known == node).then(|| Arc::clone(peer));
        }
        let listed = peers.roster.members();
        let strangers = peers.by_name.keys().filter(|name| !listed.contains_key(*name)).count();
        let too_many = !listed.contains_key(name) && strangers >= STRANGERS_MAX;
        if !formed || too_many {
            return None;
        }
        let task = self.insert(&mut peers, name, None);
        drop(peers);
        let peer = Arc::clone(&task.0);
        self.spawn(task);
        Some(peer)
    }

    /// From now on what is sent to this node goes to this peer; false when the members have changed
    /// and it does not fit any more.
    pub(super) fn route(&self, node: NodeId, peer: &Arc<Peer>) -> bool {
        let mut peers = self.write();
        let current = peers.by_name.get(&peer.name).is_some_and(|known| Arc::ptr_eq(known, peer));
        if !current || peers.roster.is_removed(node) {
            return false;
        }
        let old = peer.node();
        if old != node {
            // Before it was bound the node may have lost its directory and come back as another.
            peers.by_id.remove(&old);
            peer.set_node(node);
        }
        peers.by_id.insert(node, Arc::clone(peer));
        true
    }

    /// Follows a new list of members: links to those that left end, new ones are dialed, addresses
    /// change.
    pub(super) fn set_members(self: &Arc<Self>, list: MemberList) {
        assert!(self.formed.borrow().is_some(), "a node that has not formed has no members");
        let news = self.list.send_if_modified(|known| {
            let news = known.as_ref() != Some(&list);
            if news {
                *known = Some(list.clone());
            }
            news
        });
        if !news {
            return;
        }
        let roster = Roster::listed(&list);
        let own_id_removed = roster.is_removed(self.local.node);
        let tasks = self.follow(roster);
        for task in tasks {
            self.spawn(task);
        }
        if own_id_removed {
            let own = self.local.node_name.clone();
            self.hear_removed(&own);
        }
    }

    fn follow(&self, roster: Roster) -> Vec<PeerTask> {
        let mut peers = self.write();
        let left: Vec<Arc<Peer>> = peers
            .by_name
            .values()
            .filter(|peer| has_left(peer, &peers.roster, &roster))
            .cloned()
            .collect();
        for peer in left {
            let removed = roster.is_removed(peer.node());
            info!(peer = peer.name, node = %peer.node(), removed, "the peer has left the cluster");
            peers.by_name.remove(&peer.name);
            peers.by_id.remove(&peer.node());
            peers.dropped = sum(peers.dropped, peer.lanes.dropped());
            peer.leave(removed);
        }
        peers.roster = roster;
        self.add_listed(&mut peers)
    }

    /// The node has formed: its peers are the members.
    fn begin(&self, formed: Formed, roster: Roster) -> Vec<PeerTask> {
        let local = &self.local;
        let belongs = formed.holds(&local.node_name, local.node);
        assert!(belongs, "{} is not in {formed:?}", local.node_name);
        let own_id_removed = roster.is_removed(local.node);
        let mut peers = self.write();
        assert!(self.formed.borrow().is_none(), "a node forms once");
        peers.roster = roster;
        let tasks = self.add_listed(&mut peers);
        drop(peers);
        info!(cluster = %formed.cluster, founders = formed.members.len(), "formed");
        self.formed.send_replace(Some(formed));
        if own_id_removed {
            self.hear_removed(&local.node_name);
        }
        tasks
    }

    /// Makes the members of the list peers that are not yet, apart from this node and those that
    /// have no id yet: they come by themselves.
    fn add_listed(&self, peers: &mut Peers) -> Vec<PeerTask> {
        let mut tasks = Vec::new();
        for (name, listed) in peers.roster.clone().members() {
            if *name == self.local.node_name || listed.node == NodeId(0) {
                continue;
            }
            let address = listed.address.clone();
            let peer = match peers.by_name.get(name) {
                Some(peer) => {
                    if let Some(address) = address {
                        peer.set_address(address);
                    }
                    Arc::clone(peer)
                }
                None => {
                    let task = self.insert(peers, name, address);
                    let peer = Arc::clone(&task.0);
                    tasks.push(task);
                    peer
                }
            };
            peer.set_node(listed.node);
            peers.by_id.insert(listed.node, peer);
        }
        tasks
    }

    fn add_initial(&self) -> Vec<PeerTask> {
        let mut peers = self.write();
        let others = self.addresses.iter().filter(|(name, _)| **name != self.local.node_name);
        others.map(|(name, address)| self.insert(&mut peers, name, Some(address.clone()))).collect()
    }

    fn insert(&self, peers: &mut Peers, name: &str, address: Option<Address>) -> PeerTask {
        let turn = Arc::clone(peers.turns.entry(name.to_owned()).or_default());
        let dials = *self.local.node_name < *name;
        let stop = self.stop.child_token();
        let (peer, incoming) = Peer::new(name.to_owned(), address, dials, stop, turn);
        let peer = Arc::new(peer);
        peers.by_name.insert(name.to_owned(), Arc::clone(&peer));
        (peer, incoming)
    }

    fn read(&self) -> RwLockReadGuard<'_, Peers> {
        self.peers.read().expect("nothing panics under this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Peers> {
        self.peers.write().expect("nothing panics under this lock")
    }
}

/// Whether a peer of the old list is none of the new one. A stranger stays as long as it has a
/// connection and was not removed; without one it can come again.
fn has_left(peer: &Peer, old: &Roster, new: &Roster) -> bool {
    let node = peer.node();
    if node == NodeId(0) {
        return !new.members().contains_key(&peer.name);
    }
    match new.standing(&peer.name, node) {
        Standing::Member | Standing::Unbound => false,
        Standing::Removed | Standing::OtherId(_) | Standing::OtherName(_) => true,
        Standing::Unknown => old.members().contains_key(&peer.name) || !peer.is_busy(),
    }
}

/// Notes the newest of what was said under a name; wakes waiters only when it is news.
fn note<T: Clone + PartialEq>(notes: &watch::Sender<BTreeMap<String, T>>, name: &str, said: T) {
    notes.send_if_modified(|notes| {
        let news = notes.get(name) != Some(&said);
        if news {
            notes.insert(name.to_owned(), said);
        }
        news
    });
}

fn sum(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}
