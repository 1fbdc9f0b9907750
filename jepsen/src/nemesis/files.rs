//! Damages the files of a node while it is stopped: flipped bits, cut files, lost state, an export in
//! the place of another one.
//!
//! One node at a time, which was stopped in an orderly way: its log then ends with a seal, so that
//! whatever is done to it is damage and not a write that never happened. A log never goes back in time
//! as a whole: nobody can notice that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use super::field::{Field, LOOK};
use super::members::{replace, wait_brought_up, wait_serving};
use super::strike::Strike;
use crate::error::LabError;

/// Time that an orderly stop may take.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Time between the stop and the restart, in milliseconds.
const DOWN_MS: std::ops::Range<u64> = 0..1_000;

/// Time that a node may take to repair itself; after it, it is replaced.
const REPAIR_MAX: Duration = Duration::from_secs(30);

/// Stops a node, damages its files, and starts it again. A node that cannot repair itself is replaced.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let victim = strike.random_node();
    let field = strike.field;
    let Some(_claim) = field.claim_lossy(victim) else { return Ok(()) };
    let fault = strike.note("damage files of", &[victim], "files of the stopped node");
    let data = {
        let mut cluster = field.cluster.lock().await;
        cluster.terminate(victim, STOP_MAX).await?;
        cluster.data_dir(victim)
    };
    let done = damage(&data, &mut strike.rng).map_err(LabError::io(&data))?;
    strike.wait(DOWN_MS).await;
    let log = field.cluster.lock().await.log(victim).to_owned();
    let before = fs::metadata(&log).map_or(0, |file| file.len());
    field.cluster.lock().await.start(victim)?;
    let mut place = format!("files of the stopped node: {}", done.join("; "));
    if !repaired(field, victim).await {
        place.push_str("; it could not repair itself and was replaced");
        replace(field, victim).await?;
    }
    wait_brought_up(field, victim).await?;
    let noticed = noticed(&log, before);
    field.faults.place(fault, place);
    strike.over(fault, Some(noticed));
    Ok(())
}

/// Waits until the node serves again; false if it ends instead or takes too long.
async fn repaired(field: &Field, node: usize) -> bool {
    let deadline = Instant::now() + REPAIR_MAX;
    loop {
        let mut cluster = field.cluster.lock().await;
        if cluster.check_node(node).is_err() || Instant::now() >= deadline {
            return false;
        }
        let ready = cluster.is_ready(node);
        drop(cluster);
        if ready {
            return wait_serving(field, node, deadline).await.is_ok();
        }
        sleep(LOOK).await;
    }
}

/// Lines of the log that speak of damage.
fn noticed(log: &Path, from: u64) -> u64 {
    let bytes = fs::read(log).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    let speaks = |line: &&str| {
        ["damage", "rebuilt", "repair", "torn"].iter().any(|word| line.contains(word))
    };
    text.lines().filter(speaks).count() as u64
}

/// Damages one or two things below a data directory, and says what was done.
fn damage(data: &Path, rng: &mut ChaCha8Rng) -> std::io::Result<Vec<String>> {
    let mut done = Vec::new();
    for _ in 0..rng.random_range(1..3) {
        let segments = files(&data.join("wal"), ".seg")?;
        let exports = files(&data.join("exports"), ".exp")?;
        let stores = stores(&data.join("state"))?;
        let (what, candidates) = match rng.random_range(0..10) {
            0..5 => (Kind::Log, segments),
            5..7 => (Kind::Export, exports),
            7..9 => (Kind::State, stores),
            _ => {
                let state = data.join("state");
                if state.exists() {
                    fs::remove_dir_all(&state)?;
                }
                done.push("state removed".to_owned());
                continue;
            }
        };
        if candidates.is_empty() {
            continue;
        }
        let path = &candidates[rng.random_range(0..candidates.len())];
        let said = damage_file(path, what, &candidates, rng)?;
        let shown = path.strip_prefix(data).unwrap_or(path).display();
        done.push(format!("{shown}: {said}"));
    }
    if done.is_empty() {
        done.push("nothing to damage".to_owned());
    }
    Ok(done)
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Log,
    Export,
    State,
}

fn damage_file(
    path: &Path,
    kind: Kind,
    others: &[PathBuf],
    rng: &mut ChaCha8Rng,
) -> std::io::Result<String> {
    let mut bytes = fs::read(path)?;
    // Files are filled with zeros ahead of their use: what matters comes first.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    if bytes.is_empty() {
        return Ok("empty".to_owned());
    }
    let at = rng.random_range(0..used);
    let said = match (kind, rng.random_range(0..10)) {
        (Kind::Export, 0..3) => {
            let other = &others[rng.random_range(0..others.len())];
            bytes = fs::read(other)?;
            format!("a copy of {}", other.file_name().unwrap_or_default().display())
        }
        (_, 0..7) => {
            let bit = rng.random_range(0..8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        _ => {
            bytes.truncate(at);
            format!("cut to {at} bytes")
        }
    };
    fs::write(path, bytes)?;
    Ok(said)
}

/// The files of a directory whose name ends so, sorted; none if there is no directory.
fn files(dir: &Path, suffix: &str) -> std::io::Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() && path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The main files of the stores below `state/`.
fn stores(state: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !state.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(state)? {
        let dir = entry?.path();
        let kept_aside = dir.extension().is_some();
        if dir.is_dir() && !kept_aside {
            found.extend(files(&dir, "db")?);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn each_damage_changes_what_it_names_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let content: Vec<u8> = (0..2_000_u32).map(|n| (n % 251) as u8 + 1).collect();
        let paths =
            ["wal/wal-1.seg", "exports/1-7.exp", "exports/1-9.exp", "state/1-0/db", "identity"];
        let (mut flips, mut cuts, mut copies, mut lost) = (0, 0, 0, 0);
        for seed in 0..200 {
            for path in paths {
                let path = data.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let tag = path.to_string_lossy().into_owned().into_bytes();
                fs::write(&path, [&content[..], &tag].concat()).unwrap();
            }
            let said = damage(data, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
            let said = said.join("; ");
            flips += u32::from(said.contains("flipped"));
            cuts += u32::from(said.contains("cut to"));
            copies += u32::from(said.contains("a copy"));
            lost += u32::from(said.contains("state removed"));
            for path in paths {
                let full = data.join(path);
                let tag = full.to_string_lossy().into_owned().into_bytes();
                let same = fs::read(&full).is_ok_and(|now| now == [&content[..], &tag].concat());
                let gone = said.contains("state removed") && path.starts_with("state");
                assert!(same || gone || said.contains(path), "{said} does not name {path}");
            }
        }
        assert!(
            flips > 20 && cuts > 20 && copies > 5 && lost > 5,
            "{flips} {cuts} {copies} {lost}"
        );
    }
}
