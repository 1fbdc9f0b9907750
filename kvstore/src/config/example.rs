//! A commented configuration, made of the table of keys.

use super::keys::{KEYS, Key, SECTIONS, Shape};

const HEAD: &str = "\
# The configuration of one node. Relative paths are relative to this file. Every key can be set in
# the environment too: KVSTORE_LISTEN__CLIENT is `client` in the section `listen`, with two
# underscores between them.
";

/// A commented configuration that names every key. It can be used as it is; keys that are not
/// needed stand in comments.
#[must_use]
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        text.push('\n');
        comment(&mut text, section.docs);
        text.push_str(&format!("[{}]\n", section.name));
        for key in KEYS {
            let Some((_, name)) = key.path.split_once('.').filter(|(of, _)| *of == section.name)
            else {
                continue;
            };
            comment(&mut text, key.docs);
            let sign = if key.in_example { "" } else { "# " };
            text.push_str(&format!("{sign}{name} = {}\n", value(&key, key.sample)));
        }
    }
    text
}

/// A value as TOML.
pub(super) fn value<T: AsRef<str>>(key: &Key, values: &[T]) -> String {
    let quoted = |text: &T| toml::Value::String(text.as_ref().to_owned()).to_string();
    let quoted: Vec<String> = values.iter().map(quoted).collect();
    match key.shape {
        Shape::Text | Shape::Path => quoted.join(""),
        Shape::List => format!("[{}]", quoted.join(", ")),
    }
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("# {line}\n"));
    }
}
