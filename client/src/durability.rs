//! What makes a file's name survive a loss of power.

#[cfg(unix)]
use std::fs::File;
use std::io;
use std::path::Path;

/// Syncs the directory of `path`, so that the name it has there now is on disk. Does nothing where
/// directories cannot be synced.
///
/// # Errors
/// What the system reports; the name may be on disk or not.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
