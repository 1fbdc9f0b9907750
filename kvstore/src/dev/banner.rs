//! What `dev` tells whoever started it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How `kv` finds the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The context `dev` is the selected one.
    Selected,
    /// The context `dev` was written; another one is selected.
    Written,
    /// The context could not be written; these flags do instead.
    Flags(String),
    /// A command is run and finds it in its environment.
    Command,
}

/// What there is to tell.
#[derive(Clone, Debug)]
pub(super) struct Banner<'a> {
    pub(super) nodes: usize,
    pub(super) took: Duration,
    /// The directory that is kept.
    pub(super) kept: Option<&'a Path>,
    pub(super) access: Access,
    pub(super) admin: Option<std::net::SocketAddr>,
    /// The command `kv` in the directory of the cluster.
    pub(super) kv: PathBuf,
    /// `kv` is on PATH.
    pub(super) kv_on_path: bool,
}

impl Banner<'_> {
    /// The text, several lines.
    pub(super) fn text(&self) -> String {
        let (nodes, took) = (self.nodes, self.took.as_secs_f64());
        let plural = if nodes == 1 { "" } else { "s" };
        let data =
            self.kept.map_or_else(|| "temporary".to_owned(), |dir| dir.display().to_string());
        let mut text = format!("{nodes} node{plural} up in {took:.1} s   ");
        text += &format!("mTLS on (throw-away CA, 24 h)   data: {data}\n");
        let context = match &self.access {
            Access::Command => return text,
            Access::Selected => "context  \"dev\" selected for kv",
            Access::Written => "context  \"dev\" written for kv (another one is selected)",
            Access::Flags(_) => "context  not written",
        };
        let end = match self.kept {
            Some(_) => "stop with Ctrl-C; the data stays",
            None => "stop with Ctrl-C; nothing is kept",
        };
        text += &format!("{context}   {end}\n");
        if let Some(admin) = self.admin {
            text += &format!("health   http://{admin}/readyz   metrics  http://{admin}/metrics\n");
        }
        text += &format!("\nin a second terminal:\n  {} put hello world\n", self.command());
        text
    }

    /// `kv` as it has to be typed.
    fn command(&self) -> String {
        let kv = if self.kv_on_path { "kv".to_owned() } else { self.kv.display().to_string() };
        match &self.access {
            Access::Written => format!("{kv} --context dev"),
            Access::Flags(flags) => format!("{kv} {flags}"),
            Access::Selected | Access::Command => kv,
        }
    }
}

/// Whether a program `kv` is found on `PATH`.
pub(super) fn on_path(program: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|dir| {
        std::fs::metadata(dir.join(program))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner() -> Banner<'static> {
        Banner {
            nodes: 3,
            took: Duration::from_millis(940),
            kept: None,
            access: Access::Selected,
            admin: Some("127.0.0.1:7612".parse().unwrap()),
            kv: "/tmp/x/bin/kv".into(),
            kv_on_path: true,
        }
    }

    #[test]
    fn it_says_what_to_type() {
        let expected = "\
3 nodes up in 0.9 s   mTLS on (throw-away CA, 24 h)   data: temporary
context  \"dev\" selected for kv   stop with Ctrl-C; nothing is kept
health   http://127.0.0.1:7612/readyz   metrics  http://127.0.0.1:7612/metrics

in a second terminal:
  kv put hello world
";
        assert_eq!(banner().text(), expected);
        let elsewhere = Banner { kv_on_path: false, ..banner() };
        assert!(elsewhere.text().ends_with("  /tmp/x/bin/kv put hello world\n"));
        let other = Banner { access: Access::Written, ..banner() };
        assert!(other.text().ends_with("  kv --context dev put hello world\n"));
        let flags = Banner { access: Access::Flags("--ca c".into()), ..banner() };
        assert!(flags.text().ends_with("  kv --ca c put hello world\n"));
    }

    #[test]
    fn a_command_gets_one_line() {
        let run = Banner { access: Access::Command, nodes: 1, ..banner() };
        let expected = "1 node up in 0.9 s   mTLS on (throw-away CA, 24 h)   data: temporary\n";
        assert_eq!(run.text(), expected);
    }

    #[test]
    fn programs_are_found_on_path() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-as-this"));
    }
}
