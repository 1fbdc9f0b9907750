//! A scripted cluster whose disks fill up one after the other.
//!
//! Three machines, no chance. The script fills disks, moves leadership and asks the nodes; how far the
//! nodes get with that is for the test to say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kvstore::node::{Input, NodeBounds, Reply, Request, RequestId, Summary, Ticks};
use kvstore::replication::EventualOptions;
use proto::v1::{self, op::Op};
use proto::{Failure, NodeId, log, peer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::counters::Counters;
use super::host::{Host, Started};
use super::process::{Synced, Wanted};

/// Room that a full disk has left.
const ROOM_BYTES: u64 = 2 * 1024;
/// Ticks between two looks for room.
const LOOK_TICKS: u64 = 20;
/// Ticks after which something that is to happen has not.
const PATIENCE: u64 = 400;
const VALUE_BYTES: usize = 1_000;

/// The cluster.
#[derive(Debug)]
pub struct Trio {
    hosts: Vec<Host>,
    queue: VecDeque<(usize, NodeId, peer::PeerMessage)>,
    replies: BTreeMap<RequestId, Result<Reply, Failure>>,
    requests: u64,
    ticks: u64,
    /// Hosts with a batch that no segment has room for.
    stuck: [bool; 3],
    /// What is sent from one host to another is lost.
    cut: BTreeSet<(usize, usize)>,
    counters: Counters,
}

impl Trio {
    /// One that has formed, and that `leader` leads.
    #[must_use]
    pub fn led_by(leader: usize) -> Self {
        let members: Vec<(NodeId, String)> =
            (1..=3).map(|id| (NodeId(id), format!("n{id}"))).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let formed = |(id, _): &(NodeId, String)| {
            Host::formed(*id, &members, NodeBounds::default(), None, &mut rng)
        };
        let hosts = members.iter().map(formed).collect();
        let mut trio = Self {
            hosts,
            queue: VecDeque::new(),
            replies: BTreeMap::new(),
            requests: 0,
            ticks: 0,
            stuck: [false; 3],
            cut: BTreeSet::new(),
            counters: Counters::default(),
        };
        for host in 0..3 {
            let started = trio.hosts[host].start(1, &mut trio.counters);
            assert!(matches!(started, Ok(Started::Running)), "{started:?}");
        }
        for (a, b) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            trio.step(a, Input::LinkUp(trio.hosts[b].id));
        }
        trio.step(leader, Input::Campaign);
        trio.until("everybody is ready", |trio| (0..3).all(|host| trio.summary(host).ready));
        trio
    }

    /// What a node says of itself.
    #[must_use]
    pub fn summary(&self, host: usize) -> Summary {
        self.hosts[host].running.as_ref().expect("all run").node.summary()
    }

    /// Leaves a disk as little room as a full one has.
    pub fn fill(&mut self, host: usize) {
        let disk = &self.hosts[host].disk;
        disk.set_quota_bytes(Some(disk.used_bytes() + ROOM_BYTES));
    }

    /// Gives a disk its room back.
    pub fn empty(&mut self, host: usize) {
        self.hosts[host].disk.set_quota_bytes(None);
    }

    /// What one host sends to another is lost from now on.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// What one host sends to another arrives again, over a link that both make anew.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.cut.remove(&(from, to));
        for (host, peer) in [(from, to), (to, from)] {
            let peer = self.hosts[peer].id;
            self.step(host, Input::LinkDown(peer));
            self.step(host, Input::LinkUp(peer));
        }
    }

    /// Asks who leads to hand over.
    pub fn move_leader(&mut self, to: usize) {
        let to = self.hosts[to].id;
        for host in 0..3 {
            self.step(host, Input::MoveLeader(to));
        }
    }

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..PATIENCE {
            if is_so(self) {
                return;
            }
            self.tick();
        }
        let nodes: Vec<String> = self.hosts.iter().map(Host::describe).collect();
        panic!("{what}: not so after {PATIENCE} ticks: {nodes:#?}");
    }

    /// A linearizable read, asked of one node.
    ///
    /// # Errors
    /// What the node answers.
    pub fn read(&mut self, host: usize) -> Result<Reply, Failure> {
        let key = Bytes::from_static(b"key-1");
        let get = v1::GetRequest { keyspace: "default".into(), key, ..v1::GetRequest::default() };
        let id = self.ask(host, Request::Get(get));
        self.answer(id)
    }

    /// A write, asked of one node.
    ///
    /// # Errors
    /// What the node answers.
    pub fn write(&mut self, host: usize, number: u64) -> Result<Reply, Failure> {
        let id = self.begin_write(host, number);
        self.answer(id)
    }

    /// Asks a node for a write, and does not wait.
    pub fn begin_write(&mut self, host: usize, number: u64) -> RequestId {
        let key = Bytes::from(format!("key-{}", number % 100));
        let value = Bytes::from(vec![number as u8; VALUE_BYTES]);
        let op = v1::Op { op: Some(Op::Put(v1::PutOp { key, value, prev: false })) };
        let write = log::Write { then_ops: vec![op], ..log::Write::default() };
        let options = EventualOptions::default();
        self.ask(host, Request::Write { keyspace: "default".into(), write, options })
    }

    /// Lets time pass until a request is answered.
    ///
    /// # Errors
    /// What the node answers.
    pub fn answer(&mut self, id: RequestId) -> Result<Reply, Failure> {
        self.until("the request is answered", |trio| trio.replies.contains_key(&id));
        self.replies.remove(&id).expect("it was just there")
    }

    fn ask(&mut self, host: usize, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.step(host, Input::Client { id, request, patience: Ticks(100) });
        id
    }

    fn step(&mut self, host: usize, input: Input) {
        self.hosts[host].running.as_mut().expect("all run").node.step(input);
        self.settle();
    }

    fn tick(&mut self) {
        self.ticks += 1;
        for host in 0..3 {
            self.step(host, Input::Tick);
            if self.ticks.is_multiple_of(LOOK_TICKS) {
                let process = self.hosts[host].running.as_mut().expect("all run");
                process.look_for_room(&mut self.counters).expect("the disk works");
                if std::mem::take(&mut self.stuck[host]) {
                    self.sync(host);
                }
                self.settle();
            }
        }
    }

    /// Lets everything happen that is due, in a fixed order.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for host in 0..3 {
                let process = self.hosts[host].running.as_mut().expect("all run");
                for effect in process.node.poll() {
                    quiet = false;
                    let process = self.hosts[host].running.as_mut().expect("all run");
                    if let Some(wanted) = process.take(effect) {
                        self.carry_out(host, wanted);
                    }
                }
            }
            if let Some((to, from, message)) = self.queue.pop_front() {
                quiet = false;
                let process = self.hosts[to].running.as_mut().expect("all run");
                process.node.step(Input::Peer { from, message });
            }
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, host: usize, wanted: Wanted) {
        match wanted {
            Wanted::Removed(_) => {}
            Wanted::Send(to, message) => self.send(host, to, message),
            Wanted::Sync => self.sync(host),
            Wanted::Store => {
                let process = self.hosts[host].running.as_mut().expect("all run");
                while process.step_store(&mut self.counters) {}
            }
            Wanted::Transfer => loop {
                let process = self.hosts[host].running.as_mut().expect("all run");
                let (send, more) = process.step_transfer();
                if let Some((to, message)) = send {
                    self.send(host, to, message);
                }
                if !more {
                    return;
                }
            },
            Wanted::Reply(id, reply) => {
                self.replies.insert(id, *reply);
            }
            Wanted::Fatal(why) => panic!("host {host}: {why}"),
        }
    }

    fn sync(&mut self, host: usize) {
        let process = self.hosts[host].running.as_mut().expect("all run");
        match process.sync(&mut self.counters).expect("the disk works") {
            Synced::Done | Synced::Short => {}
            Synced::Full => self.stuck[host] = true,
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: peer::PeerMessage) {
        let index = self.hosts.iter().position(|host| host.id == to).expect("a member");
        if self.cut.contains(&(from, index)) {
            return;
        }
        self.queue.push_back((index, self.hosts[from].id, message));
    }
}
