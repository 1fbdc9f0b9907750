//! Which keys exist: one table from which files are read and the example is made.

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One string.
    Text,
    /// One string, a path; relative to the directory of the file.
    Path,
    /// A list of strings.
    List,
}

impl Shape {
    /// How an error describes it.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Text | Self::Path => "a string, such as \"n1\"",
            Self::List => "a list of strings, such as [\"n1=127.0.0.1:7611\"]",
        }
    }
}

/// What counts when a key is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unset {
    /// An error.
    Refused,
    /// An error, unless the other one of `cluster.initial` and `cluster.join` is set.
    OneOfBoth,
    /// The value of this key.
    Same(&'static str),
    /// What `cluster.initial` has for this node, or else the value of this key.
    Listed(&'static str),
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Section and name, with a dot between them.
    pub(super) path: &'static str,
    pub(super) shape: Shape,
    pub(super) unset: Unset,
    /// The example sets it; else it names it in a comment.
    pub(super) in_example: bool,
    /// Its value in the example.
    pub(super) sample: &'static [&'static str],
    /// Lines of comment above it in the example.
    pub(super) docs: &'static [&'static str],
}

/// A section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    /// Lines of comment above it in the example.
    pub(super) docs: &'static [&'static str],
}

/// The sections, in the order of the example.
pub(super) const SECTIONS: [Section; 5] = [
    Section { name: "node", docs: &[] },
    Section { name: "listen", docs: &["IP address and port. Port 0 takes a free one."] },
    Section {
        name: "advertise",
        docs: &[
            "Only where the reachable address differs from the one listened on; a host name will do.",
            "`peer` is what `cluster.initial` says of this node, unless it is set here.",
        ],
    },
    Section { name: "cluster", docs: &[] },
    Section {
        name: "tls",
        docs: &["PEM files. The key must be readable by its owner alone (chmod 600)."],
    },
];

/// The keys, in the order of the example: those of a section follow each other.
pub(super) const KEYS: [Key; 14] = [
    needed(
        "node.name",
        Shape::Text,
        &["n1"],
        &["Unique in the cluster and stable. The node's certificate names it: kv:///node/n1."],
    ),
    needed(
        "node.data_dir",
        Shape::Path,
        &["/var/lib/kvstore"],
        &["Everything the node keeps. One process at a time."],
    ),
    needed("listen.client", Shape::Text, &["127.0.0.1:7610"], &[]),
    needed("listen.peer", Shape::Text, &["127.0.0.1:7611"], &[]),
    needed(
        "listen.admin",
        Shape::Text,
        &["127.0.0.1:7612"],
        &["Health and metrics over plain HTTP, so a loopback address."],
    ),
    advertised("advertise.client", Unset::Same("listen.client"), &["n1.example.com:7610"]),
    advertised("advertise.peer", Unset::Listed("listen.peer"), &["n1.example.com:7611"]),
    advertised("advertise.admin", Unset::Same("listen.admin"), &["n1.example.com:7612"]),
    needed("cluster.name", Shape::Text, &["prod"], &[]),
    Key {
        path: "cluster.initial",
        shape: Shape::List,
        unset: Unset::OneOfBoth,
        in_example: true,
        sample: &["n1=127.0.0.1:7611", "n2=127.0.0.1:7621", "n3=127.0.0.1:7631"],
        docs: &[
            "The members of a new cluster and where each listens for peers. The same list on each node.",
        ],
    },
    Key {
        path: "cluster.join",
        shape: Shape::List,
        unset: Unset::OneOfBoth,
        in_example: false,
        sample: &["127.0.0.1:7611", "127.0.0.1:7621"],
        docs: &[
            "Instead of `initial`: where members of a running cluster listen for peers. The node joins",
            "them once it was added: kv cluster add NAME=HOST:PORT.",
        ],
    },
    needed("tls.ca", Shape::Path, &["pki/ca.crt"], &[]),
    needed("tls.cert", Shape::Path, &["pki/n1.crt"], &[]),
    needed("tls.key", Shape::Path, &["pki/n1.key"], &[]),
];

const fn needed(
    path: &'static str,
    shape: Shape,
    sample: &'static [&'static str],
    docs: &'static [&'static str],
) -> Key {
    Key { path, shape, unset: Unset::Refused, in_example: true, sample, docs }
}

const fn advertised(path: &'static str, unset: Unset, sample: &'static [&'static str]) -> Key {
    Key { path, shape: Shape::Text, unset, in_example: false, sample, docs: &[] }
}

/// One edit per so many letters of the mistyped word (but always one) may lie between it and a
/// suggestion; with more, any short word would suggest any other.
const LETTERS_PER_EDIT: usize = 3;

/// Finds a key by its path.
pub(super) fn find(path: &str) -> Option<Key> {
    KEYS.into_iter().find(|key| key.path == path)
}

/// Whether a section of this name exists.
pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|section| section.name == name)
}

/// The key or section that was probably meant.
pub(super) fn suggest(path: &str) -> Option<&'static str> {
    let last = path.rsplit('.').next().unwrap_or(path);
    let same_last = || {
        let mut hits =
            KEYS.iter().map(|key| key.path).filter(|key| key.rsplit('.').next() == Some(last));
        hits.next().filter(|_| hits.next().is_none())
    };
    let sections = SECTIONS.iter().map(|section| section.name);
    let all = KEYS.iter().map(|key| key.path).chain(sections);
    nearest(path, all, last.len()).or_else(same_last)
}

/// The key that was probably meant by the rest of a variable, in small letters, that has one underscore
/// where two are needed. It must begin with a section: everything else belongs to others, such as what
/// orchestrators set for a service of our name (`service_host`, `port_7610_tcp`).
pub(super) fn meant_by_variable(rest: &str) -> Option<&'static str> {
    SECTIONS.iter().find_map(|section| {
        let last = rest.strip_prefix(section.name)?.strip_prefix('_')?;
        let of_section = |path: &&str| path.split('.').next() == Some(section.name);
        let keys = KEYS.iter().map(|key| key.path).filter(of_section);
        nearest(&format!("{}.{last}", section.name), keys, last.len())
    })
}

/// The known word that is nearest to `path`, if it is near enough for a last part of so many letters.
fn nearest(
    path: &str,
    known: impl Iterator<Item = &'static str>,
    letters: usize,
) -> Option<&'static str> {
    known
        .map(|known| (edit_distance(path, known), known))
        .min()
        .filter(|(edits, _)| *edits <= (letters / LETTERS_PER_EDIT).max(1))
        .map(|(_, known)| known)
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
    fn variables_with_one_underscore() {
        for (rest, meant) in [
            ("listen_client", Some("listen.client")),
            ("listen_cleint", Some("listen.client")),
            ("node_data_dir", Some("node.data_dir")),
            ("node_datadir", Some("node.data_dir")),
            ("tls_ca", Some("tls.ca")),
            ("cluster_initial", Some("cluster.initial")),
            // Not ours: of the log, of wrappers, and of orchestrators for the services kvstore,
            // kvstore-node and kvstore-cluster.
            ("log", None),
            ("config", None),
            ("service_host", None),
            ("port_7610_tcp_addr", None),
            ("node_service_host", None),
            ("node_port", None),
            ("node_port_7611_tcp", None),
            ("cluster_service_port_client", None),
            ("listen", None),
            ("listen_", None),
        ] {
            assert_eq!(meant_by_variable(rest), meant, "{rest}");
        }
        // Each key is told from each other one.
        for key in KEYS {
            assert_eq!(meant_by_variable(&key.path.replace('.', "_")), Some(key.path));
        }
    }

    #[test]
    fn every_key_lies_in_a_section() {
        for key in KEYS {
            let (section, _) = key.path.split_once('.').unwrap();
            assert!(is_section(section), "{key:?}");
            assert_eq!(find(key.path).unwrap().path, key.path);
            assert!(key.shape == Shape::List || key.sample.len() == 1, "{key:?}");
            match key.unset {
                Unset::Refused | Unset::OneOfBoth => {}
                Unset::Same(other) | Unset::Listed(other) => {
                    assert!(find(other).is_some(), "{key:?}")
                }
            }
        }
    }
}
