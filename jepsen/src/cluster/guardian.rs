//! Ends the nodes when the lab itself is killed and can do nothing any more.
//!
//! A process of its own reads from the lab which processes there are. Its input ends with the lab,
//! whatever the lab ended by; then it kills those that are left.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Reads lines `+ PID` and `- PID`; at the end of its input it kills those that were added only.
const SCRIPT: &str = r#"
pids=
while read -r what pid; do
    case $what in
        +) pids="$pids $pid" ;;
        -) left=
           for other in $pids; do [ "$other" = "$pid" ] || left="$left $other"; done
           pids=$left ;;
    esac
done
[ -z "$pids" ] || kill -9 $pids
"#;

/// The process; see the module. It ends when this is dropped.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
}

impl Guardian {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // What ends the lab at its terminal must not end this one first.
        command.process_group(0);
        Ok(Self { child: command.spawn()? })
    }

    /// Tells it of a process that was started.
    pub fn started(&mut self, process: u32) -> io::Result<()> {
        self.tell(&format!("+ {process}\n"))
    }

    /// Tells it of a process that has ended and was waited for.
    pub fn ended(&mut self, process: u32) -> io::Result<()> {
        self.tell(&format!("- {process}\n"))
    }

    fn tell(&mut self, line: &str) -> io::Result<()> {
        let input = self.child.stdin.as_mut().expect("its input was asked to be a pipe");
        input.write_all(line.as_bytes())
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has nothing left to do, and fails only if it has ended already.
        let _ = self.child.wait();
    }
}
