//! A string with get, put and append as an object of the search.
//!
//! What matters of a string is only which of the strings that somebody read it is a beginning of. So
//! the strings read are sorted once, and a state is the range of those that begin with it, and its
//! length: appending narrows the range. No string is ever built. A string that is the beginning of
//! none is dead.

use std::ops::Range;

use super::{DEAD, Kind, Object, State};

/// The strings that were read, sorted.
#[derive(Debug)]
pub struct Strings<'h> {
    sorted: Vec<&'h str>,
}

impl<'h> Strings<'h> {
    /// Sorts strings.
    pub fn new(mut read: Vec<&'h str>) -> Self {
        read.sort_unstable();
        read.dedup();
        Self { sorted: read }
    }

    /// The state of a string.
    pub fn state(&self, text: &str) -> State {
        self.narrow(0..self.sorted.len(), 0, text)
    }

    /// The state after appending.
    pub fn appended(&self, state: State, text: &str) -> State {
        if state == DEAD {
            return DEAD;
        }
        let (first, length) = unpack(state);
        self.narrow(self.range(first, length), length, text)
    }

    /// Whether the state is exactly this string, which must be one of those read.
    pub fn is(&self, state: State, text: &str) -> bool {
        if state == DEAD {
            return false;
        }
        let (first, length) = unpack(state);
        // The shortest of those that begin with the state is sorted first.
        length == text.len() && self.sorted[first] == text
    }

    /// The strings that begin with a state.
    pub fn of_state(&self, state: State) -> Range<usize> {
        let (first, length) = unpack(state);
        self.range(first, length)
    }

    /// The place of a string among those read.
    pub fn place(&self, text: &str) -> Option<usize> {
        self.sorted.binary_search(&text).ok()
    }

    /// A state as people read it.
    pub fn show(&self, state: State) -> String {
        if state == DEAD {
            return "a value that nobody reads".to_owned();
        }
        let (first, length) = unpack(state);
        // Cut at a character; states can end within one.
        format!("{:?}", String::from_utf8_lossy(&self.sorted[first].as_bytes()[..length]))
    }

    fn range(&self, first: usize, length: usize) -> Range<usize> {
        let begin = &self.sorted[first].as_bytes()[..length];
        let count = self.sorted[first..].partition_point(|text| text.as_bytes().starts_with(begin));
        first..first + count
    }

    /// Those in a range, all alike up to `length`, that go on with `text`.
    fn narrow(&self, range: Range<usize>, length: usize, text: &str) -> State {
        let rest = |string: &&'h str| &string.as_bytes()[length..];
        let strings = &self.sorted[range.clone()];
        let first = range.start + strings.partition_point(|string| rest(string) < text.as_bytes());
        if first < range.end && rest(&self.sorted[first]).starts_with(text.as_bytes()) {
            pack(first, length + text.len())
        } else {
            DEAD
        }
    }
}

/// Strings read in one history, and their lengths: both fit.
const PLACE_BITS: u32 = 32;

fn pack(first: usize, length: usize) -> State {
    assert!(length >> (u64::BITS - PLACE_BITS - 1) == 0, "a string of {length} bytes was read");
    (length as u64) << PLACE_BITS | first as u64
}

fn unpack(state: State) -> (usize, usize) {
    assert!(state != DEAD, "a dead state stands for no string");
    ((state & u64::from(u32::MAX)) as usize, (state >> PLACE_BITS) as usize)
}

/// What an effect does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing<'h> {
    /// Returned the string.
    Get(&'h str),
    /// Set it.
    Put(&'h str),
    /// Added to its end.
    Append(&'h str),
}

/// One string.
#[derive(Debug)]
pub struct Text<'h> {
    strings: Strings<'h>,
    initial: State,
    /// Effects; of a put with the state that it leaves.
    effects: Vec<(Doing<'h>, State)>,
    /// Ends of gets by the place of their string; each holds the latest of a block, for the latest
    /// of a range (a tree of maxima, leaves in the second half).
    last_get: Vec<u64>,
    /// Gets by their starts: (start, earliest end of this and all later ones).
    gets: Vec<(u64, u64)>,
    /// Puts by their starts: (start, latest end of this and all earlier ones).
    puts: Vec<(u64, u64)>,
    /// Whether it gives up states of which it knows that some later get will fail.
    foresees: bool,
}

impl<'h> Text<'h> {
    /// The object, from its effects, and from its acts as (effect, start, end).
    pub fn new(
        initial: &str,
        effects: &[Doing<'h>],
        acts: impl Iterator<Item = (u32, u64, u64)>,
        foresees: bool,
    ) -> Self {
        let read = effects.iter().filter_map(|effect| match effect {
            Doing::Get(text) => Some(*text),
            Doing::Put(_) | Doing::Append(_) => None,
        });
        let strings = Strings::new(read.collect());
        let effects: Vec<_> = effects
            .iter()
            .map(|&effect| match effect {
                Doing::Put(text) => (effect, strings.state(text)),
                Doing::Get(_) | Doing::Append(_) => (effect, DEAD),
            })
            .collect();
        let leaves = strings.sorted.len().next_power_of_two();
        let mut last_get = vec![0; 2 * leaves];
        let (mut gets, mut puts) = (Vec::new(), Vec::new());
        for (effect, start, end) in acts {
            match effects[effect as usize].0 {
                Doing::Get(text) => {
                    let place = strings.place(text).expect("every string read is among them");
                    last_get[leaves + place] = end.max(last_get[leaves + place]);
                    gets.push((start, end));
                }
                Doing::Put(_) => puts.push((start, end)),
                Doing::Append(_) => {}
            }
        }
        for node in (1..leaves).rev() {
            last_get[node] = last_get[2 * node].max(last_get[2 * node + 1]);
        }
        gets.sort_unstable();
        puts.sort_unstable();
        let mut earliest = u64::MAX;
        for (_, end) in gets.iter_mut().rev() {
            earliest = earliest.min(*end);
            *end = earliest;
        }
        let mut latest = 0;
        for (_, end) in &mut puts {
            latest = latest.max(*end);
            *end = latest;
        }
        let initial = strings.state(initial);
        Self { strings, initial, effects, last_get, gets, puts, foresees }
    }

    /// The latest end of a get of one of these strings.
    fn last_get(&self, range: Range<usize>) -> u64 {
        let leaves = self.last_get.len() / 2;
        let (mut low, mut high) = (range.start + leaves, range.end + leaves);
        let mut latest = 0;
        while low < high {
            if low % 2 == 1 {
                latest = latest.max(self.last_get[low]);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                latest = latest.max(self.last_get[high]);
            }
            (low, high) = (low / 2, high / 2);
        }
        latest
    }

    /// Whether the gets that start after `now` leave room for a put before the first of them ends.
    fn can_recover(&self, now: u64) -> bool {
        let later = self.gets.partition_point(|(start, _)| *start <= now);
        let Some(&(_, first_end)) = self.gets.get(later) else { return true };
        let in_time = self.puts.partition_point(|(start, _)| *start <= first_end);
        in_time.checked_sub(1).is_some_and(|last| self.puts[last].1 >= now)
    }
}

impl Object for Text<'_> {
    fn initial(&self) -> State {
        self.initial
    }

    fn kind(&self, effect: u32) -> Kind {
        match self.effects[effect as usize].0 {
            Doing::Get(_) => Kind::Observe,
            Doing::Put(_) => Kind::Overwrite,
            Doing::Append("") => Kind::Observe,
            Doing::Append(_) => Kind::Change,
        }
    }

    fn step(&mut self, state: State, effect: u32) -> Option<State> {
        match self.effects[effect as usize] {
            (Doing::Get(text), _) => self.strings.is(state, text).then_some(state),
            (Doing::Put(_), after) => Some(after),
            (Doing::Append(text), _) => Some(self.strings.appended(state, text)),
        }
    }

    fn settle(&mut self, state: State, now: u64) -> Option<State> {
        let alive = state != DEAD && self.last_get(self.strings.of_state(state)) >= now;
        if alive {
            return Some(state);
        }
        (!self.foresees || self.can_recover(now)).then_some(DEAD)
    }

    fn useful(&self, effect: u32, now: u64) -> bool {
        match self.effects[effect as usize] {
            (Doing::Get(_), _) => false,
            (Doing::Put(_), after) => {
                after != DEAD && self.last_get(self.strings.of_state(after)) >= now
            }
            // Somebody has to read something afterwards.
            (Doing::Append(_), _) => self.last_get[1.min(self.last_get.len() - 1)] >= now,
        }
    }

    fn observed_at_once(&self) -> bool {
        false
    }

    fn show(&self, state: State) -> String {
        self.strings.show(state)
    }
}
