//! The binaries under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use jepsen::cluster::{Cluster, ClusterOptions};
use tempfile::TempDir;

/// How long a cluster may take to become ready on a busy machine.
pub const READY_MAX: Duration = Duration::from_secs(60);

/// The server.
pub fn server() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kvstore-under-test"))
}

/// Runs `kvstore` and returns exit code, stdout and stderr.
pub fn kvstore(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(server()).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Three running nodes in a directory of their own.
pub async fn cluster() -> Cluster {
    let options = ClusterOptions { binary: server(), nodes: 3, dir: None };
    Cluster::boot(&options, READY_MAX).await.expect("three nodes become ready")
}

/// The command `kv`: the server's binary under that name.
#[derive(Debug)]
pub struct Kv {
    dir: TempDir,
    args: Vec<String>,
}

impl Kv {
    /// A command that speaks to nobody yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(server(), dir.path().join("kv")).unwrap();
        Self { dir, args: Vec::new() }
    }

    /// A command that speaks to `endpoints` with the certificate `name` of `pki`.
    pub fn to(endpoints: &[String], pki: &Path, name: &str) -> Self {
        let path = |file: String| pki.join(file).display().to_string();
        let mut kv = Self::new();
        kv.args = vec![
            "--endpoints".into(),
            endpoints.join(","),
            "--ca".into(),
            path("ca.crt".into()),
            "--cert".into(),
            path(format!("{name}.crt")),
            "--key".into(),
            path(format!("{name}.key")),
        ];
        kv
    }

    /// Runs it without a terminal.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The command, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.dir.path().join("kv"));
        command.args(&self.args).args(args);
        command.env("KV_CONFIG_DIR", self.dir.path()).stdin(std::process::Stdio::null());
        command
    }

    /// Runs it and returns exit code, stdout and stderr.
    pub fn outcome(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.run(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Runs what has to succeed and returns stdout.
    pub fn done(&self, args: &[&str]) -> String {
        let (code, out, err) = self.outcome(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out
    }
}
