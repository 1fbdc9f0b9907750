//! Rules of the house that no lint expresses.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file.
const LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this package")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the workspace can be read") {
            let path = entry.expect("the workspace can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn files_stay_short_and_rooms_have_names() {
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
        let stem = path.file_stem().unwrap().to_string_lossy();
        assert!(!["util", "utils", "common", "helpers"].contains(&&*stem), "{}", path.display());
    }
}

#[test]
fn cores_own_no_clock_no_thread_and_no_async() {
    let cores = [
        "storage/src/wal",
        "storage/src/mvcc",
        "consensus/src",
        "gossip/src",
        "kvstore/src/node",
        "kvstore/src/replication",
        "kvstore/src/consistency",
    ];
    let forbidden = [
        "Instant::now",
        "SystemTime",
        "thread::spawn",
        "tokio::",
        "rand::rng()",
        "HashMap<",
        "HashSet<",
        ".await",
    ];
    for path in sources() {
        let inside = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let is_test = inside.contains("/tests/") || inside.ends_with("/tests.rs");
        if is_test || !cores.iter().any(|core| inside.starts_with(core)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for word in forbidden {
            let hit = text
                .lines()
                .find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            assert_eq!(hit, None, "{inside} uses {word}");
        }
    }
}

/// Versions below which an advisory applies (reliability of the network path).
const FLOORS: [(&str, [u64; 3]); 12] = [
    ("h2", [0, 4, 16]),
    ("rustls", [0, 23, 18]),
    ("rustls-webpki", [0, 103, 13]),
    ("ring", [0, 17, 12]),
    ("bytes", [1, 11, 1]),
    ("tokio", [1, 44, 2]),
    ("slab", [0, 4, 11]),
    ("tracing-subscriber", [0, 3, 20]),
    ("crossbeam-epoch", [0, 9, 20]),
    ("crossbeam-channel", [0, 5, 15]),
    ("tonic", [0, 14, 0]),
    ("time", [0, 3, 40]),
];

/// Crates that must not be linked: one TLS provider, no system packages, no second protobuf user.
const BANNED: [&str; 7] = [
    "aws-lc-rs",
    "aws-lc-sys",
    "openssl-sys",
    "native-tls",
    "prometheus",
    "rustls-pemfile",
    "cmake",
];

#[test]
fn t12_dependencies_stay_above_their_advisories() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    for package in lock["package"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let text = package["version"].as_str().unwrap();
        assert!(!BANNED.contains(&name), "{name} is linked");
        let numbers: Vec<u64> = text
            .split(['.', '-', '+'])
            .take(3)
            .map(|part| part.parse().unwrap_or_default())
            .collect();
        if let Some((_, floor)) = FLOORS.iter().find(|(floor, _)| *floor == name) {
            assert!(numbers.as_slice() >= floor.as_slice(), "{name} {text} is below {floor:?}");
        }
        if let Some(source) = package.get("source") {
            let source = source.as_str().unwrap();
            assert!(source.starts_with("registry+"), "{name} comes from {source}");
        }
    }
}

#[test]
fn the_readme_opens_with_the_two_commands_that_ci_runs() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    let dev = readme.find("cargo run --release --bin kvstore -- dev").expect("the first command");
    let test = readme.find("cargo test --workspace").expect("the second command");
    assert!(dev < test);
    assert!(ci.contains("\ncargo test --workspace\n"));
    assert!(ci.contains(
        "cargo run --release --bin kvstore -- dev -- sh -c 'kv put hello world && kv get hello'"
    ));
}

/// A table of tests that are not there any more would be worse than none.
#[test]
fn every_test_that_the_catalogue_of_bugs_names_exists() {
    let page = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let (_, table) = page.split_once("## Bugs of others").expect("the page has the catalogue");
    let (table, _) = table.split_once("\n## ").expect("the catalogue ends");
    let named: Vec<&str> =
        table.split('`').filter(|word| is_numbered(word) && !word.contains(' ')).collect();
    assert!(named.len() >= 34, "one test per row at least: {named:?}");
    let sources: Vec<String> =
        sources().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let scripts = root().join("consensus/testscripts");
    for name in named {
        let function = format!("fn {name}(");
        let exists = sources.iter().any(|text| text.contains(&function));
        assert!(exists || scripts.join(name).exists(), "there is no test {name}");
    }
}

/// Whether a name begins as that of a test for a bug of the catalogue, such as `b33_`.
fn is_numbered(name: &str) -> bool {
    let number = name.strip_prefix('b').and_then(|rest| rest.split_once('_'));
    number.is_some_and(|(digits, _)| digits.len() == 2 && digits.parse::<u8>().is_ok())
}
