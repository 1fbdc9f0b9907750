//! Shell scripts in the place of the server, and looks at processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long something may take that takes moments.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Becomes ready and serves nothing. Leaves its process id beside its configuration.
const MUTE: &str = r#"#!/bin/sh
[ "$1" = serve ] || exit 2
dir=$(dirname "$3")
echo $$ > "$dir/pid"
echo "ready node=$(basename "$dir") client=x peer=y admin=z"
exec sleep 1000
"#;

/// Never becomes ready.
const BROKEN: &str = "#!/bin/sh\necho 'cannot start' >&2\nexit 3\n";

/// The script `mute` or `broken`. Written once, before any test starts a process: a file open for
/// writing cannot be executed.
pub fn server(name: &str) -> PathBuf {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        for (name, script) in [("mute", MUTE), ("broken", BROKEN)] {
            let path = dir.path().join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    });
    dir.path().join(name)
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes of the nodes of a run of the mute server, once all three have started.
pub fn nodes(dir: &Path) -> Vec<String> {
    let pid = |node| fs::read_to_string(dir.join(format!("cluster/n{node}/pid")));
    let all = || (1..=3).map(|node| pid(node).ok().filter(|pid| pid.ends_with('\n')));
    until("nodes", || all().all(|pid| pid.is_some()));
    all().flatten().map(|pid| pid.trim().to_owned()).collect()
}

/// Whether there is such a process.
pub fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}

/// Sends a signal to a program of ours.
pub fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

/// Interrupts a lab twice. It hears both when it goes on, so it cannot end in between.
pub fn interrupt_twice(child: &Child) {
    for name in ["-STOP", "-INT", "-TERM", "-CONT"] {
        signal(child, name);
    }
}
