//! Which keys exist.

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One string.
    Text,
    /// A list of strings.
    List,
}

impl Shape {
    /// How an error describes it.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Text => "a string, such as \"n1\"",
            Self::List => "a list of strings, such as [\"n1=127.0.0.1:7611\"]",
        }
    }
}

/// Every key, with its section.
pub(super) const KEYS: [(&str, Shape); 14] = [
    ("node.name", Shape::Text),
    ("node.data_dir", Shape::Text),
    ("listen.client", Shape::Text),
    ("listen.peer", Shape::Text),
    ("listen.admin", Shape::Text),
    ("advertise.client", Shape::Text),
    ("advertise.peer", Shape::Text),
    ("advertise.admin", Shape::Text),
    ("cluster.name", Shape::Text),
    ("cluster.initial", Shape::List),
    ("cluster.join", Shape::List),
    ("tls.ca", Shape::Text),
    ("tls.cert", Shape::Text),
    ("tls.key", Shape::Text),
];

/// The names of the sections.
const SECTIONS: [&str; 5] = ["node", "listen", "advertise", "cluster", "tls"];

/// One edit per so many letters of the mistyped word (but always one) may lie between it and a
/// suggestion; with more, any short word would suggest any other.
const LETTERS_PER_EDIT: usize = 3;

/// Finds a key by its path.
pub(super) fn find(path: &str) -> Option<(&'static str, Shape)> {
    KEYS.into_iter().find(|(key, _)| *key == path)
}

/// Whether a section of this name exists.
pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.contains(&name)
}

/// The key or section that was probably meant.
pub(super) fn suggest(path: &str) -> Option<&'static str> {
    let last = path.rsplit('.').next().unwrap_or(path);
    let same_last = || {
        let mut hits =
            KEYS.iter().map(|(key, _)| *key).filter(|key| key.rsplit('.').next() == Some(last));
        hits.next().filter(|_| hits.next().is_none())
    };
    let nearest = || {
        KEYS.iter()
            .map(|(key, _)| *key)
            .chain(SECTIONS)
            .map(|known| (edit_distance(path, known), known))
            .min()
            .filter(|(edits, _)| *edits <= (last.len() / LETTERS_PER_EDIT).max(1))
            .map(|(_, known)| known)
    };
    nearest().or_else(same_last)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string
/// alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in
            [("", "", 0), ("", "ab", 2), ("cleint", "client", 1), ("ca", "cert", 3), ("a", "b", 1)]
        {
            assert_eq!(edit_distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn suggestions() {
        for (typed, meant) in [
            ("listen.cleint", Some("listen.client")),
            ("node.datadir", Some("node.data_dir")),
            ("lisen", Some("listen")),
            ("node.initial", Some("cluster.initial")),
            ("nodes.name", Some("node.name")),
            ("tls.pem", None),
            ("storage.engine.kind", None),
        ] {
            assert_eq!(suggest(typed), meant, "{typed}");
        }
    }

    #[test]
    fn every_key_lies_in_a_section() {
        for (key, _) in KEYS {
            let (section, _) = key.split_once('.').unwrap();
            assert!(is_section(section), "{key}");
            assert_eq!(find(key).unwrap().0, key);
        }
    }
}
