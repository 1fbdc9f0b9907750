//! The report of a run as one page, `report.html`, which opens from disk without a network.
//!
//! The verdict comes first and is plain HTML, readable without scripts. Below it scripts of the page
//! draw the timeline and the charts from one object of columns in the page.
//!
//! - `stored`: what the files of a run say. `columns`: the history in short. `page`: the HTML.
//!   `escape`: what keeps text of the run from being anything but text.
//! - [`curves`]: charts of simulations, which have no run to report.
//! - `assets/`: style and scripts, which the page includes as they are.

mod columns;
pub mod curves;
mod escape;
mod page;
mod stored;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use self::columns::Columns;
use self::stored::Stored;
use crate::error::LabError;
use crate::history::{self, ReadOptions};
use crate::operation::Operation;

/// How pages look.
const STYLE: &str = include_str!("assets/report.css");

/// Name of the report in the directory of a run.
pub const FILE_NAME: &str = "report.html";

/// Writes the report of the finished run in `dir` from its files, in place of the one that may be
/// there, and returns its path.
///
/// # Errors
///
/// [`LabError::Io`] if a file of the run cannot be read (also if the run has no result yet) or the
/// report cannot be written; [`LabError::Parameters`] or [`LabError::History`] if one makes no sense.
pub fn write(dir: &Path) -> Result<PathBuf, LabError> {
    // What tells a run from another directory is looked at first.
    let stored = Stored::read(dir)?;
    let path = dir.join("history.jsonl");
    let file = File::open(&path).map_err(LabError::io(&path))?;
    let history = history::read(BufReader::new(file), &ReadOptions::default())?;
    write_stored(dir, &stored, &history)
}

/// Like [`write()`], of a history that is in memory already.
///
/// # Errors
///
/// Like [`write()`].
pub fn write_with(dir: &Path, history: &[Operation]) -> Result<PathBuf, LabError> {
    write_stored(dir, &Stored::read(dir)?, history)
}

fn write_stored(dir: &Path, stored: &Stored, history: &[Operation]) -> Result<PathBuf, LabError> {
    let path = dir.join(FILE_NAME);
    fs::write(&path, render(stored, history)).map_err(LabError::io(&path))?;
    Ok(path)
}

/// The whole page.
fn render(stored: &Stored, history: &[Operation]) -> String {
    let data = Columns::new(history, stored).to_json();
    page::render(stored, history, &data)
}

#[cfg(test)]
mod tests;
