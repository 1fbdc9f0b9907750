//! Somebody at the command: a person at a terminal, or a pipe, and a cluster to talk to.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use client::cli::{self, Terminal};

use crate::fake::FakeCluster;

/// A cluster in a runtime of its own, as the command starts one too.
pub struct Setup {
    pub runtime: tokio::runtime::Runtime,
    pub cluster: FakeCluster,
    pub config: tempfile::TempDir,
}

/// What one run of the command did.
#[derive(Debug)]
pub struct Ran {
    pub exit: u8,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Fails unless the command succeeded and wrote exactly this.
    #[track_caller]
    pub fn prints(&self, text: &str) {
        assert_eq!((self.exit, self.text()), (0, text), "{self:?}");
    }

    /// Fails unless the command ended so.
    #[track_caller]
    pub fn exit_is(&self, exit: u8) -> &Self {
        assert_eq!(self.exit, exit, "{self:?}");
        self
    }
}

/// Who sits at the command.
#[derive(Clone, Copy, PartialEq)]
pub enum Seat {
    Pipe,
    Person,
}

#[derive(Clone, Default)]
pub struct Captured(pub Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct HungUp;

impl Write for HungUp {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn words(line: &str) -> Vec<OsString> {
    std::iter::once("kv").chain(line.split_whitespace()).map(OsString::from).collect()
}

pub fn run_in(
    arguments: Vec<OsString>,
    seat: Seat,
    stdin: &[u8],
    vars: HashMap<&'static str, OsString>,
) -> Ran {
    let (out, err) = (Captured::default(), Captured::default());
    let person = seat == Seat::Person;
    let mut terminal = Terminal {
        stdin: Box::new(io::Cursor::new(stdin.to_vec())) as Box<dyn Read + Send>,
        stdout: Box::new(out.clone()),
        stderr: Box::new(err.clone()),
        stdin_is_tty: person,
        stdout_is_tty: person,
        stderr_is_tty: person,
        env: Box::new(move |name| vars.get(name).cloned()),
    };
    let exit = cli::run(arguments, &mut terminal);
    let err = String::from_utf8(err.0.lock().unwrap().clone()).unwrap();
    let out = out.0.lock().unwrap().clone();
    Ran { exit, out, err }
}

impl Setup {
    pub fn new(nodes: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let cluster = runtime.block_on(FakeCluster::start(nodes));
        Self { runtime, cluster, config: tempfile::tempdir().unwrap() }
    }

    pub fn vars(&self) -> HashMap<&'static str, OsString> {
        HashMap::from([
            ("KV_ENDPOINTS", self.cluster.endpoints().join(",").into()),
            ("KV_CA", self.cluster.pki.path("ca.crt").into()),
            ("KV_CERT", self.cluster.pki.path("alice.crt").into()),
            ("KV_KEY", self.cluster.pki.path("alice.key").into()),
            ("KV_CONFIG_DIR", self.config.path().into()),
            ("NO_COLOR", "1".into()),
        ])
    }

    pub fn run(&self, arguments: Vec<OsString>, seat: Seat, stdin: &[u8]) -> Ran {
        run_in(arguments, seat, stdin, self.vars())
    }

    pub fn pipe(&self, line: &str) -> Ran {
        self.run(words(line), Seat::Pipe, b"")
    }

    pub fn person(&self, line: &str) -> Ran {
        self.run(words(line), Seat::Person, b"")
    }

    pub fn fed(&self, line: &str, stdin: &[u8]) -> Ran {
        self.run(words(line), Seat::Pipe, stdin)
    }
}

/// Replaces each time such as `1.8 ms` by `T`, since it differs from run to run.
pub fn timeless(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let number = words.last().is_some_and(|last| last.parse::<f64>().is_ok());
        if number && matches!(word, "ms" | "s") {
            *words.last_mut().unwrap() = "T".into();
        } else {
            words.push(word.into());
        }
    }
    words.join(" ")
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
