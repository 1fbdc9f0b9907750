//! A script without chance, cut at an operation of one machine's disk.
//!
//! Three machines, one leader, 500 writes, and items that each node remembers by itself. On the way there are checkpoints, compactions of history,
//! exports, renewals of the store, a follower that is cut off until it needs a snapshot, and a restart of the leader. Nothing
//! is random, so the script can be run again and stopped at any operation of a disk: whatever a loss of
//! power leaves there then has to boot, with every vote and entry that was promised, in exactly the
//! state that the committed log makes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kvstore::durable::{MemoryDirs, Opened};
use kvstore::node::{
    Effect, Input, Node, NodeBounds, NodeConfig, Reply, Request, RequestId, Ticks,
};
use kvstore::replication::EventualOptions;
use kvstore::secrets::Entropy;
use prost::Message;
use proto::log::frame::Body as FrameBody;
use proto::v1::{self, op::Op};
use proto::{Failure, GroupId, KeyspaceId, LogIndex, NodeId, Term, log, peer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use storage::disk::SimDisk;
use storage::mvcc::Machine;
use storage::state::MemoryStore;

use super::counters::{Counters, Event};
use super::host::{Host, Started, machine_options};
use super::items::{self, Put};
use super::process::{Process, Synced, Wanted};

/// Writes of the script.
const WRITES: u64 = 500;
/// The follower is cut off after this write,
const CUT_OFF: u64 = 120;
/// the leader starts anew after this one, so that its memory begins with its last checkpoint,
const RESTART: u64 = 330;
/// and the follower is back after this one.
const BACK: u64 = 350;
/// Revisions of history that are kept.
const HISTORY: u64 = 30;
/// Every so many ticks a node is given items.
const ITEM_TICKS: u64 = 3;
const LEADER: usize = 0;
const FOLLOWER: usize = 2;

/// Where a run ends: at this operation of this machine's disk.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// The machine: 0 leads, 2 is the follower that gets a snapshot.
    pub host: usize,
    /// Operations that succeed.
    pub at: u64,
}

/// What a machine has promised, by group: as of its last sync.
type Promises = BTreeMap<GroupId, log::GroupState>;

/// The cluster that runs the script.
#[derive(Debug)]
pub struct Script {
    hosts: Vec<Host>,
    cut: Option<Cut>,
    /// The cut machine is dead.
    over: bool,
    apart: bool,
    queue: VecDeque<(usize, NodeId, peer::PeerMessage)>,
    replies: BTreeMap<RequestId, Result<Reply, Failure>>,
    requests: u64,
    promises: Vec<Promises>,
    /// By machine: what its node was given to remember.
    items: Vec<Vec<Put>>,
    /// By machine: up to where that was synced.
    items_promised: Vec<LogIndex>,
    ticks: u64,
    /// The data group's log, as its leader wrote it.
    log: BTreeMap<u64, log::Entry>,
    /// What happened.
    pub counters: Counters,
    compacted: u64,
}

/// What the whole script came to.
#[derive(Debug)]
pub struct Reference {
    log: BTreeMap<u64, log::Entry>,
    digests: Vec<[u8; 32]>,
    /// Operations of each machine's disk.
    pub operations: Vec<u64>,
    /// What happened.
    pub counters: Counters,
}

impl Script {
    fn new(cut: Option<Cut>) -> Self {
        let members: Vec<(NodeId, String)> =
            (1..=3).map(|n| (NodeId(n * 1001), format!("n{n}"))).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        // What a checkpoint leaves behind is reason enough to renew the store.
        let bounds = NodeBounds {
            copy_times: 1,
            store_times: 1,
            store_slack_bytes: 0,
            ..NodeBounds::default()
        };
        let hosts: Vec<Host> = members
            .iter()
            .map(|(id, _)| Host::formed(*id, &members, bounds, None, &mut rng))
            .collect();
        Self {
            promises: vec![Promises::new(); hosts.len()],
            items: vec![Vec::new(); hosts.len()],
            items_promised: vec![LogIndex(0); hosts.len()],
            ticks: 0,
            hosts,
            cut,
            over: false,
            apart: false,
            queue: VecDeque::new(),
            replies: BTreeMap::new(),
            requests: 0,
            log: BTreeMap::new(),
            counters: Counters::default(),
            compacted: 0,
        }
    }

    /// Runs the script until its end or its cut.
    #[must_use]
    pub fn run(cut: Option<Cut>) -> Self {
        let mut script = Self::new(cut);
        if let Some(Cut { host, at }) = cut {
            script.hosts[host].disk.halt_at(at);
        }
        script.play();
        script
    }

    fn play(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
        self.step(LEADER, Input::Campaign);
        self.keep_history();
        for number in 1..=WRITES {
            if self.over {
                return;
            }
            match number {
                CUT_OFF => self.set_apart(true),
                RESTART => self.restart_leader(),
                BACK => self.set_apart(false),
                _ => {}
            }
            self.write(number);
            if number.is_multiple_of(4) {
                self.tick();
            }
        }
        for _ in 0..400 {
            self.tick();
        }
    }

    fn start(&mut self, host: usize) {
        let outcome = self.hosts[host].start(1, &mut self.counters);
        match outcome {
            Ok(Started::Running) => {}
            // The disk halts in the middle of a start.
            _ if self.dying(host) => return self.die(host),
            other => panic!("host {host}: {other:?}"),
        }
        for peer in 0..self.hosts.len() {
            if peer != host && self.hosts[peer].running.is_some() && self.connected(host, peer) {
                let (here, there) = (self.hosts[host].id, self.hosts[peer].id);
                self.step(host, Input::LinkUp(there));
                self.step(peer, Input::LinkUp(here));
            }
        }
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        !(self.apart && (a == FOLLOWER || b == FOLLOWER))
    }

    fn set_apart(&mut self, apart: bool) {
        self.apart = apart;
        let follower = self.hosts[FOLLOWER].id;
        for peer in 0..FOLLOWER {
            let id = self.hosts[peer].id;
            let (here, there) = if apart {
                (Input::LinkDown(id), Input::LinkDown(follower))
            } else {
                (Input::LinkUp(id), Input::LinkUp(follower))
            };
            self.step(FOLLOWER, here);
            self.step(peer, there);
        }
    }

    fn restart_leader(&mut self) {
        let id = self.hosts[LEADER].id;
        if let Some(process) = self.hosts[LEADER].running.take() {
            process.end_well();
        }
        if self.dying(LEADER) {
            return self.die(LEADER);
        }
        self.step(1, Input::LinkDown(id));
        self.start(LEADER);
        // The other one is elected, and hands over.
        for _ in 0..400 {
            if self.over || self.groups_led(LEADER) == 2 {
                return;
            }
            if self.groups_led(1) > 0 {
                self.step(1, Input::MoveLeader(id));
            }
            self.tick();
        }
        panic!("the leader leads again");
    }

    fn groups_led(&self, host: usize) -> u32 {
        self.hosts[host].running.as_ref().map_or(0, |process| process.node.summary().groups_led)
    }

    /// Whether the cut machine's disk has come to its end.
    fn dying(&self, host: usize) -> bool {
        let operations = self.hosts[host].disk.counters().operations;
        self.cut.is_some_and(|cut| cut.host == host && operations >= cut.at)
    }

    fn die(&mut self, host: usize) {
        self.hosts[host].running = None;
        self.over = true;
    }

    fn step(&mut self, host: usize, input: Input) {
        if let Some(process) = &mut self.hosts[host].running {
            process.node.step(input);
        }
        self.settle();
    }

    fn tick(&mut self) {
        self.ticks += 1;
        for host in 0..self.hosts.len() {
            self.step(host, Input::Tick);
            if self.ticks.is_multiple_of(ITEM_TICKS) {
                self.put_items(host);
            }
        }
        if let Some(process) = &self.hosts[LEADER].running {
            let compacted = process.node.machine().compacted(KeyspaceId::DEFAULT).get();
            self.compacted = self.compacted.max(compacted);
        }
    }

    /// Gives a node something to remember by itself.
    fn put_items(&mut self, host: usize) {
        let Some(process) = &mut self.hosts[host].running else { return };
        let number = self.items[host].len();
        let item = |key: usize| {
            let value = (!(number + key).is_multiple_of(4))
                .then(|| vec![number as u8; 40 + number % 7 * 60].into());
            log::Item { key: format!("item-{:02}", (number + key * 5) % 17).into(), value }
        };
        let items: Vec<log::Item> = (0..2).map(item).collect();
        let index = process.node.remember(items.clone());
        self.items[host].push((index, items));
        self.settle();
    }

    /// Lets everything happen that is due, in a fixed order.
    fn settle(&mut self) {
        while !self.over {
            let mut quiet = true;
            for host in 0..self.hosts.len() {
                quiet &= !self.poll(host);
            }
            if let Some((to, from, message)) = self.queue.pop_front() {
                quiet = false;
                if let Some(process) = &mut self.hosts[to].running {
                    process.node.step(Input::Peer { from, message });
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Carries out what a node wants done; true if it wanted anything.
    fn poll(&mut self, host: usize) -> bool {
        let Some(process) = &mut self.hosts[host].running else { return false };
        let effects = process.node.poll();
        let any = !effects.is_empty();
        for effect in effects {
            self.carry_out(host, effect);
            if self.over {
                return true;
            }
        }
        any
    }

    fn carry_out(&mut self, host: usize, effect: Effect) {
        if let Effect::WalAppend { frames, .. } = &effect {
            self.note(frames);
        }
        let Some(process) = &mut self.hosts[host].running else { return };
        match process.take(effect) {
            None | Some(Wanted::Removed(_)) => {}
            Some(Wanted::Send(to, message)) => self.send(host, to, message),
            Some(Wanted::Sync) => self.sync(host),
            Some(Wanted::Store) => {
                while !self.dying(host)
                    && self.process(host).is_some_and(|(p, counters)| p.step_store(counters))
                {
                }
            }
            Some(Wanted::Transfer) => self.transfer(host),
            Some(Wanted::Reply(id, reply)) => {
                self.replies.insert(id, *reply);
            }
            Some(Wanted::Fatal(why)) => assert!(self.dying(host), "host {host}: {why}"),
        }
        if self.dying(host) {
            self.die(host);
        }
    }

    fn process(&mut self, host: usize) -> Option<(&mut Process, &mut Counters)> {
        Some((self.hosts[host].running.as_mut()?, &mut self.counters))
    }

    fn sync(&mut self, host: usize) {
        let Some((process, counters)) = self.process(host) else { return };
        match process.sync(counters) {
            Ok(Synced::Done) => {
                let promised = [GroupId::META, GroupId::DATA]
                    .into_iter()
                    .filter_map(|group| Some((group, process.promised(group)?.clone())));
                let promised: Promises = promised.collect();
                let own = process.promised(GroupId::EVENTUAL).map_or(0, |state| state.last_index);
                // The last operation may have been the one after the sync.
                if !self.dying(host) {
                    self.promises[host] = promised;
                    self.items_promised[host] = LogIndex(own);
                }
            }
            // Without power nothing can be prepared either.
            Ok(Synced::Full | Synced::Short) => assert!(self.dying(host), "the disk has room"),
            Err(error) => assert!(self.dying(host), "host {host}: {error}"),
        }
    }

    fn transfer(&mut self, host: usize) {
        loop {
            let Some(process) = &mut self.hosts[host].running else { return };
            let (send, more) = process.step_transfer();
            if let Some((to, message)) = send {
                self.send(host, to, message);
            }
            if !more || self.dying(host) {
                return;
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: peer::PeerMessage) {
        let index = self.hosts.iter().position(|host| host.id == to).expect("a member");
        if self.connected(from, index) {
            self.queue.push_back((index, self.hosts[from].id, message));
        }
    }

    /// Keeps the log of the data group.
    fn note(&mut self, frames: &[log::Frame]) {
        for frame in frames.iter().filter(|frame| frame.group == GroupId::DATA.get()) {
            if let Some(FrameBody::Entries(entries)) = &frame.body {
                for entry in &entries.entries {
                    let older = self.log.insert(entry.index, entry.clone());
                    let same = older.is_none_or(|older| older == *entry);
                    assert!(same, "leadership is handed over, so nothing is replaced");
                }
            }
        }
    }

    fn ask(&mut self, request: Request) -> Option<Result<Reply, Failure>> {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.step(LEADER, Input::Client { id, request, patience: Ticks(400) });
        for _ in 0..200 {
            if self.over || self.replies.contains_key(&id) {
                break;
            }
            self.tick();
        }
        self.replies.remove(&id)
    }

    fn keep_history(&mut self) {
        let settings = v1::keyspace::Settings { history_revisions: HISTORY, ..Default::default() };
        let keyspace =
            v1::Keyspace { name: "default".into(), settings: Some(settings), ..Default::default() };
        let step = log::put_keyspace::Step::Set.into();
        let put = log::PutKeyspace { step, keyspace: Some(keyspace) };
        let body = Some(log::command::Body::PutKeyspace(put));
        let reply = self.ask(Request::Manage(log::Command { body }));
        assert!(self.over || matches!(reply, Some(Ok(Reply::Managed(_)))), "{reply:?}");
    }

    fn write(&mut self, number: u64) {
        let key = Bytes::from(format!("key-{:02}", number * 7 % 40));
        let op = if number.is_multiple_of(9) {
            Op::Delete(v1::DeleteOp { key, ..v1::DeleteOp::default() })
        } else {
            let value = Bytes::from(vec![number as u8; 150 + (number % 5) as usize * 40]);
            Op::Put(v1::PutOp { key, value, prev: false })
        };
        let id = v1::WriteId {
            client_id: Bytes::from_static(&[9; 16]),
            seq: number,
            first_open: number.saturating_sub(3).max(1),
            born: self.log.keys().next_back().copied().unwrap_or(0),
        };
        let write = log::Write {
            id: Some(id),
            then_ops: vec![v1::Op { op: Some(op) }],
            ..log::Write::default()
        };
        let reply = self.ask(Request::Write {
            keyspace: "default".into(),
            write,
            options: EventualOptions::default(),
        });
        assert!(self.over || matches!(reply, Some(Ok(_))), "write {number}: {reply:?}");
    }

    /// The whole script's outcome, which a run without a cut ends with.
    ///
    /// # Panics
    /// When something that the script is about did not happen.
    #[must_use]
    pub fn reference(self) -> Reference {
        assert!(!self.over, "the script was cut");
        let states: Vec<(LogIndex, [u8; 32])> = self
            .hosts
            .iter()
            .map(|host| {
                let machine = host.running.as_ref().expect("all run").node.machine();
                (machine.applied(), machine.digest().expect("the store works"))
            })
            .collect();
        assert!(states.iter().all(|state| *state == states[0]), "all are equal: {states:?}");
        let events = [Event::Checkpoint, Event::LogFreed, Event::SnapshotInstalled, Event::Renewed];
        for event in events {
            assert!(self.counters.get(event) > 0, "{event:?} did not happen: {}", self.counters);
        }
        assert!(self.compacted > HISTORY, "history was compacted to {}", self.compacted);
        for (host, puts) in self.hosts.iter().zip(&self.items) {
            let node = &host.running.as_ref().expect("all run").node;
            assert!(node.own().machine().checkpointed() > LogIndex(20), "items have checkpoints");
            let expected = items::after(puts, LogIndex(u64::MAX));
            assert_eq!(items::shown_by(node), expected, "all items are there");
        }
        let digests = digests(&self.log);
        assert_eq!(digests[states[0].0.get() as usize], states[0].1, "the log makes this state");
        let operations = |host: &Host| host.disk.counters().operations;
        Reference {
            log: self.log,
            digests,
            operations: self.hosts.iter().map(operations).collect(),
            counters: self.counters,
        }
    }

    /// Boots up to `limit` images of the cut machine; returns how many there were.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(&self, reference: &Reference, limit: usize) -> Result<usize, String> {
        let Cut { host, at } = self.cut.expect("a run that was cut");
        let mut rng = ChaCha8Rng::seed_from_u64(at);
        let items = (&self.items[host][..], self.items_promised[host]);
        let (host, promises) = (&self.hosts[host], &self.promises[host]);
        let mut images = 0;
        for image in host.disk.images(limit, &mut rng.clone()) {
            let states = host.states.fork();
            states.crash(&mut rng);
            boot(host, image, states, promises, items, reference)
                .map_err(|why| format!("{:?}, image {images}: {why}", self.cut))?;
            images += 1;
        }
        Ok(images)
    }
}

/// Boots one image and holds it against what was promised.
fn boot(
    host: &Host,
    image: SimDisk,
    states: MemoryDirs,
    promises: &Promises,
    (puts, items_promised): (&[Put], LogIndex),
    reference: &Reference,
) -> Result<(), String> {
    let mut files = host.files();
    files.disk = Arc::new(image);
    files.states = Arc::new(states);
    let ready = match files.open(host.founding()).map_err(|error| error.to_string())? {
        Opened::Ready(ready) => ready,
        Opened::Damaged(damage) => return Err(format!("taken for damaged: {damage:?}")),
    };
    for (group, promised) in promises {
        let found = ready.start.recovered.groups.get(group).ok_or("a group is gone")?;
        let kept = found.first_kept.get().saturating_sub(1);
        let last = found.entries.last().map_or(kept, |entry| entry.index);
        let vote = promised.hard_state.unwrap_or_default();
        let same_vote = found.hard_state.term > vote.term
            || (found.hard_state.term == vote.term
                && (vote.vote == 0 || found.hard_state.vote == vote.vote));
        if last < promised.last_index || !same_vote {
            return Err(format!("group {group} is at {last}, promised was {promised:?}"));
        }
        if *group == GroupId::DATA {
            let foreign = found
                .entries
                .iter()
                .find(|entry| reference.log.get(&entry.index).is_some_and(|known| known != *entry));
            if let Some(entry) = foreign {
                return Err(format!("entry {} is another one", entry.index));
            }
        }
    }
    let config = NodeConfig {
        id: host.id,
        name: host.name.clone(),
        cluster: files.cluster,
        client_address: String::new(),
        peer_address: String::new(),
        boot: 99,
        seed: 1,
        entropy: Entropy::predictable(1),
        checkpoint_layer_bytes: usize::MAX / 4,
        epoch: ready.epoch,
        export_log_bytes: u64::MAX / 64,
        log_bytes: 0,
        bounds: NodeBounds::default(),
    };
    let mut node = Node::new(config, ready.start).map_err(|error| error.to_string())?;
    drop(node.poll());
    let own = node.own().applied();
    if own < items_promised {
        return Err(format!("its own log is at {own}, promised was {items_promised}"));
    }
    if items::shown_by(&node) != items::after(puts, own) {
        return Err(format!("at {own} of its own log, it shows other items than were put"));
    }
    let machine = node.machine();
    let digest = machine.digest().map_err(|error| error.to_string())?;
    let applied = machine.applied();
    match reference.digests.get(applied.get() as usize) {
        Some(expected) if *expected == digest => Ok(()),
        Some(_) => Err(format!("the state at {applied} is not what the log makes")),
        None => Err(format!("{applied} is beyond the script")),
    }
}

/// The digest after each entry of a log, the first one before any.
fn digests(log: &BTreeMap<u64, log::Entry>) -> Vec<[u8; 32]> {
    let store = Arc::new(MemoryStore::new());
    let mut machine = Machine::open(store, machine_options()).expect("an empty store opens");
    let mut digests = vec![machine.digest().expect("memory works")];
    let indexes: BTreeSet<u64> = log.keys().copied().collect();
    for index in indexes {
        let entry = &log[&index];
        let command = (!entry.data.is_empty())
            .then(|| log::Command::decode(entry.data.clone()).expect("a command"));
        machine.apply(LogIndex(index), Term(entry.term), command.as_ref()).expect("memory works");
        digests.push(machine.digest().expect("memory works"));
    }
    digests
}
