//! Records what concurrent clients do.
//!
//! Each client holds a [`Process`]; it stamps calls and returns with one monotonic clock and hands
//! finished operations to the [`Recorder`]. An operation that is dropped before its outcome is
//! known (a cancelled task, a panic) counts as unknown. After an unknown outcome the process goes
//! on under a new number, since its old one is still busy for all that anyone can tell.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::operation::{Call, Operation, Outcome};

/// Collects the operations of all processes of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    next_process: AtomicU64,
    finished: Mutex<Vec<Operation>>,
    ok: AtomicU64,
    fail: AtomicU64,
    info: AtomicU64,
}

/// How many operations have ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that succeeded.
    pub ok: u64,
    /// Those that certainly had no effect.
    pub fail: u64,
    /// Those with an unknown outcome.
    pub info: u64,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run is shorter than 584 years")
    }

    fn finish(&self, operation: Operation) {
        let count = match operation.outcome {
            Outcome::Ok => &self.ok,
            Outcome::Fail => &self.fail,
            Outcome::Info => &self.info,
        };
        count.fetch_add(1, Ordering::Relaxed);
        // A poisoned lock only means that some process panicked between two pushes.
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Starts the clock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                start: Instant::now(),
                next_process: AtomicU64::new(0),
                finished: Mutex::new(Vec::new()),
                ok: AtomicU64::new(0),
                fail: AtomicU64::new(0),
                info: AtomicU64::new(0),
            }),
        }
    }

    /// A new process with its own number.
    #[must_use]
    pub fn process(&self) -> Process {
        let shared = Arc::clone(&self.shared);
        let number = shared.next_process.fetch_add(1, Ordering::Relaxed);
        Process { shared, number, last_return_ns: None, not_ok: 0 }
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.shared.now_ns()
    }

    /// How many operations have ended so far, also those that were taken.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let shared = &self.shared;
        Counts { ok: count(&shared.ok), fail: count(&shared.fail), info: count(&shared.info) }
    }

    /// The operations finished so far, ordered by their calls. Call it after all processes ended;
    /// operations that are still open are not among them.
    #[must_use]
    pub fn take(&self) -> Vec<Operation> {
        let mut finished = self.shared.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let mut operations = std::mem::take(&mut *finished);
        operations.sort_by_key(|operation| (operation.invoke_ns, operation.process));
        operations
    }
}

/// One sequential client.
#[derive(Debug)]
pub struct Process {
    shared: Arc<Shared>,
    number: u64,
    last_return_ns: Option<u64>,
    not_ok: u64,
}

impl Process {
    /// The number under which the next operation is recorded.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many of its operations have not succeeded, under all its numbers.
    #[must_use]
    pub fn not_ok(&self) -> u64 {
        self.not_ok
    }

    /// Records the call. Make it the last thing before the request leaves.
    pub fn invoke(&mut self, call: Call) -> Open<'_> {
        // A process must not seem concurrent with itself where the clock is coarse. Waiting for
        // the next tick is right; stamping a moment ahead would invent an order with others.
        let mut now = self.shared.now_ns();
        while self.last_return_ns.is_some_and(|last| now <= last) {
            std::hint::spin_loop();
            now = self.shared.now_ns();
        }
        let operation = Operation::invoked(self.number, call, now);
        Open { process: self, operation: Some(operation) }
    }
}

/// An operation that has been called. Its first known outcome is recorded; if it is dropped
/// without one, it is recorded as unknown.
#[derive(Debug)]
#[must_use = "dropping it records an unknown outcome"]
pub struct Open<'p> {
    process: &'p mut Process,
    /// Taken when the outcome is recorded.
    operation: Option<Operation>,
}

impl Open<'_> {
    /// Notes what is known however it ends, such as who is asked.
    pub fn note(&mut self, note: impl FnOnce(&mut Operation)) {
        if let Some(operation) = &mut self.operation {
            note(operation);
        }
    }

    /// Records success. `complete` fills in what was returned.
    pub fn ok(mut self, complete: impl FnOnce(&mut Operation)) {
        self.finish(Outcome::Ok, complete);
    }

    /// Records that it certainly took no effect.
    pub fn fail(mut self, error: impl Into<String>) {
        self.finish(Outcome::Fail, |operation| operation.error = Some(error.into()));
    }

    /// Records that nobody knows.
    pub fn info(mut self, error: impl Into<String>) {
        self.finish(Outcome::Info, |operation| operation.error = Some(error.into()));
    }

    fn finish(&mut self, outcome: Outcome, complete: impl FnOnce(&mut Operation)) {
        let Some(mut operation) = self.operation.take() else { return };
        let process = &mut *self.process;
        let now = process.shared.now_ns();
        operation.return_ns = Some(now);
        operation.outcome = outcome;
        complete(&mut operation);
        process.shared.finish(operation);
        process.last_return_ns = Some(now);
        process.not_ok += u64::from(outcome != Outcome::Ok);
        if outcome == Outcome::Info {
            process.number = process.shared.next_process.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.finish(Outcome::Info, |operation| operation.error = Some("abandoned".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_renewed_after_an_unknown_outcome() {
        let recorder = Recorder::new();
        let mut process = recorder.process();
        process.invoke(Call::write("k", "1")).ok(|operation| operation.revision = Some(2));
        process.invoke(Call::write("k", "2")).fail("refused");
        process.invoke(Call::write("k", "3")).info("timeout");
        drop(process.invoke(Call::read("k")));
        assert_eq!((process.number(), process.not_ok()), (2, 3));
        assert_eq!(recorder.counts(), Counts { ok: 1, fail: 1, info: 2 });
        let operations = recorder.take();
        let seen: Vec<_> = operations.iter().map(|o| (o.process, o.outcome)).collect();
        assert_eq!(
            seen,
            [(0, Outcome::Ok), (0, Outcome::Fail), (0, Outcome::Info), (1, Outcome::Info)]
        );
        assert_eq!(operations[3].error.as_deref(), Some("abandoned"));
        assert!(recorder.take().is_empty());
    }

    #[test]
    fn processes_of_many_threads_are_sequential_and_distinct() {
        let recorder = Recorder::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mut process = recorder.process();
                scope.spawn(move || {
                    for n in 0..200 {
                        let open = process.invoke(Call::write("k", n.to_string()));
                        if n % 7 == 0 { open.info("timeout") } else { open.ok(|_| {}) }
                    }
                });
            }
        });
        let operations = recorder.take();
        assert_eq!(operations.len(), 800);
        let mut last_end = std::collections::HashMap::new();
        for operation in &operations {
            let end = last_end.insert(operation.process, operation.end_ns());
            assert!(end.is_none_or(|end| end < operation.invoke_ns), "{operation}");
        }
        // 29 unknown outcomes a thread, each followed by a new number and more operations.
        assert_eq!(last_end.len(), 4 * 30);
    }
}
