//! What a configuration comes to, and where each value was set.

use std::fmt;
use std::path::Path;

use super::example::value;
use super::keys::{KEYS, SECTIONS, Shape, Unset};
use super::settings::Settings;
use super::{Config, ConfigError, Origin, load_settings};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was set.
    Set(Origin),
    /// It was not, so that of another key counts.
    Default {
        /// That key.
        same_as: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(origin @ Origin::File { .. }) => origin.fmt(f),
            Self::Set(Origin::Environment { variable }) => write!(f, "env {variable}"),
            Self::Default { same_as } => write!(f, "default: {same_as}"),
        }
    }
}

/// A configuration that can be used, key by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Key, value as TOML, and where it comes from; in the order of the example. Paths are as the
    /// server sees them.
    pub values: Vec<(&'static str, String, Source)>,
}

/// Reads a file and the environment over it.
///
/// # Errors
/// As [`Config::load`].
pub fn effective(path: &Path) -> Result<Effective, ConfigError> {
    Effective::of(&load_settings(path)?)
}

impl Effective {
    pub(super) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        // Nothing takes effect unless all of it can.
        Config::from_settings(settings)?;
        let mut values = Vec::new();
        for key in KEYS {
            let (setting, source) = match (settings.get(key.path), key.unset) {
                (Some(setting), _) => (setting, Source::Set(setting.origin.clone())),
                (None, Unset::Same(same_as)) => {
                    let Some(setting) = settings.get(same_as) else { continue };
                    (setting, Source::Default { same_as })
                }
                (None, Unset::Refused | Unset::Other(_)) => continue,
            };
            let text = match key.shape {
                Shape::Text | Shape::List => value(&key, &setting.values),
                Shape::Path => {
                    let path = |text: &String| settings.resolve(text).display().to_string();
                    value(&key, &setting.values.iter().map(path).collect::<Vec<_>>())
                }
            };
            values.push((key.path, text, source));
        }
        Ok(Self { values })
    }

    /// The variables of the environment that stand above the file.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.values.iter().filter_map(|(_, _, source)| match source {
            Source::Set(Origin::Environment { variable }) => Some(variable.as_str()),
            Source::Set(Origin::File { .. }) | Source::Default { .. } => None,
        })
    }

    /// The configuration as a file, with the origin of each value in a comment if asked.
    #[must_use]
    pub fn to_toml(&self, origins: bool) -> String {
        let mut text = String::new();
        for section in SECTIONS {
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{}]\n", section.name));
            for (path, value, source) in &self.values {
                let Some((_, name)) = path.split_once('.').filter(|(of, _)| *of == section.name)
                else {
                    continue;
                };
                let origin = if origins { format!("  # {source}") } else { String::new() };
                text.push_str(&format!("{name} = {value}{origin}\n"));
            }
        }
        text
    }
}
