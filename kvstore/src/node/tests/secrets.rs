//! Secrets in clusters: drawn once, held by every member, written nowhere else.

use std::path::{Path, PathBuf};

use proto::ClusterId;
use storage::disk::{Disk, Operation};
use storage::mvcc::MachineOptions;
use storage::wal::{SEGMENT_BYTES_MIN, WalOptions};

use super::*;
use crate::durable::{MemoryDirs, first_states};
use crate::secrets::{Entropy, SECRET_BYTES, Secret, SecretId, SecretKind, Secrets};
use crate::shell::testing::logged;

const CLUSTER: ClusterId = ClusterId([5; 16]);
const SECOND: u64 = 20;

fn id(name: &str) -> SecretId {
    SecretId::parse(name).unwrap()
}

/// Files of a member that has just formed a cluster of so many.
fn formed(members: u64) -> (Founding, DataFiles, SimDisk) {
    let members = (1..=members).map(|id| (NodeId(id), format!("n{id}"))).collect();
    let founding = Founding { members, joined: false };
    let disk = SimDisk::new();
    let files = DataFiles {
        disk: Arc::new(disk.clone()),
        dir: "/data".into(),
        cluster: CLUSTER,
        states: Arc::new(MemoryDirs::default()),
        wal: WalOptions { segment_bytes: SEGMENT_BYTES_MIN * 2, ..WalOptions::new(CLUSTER) },
        machine: MachineOptions::default(),
    };
    let states = first_states(&founding);
    Wal::create(files.disk.clone(), &files.wal_dir(), files.wal.clone(), states).unwrap();
    (founding, files, disk)
}

struct Member {
    founding: Founding,
    files: DataFiles,
    disk: SimDisk,
    boot: u64,
    /// `None` while it is down.
    running: Option<Alone>,
    /// What it wants written, while the disk takes its time.
    writing: Vec<Secret>,
}

/// Nodes 1 to n, of which the first one leads.
struct Cluster {
    members: Vec<Member>,
    /// Writes of secrets take as long as the test wants.
    slow: bool,
    /// All messages with what they say of themselves.
    said: Vec<String>,
}

impl Cluster {
    fn new(size: u64) -> Self {
        let member = |_| {
            let (founding, files, disk) = formed(size);
            Member { founding, files, disk, boot: 0, running: None, writing: Vec::new() }
        };
        let members = (0..size).map(member).collect();
        Self { members, slow: false, said: Vec::new() }
    }

    /// Starts all members; the first one leads.
    fn start(&mut self) {
        for at in 0..self.members.len() {
            self.boot(at);
        }
        self.node(0).step(Input::Campaign);
        self.pass(SECOND);
        assert!(self.node(0).ready());
    }

    /// Starts a member from what its disk holds.
    fn boot(&mut self, at: usize) {
        let nodes = 1..=self.members.len() as u64;
        let member = &mut self.members[at];
        drop(member.running.take());
        member.writing.clear();
        member.boot += 1;
        let ready = match member.files.open(&member.founding).unwrap() {
            Opened::Ready(ready) => ready,
            Opened::Damaged(damage) => panic!("{damage:?}"),
        };
        let (node, name) = member.founding.members[at].clone();
        let config = NodeConfig {
            id: node,
            name,
            cluster: CLUSTER,
            client_address: String::new(),
            peer_address: String::new(),
            boot: member.boot,
            seed: node.get(),
            entropy: Entropy::predictable(node.get() << 32 | member.boot),
            checkpoint_layer_bytes: usize::MAX / 4,
            epoch: 0,
            export_log_bytes: u64::MAX / 64,
            log_bytes: 0,
            bounds: NodeBounds::default(),
        };
        let core = Node::new(config, ready.start).unwrap();
        let mut alone = Alone::silent((core, ready.wal, member.files.clone()));
        alone.silent = false;
        for other in nodes.map(NodeId).filter(|other| *other != node) {
            alone.node.step(Input::LinkUp(other));
        }
        member.running = Some(alone);
    }

    fn node(&mut self, at: usize) -> &mut Node {
        &mut self.members[at].running.as_mut().unwrap().node
    }

    fn secrets(&self, at: usize) -> Option<Secrets> {
        self.members[at].running.as_ref().unwrap().node.secrets()
    }

    /// What the leader has recorded.
    fn recorded(&self) -> Vec<String> {
        let node = &self.members[0].running.as_ref().unwrap().node;
        node.meta.machine().secrets().iter().map(|(id, _)| id.to_string()).collect()
    }

    /// Polls and delivers until nobody has anything to do any more.
    fn settle(&mut self) {
        for _ in 0..100 {
            let (mut sent, mut busy) = (Vec::new(), false);
            for (at, member) in self.members.iter_mut().enumerate() {
                let Some(alone) = &mut member.running else { continue };
                for effect in alone.node.poll() {
                    busy = true;
                    match effect {
                        Effect::Send { to, message } => {
                            self.said.push(format!("{message:?}"));
                            sent.push((NodeId(at as u64 + 1), to, message));
                        }
                        Effect::StoreSecret(secret) if self.slow => member.writing.push(secret),
                        other => alone.carry_out(other),
                    }
                }
                busy |= alone.node.wants_poll() || !alone.exporting.is_empty();
                alone.step_export();
            }
            if !busy {
                return;
            }
            for (from, to, message) in sent {
                let to = &mut self.members[to.get() as usize - 1];
                if let Some(alone) = &mut to.running {
                    alone.node.step(Input::Peer { from, message });
                }
            }
        }
    }

    fn pass(&mut self, ticks: u64) {
        for _ in 0..ticks {
            for member in &mut self.members {
                if let Some(alone) = &mut member.running {
                    alone.node.step(Input::Tick);
                }
            }
            self.settle();
        }
    }

    /// Lets time pass until all that run have all secrets, the same ones; returns these and the ticks.
    fn agree(&mut self, within: u64) -> (Secrets, u64) {
        for tick in 0..within {
            self.pass(1);
            let up = (0..self.members.len()).filter(|at| self.members[*at].running.is_some());
            let all: Vec<Option<Secrets>> = up.map(|at| self.secrets(at)).collect();
            if let Some(Some(first)) = all.first()
                && all.iter().all(|secrets| secrets.as_ref() == Some(first))
            {
                return (first.clone(), tick);
            }
        }
        panic!("after {within} ticks: {:?}", self.recorded());
    }

    /// The member stops, and loses its secrets.
    fn lose_secrets(&mut self, at: usize) {
        let member = &mut self.members[at];
        drop(member.running.take());
        let dir = member.files.secrets().dir;
        for name in member.disk.list(&dir).unwrap() {
            member.disk.remove_file(&dir.join(name)).unwrap();
        }
    }
}

fn bytes_of(secrets: &Secrets) -> Vec<[u8; SECRET_BYTES]> {
    let tokens = secrets.tokens().map(|(_, bytes)| *bytes);
    tokens.chain([*secrets.tree()]).collect()
}

/// All files below a directory with what they hold.
fn files_below(disk: &SimDisk, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in disk.list(dir).unwrap().into_iter().map(|name| dir.join(name)) {
        match disk.content(&path) {
            Ok(content) => found.push((path, content)),
            Err(_) => found.extend(files_below(disk, &path)),
        }
    }
    found
}

/// A secret as it might be printed.
fn printed(bytes: &[u8; SECRET_BYTES]) -> Vec<String> {
    let inner = |text: String| text.trim_matches(['[', ']', 'b', '"']).to_owned();
    let hex = proto::Hex(bytes).to_string();
    let list = inner(format!("{:?}", &bytes[..8]));
    // Lines of `{:#?}` would be apart, so a piece of it has to do.
    let escaped = inner(format!("{:?}", bytes::Bytes::copy_from_slice(&bytes[..8])));
    vec![hex.to_uppercase(), hex, list, escaped]
}

/// The canary: the bytes are in `secrets/`, and in no other file, message or line of a log.
#[test]
fn every_member_gets_the_secrets_and_they_are_written_nowhere_else() {
    let mut cluster = Cluster::new(3);
    let mut secrets = None;
    let lines = logged(|| {
        cluster.start();
        secrets = Some(cluster.agree(3 * SECOND).0);
        // What every node may write of its own: exports of both groups, and a log that begins anew.
        for at in 0..3 {
            cluster.members[at].running.as_mut().unwrap().request(Request::Export);
        }
        cluster.pass(2 * SECOND);
    });
    let secrets = secrets.unwrap();
    assert_eq!(cluster.recorded(), ["tree-1", "token-1"]);
    let canaries = bytes_of(&secrets);
    assert_eq!(canaries.len(), 2);
    assert_ne!(canaries[0], canaries[1]);
    for member in &cluster.members {
        let files = files_below(&member.disk, Path::new("/data"));
        let below = |dir: &str| files.iter().filter(|(path, _)| path.starts_with(dir)).count();
        assert_eq!(below("/data/secrets"), 2);
        assert!(below("/data/wal") > 0 && below("/data/exports") == 2, "{files:?}");
        for canary in &canaries {
            let holds = |content: &[u8]| content.windows(SECRET_BYTES).any(|at| at == canary);
            let holders = files.iter().filter(|(_, content)| holds(content));
            let holders: Vec<&PathBuf> = holders.map(|(path, _)| path).collect();
            assert!(holders.len() == 1 && holders[0].starts_with("/data/secrets"), "{holders:?}");
        }
    }
    // They did travel.
    assert!(cluster.said.iter().any(|said| said.contains("SecretReply")));
    let node = format!("{:?}", cluster.members[0].running.as_ref().unwrap().node);
    for text in cluster.said.iter().chain([&lines, &node, &format!("{secrets:?}")]) {
        for canary in canaries.iter().flat_map(printed) {
            assert!(!text.contains(&canary), "{text}");
        }
    }
    // A start finds what was drawn.
    let read = cluster.members[2].files.secrets().read().unwrap();
    assert_eq!(read.iter().map(|secret| *secret.bytes()).collect::<Vec<_>>(), canaries);
    cluster.start();
    assert_eq!(cluster.agree(SECOND).0, secrets);
}

fn secrets_fingerprint(secrets: &Secrets) -> crate::secrets::Fingerprint {
    Secret::new(id("tree-1"), *secrets.tree()).fingerprint()
}

#[test]
fn what_is_recorded_was_written_before() {
    let mut cluster = Cluster::new(1);
    cluster.slow = true;
    cluster.start();
    cluster.pass(10 * SECOND);
    assert_eq!(cluster.recorded(), [""; 0], "nothing is durable yet");
    let writing = std::mem::take(&mut cluster.members[0].writing);
    let names: Vec<String> = writing.iter().map(|secret| secret.id().to_string()).collect();
    assert_eq!(names, ["tree-1", "token-1"], "each is drawn once");
    for secret in &writing {
        cluster.members[0].files.secrets().write(secret).unwrap();
        let (id, fingerprint) = (secret.id(), secret.fingerprint());
        cluster.node(0).step(Input::SecretStored { id, fingerprint, written: true });
    }
    cluster.settle();
    cluster.settle();
    assert_eq!(cluster.recorded(), ["tree-1", "token-1"]);
    assert!(cluster.secrets(0).is_some());
}

#[test]
fn what_could_not_be_written_is_written_again() {
    let mut cluster = Cluster::new(1);
    cluster.boot(0);
    for _ in 0..4 {
        cluster.members[0].disk.fail_next(Operation::Rename, std::io::ErrorKind::StorageFull);
    }
    cluster.node(0).step(Input::Campaign);
    cluster.pass(SECOND / 2);
    assert_eq!(cluster.recorded(), [""; 0]);
    cluster.agree(5 * SECOND);
}

/// A file is cut short, one is of other bytes that nobody recorded: the member asks for both.
#[test]
fn a_member_that_lost_its_secrets_gets_them_from_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.start();
    let (secrets, _) = cluster.agree(3 * SECOND);
    let files = cluster.members[2].files.secrets();
    drop(cluster.members[2].running.take());
    cluster.members[2].disk.truncate(&files.dir.join("tree-1"), 40).unwrap();
    files.write(&Secret::new(id("token-1"), [7; SECRET_BYTES])).unwrap();
    cluster.boot(2);
    assert_eq!(cluster.secrets(2), None, "it does not know what is recorded, or lacks it");
    assert_eq!(cluster.agree(3 * SECOND).0, secrets);
    let held = files.read().unwrap();
    assert_eq!(held.iter().map(|secret| *secret.bytes()).collect::<Vec<_>>(), bytes_of(&secrets));
    assert_eq!(cluster.recorded(), ["tree-1", "token-1"], "none was drawn");

    // Not even the leader's own loss leads to another one while one member has them.
    cluster.lose_secrets(0);
    cluster.lose_secrets(1);
    cluster.boot(0);
    cluster.boot(1);
    cluster.node(0).step(Input::Campaign);
    assert_eq!(cluster.agree(5 * SECOND).0, secrets);
    assert_eq!(cluster.recorded(), ["tree-1", "token-1"]);
}

/// Never blocked for ever: what nobody has any more is drawn anew.
#[test]
fn secrets_that_all_have_lost_are_drawn_anew() {
    for size in [1, 3] {
        let mut cluster = Cluster::new(size);
        cluster.start();
        let (before, _) = cluster.agree(3 * SECOND);
        (0..size as usize).for_each(|at| cluster.lose_secrets(at));
        let mut agreed = None;
        let lines = logged(|| {
            cluster.start();
            agreed = Some(cluster.agree(12 * SECOND));
        });
        let (after, ticks) = agreed.unwrap();
        assert!(ticks >= 3 * SECOND, "they were given up after {ticks} ticks");
        assert_eq!(cluster.recorded(), ["tree-2", "token-2"]);
        assert!(bytes_of(&after).iter().all(|bytes| !bytes_of(&before).contains(bytes)));
        assert_eq!(lines.matches("ERROR").count(), 2, "{lines}");
        assert!(lines.contains("tree-2") && lines.contains("token-2"), "{lines}");
    }
}

/// A member that is away may have them, so it is waited for; but not for ever.
#[test]
fn a_member_that_is_away_is_waited_for_a_minute() {
    let mut cluster = Cluster::new(3);
    cluster.start();
    let (before, _) = cluster.agree(3 * SECOND);
    (0..3).for_each(|at| drop(cluster.members[at].running.take()));
    cluster.lose_secrets(0);
    cluster.lose_secrets(1);
    cluster.boot(0);
    cluster.boot(1);
    cluster.node(0).step(Input::Campaign);
    cluster.pass(55 * SECOND);
    assert_eq!(cluster.recorded(), ["tree-1", "token-1"], "the third may come back");
    let (after, _) = cluster.agree(15 * SECOND);
    assert_ne!(after, before);
    assert_eq!(cluster.recorded(), ["tree-2", "token-2"]);
    // It comes, and follows.
    cluster.boot(2);
    assert_eq!(cluster.agree(5 * SECOND).0, after);
}

fn sent_to(node: &mut Node, to: NodeId) -> Vec<Body> {
    let to_it = |effect| match effect {
        Effect::Send { to: receiver, message } if receiver == to => message.body,
        _ => None,
    };
    node.poll().into_iter().filter_map(to_it).collect()
}

#[test]
fn only_members_get_an_answer() {
    let mut cluster = Cluster::new(3);
    cluster.start();
    let (secrets, _) = cluster.agree(3 * SECOND);
    let fingerprint = secrets_fingerprint(&secrets);
    let request = |fingerprint: [u8; 32]| peer::PeerMessage {
        group: 0,
        body: Some(Body::SecretRequest(peer::SecretRequest {
            kind: id("tree-1").wire_kind(),
            number: 1,
            fingerprint: fingerprint.to_vec().into(),
        })),
    };
    let mut ask = |from: u64, fingerprint| {
        let message = request(fingerprint);
        let node = cluster.node(1);
        node.step(Input::Peer { from: NodeId(from), message });
        let answers = sent_to(node, NodeId(from)).into_iter().filter_map(|body| match body {
            Body::SecretReply(reply) => Some(reply.secret.to_vec()),
            _ => None,
        });
        answers.collect::<Vec<_>>()
    };
    assert_eq!(ask(3, fingerprint.0), [secrets.tree().to_vec()]);
    assert_eq!(ask(3, [1; 32]), [Vec::<u8>::new()], "it lacks that one");
    assert!(ask(9, fingerprint.0).is_empty());
}

#[test]
fn another_secret_than_the_recorded_one_is_not_taken() {
    let mut cluster = Cluster::new(3);
    cluster.start();
    let (secrets, _) = cluster.agree(3 * SECOND);
    cluster.lose_secrets(2);
    cluster.boot(2);
    let recorded = secrets_fingerprint(&secrets);
    // It alone goes on: it hears from the leader what is recorded, and no answers to its requests.
    for _ in 0..SECOND {
        (0..3).for_each(|at| cluster.node(at).step(Input::Tick));
        for at in [0, 1, 0, 1] {
            let effects = cluster.node(at).poll();
            for effect in effects {
                match effect {
                    Effect::Send { to: NodeId(3), message }
                        if !matches!(message.body, Some(Body::SecretReply(_))) =>
                    {
                        let from = NodeId(at as u64 + 1);
                        cluster.node(2).step(Input::Peer { from, message });
                    }
                    Effect::Send { .. } => {}
                    other => cluster.members[at].running.as_mut().unwrap().carry_out(other),
                }
            }
            for effect in cluster.node(2).poll() {
                match effect {
                    Effect::Send { to, message } => {
                        let at = to.get() as usize - 1;
                        cluster.node(at).step(Input::Peer { from: NodeId(3), message });
                    }
                    other => cluster.members[2].running.as_mut().unwrap().carry_out(other),
                }
            }
        }
    }
    assert_eq!(cluster.node(2).meta.machine().secrets().get(id("tree-1")), Some(recorded));
    let reply = |secret: &[u8], fingerprint: [u8; 32]| peer::PeerMessage {
        group: 0,
        body: Some(Body::SecretReply(peer::SecretReply {
            kind: id("tree-1").wire_kind(),
            number: 1,
            fingerprint: fingerprint.to_vec().into(),
            secret: secret.to_vec().into(),
        })),
    };
    let other = Secret::new(id("tree-1"), [3; SECRET_BYTES]);
    let mut take = |message| {
        let node = cluster.node(2);
        node.step(Input::Peer { from: NodeId(1), message });
        node.poll().iter().any(|effect| matches!(effect, Effect::StoreSecret(_)))
    };
    assert!(!take(reply(other.bytes(), recorded.0)), "other bytes under the recorded name");
    assert!(!take(reply(other.bytes(), other.fingerprint().0)), "nobody recorded that one");
    assert!(!take(reply(&secrets.tree()[..31], recorded.0)));
    assert!(!take(reply(&[], recorded.0)));
    assert!(take(reply(secrets.tree(), recorded.0)));
    assert!(!take(reply(secrets.tree(), recorded.0)), "once");
}

/// The proposal of another leader was first: what this node has drawn is replaced.
#[test]
fn a_draw_whose_proposal_lost_is_replaced() {
    let mut cluster = Cluster::new(3);
    let mut drawn = Vec::new();
    for kind in SecretKind::ALL {
        let id = SecretId { kind, number: 1 };
        let secret = Entropy::predictable(77).draw(id);
        cluster.members[1].files.secrets().write(&secret).unwrap();
        drawn.push(*secret.bytes());
    }
    cluster.start();
    let (secrets, _) = cluster.agree(3 * SECOND);
    assert!(bytes_of(&secrets).iter().all(|bytes| !drawn.contains(bytes)));
    // Had it led, it would have proposed what it has instead of drawing more.
    let mut cluster = Cluster::new(3);
    for (at, kind) in SecretKind::ALL.into_iter().enumerate() {
        let secret = Secret::new(SecretId { kind, number: 1 }, drawn[at]);
        cluster.members[0].files.secrets().write(&secret).unwrap();
    }
    cluster.start();
    let (secrets, _) = cluster.agree(3 * SECOND);
    assert!(bytes_of(&secrets).iter().all(|bytes| drawn.contains(bytes)));
}
