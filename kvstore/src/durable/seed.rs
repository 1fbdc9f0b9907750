//! A cluster that begins with the data of another one: after a restore or a recovery.

use std::collections::{BTreeMap, BTreeSet};

use proto::log::export_record::Body;
use proto::{GroupId, LogIndex, Term, log};
use storage::backup::BackupFile;
use storage::export::{self, ExportError, ExportHeader, ExportReader, ExportWriter};

use super::seed_catalogue::SeedCatalogue;
use super::{DataFiles, Founding, seed_own};

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
    /// this cluster's id and the next epoch, its catalogue with the new members, and the cut of the eventual keyspaces,
    /// if the seed is a backup that holds one. Returns the states with which the log begins.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn plant_seed(
        &self,
        founding: &Founding,
    ) -> Result<BTreeMap<GroupId, log::GroupState>, SeedError> {
        let disk = self.disk.as_ref();
        let backup = BackupFile::open(disk, &self.seed_path())?;
        let group = backup.groups().first().copied().unwrap_or(GroupId::META);
        let mut reader = backup.reader(disk, GroupId::DATA)?.ok_or(SeedError::Group(group))?;
        let seed = reader.header().clone();
        let epoch = backup.head().map_or(seed.epoch, |head| head.epoch);
        let dir = self.exports_dir();
        disk.create_dir_all(&dir)?;
        let header = ExportHeader {
            cluster: self.cluster,
            epoch: epoch + 1,
            conf_state: first_conf(founding),
            change: 0,
            ..seed.clone()
        };
        let mut catalogue = SeedCatalogue::of(disk, &backup)?;
        self.plant_data(&mut reader, header.clone(), &mut catalogue)?;
        let mut states = first_states(founding);
        if let Some(own) = seed_own::plant(&self.disk, &backup, &dir, &header, &mut catalogue)? {
            states.insert(GroupId::EVENTUAL, own);
        }
        let header =
            ExportHeader { group: GroupId::META, index: LogIndex(0), term: Term(0), ..header };
        let path = export::path_of(&dir, GroupId::META, header.index);
        let mut writer = ExportWriter::create(self.disk.clone(), &path, header)?;
        let catalogue = catalogue.finish(&founding.members);
        writer.push(&log::ExportRecord { body: Some(Body::Catalogue(catalogue)) })?;
        writer.finish()?;
        let data = states.get_mut(&GroupId::DATA).expect("every node has a data group");
        let (index, term) = (seed.index.get(), seed.term.get());
        data.hard_state = Some(log::HardState { term, vote: 0, commit: index });
        (data.start_index, data.start_term) = (index, term);
        (data.last_index, data.last_term) = (index, term);
        Ok(states)
    }

    /// Writes the export of the data group, without what was removed.
    fn plant_data(
        &self,
        reader: &mut ExportReader,
        header: ExportHeader,
        catalogue: &mut SeedCatalogue,
    ) -> Result<(), SeedError> {
        let path = export::path_of(&self.exports_dir(), GroupId::DATA, header.index);
        let mut writer = ExportWriter::create(self.disk.clone(), &path, header)?;
        let mut removed = BTreeSet::new();
        while let Some(mut record) = reader.next()? {
            match &record.body {
                Some(Body::Keyspace(state)) => {
                    if let Some(closed) = catalogue.take(state) {
                        removed.extend(closed.descriptor.as_ref().map(|descriptor| descriptor.id));
                        record.body = Some(Body::Keyspace(closed));
                    }
                }
                Some(Body::Version(version)) if removed.contains(&version.keyspace) => continue,
                _ => {}
            }
            writer.push(&record)?;
        }
        writer.finish()?;
        Ok(())
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
/// log, group 2, is begun by its first start, unless it begins from a seed that holds a cut.
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
