//! `kvstore dev`: a throw-away cluster in one process.
//!
//! Real nodes with real mTLS, logs and links, under a CA that is good for a day. Alone it runs
//! until Ctrl-C and writes the context `dev` for `kv`; with a command it runs that command against
//! the cluster, touches no file outside its directory, and exits with the command's status.

mod banner;
mod child;
mod cluster;
mod context;
mod directory;
mod ports;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::{Code, Failure};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;

use self::banner::{Access, Banner, on_path};
use self::cluster::{Cluster, Say};
use self::context::DevContext;
use self::directory::{ClientFiles, Directory};
use crate::lines::Lines;
use crate::logging::Logging;
use crate::server::ServerError;
use crate::shell::Fatal;
use crate::shutdown::StopSignals;

/// Most nodes of a throw-away cluster.
pub const NODES_MAX: i64 = 9;

/// Exit code when there is no cluster to run the command against.
const EXIT_NOT_UP: u8 = 5;
/// Exit code when a signal ends the cluster before it is up, or a second one its stop.
const EXIT_INTERRUPTED: u8 = 130;
/// Exit code when a node failed while the command ran.
const EXIT_FAILED: u8 = 1;
/// Exit codes of a shell for a command that cannot be run or is not there.
const EXIT_NOT_RUNNABLE: u8 = 126;
const EXIT_NOT_FOUND: u8 = 127;

/// What the end of the process waits for tasks that block.
const RUNTIME_PATIENCE: Duration = Duration::from_millis(100);

/// What was asked for.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Number of nodes.
    pub nodes: u8,
    /// Directory to keep; `None`: a temporary one.
    pub keep: Option<PathBuf>,
    /// Command to run against the cluster; empty: none.
    pub command: Vec<OsString>,
}

/// Runs the cluster and returns the exit code.
pub fn run(options: DevOptions) -> ExitCode {
    let start = Instant::now();
    let with_command = !options.command.is_empty();
    let logging = match Logging::start(LevelFilter::ERROR) {
        Ok(logging) => logging,
        Err(source) => {
            let error = ServerError::System { what: "start logging", source };
            crate::cli::complain(&error.describe());
            return ExitCode::from(error.exit());
        }
    };
    let code = match run_inside(options, start, &logging) {
        Ok(code) => code,
        Err(error) => {
            logging.say(&error.describe());
            if with_command { EXIT_NOT_UP } else { error.exit() }
        }
    };
    logging.finish();
    ExitCode::from(code)
}

fn run_inside(options: DevOptions, start: Instant, logging: &Logging) -> Result<u8, ServerError> {
    let runtime = Runtime::new()
        .map_err(|source| ServerError::System { what: "start the runtime", source })?;
    let directory = Directory::open(options.keep.as_deref())
        .map_err(|source| ServerError::System { what: "open the directory", source })?;
    let dev = Dev { options, start, logging: logging.clone() };
    let result = runtime.block_on(dev.run(&directory));
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    directory
        .close()
        .map_err(|source| ServerError::System { what: "remove the directory", source })?;
    result
}

struct Dev {
    options: DevOptions,
    start: Instant,
    logging: Logging,
}

impl Dev {
    async fn run(self, directory: &Directory) -> Result<u8, ServerError> {
        let mut signals = StopSignals::take()
            .map_err(|source| ServerError::System { what: "take signals", source })?;
        let (fatal, mut failures) = fatal_channel();
        self.prepare(directory)?;
        let bin = directory
            .link_kv()
            .map_err(|source| ServerError::System { what: "link kv", source })?;
        let (nodes, usual_ports) = (self.options.nodes, self.options.command.is_empty());
        let logging = self.logging.clone();
        let say: Say = Arc::new(move |text| logging.say(text));
        let cluster = tokio::select! {
            cluster = Cluster::start(directory, nodes, usual_ports, &fatal, &say) => cluster?,
            _ = signals.next() => return Ok(EXIT_INTERRUPTED),
            Some(why) = failures.recv() => return Err(ServerError::Fatal(why)),
        };
        let result = if self.options.command.is_empty() {
            self.run_until_signal(directory, &cluster, bin, &mut signals, &mut failures).await
        } else {
            self.run_command(directory, &cluster, bin, &mut signals, &mut failures).await
        };
        tokio::select! {
            () = cluster.stop() => result,
            _ = signals.next() => Ok(EXIT_INTERRUPTED),
        }
    }

    /// Certificates, and a look at what a kept directory already holds.
    fn prepare(&self, directory: &Directory) -> Result<(), ServerError> {
        let (held, asked) = (directory.nodes(), usize::from(self.options.nodes));
        if held != 0 && held != asked {
            let subject = format!("--keep {}", directory.root().display());
            let why = format!("it holds a cluster of {held} nodes; {asked} were asked for");
            return Err(Failure::new(Code::ConfigInvalid, subject, why).into());
        }
        directory.make_certificates(&cluster::names(self.options.nodes)).map_err(|error| {
            let source = io::Error::other(error);
            ServerError::System { what: "make certificates", source }
        })
    }

    fn banner<'a>(&self, directory: &'a Directory, cluster: &Cluster, bin: &Path) -> Banner<'a> {
        Banner {
            nodes: cluster.running().len(),
            took: self.start.elapsed(),
            kept: directory.is_kept().then(|| directory.root()),
            access: Access::Command,
            admin: cluster.admin(),
            kv: bin.join("kv"),
            kv_on_path: on_path("kv"),
        }
    }

    /// Without a command: until a signal.
    async fn run_until_signal(
        &self,
        directory: &Directory,
        cluster: &Cluster,
        bin: PathBuf,
        signals: &mut StopSignals,
        failures: &mut mpsc::UnboundedReceiver<String>,
    ) -> Result<u8, ServerError> {
        let mut banner = self.banner(directory, cluster, &bin);
        let context = DevContext::new(cluster.endpoints(), directory.client_files());
        banner.access = self.write_context(&context, directory, cluster);
        let stdout = Lines::start("stdout", io::stdout())
            .map_err(|source| ServerError::System { what: "start a thread", source })?;
        for line in banner.text().lines() {
            stdout.line(line.as_bytes());
        }
        let result = tokio::select! {
            _ = signals.next() => Ok(0),
            Some(why) = failures.recv() => Err(ServerError::Fatal(why)),
        };
        if !directory.is_kept()
            && let Err(error) = context.remove()
        {
            self.logging.say(&format!("note: the context \"dev\" stays: {error}"));
        }
        result
    }

    /// Writes the context, or finds the flags that do without one.
    fn write_context(
        &self,
        context: &DevContext,
        directory: &Directory,
        cluster: &Cluster,
    ) -> Access {
        match context.write() {
            Ok(true) => Access::Selected,
            Ok(false) => Access::Written,
            Err(error) => {
                self.logging.say(&format!("note: the context \"dev\" was not written: {error}"));
                let ClientFiles { ca, cert, key } = directory.client_files();
                Access::Flags(format!(
                    "--endpoints {} --ca {} --cert {} --key {}",
                    cluster.endpoints().join(","),
                    ca.display(),
                    cert.display(),
                    key.display()
                ))
            }
        }
    }

    /// With a command: until it ends.
    async fn run_command(
        &self,
        directory: &Directory,
        cluster: &Cluster,
        bin: PathBuf,
        signals: &mut StopSignals,
        failures: &mut mpsc::UnboundedReceiver<String>,
    ) -> Result<u8, ServerError> {
        self.logging.say(&self.banner(directory, cluster, &bin).text());
        let words = &self.options.command;
        let endpoints = cluster.endpoints().join(",");
        let command = child::command(words, &endpoints, &directory.client_files(), &bin);
        let mut child = match command.expect("there are words").spawn() {
            Ok(child) => child,
            Err(error) => {
                self.logging.say(&format!("error: cannot run {:?}: {error}", words[0]));
                let found = error.kind() != io::ErrorKind::NotFound;
                return Ok(if found { EXIT_NOT_RUNNABLE } else { EXIT_NOT_FOUND });
            }
        };
        let waited = tokio::select! {
            status = child::wait(&mut child, signals) => status,
            Some(why) = failures.recv() => {
                self.logging.say(&ServerError::Fatal(why).describe());
                if let Err(error) = child::terminate(&mut child).await {
                    self.logging.say(&format!("error: cannot end the command: {error}"));
                }
                return Ok(EXIT_FAILED);
            }
        };
        let status = waited
            .map_err(|source| ServerError::System { what: "wait for the command", source })?;
        Ok(child::exit_code(status))
    }
}

/// A node that cannot go on ends the whole cluster, and its directory is still cleaned up.
fn fatal_channel() -> (Fatal, mpsc::UnboundedReceiver<String>) {
    let (sender, failures) = mpsc::unbounded_channel();
    let fatal = Fatal::new(move |why| {
        // Nobody listens any more once the cluster is stopping.
        let _ = sender.send(why.to_owned());
    });
    (fatal, failures)
}
