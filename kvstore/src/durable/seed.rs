//! A cluster that begins with the data of another one: after a restore or a recovery.

use std::collections::BTreeMap;

use proto::log::export_record::Body;
use proto::v1::keyspace::State;
use proto::{GroupId, LogIndex, Term, log, v1};
use storage::export::{self, ExportError, ExportHeader, ExportReader, ExportWriter};

use super::{DataFiles, Founding};
use crate::node::Catalogue;

/// Why a seed cannot be begun with. Nothing but exports was written.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// It does not verify, or an export cannot be written.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// It is the export of something else than keyspaces.
    #[error("the seed is an export of group {0}, not of keyspaces")]
    Group(GroupId),
    /// The directory of exports cannot be made.
    #[error("exports/: {0}")]
    Io(#[from] std::io::Error),
}

impl DataFiles {
    /// Makes the exports with which every member of the new cluster begins: the data of the seed under
    /// this cluster's id and the next epoch, and a catalogue with its keyspaces and the new members.
    /// Returns the states with which the log begins.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn plant_seed(
        &self,
        founding: &Founding,
    ) -> Result<BTreeMap<GroupId, log::GroupState>, SeedError> {
        let disk = self.disk.as_ref();
        let mut reader = ExportReader::open(disk, &self.seed_path())?;
        let seed = reader.header().clone();
        if seed.group != GroupId::DATA {
            return Err(SeedError::Group(seed.group));
        }
        let dir = self.exports_dir();
        disk.create_dir_all(&dir)?;
        let conf_state = first_conf(founding);
        let header = ExportHeader {
            cluster: self.cluster,
            epoch: seed.epoch + 1,
            conf_state: conf_state.clone(),
            change: 0,
            ..seed.clone()
        };
        let path = export::path_of(&dir, GroupId::DATA, header.index);
        let mut writer = ExportWriter::create(self.disk.clone(), &path, header.clone())?;
        let (mut keyspaces, mut next) = (Vec::new(), 1);
        while let Some(record) = reader.next()? {
            if let Some(Body::Keyspace(state)) = &record.body {
                let descriptor = state.descriptor.clone().unwrap_or_default();
                next = next.max(descriptor.id + 1);
                if !state.closed {
                    keyspaces.push(v1::Keyspace { state: State::Ready.into(), ..descriptor });
                }
            }
            writer.push(&record)?;
        }
        writer.finish()?;
        let catalogue = Catalogue::formed(&founding.members).with_keyspaces(keyspaces, next);
        let header =
            ExportHeader { group: GroupId::META, index: LogIndex(0), term: Term(0), ..header };
        let path = export::path_of(&dir, GroupId::META, header.index);
        let mut writer = ExportWriter::create(self.disk.clone(), &path, header)?;
        writer.push(&log::ExportRecord { body: Some(Body::Catalogue(catalogue.export())) })?;
        writer.finish()?;
        let mut states = first_states(founding);
        let data = states.get_mut(&GroupId::DATA).expect("every node has a data group");
        let (index, term) = (seed.index.get(), seed.term.get());
        data.hard_state = Some(log::HardState { term, vote: 0, commit: index });
        (data.start_index, data.start_term) = (index, term);
        (data.last_index, data.last_term) = (index, term);
        Ok(states)
    }
}

fn first_conf(founding: &Founding) -> log::ConfState {
    // Who joins is told by a leader what the members are.
    if founding.joined {
        return log::ConfState::default();
    }
    let mut voters: Vec<u64> = founding.members.iter().map(|(id, _)| id.get()).collect();
    voters.sort_unstable();
    log::ConfState { voters, ..log::ConfState::default() }
}

/// The states with which the log of a new node begins: every founder votes, nothing happened. The node's own
/// log, group 2, is begun by its first start, also where it begins from a seed.
#[must_use]
pub fn first_states(founding: &Founding) -> BTreeMap<GroupId, log::GroupState> {
    let state = |state_dir: String| log::GroupState {
        hard_state: Some(log::HardState::default()),
        conf_state: Some(first_conf(founding)),
        state_dir,
        ..log::GroupState::default()
    };
    BTreeMap::from([
        // The catalogue lives in memory.
        (GroupId::META, state(String::new())),
        (GroupId::DATA, state(format!("{}-0", GroupId::DATA))),
    ])
}
