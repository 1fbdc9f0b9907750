//! One process of a cluster.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::clock::{ClockLibrary, NodeClock};
use super::ports::Ports;
use crate::error::LabError;

/// How often a process is looked at that is to end.
const POLL: Duration = Duration::from_millis(5);

/// How much of a log is shown with an error.
const LOG_TAIL_BYTES: u64 = 2_000;

/// Variables with this prefix would change the configuration of a node.
const CONFIG_VARIABLES: &str = "KVSTORE_";

/// Except this one, which sets what it logs.
const LOG_VARIABLE: &str = "KVSTORE_LOG";

/// The variable that names the file of instructions of a server built with the feature `lab`; other
/// servers do not know it.
const INSTRUCTIONS_VARIABLE: &str = "KVLAB_FAULTS";

/// One node: how to start it, and its process while there is one.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    name: String,
    config: PathBuf,
    log: PathBuf,
    ports: Ports,
    /// Its wall clock, if the lab can move it.
    clock: Option<NodeClock>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// True once the `ready` line was printed; its sender goes when the process closes its output.
    ready: watch::Receiver<bool>,
}

impl Running {
    fn signal(&self, signal: Signal) -> std::io::Result<()> {
        // The child has not been waited for, so its id cannot belong to another process.
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Node {
    /// A node that is not running.
    pub fn new(binary: &Path, name: &str, root: &Path, config: PathBuf, ports: Ports) -> Self {
        Self {
            binary: binary.to_owned(),
            name: name.to_owned(),
            config,
            log: root.join(name).join("log"),
            ports,
            clock: None,
            running: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that receives its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its file of instructions, which need not be there.
    pub fn instructions(&self) -> PathBuf {
        self.log.with_file_name("faults.toml")
    }

    /// Lets its wall clock be moved from its next start on.
    pub fn clock_by(&mut self, library: &ClockLibrary) -> Result<(), LabError> {
        let dir = self.log.parent().expect("a log is in the directory of its node");
        self.clock = Some(NodeClock::new(library, dir)?);
        Ok(())
    }

    /// Its wall clock, if the lab can move it.
    pub fn clock(&self) -> Option<&NodeClock> {
        self.clock.as_ref()
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where it listens.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Whether it was started and not stopped by us.
    pub fn is_started(&self) -> bool {
        self.running.is_some()
    }

    /// The id of its process, while it was started and not stopped by us.
    pub fn process_id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Whether its process has printed the `ready` line.
    pub fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| *running.ready.borrow())
    }

    /// Starts the process.
    pub fn start(&mut self) -> Result<(), LabError> {
        if self.running.is_some() {
            return Err(self.error("is running already"));
        }
        let log = || OpenOptions::new().create(true).append(true).open(&self.log);
        let mut out = log().map_err(LabError::io(&self.log))?;
        let err = log().map_err(LabError::io(&self.log))?;
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--config").arg(&self.config);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with(CONFIG_VARIABLES) && name != LOG_VARIABLE {
                command.env_remove(&variable);
            }
        }
        command.env(INSTRUCTIONS_VARIABLE, self.instructions());
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err);
        // Ctrl-C at the terminal is for the lab, which then stops its nodes.
        command.process_group(0);
        writeln!(out, "--- the lab starts {}", self.name).map_err(LabError::io(&self.log))?;
        let mut child = command.spawn().map_err(LabError::io(&self.binary))?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let (sender, ready) = watch::channel(false);
        let line = format!("ready node={} ", self.name);
        std::thread::spawn(move || copy_output(stdout, &mut out, &line, &sender));
        self.running = Some(Running { child, ready });
        Ok(())
    }

    /// Waits for the `ready` line.
    pub async fn wait_ready(&mut self, patience: Duration) -> Result<(), LabError> {
        let Some(running) = &mut self.running else { return Err(self.error("is not running")) };
        let waited = tokio::time::timeout(patience, running.ready.wait_for(|ready| *ready)).await;
        match waited.map(|ready| ready.is_ok()) {
            Ok(true) => Ok(()),
            Ok(false) => {
                // Its output has ended, so the process has ended or is about to.
                let left = Instant::now() + Duration::from_secs(1);
                while Instant::now() < left {
                    self.check_alive()?;
                    sleep(POLL).await;
                }
                Err(self.error("closed its output before it was ready"))
            }
            Err(_) => {
                self.check_alive()?;
                Err(self.error(&format!("is not ready after {patience:.1?}\n{}", self.log_tail())))
            }
        }
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        // Both fail only if the process has ended and was waited for, which is what we want.
        let _ = running.child.kill();
        let _ = running.child.wait();
        self.ended(running.child.id());
    }

    /// Removes what a process has left elsewhere than in files of the node.
    fn ended(&self, process: u32) {
        if let Some(clock) = &self.clock {
            clock.clear(process);
        }
    }

    /// Asks the process to stop and waits for its end.
    pub async fn terminate(&mut self, patience: Duration) -> Result<ExitStatus, LabError> {
        self.send(Signal::TERM)?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.try_wait()? {
                if let Some(running) = self.running.take() {
                    self.ended(running.child.id());
                }
                return Ok(status);
            }
            sleep(POLL).await;
        }
        Err(self.error(&format!("did not stop within {patience:.1?}\n{}", self.log_tail())))
    }

    /// Stops its clock.
    pub fn pause(&mut self) -> Result<(), LabError> {
        self.send(Signal::STOP)
    }

    /// Lets it go on.
    pub fn resume(&mut self) -> Result<(), LabError> {
        self.send(Signal::CONT)
    }

    /// Fails if the process ended by itself.
    pub fn check_alive(&mut self) -> Result<(), LabError> {
        if self.running.is_none() {
            return Ok(());
        }
        match self.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let why = format!("ended by itself with {status}\n{}", self.log_tail());
                Err(self.error(&why))
            }
        }
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, LabError> {
        let Some(running) = &mut self.running else { return Err(self.error("is not running")) };
        running.child.try_wait().map_err(LabError::io(&self.binary))
    }

    fn send(&mut self, signal: Signal) -> Result<(), LabError> {
        self.check_alive()?;
        let Some(running) = &self.running else { return Err(self.error("is not running")) };
        running.signal(signal).map_err(LabError::io(&self.binary))
    }

    fn error(&self, why: &str) -> LabError {
        LabError::Node { node: self.name.clone(), why: why.to_owned(), log: self.log.clone() }
    }

    /// The end of the log, as far as it can be read.
    fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(log: {error})"))
    }
}

/// Copies lines to the log until the output ends, and notes the one that begins like `ready`.
fn copy_output(stdout: ChildStdout, log: &mut File, ready: &str, sender: &watch::Sender<bool>) {
    let mut lines = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // A full disk must not block the node; its output goes on to be read.
        let _ = log.write_all(&line);
        if line.starts_with(ready.as_bytes()) {
            sender.send_replace(true);
        }
    }
}
