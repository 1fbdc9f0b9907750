//! Which acts are open when.

/// Most acts that may be open at one time, crashed ones not counted.
pub const OPEN_MAX: usize = 128;

/// An act that has returned, as the search sees it.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// What it does.
    pub effect: u32,
    /// Its call.
    pub start: u64,
    /// Its return.
    pub end: u64,
    /// Its number for the caller.
    pub act: u32,
    /// Its slot: no two acts that are open at one time have the same one.
    slot: u8,
}

/// All acts that returned, in the order of their returns, and the slots of those that are open when
/// one of them (the *front*) returns.
///
/// Whatever the search has placed is this: all acts before the front, and some that are open at its
/// return. The front can be moved both ways, each step costing what it changes.
#[derive(Debug)]
pub struct Timeline {
    acts: Vec<Timed>,
    /// Acts by their starts.
    by_start: Vec<u32>,
    front: usize,
    /// How many of `by_start` have started when the front returns.
    started: usize,
    /// The act in each slot, where `open` says that there is one.
    slots: [u32; OPEN_MAX],
    open: u128,
}

impl Timeline {
    /// A timeline from acts as (effect, start, end, number), with the front at the first return. `None`: too
    /// many are open at one time.
    pub fn new(acts: impl Iterator<Item = (u32, u64, u64, u32)>) -> Option<Self> {
        let mut acts: Vec<Timed> = acts
            .map(|(effect, start, end, act)| Timed { effect, start, end, act, slot: 0 })
            .collect();
        acts.sort_unstable_by_key(|act| (act.end, act.start, act.act));
        let mut by_start: Vec<u32> = (0..).take(acts.len()).collect();
        by_start.sort_unstable_by_key(|&place| (acts[place as usize].start, place));
        let mut free = u128::MAX;
        let mut returned = 0;
        for &place in &by_start {
            // What ends at the moment at which another starts is still open then.
            while acts[returned].end < acts[place as usize].start {
                free |= 1 << acts[returned].slot;
                returned += 1;
            }
            if free == 0 {
                return None;
            }
            let slot = free.trailing_zeros() as u8;
            acts[place as usize].slot = slot;
            free &= !(1 << slot);
        }
        let slots = [0; OPEN_MAX];
        let mut timeline = Self { acts, by_start, front: 0, started: 0, slots, open: 0 };
        timeline.start();
        Some(timeline)
    }

    /// Number of acts.
    pub fn len(&self) -> usize {
        self.acts.len()
    }

    /// The return of the front; the end of time when all have returned.
    pub fn now(&self, front: usize) -> u64 {
        self.acts.get(front).map_or(u64::MAX, |act| act.end)
    }

    /// The slot of an act in the order of returns.
    pub fn bit(&self, place: usize) -> u128 {
        1 << self.acts[place].slot
    }

    /// Slots that are in use when the front returns.
    pub const fn open(&self) -> u128 {
        self.open
    }

    /// The act in a slot that is in use.
    pub fn in_slot(&self, slot: u8) -> &Timed {
        &self.acts[self.slots[usize::from(slot)] as usize]
    }

    /// The act at a place in the order of returns.
    pub fn act(&self, place: usize) -> &Timed {
        &self.acts[place]
    }

    /// Moves the front.
    pub fn go(&mut self, front: usize) {
        while self.front < front {
            self.open &= !self.bit(self.front);
            self.front += 1;
            self.start();
        }
        while self.front > front {
            self.front -= 1;
            let now = self.acts[self.front].end;
            while let Some(last) = self.started.checked_sub(1) {
                let place = self.by_start[last] as usize;
                if self.acts[place].start <= now {
                    break;
                }
                self.open &= !self.bit(place);
                self.started = last;
            }
            self.take_slot(self.front);
        }
    }

    /// Opens what has started when the front returns.
    fn start(&mut self) {
        if self.front == self.acts.len() {
            return;
        }
        let now = self.acts[self.front].end;
        while let Some(&place) = self.by_start.get(self.started) {
            if self.acts[place as usize].start > now {
                break;
            }
            self.started += 1;
            self.take_slot(place as usize);
        }
    }

    fn take_slot(&mut self, place: usize) {
        let slot = self.acts[place].slot;
        assert!(self.open & 1 << slot == 0, "acts that are open together have slots of their own");
        self.open |= 1 << slot;
        self.slots[usize::from(slot)] = u32::try_from(place).expect("acts are counted in u32");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_moves_both_ways() {
        // A slow act around quick ones, and two that meet in one moment.
        let acts = [(0, 1, 100), (1, 2, 3), (2, 3, 5), (3, 6, 7), (4, 7, 9), (5, 101, 102)];
        let acts = (0..).zip(acts).map(|(n, (effect, start, end))| (effect, start, end, n));
        let mut timeline = Timeline::new(acts).unwrap();
        let open = |timeline: &Timeline| -> Vec<u32> {
            let mut open: Vec<u32> = (0..128_u8)
                .filter(|slot| timeline.open() & 1 << slot != 0)
                .map(|slot| timeline.in_slot(slot).act)
                .collect();
            open.sort_unstable();
            open
        };
        let expected: [&[u32]; 7] = [&[0, 1, 2], &[0, 2], &[0, 3, 4], &[0, 4], &[0], &[5], &[]];
        for front in (0..=6).chain((0..6).rev()).chain([4, 1, 6, 0, 3]) {
            timeline.go(front);
            assert_eq!(open(&timeline), expected[front], "front {front}");
        }
    }

    #[test]
    fn too_many_open_acts_have_no_timeline() {
        let acts = |count: u32| (0..count).map(|act| (0, u64::from(act), 1_000, act));
        assert!(Timeline::new(acts(128)).is_some());
        assert!(Timeline::new(acts(129)).is_none());
    }
}
