//! Runs a command against the cluster.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::directory::ClientFiles;
use crate::shutdown::{StopSignal, StopSignals};

/// How long a command may take to end after SIGTERM.
const TERMINATE_PATIENCE: Duration = Duration::from_secs(3);

/// The command with its environment; nothing of ours but these variables reaches it.
pub(super) fn command(
    words: &[OsString],
    endpoints: &str,
    files: &ClientFiles,
    bin: &Path,
) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("KV_ENDPOINTS", endpoints)
        .env("KV_CA", &files.ca)
        .env("KV_CERT", &files.cert)
        .env("KV_KEY", &files.key)
        .env_remove("KV_CONTEXT")
        .env("PATH", path_with(bin, std::env::var_os("PATH").as_deref()))
        .kill_on_drop(true);
    Some(command)
}

/// `bin` before everything else.
fn path_with(bin: &Path, path: Option<&OsStr>) -> OsString {
    let mut joined = bin.as_os_str().to_owned();
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        joined.push(":");
        joined.push(path);
    }
    joined
}

/// Waits for the command. Ctrl-C reaches it by the terminal, as part of the same process group,
/// and what it does about it is its matter; SIGTERM is passed on.
pub(super) async fn wait(
    child: &mut Child,
    signals: &mut StopSignals,
) -> std::io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            signal = signals.next() => match signal {
                StopSignal::Interrupt => {}
                StopSignal::Terminate => return terminate(child).await,
            }
        }
    }
}

/// Asks the command to end, then makes it.
pub(super) async fn terminate(child: &mut Child) -> std::io::Result<ExitStatus> {
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // A process that is gone needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if let Ok(status) = tokio::time::timeout(TERMINATE_PATIENCE, child.wait()).await {
        return status;
    }
    child.start_kill()?;
    child.wait().await
}

/// The status with which `dev` passes the command's on: 128 + N after signal N.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Child {
        let words = ["sh", "-c", script].map(OsString::from);
        let files = ClientFiles { ca: "ca".into(), cert: "cert".into(), key: "key".into() };
        command(&words, "127.0.0.1:1", &files, Path::new("/dev/bin")).unwrap().spawn().unwrap()
    }

    async fn code(script: &str) -> u8 {
        exit_code(sh(script).wait().await.unwrap())
    }

    #[tokio::test]
    async fn the_status_is_passed_through() {
        assert_eq!(code("exit 0").await, 0);
        assert_eq!(code("exit 42").await, 42);
        assert_eq!(code("kill -KILL $$").await, 128 + 9);
    }

    #[tokio::test]
    async fn the_command_finds_the_cluster_in_its_environment() {
        let expected = "127.0.0.1:1 ca cert key";
        let script = format!(
            "[ \"$KV_ENDPOINTS $KV_CA $KV_CERT $KV_KEY\" = '{expected}' ] && \
             [ \"${{PATH%%:*}}\" = /dev/bin ] && [ -z \"$KV_CONTEXT\" ]"
        );
        assert_eq!(code(&script).await, 0);
    }

    #[tokio::test]
    async fn termination_is_passed_on() {
        use tokio::io::AsyncReadExt;
        let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        let words = ["sh", "-c", script].map(OsString::from);
        let files = ClientFiles { ca: "ca".into(), cert: "cert".into(), key: "key".into() };
        let mut command = command(&words, "", &files, Path::new("/dev/bin")).unwrap();
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut line).await.unwrap();
        assert_eq!(exit_code(terminate(&mut child).await.unwrap()), 7);
    }

    #[test]
    fn nothing_to_run_is_nothing() {
        let files = ClientFiles { ca: "ca".into(), cert: "cert".into(), key: "key".into() };
        assert!(command(&[], "", &files, Path::new("/")).is_none());
        assert_eq!(path_with(Path::new("/x"), None), "/x");
        assert_eq!(path_with(Path::new("/x"), Some(OsStr::new("/y:/z"))), "/x:/y:/z");
    }
}
