//! The log of a server: events to stderr, as text on a terminal and as JSON lines elsewhere.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::lines::Lines;

/// How long the end of the process waits for a reader of the log.
const LAST_LINES_PATIENCE: Duration = Duration::from_millis(300);

/// The log of this process; keeps the thread that writes it.
#[derive(Clone, Debug)]
pub struct Logging {
    lines: Lines,
}

impl Logging {
    /// Sends events of `level` and above to stderr. `KVSTORE_LOG` (a level, or directives such as
    /// `info,kvstore::peer=debug`) stands above it. Never blocks whoever logs.
    ///
    /// # Errors
    /// When the system gives no thread, or `KVSTORE_LOG` cannot be read.
    pub fn start(level: LevelFilter) -> io::Result<Self> {
        let lines = Lines::start("log-lines", io::stderr())?;
        let directives = std::env::var("KVSTORE_LOG").ok().filter(|text| !text.is_empty());
        let filter = filter(level, directives.as_deref())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let shown = directives.unwrap_or_else(|| level.to_string());
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone());
        // A process has one log; a second start keeps the first.
        if io::stderr().is_terminal() {
            let builder = builder.with_ansi(colour()).with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                keep(shown, move |filter| handle.reload(filter).map_err(|e| e.to_string()));
            }
        } else {
            let builder = builder.json().flatten_event(true).with_span_list(false);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                keep(shown, move |filter| handle.reload(filter).map_err(|e| e.to_string()));
            }
        }
        log_panics();
        Ok(Self { lines })
    }

    /// Writes `text` to stderr behind what was logged before.
    pub fn say(&self, text: &str) {
        for line in text.lines() {
            self.lines.line(line.as_bytes());
        }
    }

    /// Waits a little for what was logged to be written.
    pub fn finish(&self) {
        self.lines.flush(LAST_LINES_PATIENCE);
    }
}

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The filter of the process: what is shown, and how to replace it.
static FILTER: OnceLock<(Reload, Mutex<String>)> = OnceLock::new();

/// Notes the filter in force as it is shown, and how to replace it.
fn keep(shown: String, reload: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) {
    // There is one log a process.
    let _ = FILTER.set((Box::new(reload), Mutex::new(shown)));
}

/// Replaces the filter of the running process, unless `directives` is empty. Returns the one in force.
///
/// # Errors
/// What cannot be read, or that this process keeps no log.
pub fn set_filter(directives: &str) -> Result<String, String> {
    let (reload, shown) = FILTER.get().ok_or("this process keeps no log")?;
    let mut shown = shown.lock().expect("nobody panics while holding it");
    if !directives.is_empty() {
        let new = parse(directives)?;
        reload(new)?;
        directives.clone_into(&mut shown);
        tracing::info!(filter = directives, "log filter replaced");
    }
    Ok(shown.clone())
}

/// Sends the message of a panic to the log. The usual way, straight to stderr, would block the
/// thread that panicked when nobody reads, and nobody would learn that it is gone.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%panic, %backtrace, "panicked: a bug");
    }));
}

fn filter(level: LevelFilter, directives: Option<&str>) -> Result<EnvFilter, String> {
    let builder = EnvFilter::builder().with_default_directive(level.into());
    match directives.filter(|directives| !directives.is_empty()) {
        Some(directives) => parse(directives).map_err(|error| format!("KVSTORE_LOG: {error}")),
        None => Ok(builder.parse_lossy("")),
    }
}

/// A filter of these directives. Warnings and errors of what they do not speak of are shown: a typo in
/// a target must not silence them.
fn parse(directives: &str) -> Result<EnvFilter, String> {
    let directives = format!("{},{directives}", LevelFilter::WARN);
    EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

/// `NO_COLOR` and `TERM=dumb` mean none.
fn colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_stand_above_the_default() {
        let shown = |directives| filter(LevelFilter::INFO, directives).unwrap().to_string();
        assert_eq!(shown(None), "info");
        assert_eq!(shown(Some("")), "info");
        assert_eq!(shown(Some("debug")), "debug");
        for (one, other) in [("kvstore::peer=trace", "warn"), ("kvstoer=debug", "warn")] {
            let shown = shown(Some(one));
            assert!(shown.contains(one) && shown.contains(other), "{shown}");
        }
        assert!(filter(LevelFilter::INFO, Some("kvstore=loudest")).is_err());
    }
}
