//! A simulated machine whose log is damaged, while it fetches what it lost.

use kvstore::durable::{Damage, DataFiles, Receiver};
use kvstore::node::{Repair, RepairEffect, RepairInput};
use proto::{NodeId, peer};
use storage::wal::WalError;

use super::mutant::{self, Mutant};

/// A process that repairs its files before it can be a node.
#[derive(Debug)]
pub struct Patient {
    repair: Repair,
    receiver: Receiver,
    files: DataFiles,
    /// What is left, and what has to be kept.
    damage: Damage,
}

impl Patient {
    /// A repair of this damage. `seed` differs at every start.
    pub fn new(files: DataFiles, mut damage: Damage, seed: u64, mutant: Option<Mutant>) -> Self {
        mutant::tamper_with_damage(mutant, &mut damage);
        let groups: Vec<_> = damage.groups.keys().copied().collect();
        let repair = Repair::new(groups, seed);
        Self { repair, receiver: Receiver::new(files.clone()), files, damage }
    }

    /// Takes notice of something and acts on it; returns what is to be sent.
    pub fn step(&mut self, input: RepairInput) -> Vec<(NodeId, peer::PeerMessage)> {
        let mut sends = Vec::new();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.repair.step(input) {
                inputs.extend(self.act(effect, &mut sends));
            }
        }
        sends
    }

    fn act(
        &mut self,
        effect: RepairEffect,
        sends: &mut Vec<(NodeId, peer::PeerMessage)>,
    ) -> Option<RepairInput> {
        match effect {
            RepairEffect::Send(to, message) => sends.push((to, *message)),
            // What cannot be written is asked for again.
            RepairEffect::Receive(group, index, bytes, sha256) => {
                drop(self.receiver.begin(group, index, bytes, sha256));
            }
            RepairEffect::WriteChunk(group, index, offset, data) => {
                if self.receiver.write(group, index, offset, &data) == Ok(true) {
                    return Some(RepairInput::ChunkWritten(group, index, offset));
                }
            }
            RepairEffect::Finish(group, index) => {
                let result = self.receiver.finish(group, index);
                return Some(RepairInput::Finished(group, Box::new(result)));
            }
            RepairEffect::Discard(group) => self.receiver.discard(group),
        }
        None
    }

    /// Once everything is fetched: puts a new log in place of the damaged one. True when that is done
    /// and the node can start.
    ///
    /// # Errors
    /// The disk failed; the machine may try again from the beginning.
    pub fn finish(&self) -> Result<bool, WalError> {
        let Some(exports) = self.repair.done() else { return Ok(false) };
        self.files.replace_log(&self.damage, &exports)?;
        Ok(true)
    }

    /// The damage, for a violation's report.
    pub fn describe(&self) -> String {
        format!("{:?}", self.damage)
    }

    /// The index that the fetched export of the data group covers, once it is here.
    pub fn covers(&self) -> Option<u64> {
        let exports = self.repair.done()?;
        exports.get(&proto::GroupId::DATA).map(|file| file.header.index.get())
    }
}
