//! Operations whose order is known, up to those that share a slot, against real time.

/// An operation and its slot in the order.
#[derive(Clone, Copy, Debug)]
pub struct Slotted {
    /// Its slot; operations of lower slots take effect before it.
    pub slot: u64,
    /// Its call.
    pub call: u64,
    /// The last moment at which it can have taken effect.
    pub end: u64,
    /// Its place in the history.
    pub place: usize,
}

/// Finds an operation that returned before one of a lower slot was called: first the place of the
/// former, then that of the latter. If there is none, moments between call and return exist that
/// respect the order: each operation as early as it may be after all calls of lower slots.
pub fn against_real_time(mut all: Vec<Slotted>) -> Option<(usize, usize)> {
    all.sort_by_key(|one| (one.slot, one.call, one.place));
    let mut latest: Option<Slotted> = None;
    for slot in all.chunk_by(|one, other| one.slot == other.slot) {
        if let Some(latest) = latest
            && let Some(early) = slot.iter().find(|one| one.end < latest.call)
        {
            return Some((early.place, latest.place));
        }
        let last = slot.last().copied();
        latest = latest.into_iter().chain(last).max_by_key(|one| one.call);
    }
    None
}
