//! Who counts: configurations of members, and how many of them a quorum takes.
//!
//! Members change one at a time, and each change is a configuration with a number, its *epoch*. What a majority is to
//! hold or to answer is counted in one epoch: of members that follow it, when they say so. Two majorities of one epoch
//! meet, and so do two of neighbouring ones. That epochs further apart are never in use at the same time is up to
//! whoever changes members: they change again only when half of the last configuration but one follows the last, so that it
//! has no majority any more ([`Group::followers`]; model: `EpochNotAdopted`).

use std::collections::BTreeSet;

use proto::NodeId;

use super::Group;
use super::message::Message;

/// One configuration of the group. All that are said of one epoch are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Its number. A higher one is newer.
    pub epoch: u64,
    /// The members, this one apart.
    pub others: BTreeSet<NodeId>,
    /// This one is a member.
    pub counts_itself: bool,
}

impl Configuration {
    /// All members.
    #[must_use]
    pub fn size(&self) -> usize {
        self.others.len() + usize::from(self.counts_itself)
    }

    /// How many are a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.size() / 2 + 1
    }

    /// How many members are to have a write durably; never none.
    #[must_use]
    pub fn need(&self, need: Need) -> usize {
        match need {
            Need::One => 1,
            Need::Majority => self.majority(),
            Need::All => self.size().max(1),
        }
    }
}

/// Which members are to have a write durably before it counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The one that takes it.
    One,
    /// A majority.
    Majority,
    /// All.
    All,
}

impl Group {
    /// Whom to talk to from now on, and which configuration counts. Who is leaving is talked to and counts for nothing.
    pub fn configure(&mut self, others: &BTreeSet<NodeId>, configuration: Configuration) {
        self.members.retain(|node, _| others.contains(node));
        for node in others {
            self.members.entry(*node).or_default();
        }
        self.asking.retain(|node, _| others.contains(node));
        self.serving.retain(|node, _| others.contains(node));
        if self.configuration != configuration {
            self.configuration = configuration;
            self.tell_epoch();
            self.read_anew();
        }
        self.settle_acks();
    }

    /// Whom to talk to from now on, all of whom count, in the epoch as before: for groups without a catalogue.
    pub fn set_members(&mut self, others: &BTreeSet<NodeId>) {
        let epoch = self.configuration.epoch;
        let others = others.clone();
        self.configure(&others.clone(), Configuration { epoch, others, counts_itself: true });
    }

    /// The configuration that counts.
    #[must_use]
    pub const fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Members that count and have a link, this one among them.
    #[must_use]
    pub fn reachable(&self) -> usize {
        let linked = self.linked().filter(|node| self.configuration.others.contains(node)).count();
        linked + usize::from(self.configuration.counts_itself)
    }

    /// How many of these other members have said that they follow this configuration, or a newer one.
    #[must_use]
    pub fn followers(&self, of: &BTreeSet<NodeId>) -> usize {
        let follows = |node: &&NodeId| {
            let said = self.members.get(node).and_then(|member| member.epoch);
            said.is_some_and(|epoch| epoch >= self.configuration.epoch)
        };
        of.iter().filter(follows).count()
    }

    fn tell_epoch(&mut self) {
        let epoch = self.configuration.epoch;
        let peers: Vec<NodeId> = self.linked().collect();
        for peer in peers {
            self.send(peer, Message::Epoch { epoch });
        }
    }

    /// A member says which configuration it follows. What comes late says nothing: it goes back only where a loss of power
    /// takes the end of what it had applied of the catalogue.
    pub(super) fn heard_epoch(&mut self, from: NodeId, epoch: u64) {
        if let Some(member) = self.members.get_mut(&from) {
            member.epoch = member.epoch.max(Some(epoch));
        }
    }
}
