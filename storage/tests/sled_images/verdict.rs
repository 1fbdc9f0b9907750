//! What an image turns out to be when it is opened and read whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use storage::StateStore;
use storage::state::{SledStore, StateError};

use crate::image::Image;
use crate::load::{Content, Load, Record, is_intact, parse_key, record_key};

/// How long opening and reading an image may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// What reading a whole store gives.
pub type Items = Vec<(Bytes, Bytes)>;

/// What an image is.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// The store says that it is damaged, and how.
    Refused(Kind),
    /// It opens and can be read, and its checksums, count or sum say that something is wrong.
    Noticed(&'static str),
    /// Whole as of this checkpoint.
    Whole(u64),
}

/// How a store refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Io,
    Engine,
    Panicked,
    Damaged,
}

/// Opens the image in `dir` and reads it whole, on a thread of its own.
///
/// # Panics
/// As [`guarded`].
pub fn read(image: &Image, dir: &Path) -> Result<Items, Kind> {
    guarded(image, dir, read_all)
}

/// Lets `read` open the image in `dir`, on a thread of its own.
///
/// # Panics
/// When that hangs, or panics outside of the guards of the store.
pub fn guarded<T: Send + 'static>(
    image: &Image,
    dir: &Path,
    read: impl FnOnce(&Path) -> T + Send + 'static,
) -> T {
    silence_guarded_panics();
    image.put(dir);
    let dir: PathBuf = dir.to_owned();
    let (done, result) = mpsc::channel();
    let builder = thread::Builder::new().name("guarded image".to_owned());
    let reader = builder.spawn(move || drop(done.send(read(&dir)))).unwrap();
    match result.recv_timeout(PATIENCE) {
        Ok(found) => {
            reader.join().expect("the thread has sent its result");
            found
        }
        Err(RecvTimeoutError::Timeout) => panic!("reading an image hangs"),
        Err(RecvTimeoutError::Disconnected) => panic!("a panic got out of the store"),
    }
}

fn read_all(dir: &Path) -> Result<Items, Kind> {
    let store = SledStore::open(dir).map_err(kind)?;
    let items = store.scan(&[0], &[0xff; 16]).collect::<Result<Items, _>>().map_err(kind)?;
    for (key, value) in &items {
        let found = store.get(key).map_err(kind)?;
        assert_eq!(found.as_ref(), Some(value), "a scan and a get see the same");
    }
    drop(store);
    Ok(items)
}

fn kind(error: StateError) -> Kind {
    match error {
        StateError::Io { .. } => Kind::Io,
        StateError::Engine { .. } => Kind::Engine,
        StateError::Panicked { .. } => Kind::Panicked,
        StateError::Damaged { .. } => Kind::Damaged,
        StateError::Poisoned | StateError::Newer { .. } => panic!("not of a fresh store: {error}"),
    }
}

/// The panics that the guards are there for would be thousands of lines.
fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let inside = info.location().is_some_and(|location| location.file().contains("sled"));
            let ours = info.location().is_some_and(|place| place.file().contains("sled_images"));
            if ours || !(name == "guarded image" || (inside && name.starts_with("sled-io"))) {
                loud(info);
            }
        }));
    });
}

/// Judges an image of a store that `load` wrote.
pub fn judge(load: &Arc<Load>, image: &Image, dir: &Path) -> (Verdict, Strange) {
    match read(image, dir) {
        Err(kind) => (Verdict::Refused(kind), Strange::default()),
        Ok(items) => {
            let strange = Strange::among(load, &items);
            (weigh(load, &items), strange)
        }
    }
}

/// Items that were never written, or not with this value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strange {
    pub items: u64,
    /// Of them, those whose own checksum does not give them away.
    pub unnoticed: u64,
}

impl Strange {
    fn among(load: &Load, items: &Items) -> Self {
        let mut strange = Self::default();
        for (key, value) in items {
            let known = if key == record_key() {
                Record::decode(value).is_some_and(|record| load.records.contains(&record))
            } else {
                load.written.get(key) == Some(value)
            };
            let intact = if key == record_key() {
                Record::decode(value).is_some()
            } else {
                is_intact(key, value)
            };
            strange.items += u64::from(!known);
            strange.unnoticed += u64::from(!known && intact);
        }
        strange
    }
}

/// Weighs what a store gave, knowing only what a state machine knows: checksums and the record. What
/// passes has to be the truth.
fn weigh(load: &Load, items: &Items) -> Verdict {
    let mut record = Record::default();
    let mut newest: BTreeMap<u16, (u64, Bytes)> = BTreeMap::new();
    let stored = items.iter().find(|(key, _)| key == record_key());
    if let Some((_, value)) = stored {
        match Record::decode(value) {
            Some(found) => record = found,
            None => return Verdict::Noticed("checksum of the record"),
        }
    }
    for (key, value) in items.iter().filter(|(key, _)| key != record_key()) {
        let Some((number, checkpoint)) = parse_key(key) else {
            return Verdict::Noticed("form of a key");
        };
        if checkpoint > record.checkpoint {
            continue;
        }
        if !is_intact(key, value) {
            return Verdict::Noticed("checksum of an item");
        }
        let slot = newest.entry(number).or_insert_with(|| (checkpoint, value.clone()));
        if slot.0 < checkpoint {
            *slot = (checkpoint, value.clone());
        }
    }
    let content: Content = newest.into_iter().map(|(key, (_, value))| (key, value)).collect();
    let found = Record::of(record.checkpoint, &content);
    if found.count != record.count {
        return Verdict::Noticed("count of the items");
    }
    if found.sum != record.sum {
        return Verdict::Noticed("sum of the items");
    }
    let truth = load.truth.get(&record.checkpoint);
    assert!(truth == Some(&content), "damage of checkpoint {} passed all sums", record.checkpoint);
    Verdict::Whole(record.checkpoint)
}
