//! One open keyspace: its counters, its limits and its history.

use proto::{Code, KeyspaceId, Revision, log, v1};

use super::cover::Covered;
use super::digest::ContentSum;
use super::superseded::Superseded;

/// An open keyspace as readers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyspaceInfo {
    /// Id, name, kind and settings.
    pub descriptor: v1::Keyspace,
    /// The current revision.
    pub revision: Revision,
    /// The oldest revision that can be read.
    pub compacted: Revision,
    /// Keys that exist at the current revision.
    pub live_keys: u64,
    /// Bytes of those keys and their values.
    pub live_bytes: u64,
}

/// What a write transaction adds to the counters of a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Keys created less keys deleted.
    pub keys: i64,
    /// Bytes of keys and newest values, likewise.
    pub bytes: i64,
}

/// An open keyspace.
///
/// Everything but `settled` is a function of the applied entries.
#[derive(Debug)]
pub struct Keyspace {
    /// Id, name, kind and settings; always [`v1::keyspace::State::Ready`].
    pub descriptor: v1::Keyspace,
    /// The current revision.
    pub revision: Revision,
    /// The oldest revision that can be read; never above `revision`.
    pub compacted: Revision,
    /// Keys that exist now.
    pub live_keys: u64,
    /// Bytes of those keys and their values.
    pub live_bytes: u64,
    /// Sum over the living versions.
    pub sum: ContentSum,
    /// Versions up to this revision are in the store or in the frozen layer, newer ones in the
    /// active layer.
    pub settled: Revision,
    /// What the next compaction kills.
    pub superseded: Superseded,
}

impl Keyspace {
    /// An empty keyspace.
    pub fn new(descriptor: v1::Keyspace) -> Self {
        Self {
            descriptor,
            revision: Revision::EMPTY,
            compacted: Revision::EMPTY,
            live_keys: 0,
            live_bytes: 0,
            sum: ContentSum::default(),
            settled: Revision::EMPTY,
            superseded: Superseded::default(),
        }
    }

    /// The keyspace as a checkpoint holds it.
    pub fn restore(covered: &Covered, superseded: Superseded) -> Self {
        let state = &covered.state;
        Self {
            descriptor: covered.descriptor().clone(),
            revision: Revision(state.revision),
            compacted: Revision(state.compacted),
            live_keys: state.live_keys,
            live_bytes: state.live_bytes,
            sum: covered.sum,
            settled: Revision(state.revision),
            superseded,
        }
    }

    /// Its id.
    pub fn id(&self) -> KeyspaceId {
        KeyspaceId(self.descriptor.id)
    }

    /// Its record in a checkpoint or an export.
    pub fn state(&self) -> log::KeyspaceState {
        log::KeyspaceState {
            descriptor: Some(self.descriptor.clone()),
            revision: self.revision.get(),
            compacted: self.compacted.get(),
            closed: false,
            live_keys: self.live_keys,
            live_bytes: self.live_bytes,
        }
    }

    /// What readers see of it.
    pub fn info(&self) -> KeyspaceInfo {
        KeyspaceInfo {
            descriptor: self.descriptor.clone(),
            revision: self.revision,
            compacted: self.compacted,
            live_keys: self.live_keys,
            live_bytes: self.live_bytes,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> v1::keyspace::Settings {
        self.descriptor.settings.unwrap_or_default()
    }

    /// Counts a write, unless it exceeds a limit of the keyspace.
    ///
    /// What does not grow beyond a limit more than before passes, so that a keyspace that is over
    /// a limit that was lowered can be emptied.
    ///
    /// # Errors
    /// [`Code::KeyspaceFull`]; nothing was counted.
    pub fn grow(&mut self, growth: Growth) -> Result<(), Code> {
        let settings = self.settings();
        let exceeds =
            |growth: i64, after: u64, limit: u64| growth > 0 && limit > 0 && after > limit;
        let keys = add(self.live_keys, growth.keys);
        let bytes = add(self.live_bytes, growth.bytes);
        if exceeds(growth.keys, keys, settings.keys_max)
            || exceeds(growth.bytes, bytes, settings.bytes_max)
        {
            return Err(Code::KeyspaceFull);
        }
        (self.live_keys, self.live_bytes) = (keys, bytes);
        Ok(())
    }
}

fn add(counter: u64, growth: i64) -> u64 {
    counter.checked_add_signed(growth).expect("no more is deleted than was counted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_refuse_growth_alone() {
        let settings = v1::keyspace::Settings { keys_max: 2, bytes_max: 10, ..Default::default() };
        let descriptor = v1::Keyspace { settings: Some(settings), ..Default::default() };
        let mut keyspace = Keyspace::new(descriptor);
        let mut grow = |keys, bytes| keyspace.grow(Growth { keys, bytes });
        assert_eq!(grow(3, 3), Err(Code::KeyspaceFull));
        assert_eq!(grow(1, 11), Err(Code::KeyspaceFull));
        assert_eq!(grow(2, 10), Ok(()));
        assert_eq!(grow(0, 1), Err(Code::KeyspaceFull));
        assert_eq!(grow(1, -1), Err(Code::KeyspaceFull));
        assert_eq!(grow(0, 0), Ok(()));
        assert_eq!(grow(-1, -1), Ok(()));
        assert_eq!(grow(1, 1), Ok(()));
        let lowered = v1::keyspace::Settings { keys_max: 1, bytes_max: 1, ..settings };
        keyspace.descriptor.settings = Some(lowered);
        let mut grow = |keys, bytes| keyspace.grow(Growth { keys, bytes });
        assert_eq!(grow(0, -1), Ok(()), "an overwrite that shrinks");
        assert_eq!(grow(0, 1), Err(Code::KeyspaceFull));
        assert_eq!(grow(-1, 0), Ok(()));
        assert_eq!((keyspace.live_keys, keyspace.live_bytes), (1, 9));
    }
}
