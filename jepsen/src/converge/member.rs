//! One member: the shipped core on a disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use gossip::ActorId;
use gossip::group::Group;
use gossip::items::{Item, restore};
use gossip::replica::{Policy, Replica, Standing};
use gossip::tree::TreeKey;
use proto::{KeyspaceId, NodeId};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::catalogue::Catalogue;
use super::oracle::View;
use super::{Counts, Event, Kind, Violation};

/// The keyspace of all keys.
pub const KEYSPACE: KeyspaceId = KeyspaceId(1);

/// What a disk holds.
pub type Disk = BTreeMap<Bytes, Bytes>;

/// A member. See the module page.
#[derive(Debug)]
pub struct Member {
    /// The core.
    pub group: Group,
    /// What is durable.
    pub disk: Disk,
    /// A copy of the disk, and what the oracle had seen there.
    pub copy: Option<(Disk, View)>,
    /// Its disk was lost or rolled back, and not all others have brought it up since. It answers no reads.
    pub is_recovering: bool,
    /// The entry that was removed or replaced last, for members that are broken on purpose.
    pub former: Option<(Bytes, Bytes)>,
    /// What it has heard of the decisions about actors. Group 0 has a log of its own.
    pub heard: Catalogue,
    /// What the core counted before the last start.
    counted: Counts,
}

/// The name of the member at a place.
pub const fn node(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

fn start(at: usize, disk: &Disk, rng: &mut ChaCha8Rng) -> Result<Group, Violation> {
    let restored = restore(disk.clone()).map_err(|why| {
        Violation::new(
            Kind::NotStarted,
            format!("member {} finds its disk damaged: {why}", node(at)),
        )
    })?;
    let actor = ActorId::mint(rng);
    let (mut replica, _) = Replica::start(restored.state, actor, TreeKey::new(&[7; 32]));
    replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Ok(Group::new(replica, 1, seed))
}

impl Member {
    /// A member with an empty disk in a cluster that begins.
    pub fn new(at: usize, rng: &mut ChaCha8Rng) -> Result<Self, Violation> {
        Ok(Self {
            group: start(at, &Disk::new(), rng)?,
            disk: Disk::new(),
            copy: None,
            is_recovering: false,
            former: None,
            heard: Catalogue::default(),
            counted: Counts::default(),
        })
    }

    /// Starts again from its disk. What was not made durable is gone.
    pub fn restart(&mut self, at: usize, rng: &mut ChaCha8Rng) -> Result<(), Violation> {
        self.note_counts();
        self.group = start(at, &self.disk, rng)?;
        Ok(())
    }

    /// Makes items durable.
    pub fn store(&mut self, items: Vec<Item>) {
        for Item { key, value } in items {
            let is_entry = key.first() == Some(&b'e');
            let before = match value {
                Some(value) => self.disk.insert(key.clone(), value),
                None => self.disk.remove(&key),
            };
            if let Some(before) = before.filter(|_| is_entry) {
                self.former = Some((key, before));
            }
        }
    }

    /// Whether it may answer reads.
    pub fn is_ready(&mut self) -> bool {
        if self.is_recovering && self.group.has_met_all() {
            self.is_recovering = false;
        }
        !self.is_recovering
    }

    fn note_counts(&mut self) {
        let now = self.group.counts();
        for (event, times) in [
            (Event::Exchange, now.exchanges),
            (Event::Closed, now.closed),
            (Event::Flagged, now.flagged),
            (Event::NotClosed, now.not_closed + now.silent),
            (Event::Forgotten, now.forgotten),
            (Event::ForgottenByAge, now.aged),
            (Event::RetiringRefused, now.retiring),
        ] {
            self.counted.add(event, times);
        }
    }

    /// Adds what the core has counted, at the end.
    pub fn add_counts(&mut self, counts: &mut Counts) {
        self.note_counts();
        *counts += self.counted;
    }
}
