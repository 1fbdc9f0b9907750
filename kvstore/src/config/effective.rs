//! What a configuration comes to, and where each value was set.

use std::fmt;
use std::path::Path;

use super::example::value;
use super::keys::{KEYS, Key, SECTIONS, Shape, Unset};
use super::settings::{Setting, Settings};
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
    /// The configuration itself.
    pub config: Config,
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
        let config = Config::from_settings(settings)?;
        let mut values = Vec::new();
        for key in KEYS {
            if let Some((strings, source)) = found(settings, &config, &key) {
                values.push((key.path, value(&key, &strings), source));
            }
        }
        Ok(Self { config, values })
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

/// What takes effect for a key, and where it comes from; `None` when nothing does.
fn found(settings: &Settings, config: &Config, key: &Key) -> Option<(Vec<String>, Source)> {
    let of = |setting: &Setting| match key.shape {
        Shape::Text | Shape::List => setting.values.clone(),
        Shape::Path => {
            let path = |text: &String| settings.resolve(text).display().to_string();
            setting.values.iter().map(path).collect()
        }
    };
    if let Some(setting) = settings.get(key.path) {
        return Some((of(setting), Source::Set(setting.origin.clone())));
    }
    let same_as = match key.unset {
        Unset::Refused | Unset::OneOfBoth => return None,
        Unset::Same(other) => other,
        Unset::Listed(other) => {
            if let Some(listed) = config.cluster.address_of(&config.node.name) {
                let source = Source::Default { same_as: "cluster.initial" };
                return Some((vec![listed.to_string()], source));
            }
            other
        }
    };
    settings.get(same_as).map(|setting| (of(setting), Source::Default { same_as }))
}
