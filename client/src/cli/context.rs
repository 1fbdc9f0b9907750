//! Contexts: the clusters a person talks to, by name, in one file.
//!
//! The file is `contexts.toml` in `$KV_CONFIG_DIR`, else `$XDG_CONFIG_HOME/kvstore`, else
//! `~/.config/kvstore`. It holds paths of keys, never keys. It is replaced as a whole, so that a reader
//! sees the old or the new one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::terminal::Terminal;

/// Name of the file.
const FILE: &str = "contexts.toml";

/// How to reach one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Addresses of nodes, `host:port`, best first.
    pub endpoints: Vec<String>,
    /// Certificate of the cluster's CA.
    pub ca: PathBuf,
    /// Own certificate.
    pub cert: PathBuf,
    /// Own private key.
    pub key: PathBuf,
}

/// All contexts, and which of them is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The selected context. It may name one that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The context that was selected before. It may name one that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// Why the file of contexts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Neither `KV_CONFIG_DIR`, `XDG_CONFIG_HOME` nor `HOME` is set.
    #[error("no directory for contexts: set KV_CONFIG_DIR or HOME")]
    NoDirectory,
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
}

impl Contexts {
    /// Reads the contexts of a directory; none when there is no file.
    ///
    /// # Errors
    /// [`ContextError::Io`], [`ContextError::Malformed`].
    pub fn load(dir: &Path) -> Result<Self, ContextError> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ContextError::Io { path, source }),
        };
        toml::from_str(&text)
            .map_err(|error| ContextError::Malformed { path, why: error.to_string() })
    }

    /// Writes the contexts of a directory, which is created where it is missing.
    ///
    /// # Errors
    /// [`ContextError::Io`]; the old file is then as it was.
    pub fn save(&self, dir: &Path) -> Result<(), ContextError> {
        let path = dir.join(FILE);
        let text = toml::to_string(self).map_err(|error| ContextError::Malformed {
            path: path.clone(),
            why: error.to_string(),
        })?;
        // A name of its own for each writer: two at once leave one whole file.
        let temporary = dir.join(format!(".{FILE}.{:016x}", rand::random::<u64>()));
        let written = fs::create_dir_all(dir)
            .and_then(|()| fs::File::create_new(&temporary))
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| {
            // The first error is the one to report.
            let _ = fs::remove_file(&temporary);
            ContextError::Io { path, source }
        })
    }

    /// Adds or replaces a context, with absolute paths; selects it if none is selected.
    /// Says whether it is the selected one now.
    pub fn put(&mut self, name: &str, context: Context) -> bool {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let context = Context {
            endpoints: context.endpoints,
            ca: absolute(context.ca),
            cert: absolute(context.cert),
            key: absolute(context.key),
        };
        self.contexts.insert(name.to_owned(), context);
        let selected = self.current.as_ref().is_some_and(|name| self.contexts.contains_key(name));
        if !selected {
            self.current = Some(name.to_owned());
        }
        self.current.as_deref() == Some(name)
    }

    /// Selects a context, and remembers which one was selected before. `false` when there is none of
    /// that name.
    pub fn select(&mut self, name: &str) -> bool {
        if !self.contexts.contains_key(name) {
            return false;
        }
        if self.current.as_deref() != Some(name) {
            self.previous = self.current.replace(name.to_owned());
        }
        true
    }

    /// Removes a context, also as the selected one; `false` when there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        for selection in [&mut self.current, &mut self.previous] {
            if selection.as_deref() == Some(name) {
                *selection = None;
            }
        }
        self.contexts.remove(name).is_some()
    }
}

/// The directory of the contexts file for an environment.
///
/// # Errors
/// [`ContextError::NoDirectory`].
pub fn config_dir(terminal: &Terminal) -> Result<PathBuf, ContextError> {
    if let Some(dir) = terminal.var("KV_CONFIG_DIR") {
        return Ok(dir.into());
    }
    if let Some(dir) = terminal.var("XDG_CONFIG_HOME") {
        return Ok(Path::new(&dir).join("kvstore"));
    }
    let home = terminal.var("HOME").ok_or(ContextError::NoDirectory)?;
    Ok(Path::new(&home).join(".config").join("kvstore"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(endpoint: &str) -> Context {
        Context {
            endpoints: vec![endpoint.into()],
            ca: "/pki/ca.crt".into(),
            cert: "/pki/a.crt".into(),
            key: "/pki/a.key".into(),
        }
    }

    #[test]
    fn the_first_context_is_selected_and_stays_so() {
        let mut contexts = Contexts::default();
        assert!(contexts.put("dev", context("a:1")));
        assert!(!contexts.put("prod", context("b:1")));
        assert_eq!(contexts.current.as_deref(), Some("dev"));
        assert!(contexts.remove("dev"));
        assert!(!contexts.remove("dev"));
        assert_eq!(contexts.current, None);
        assert!(contexts.put("test", context("c:1")));
    }

    #[test]
    fn the_selection_before_is_remembered() {
        let mut contexts = Contexts::default();
        for name in ["dev", "prod"] {
            contexts.put(name, context("a:1"));
        }
        assert!(contexts.select("dev") && !contexts.select("nope"));
        assert_eq!(contexts.previous, None);
        assert!(contexts.select("prod") && contexts.select("prod"));
        assert_eq!(contexts.previous.as_deref(), Some("dev"));
        contexts.remove("dev");
        assert_eq!((contexts.current.as_deref(), contexts.previous), (Some("prod"), None));
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("deep");
        assert_eq!(Contexts::load(&dir).unwrap(), Contexts::default());
        let mut contexts = Contexts::default();
        contexts.put("dev", context("a:1"));
        contexts.save(&dir).unwrap();
        contexts.put("prod", context("b:1"));
        contexts.save(&dir).unwrap();
        assert_eq!(Contexts::load(&dir).unwrap(), contexts);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn unknown_keys_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "curent = \"dev\"\n").unwrap();
        let error = Contexts::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("curent"), "{error}");
    }

    #[test]
    fn paths_are_kept_absolute() {
        let mut contexts = Contexts::default();
        contexts.put("dev", Context { ca: "pki/ca.crt".into(), ..context("a:1") });
        assert!(contexts.contexts["dev"].ca.is_absolute());
    }
}
