//! Settings by key, with their origin: the file, then the environment over it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::keys::{self, Shape};

/// Environment variables that start like this and have a `__` between section and key are
/// settings. Others are not: orchestrators set `KVSTORE_PORT` and the like for a service of that
/// name. Those that spell a key with one underscore are refused, since they would do nothing.
const VARIABLE_PREFIX: &str = "KVSTORE_";
const VARIABLE_SEPARATOR: &str = "__";

/// A value and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) origin: Origin,
    /// One string, or any number for [`Shape::List`].
    pub(super) values: Vec<String>,
}

/// All settings that were made. Every key is a known one.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    made: BTreeMap<&'static str, Setting>,
}

impl Settings {
    /// Reads the text of a file, then the variables over it.
    pub(super) fn read(
        path: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self { path: path.to_owned(), made: BTreeMap::new() };
        settings.read_file(text)?;
        for (variable, value) in environment {
            settings.read_variable(variable, &value)?;
        }
        Ok(settings)
    }

    /// The setting of a key.
    pub(super) fn get(&self, key: &'static str) -> Option<&Setting> {
        debug_assert!(keys::find(key).is_some(), "{key} is not a key");
        self.made.get(key)
    }

    /// A path of a setting: relative ones are relative to the directory of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    fn read_file(&mut self, text: &str) -> Result<(), ConfigError> {
        let origin = |path: &Path, span: Range<usize>| {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Origin::File { path: path.to_owned(), line }
        };
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: origin(&self.path, error.span().unwrap_or_default()),
            why: error.message().replace('\n', ", "),
        })?;
        for (section, content) in table.into_inner() {
            let at = origin(&self.path, section.span());
            let name = section.into_inner();
            let content = match content.into_inner() {
                DeValue::Table(content) if keys::is_section(&name) => content,
                _ => return Err(unknown(at, name.into_owned())),
            };
            for (key, value) in content {
                let at = origin(&self.path, key.span());
                let path = format!("{name}.{}", key.get_ref());
                let Some(key) = keys::find(&path) else {
                    return Err(unknown(at, path));
                };
                let values = values_of(key.shape, value.into_inner()).ok_or_else(|| {
                    let (origin, expected) = (at.clone(), key.shape.expected());
                    ConfigError::WrongType { origin, key: key.path, expected }
                })?;
                self.made.insert(key.path, Setting { origin: at, values });
            }
        }
        Ok(())
    }

    fn read_variable(&mut self, variable: String, value: &str) -> Result<(), ConfigError> {
        let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) else { return Ok(()) };
        if !name.contains(VARIABLE_SEPARATOR) {
            return match keys::meant_by_variable(&name.to_ascii_lowercase()) {
                Some(key) => {
                    let path = key.to_ascii_uppercase().replace('.', VARIABLE_SEPARATOR);
                    let meant = format!("{VARIABLE_PREFIX}{path}");
                    Err(ConfigError::Variable { variable, key, meant })
                }
                None => Ok(()),
            };
        }
        let path = name.replace(VARIABLE_SEPARATOR, ".").to_ascii_lowercase();
        let origin = Origin::Environment { variable };
        let Some(key) = keys::find(&path) else {
            return Err(unknown(origin, path));
        };
        let values = match key.shape {
            Shape::Text | Shape::Path => vec![value.to_owned()],
            Shape::List => value
                .split(',')
                .map(|one| one.trim().to_owned())
                .filter(|one| !one.is_empty())
                .collect(),
        };
        self.made.insert(key.path, Setting { origin, values });
        Ok(())
    }
}

fn unknown(origin: Origin, key: String) -> ConfigError {
    let suggestion = keys::suggest(&key);
    ConfigError::UnknownKey { origin, key, suggestion }
}

/// The strings of a value; `None` when it is of another type.
fn values_of(shape: Shape, value: DeValue<'_>) -> Option<Vec<String>> {
    let text = |value: DeValue<'_>| match value {
        DeValue::String(text) => Some(text.into_owned()),
        _ => None,
    };
    match (shape, value) {
        (Shape::Text | Shape::Path, value) => text(value).map(|text| vec![text]),
        (Shape::List, DeValue::Array(list)) => {
            list.into_iter().map(|item| text(item.into_inner())).collect()
        }
        (Shape::List, _) => None,
    }
}
