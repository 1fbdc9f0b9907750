//! Disks that lose a part, replicas that find it, and what they take back.

use super::difference::Difference;
use super::follower::{Checked, Follower};
use crate::items::Salvaged;
use crate::model::dots;
use crate::model::replica;
use crate::model::truth::Truth;
use crate::record::EntryKey;
use crate::replica::Scrubbing;

impl Follower {
    /// Loses at the core what the model has lost. What was superseded since is lost no longer in the model, which knows
    /// it; the core, which could not, is told.
    pub(super) fn damage(&mut self, truth: &Truth, at: u8, model: &replica::Replica) {
        let node = &mut self.nodes[usize::from(at)];
        if std::mem::take(&mut node.is_losing) {
            for dot in model.damaged {
                node.lose(self.names.key_of(truth, dot), self.names.dot(dot));
            }
            for (key, of_key) in self.names.keys().iter().zip(truth.of_key) {
                if !(model.damaged_pending & of_key).is_empty() {
                    node.lose_pending(key);
                }
            }
        }
        let names = &self.names;
        let counts = |name| names.find(name).is_some_and(|dot| model.damaged.has(dot));
        let lost: Vec<_> = node.lost.keys().filter(|(_, name)| !counts(*name)).cloned().collect();
        for (key, name) in lost {
            node.find_superseded(&key, name);
        }
    }

    /// What can be read of a replica that starts over. What the model found to be lost the core has to find too.
    pub(super) fn salvage(&mut self, truth: &Truth, at: u8) -> Checked<()> {
        self.all_taken_back()?;
        let node = &mut self.nodes[usize::from(at)];
        if node.has_lost_clock {
            let replica = &node.replica;
            let (entries, _) = replica.items_from(&EntryKey::lowest(), usize::MAX);
            let (kept, _) = replica.items_of_kept(None, usize::MAX);
            let items = replica.items_of_no_entry().into_iter().chain(entries).chain(kept);
            let items = items.filter(|item| item.key != "c");
            let items = items.filter_map(|item| Some((item.key, item.value?)));
            self.salvaged = Some((at, Salvaged::of_items(items, node.replica.state().folds())));
            return Ok(());
        }
        if node.is_damaged() {
            let mut scrub = Scrubbing::START;
            while scrub != Scrubbing::Done {
                scrub = node.replica.scrub_on(scrub, 64);
            }
            if node.replica.damage().is_empty() {
                let detail = "the core does not find what is lost";
                return Err(self.comparison(truth, at).difference("damage", detail));
            }
        }
        self.salvaged = Some((at, node.replica.salvage()));
        Ok(())
    }

    /// Nothing is left of what could be read of a replica that started over.
    pub(super) fn all_taken_back(&mut self) -> Checked<()> {
        let left = self.salvaged.take().filter(|(_, left)| *left != Salvaged::default());
        left.map_or(Ok(()), |(at, left)| {
            Err(Difference { at, what: "what was not taken back", detail: format!("{left:?}") })
        })
    }

    /// A record arrives. At a replica that starts over it is one that it could read.
    pub(super) fn take_back(&mut self, truth: &Truth, at: u8, dot: dots::Dot) -> Checked<()> {
        let salvaged = self.salvaged.as_mut().filter(|(of, _)| *of == at);
        let Some((_, salvaged)) = salvaged else { return Ok(()) };
        let (key, name) = (self.names.key_of(truth, dot).clone(), self.names.dot(dot));
        let read = salvaged.records.remove(&(key, name));
        let record = self.record(truth, at, dot)?;
        self.comparison(truth, at).same("a record that is taken back", &read, &Some(record))
    }

    /// What could be read without a context waits.
    pub(super) fn keep(&mut self, at: u8) {
        let Some((_, salvaged)) = &mut self.salvaged else { return };
        let bare = std::mem::take(&mut salvaged.bare);
        let node = &mut self.nodes[usize::from(at)];
        let spread = node.replica.take_back(Salvaged { bare, ..Salvaged::default() });
        assert!(spread.is_empty(), "nobody is told of what waits");
    }

    /// What waits is known by now.
    pub(super) fn let_go(&mut self, truth: &Truth, at: u8, dot: dots::Dot) -> Checked<()> {
        let (key, name) = (self.names.key_of(truth, dot), self.names.dot(dot));
        let node = &mut self.nodes[usize::from(at)];
        let (records, changes) = node.replica.settle_one(key, name);
        node.changed(changes);
        self.comparison(truth, at).same("what is let go", &records, &Vec::new())
    }
}
