//! The keyspace of a run on a cluster that was there before.
//!
//! What a run writes does not belong among the data of others, and what it finds there would spoil its
//! judgement. So it makes a keyspace of its own, unless it is told to work in one that exists. One that
//! it made goes at the end if the run was valid; else it stays, for whoever looks into the matter.

use std::time::{Duration, SystemTime};

use client::{CallOptions, Client};
use proto::{Applied, v1};

use crate::error::LabError;
use crate::target::{Given, Target};

/// How long its removal may take.
const REMOVAL_MAX: Duration = Duration::from_secs(30);

/// The keyspace in which the clients of a run work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunKeyspace {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: KeyspaceState,
}

/// What became of the keyspace of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyspaceState {
    /// It was there before and stays.
    Found,
    /// The run was about to make it. If the run ended then, it may be there.
    Wanted,
    /// The run made it, and it is there.
    Made,
    /// It would be the run's own, and is not there: it was removed again, or certainly never made.
    Gone,
}

impl RunKeyspace {
    /// The keyspace of a run that begins now; nothing is made yet. One of its own is named after seed
    /// and time, so that the same run can be done again while the last one's is kept.
    #[must_use]
    pub fn plan(given: &Given, seed: u64, begun: SystemTime) -> Self {
        match &given.keyspace {
            Some(name) => Self { name: name.clone(), state: KeyspaceState::Found },
            None => {
                let name = format!("lab-{seed}-{}", super::compact_time(begun));
                Self { name, state: KeyspaceState::Wanted }
            }
        }
    }

    /// Makes it, or finds it there.
    ///
    /// # Errors
    ///
    /// [`LabError::Client`] if the cluster does not do so within `patience`, [`LabError::Parameters`] if
    /// there is none of the name that was given.
    pub async fn open(&mut self, given: &Given, patience: Duration) -> Result<(), LabError> {
        let (client, options) = caller(given, patience)?;
        let (keyspaces, name) = (client.keyspaces(), &self.name);
        if self.state == KeyspaceState::Found {
            let found = keyspaces.list(Some(name), &options).await;
            let found = found.map_err(LabError::client(format!("look for keyspace {name}")))?;
            if found.is_empty() {
                return Err(LabError::Parameters(format!("there is no keyspace {name}")));
            }
            return Ok(());
        }
        let kind = v1::keyspace::Kind::Linearizable;
        let settings = v1::keyspace::Settings::default();
        let made = keyspaces.create(name, kind, settings, &options).await;
        self.state = match &made {
            Ok(_) => KeyspaceState::Made,
            Err(error) if error.applied() == Some(Applied::No) => KeyspaceState::Gone,
            Err(_) => KeyspaceState::Wanted,
        };
        made.map_err(LabError::client(format!("make keyspace {name}")))?;
        Ok(())
    }

    /// Removes it if the run made it. It stays if that fails, which is said on stderr.
    pub async fn remove(&mut self, given: &Given) {
        if self.state != KeyspaceState::Made {
            return;
        }
        let removed = async {
            let (client, options) = caller(given, REMOVAL_MAX)?;
            let removed = client.keyspaces().remove(&self.name, &options).await;
            removed.map_err(LabError::client(format!("remove keyspace {}", self.name)))
        };
        match removed.await {
            Ok(_) => self.state = KeyspaceState::Gone,
            Err(error) => eprintln!("note: {error}"),
        }
    }

    /// Whether the run may have left it behind.
    #[must_use]
    pub fn is_left(&self) -> bool {
        match self.state {
            KeyspaceState::Wanted | KeyspaceState::Made => true,
            KeyspaceState::Found | KeyspaceState::Gone => false,
        }
    }

    /// Whether the run made it, or was about to.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.state != KeyspaceState::Found
    }
}

fn caller(given: &Given, patience: Duration) -> Result<(Client, CallOptions), LabError> {
    let client = given.client(given.endpoints(), patience)?;
    Ok((client, CallOptions { timeout: Some(patience), ..CallOptions::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_own_unless_one_is_named() {
        let path = std::path::PathBuf::from("x");
        let mut given = Given {
            endpoints: vec!["a:1".to_owned()],
            ca: path.clone(),
            cert: path.clone(),
            key: path,
            keyspace: None,
        };
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_284_276);
        let own = RunKeyspace::plan(&given, 17, begun);
        assert_eq!(own.name, "lab-17-20261121T180436Z");
        assert!(own.is_own() && own.is_left(), "{own:?}");
        proto::limits::check_keyspace(&own.name).unwrap();
        given.keyspace = Some("orders".to_owned());
        let found = RunKeyspace::plan(&given, 17, begun);
        assert_eq!((found.name.as_str(), found.state.clone()), ("orders", KeyspaceState::Found));
        assert!(!found.is_own() && !found.is_left(), "{found:?}");
    }
}
