//! Lines to stdout and stderr that never block the server.
//!
//! A reader of our output that has stopped reading (a full pipe, a stuck terminal) must not stop
//! the server (B23, etcd-io/etcd#22214). One thread per output writes and may block; everyone else
//! hands it lines over a bounded queue. At the bound lines are dropped, and once the output moves
//! again a line says how many. An output that is closed swallows everything.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Lines that wait for a slow reader.
const WAITING_MAX: usize = 4_096;
/// Longest line; the rest is cut off.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// A cheap handle to an output.
#[derive(Clone, Debug)]
pub struct Lines {
    queue: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Job {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str, output: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_all(&jobs, output, &counter))?;
        Ok(Self { queue, dropped })
    }

    /// Hands over one line, with or without its line end; drops it when too many wait.
    pub fn line(&self, text: &[u8]) {
        let mut line = text[..text.len().min(LINE_BYTES_MAX)].to_vec();
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        match self.queue.try_send(Job::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything handed over before is written, at most `patience`; false when the
    /// output is stuck.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        self.queue.try_send(Job::Flush(done)).is_ok() && written.recv_timeout(patience).is_ok()
    }
}

/// Writes until every handle is gone. Errors are not told to anyone: there is nowhere to tell.
fn write_all(jobs: &Receiver<Job>, mut output: impl Write, dropped: &AtomicU64) {
    for job in jobs {
        match job {
            Job::Line(line) => {
                let _ = output.write_all(&line).and_then(|()| output.flush());
            }
            Job::Flush(done) => {
                let _ = done.try_send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(output, "({lost} lines were dropped: nobody read them in time)");
        }
    }
}

/// Takes one formatted event at a time, as the formatter of `tracing` writes it.
impl Write for &Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.line(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// An output whose reader can stop.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        stuck: bool,
        blocked: bool,
        written: Vec<u8>,
    }

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let (state, changed) = &*self.0;
            let mut state = state.lock().unwrap();
            while state.stuck {
                state.blocked = true;
                changed.notify_all();
                state = changed.wait(state).unwrap();
            }
            state.written.extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Pipe {
        fn set_stuck(&self, stuck: bool) {
            self.0.0.lock().unwrap().stuck = stuck;
            self.0.1.notify_all();
        }

        fn wait_until_blocked(&self) {
            let mut state = self.0.0.lock().unwrap();
            while !state.blocked {
                state = self.0.1.wait(state).unwrap();
            }
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
        }
    }

    #[test]
    fn lines_come_out_in_order() {
        let pipe = Pipe::default();
        let lines = Lines::start("test", pipe.clone()).unwrap();
        lines.line(b"one");
        lines.line(b"two\n");
        assert!(lines.flush(PATIENCE));
        assert_eq!(pipe.text(), "one\ntwo\n");
    }

    #[test]
    fn b23_a_stuck_output_blocks_nobody_and_says_what_was_lost() {
        let pipe = Pipe::default();
        let lines = Lines::start("test", pipe.clone()).unwrap();
        pipe.set_stuck(true);
        lines.line(b"first");
        pipe.wait_until_blocked();
        // The writer holds one line; the queue takes its bound, the rest is dropped.
        for _ in 0..WAITING_MAX + 7 {
            lines.line(b"x");
        }
        assert!(!lines.flush(Duration::from_millis(1)), "the queue is full");
        pipe.set_stuck(false);
        // Each round asks anew, since a full queue takes no question either.
        while !lines.flush(PATIENCE) {
            std::thread::yield_now();
        }
        let text = pipe.text();
        assert!(text.contains("(7 lines were dropped: nobody read them in time)"), "{text}");
        assert_eq!(text.lines().filter(|line| *line == "x").count(), WAITING_MAX);
    }

    #[test]
    fn a_closed_output_swallows() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::start("test", Closed).unwrap();
        lines.line(b"x");
        assert!(lines.flush(PATIENCE));
    }

    #[test]
    fn a_long_line_is_cut() {
        let pipe = Pipe::default();
        let lines = Lines::start("test", pipe.clone()).unwrap();
        lines.line(&vec![b'x'; 10 * LINE_BYTES_MAX]);
        assert!(lines.flush(PATIENCE));
        assert_eq!(pipe.text().len(), LINE_BYTES_MAX + 1);
    }
}
