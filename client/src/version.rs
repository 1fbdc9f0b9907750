//! Which build this is.
//!
//! Whoever builds sets the commit in the environment (`KVSTORE_COMMIT`, as `make release` does). It is not
//! looked up by a build script: that would build every crate above this one again at each commit.

use std::sync::LazyLock;

/// The version of this release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, or `unknown`.
pub const COMMIT: &str = match option_env!("KVSTORE_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    Some(_) | None => UNKNOWN,
};

/// Stands for a commit that nobody named.
const UNKNOWN: &str = "unknown";

/// The version for people, with the commit where it is known: `0.1.0 (288c1a0)`.
#[must_use]
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| describe(COMMIT));
    &TEXT
}

fn describe(commit: &str) -> String {
    if commit == UNKNOWN { VERSION.to_owned() } else { format!("{VERSION} ({commit})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_shown_where_it_is_known() {
        assert_eq!(describe("288c1a0"), format!("{VERSION} (288c1a0)"));
        assert_eq!(describe(UNKNOWN), VERSION);
        assert!(!COMMIT.is_empty());
        assert!(text().starts_with(VERSION) && (text().contains(COMMIT) || COMMIT == UNKNOWN));
    }
}
