//! The bytes of a clock.
//!
//! ```text
//! clock    format 1 | body                         (on its own)
//! body     runs | run* | tracks | track*           folds first, then actors in ascending order
//! run      gap | more                              folds previous end + 1 + gap ..= that + more
//! track    name | base | spans | span*
//! span     gap | more                              counters previous end + 2 + gap ..= that + more
//! ```
//!
//! All numbers are of variable length, in their shortest form. A name is 16 bytes in a clock on its
//! own; a batch of records writes an index into its table instead, and a token six bytes where that is
//! enough. A track without spans takes 16 + 1 + the bytes of its base: 24 bytes up to 2^49.

use std::collections::BTreeSet;

use super::{Clock, Fold, FoldNumber, Folds, Span, Track};
use crate::actor::ActorId;
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::wire::{Reader, put_number};

/// The format of a clock on its own.
const FORMAT: u8 = 1;

/// Writes the name of an actor.
pub(crate) trait NameWriter {
    fn put(&mut self, out: &mut Vec<u8>, actor: &ActorId);
}

/// Reads the name of an actor.
pub(crate) trait NameReader {
    /// Bytes that a name takes at least.
    const BYTES_MIN: usize;

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<ActorId, DecodeError>;
}

/// Names of 16 bytes.
pub(crate) struct FullNames;

impl NameWriter for FullNames {
    fn put(&mut self, out: &mut Vec<u8>, actor: &ActorId) {
        out.extend_from_slice(actor.as_bytes());
    }
}

impl NameReader for FullNames {
    const BYTES_MIN: usize = ActorId::BYTES;

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<ActorId, DecodeError> {
        Ok(ActorId::from_bytes(reader.array()?))
    }
}

/// Appends the body of a clock for a reader who knows the folds up to `through`.
pub(crate) fn put_clock(
    out: &mut Vec<u8>,
    clock: &Clock,
    through: FoldNumber,
    names: &mut impl NameWriter,
) {
    let folds: Vec<&Fold> = clock.folds().take_while(|fold| fold.number <= through).collect();
    put_folds(out, &folds);
    let folded: BTreeSet<ActorId> = folds.iter().map(|fold| fold.actor).collect();
    let written: Vec<_> = clock.tracks().filter(|(actor, _)| !folded.contains(*actor)).collect();
    put_number(out, written.len() as u64);
    for (actor, track) in written {
        names.put(out, actor);
        put_track(out, track);
    }
}

fn put_folds(out: &mut Vec<u8>, folds: &[&Fold]) {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in folds.iter().map(|fold| u64::from(fold.number.0)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    put_number(out, runs.len() as u64);
    // The lowest number that the next run may begin with.
    let mut next = 0;
    for (first, last) in runs {
        put_number(out, first - next);
        put_number(out, last - first);
        next = last + 2;
    }
}

fn put_track(out: &mut Vec<u8>, track: &Track) {
    put_number(out, track.base());
    put_number(out, track.above().len() as u64);
    let mut next = track.base() + 2;
    for span in track.above() {
        put_number(out, span.first - next);
        put_number(out, span.last - span.first);
        next = span.last + 2;
    }
}

/// Reads the body of a clock.
pub(crate) fn read_clock<N: NameReader>(
    reader: &mut Reader<'_>,
    names: &mut N,
    folds: &Folds,
) -> Result<Clock, DecodeError> {
    let mut clock = Clock::default();
    read_folds(reader, folds, &mut clock)?;
    let count = reader.count(N::BYTES_MIN + 2)?;
    let mut before = None;
    for _ in 0..count {
        let actor = names.read(reader)?;
        if before.is_some_and(|before| before >= actor) {
            return Err(DecodeError::NotCanonical("order of actors"));
        }
        before = Some(actor);
        let track = read_track(reader)?;
        if clock.track(&actor).is_some() {
            return Err(DecodeError::NotCanonical("a folded actor by its name"));
        }
        clock.add_track(actor, &track);
    }
    Ok(clock)
}

/// Adds the folds; each number has to be known, so the work is bounded by what is known here.
fn read_folds(
    reader: &mut Reader<'_>,
    folds: &Folds,
    clock: &mut Clock,
) -> Result<(), DecodeError> {
    let runs = reader.count(2)?;
    let mut next = 0_u64;
    for _ in 0..runs {
        let first = next.checked_add(reader.number()?);
        let first = first.ok_or(DecodeError::OutOfRange("fold"))?;
        let last = first.checked_add(reader.number()?);
        let last = last.filter(|last| *last <= u64::from(u32::MAX));
        let last = last.ok_or(DecodeError::OutOfRange("fold"))?;
        for number in first..=last {
            let number = u32::try_from(number).map_err(|_| DecodeError::OutOfRange("fold"))?;
            let number = FoldNumber(number);
            let fold: Fold = *folds.get(number).ok_or(DecodeError::UnknownFold(number))?;
            clock.add_up_to(fold.actor, fold.last);
            assert!(clock.fold(fold), "an actor has one fold: {fold:?}");
        }
        next = last + 2;
    }
    Ok(())
}

fn read_track(reader: &mut Reader<'_>) -> Result<Track, DecodeError> {
    let counter = |value: Option<u64>| {
        value.filter(|value| *value <= Dot::COUNTER_MAX).ok_or(DecodeError::OutOfRange("counter"))
    };
    let base = counter(Some(reader.number()?))?;
    let count = reader.count(2)?;
    if base == 0 && count == 0 {
        return Err(DecodeError::NotCanonical("an actor without dots"));
    }
    let mut spans = Vec::with_capacity(count + 1);
    if base > 0 {
        spans.push(Span { first: 1, last: base });
    }
    let mut next = base + 2;
    for _ in 0..count {
        let first = counter(next.checked_add(reader.number()?))?;
        let last = counter(first.checked_add(reader.number()?))?;
        spans.push(Span { first, last });
        next = last + 2;
    }
    Ok(Track::from_sorted(spans))
}

impl Clock {
    /// The bytes of this clock, for a reader who knows the folds up to `through`. Equal clocks have equal bytes.
    #[must_use]
    pub fn encode(&self, through: FoldNumber) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_clock(&mut out, self, through, &mut FullNames);
        out
    }

    /// The clock of these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are the bytes of a clock whose folds are all in `folds`.
    pub fn decode(bytes: &[u8], folds: &Folds) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.format(FORMAT)?;
        let clock = read_clock(&mut reader, &mut FullNames, folds)?;
        reader.end()?;
        Ok(clock)
    }
}
