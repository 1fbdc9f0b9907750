//! The context `dev` of the command `kv`.

use std::path::Path;

use client::cli::{Context, ContextError, Contexts, Terminal, config_dir};

use super::cluster::NAME;
use super::directory::ClientFiles;

/// The context of this cluster, written to the file of `kv`.
#[derive(Clone, Debug)]
pub(super) struct DevContext {
    context: Context,
}

impl DevContext {
    /// How to reach a cluster with these endpoints.
    pub(super) fn new(endpoints: Vec<String>, files: ClientFiles) -> Self {
        let ClientFiles { ca, cert, key } = files;
        Self { context: Context { endpoints, ca, cert, key } }
    }

    /// Writes it, and selects it if none is selected. Says whether it is the selected one.
    pub(super) fn write(&self) -> Result<bool, ContextError> {
        self.write_to(&config_dir(&Terminal::of_process())?)
    }

    /// Removes it, unless another cluster has written its own since.
    pub(super) fn remove(&self) -> Result<(), ContextError> {
        self.remove_from(&config_dir(&Terminal::of_process())?)
    }

    fn write_to(&self, dir: &Path) -> Result<bool, ContextError> {
        let mut contexts = Contexts::load(dir)?;
        let selected = contexts.put(NAME, self.context.clone());
        contexts.save(dir)?;
        Ok(selected)
    }

    fn remove_from(&self, dir: &Path) -> Result<(), ContextError> {
        let mut contexts = Contexts::load(dir)?;
        if contexts.contexts.get(NAME) == Some(&self.context) {
            contexts.remove(NAME);
            contexts.save(dir)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(endpoint: &str) -> DevContext {
        let files =
            ClientFiles { ca: "/d/ca".into(), cert: "/d/cert".into(), key: "/d/key".into() };
        DevContext::new(vec![endpoint.to_owned()], files)
    }

    #[test]
    fn it_is_selected_where_none_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(context("a:1").write_to(dir.path()).unwrap());
        let contexts = Contexts::load(dir.path()).unwrap();
        assert_eq!(contexts.current.as_deref(), Some("dev"));

        let dir = tempfile::tempdir().unwrap();
        let mut contexts = Contexts::default();
        contexts.put("prod", context("p:1").context);
        contexts.save(dir.path()).unwrap();
        assert!(!context("a:1").write_to(dir.path()).unwrap());
        let contexts = Contexts::load(dir.path()).unwrap();
        assert_eq!(contexts.current.as_deref(), Some("prod"));
        assert_eq!(contexts.contexts["dev"].endpoints, ["a:1"]);
    }

    #[test]
    fn only_its_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        context("a:1").write_to(dir.path()).unwrap();
        context("b:1").write_to(dir.path()).unwrap();
        context("a:1").remove_from(dir.path()).unwrap();
        assert!(Contexts::load(dir.path()).unwrap().contexts.contains_key("dev"));
        context("b:1").remove_from(dir.path()).unwrap();
        assert_eq!(Contexts::load(dir.path()).unwrap(), Contexts::default());
    }
}
