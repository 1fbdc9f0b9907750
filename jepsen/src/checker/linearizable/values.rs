//! Leaves out whole values: all that wrote a value with all that saw it.
//!
//! What remains of a good history is good. Take a linearization, and leave out some operations. One
//! that remains finds what it found before as long as none of those is left out that made what it
//! found: the last put before it and the appends since. These can be told from the value, so when a
//! writer is left out, all that may have seen its work go with it; and when one of these has written,
//! so do those that may have seen that.

use std::collections::BTreeSet;

/// A text that was written to a key: (key, text, whether it was added to what was there).
pub(super) type Written<'p> = (u32, &'p str, bool);

/// What one act did.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace<'p> {
    /// What it found, by key.
    pub(super) found: Vec<(u32, &'p str)>,
    /// What it wrote.
    pub(super) written: Vec<Written<'p>>,
}

/// All acts of a part.
#[derive(Debug)]
pub(super) struct Traces<'p> {
    acts: Vec<Trace<'p>>,
    /// Whether something is appended, so that a value shows more than the last write.
    appends: bool,
}

impl<'p> Traces<'p> {
    pub(super) fn new(acts: Vec<Trace<'p>>) -> Self {
        let appends = acts.iter().flat_map(|act| &act.written).any(|written| written.2);
        Self { acts, appends }
    }

    /// All that was written, each once; but not what `except` wrote, an act that has to stay.
    pub(super) fn values(&self, except: Option<usize>) -> Vec<Written<'p>> {
        let mut values: BTreeSet<Written<'p>> =
            self.acts.iter().flat_map(|act| act.written.iter().copied()).collect();
        for written in except.iter().flat_map(|&act| &self.acts[act].written) {
            values.remove(written);
        }
        values.into_iter().collect()
    }

    /// For each act whether it remains without some values, unless `stays` would not; and how many
    /// acts were looked at.
    pub(super) fn without(
        &self,
        values: &[Written<'p>],
        stays: Option<usize>,
    ) -> (Option<Vec<bool>>, usize) {
        let mut remains = vec![true; self.acts.len()];
        let mut known: BTreeSet<Written<'p>> = values.iter().copied().collect();
        let mut open: Vec<Written<'p>> = values.to_vec();
        let mut work = 0;
        while let Some(value) = open.pop() {
            work += self.acts.len();
            for (act, trace) in self.acts.iter().enumerate() {
                let touched = trace.written.contains(&value)
                    || trace.found.iter().any(|&found| self.shows(found, value));
                if !remains[act] || !touched {
                    continue;
                }
                if stays == Some(act) {
                    return (None, work);
                }
                remains[act] = false;
                open.extend(trace.written.iter().copied().filter(|&more| known.insert(more)));
            }
        }
        (Some(remains), work)
    }

    /// Whether what was found may come from what was written.
    fn shows(&self, (key, found): (u32, &str), (place, text, added): Written<'_>) -> bool {
        key == place
            && match (self.appends, added) {
                (false, _) => found == text,
                (true, false) => found.starts_with(text),
                (true, true) => found.contains(text),
            }
    }
}
