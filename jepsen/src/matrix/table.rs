//! The matrix as a table: a row a workload, a column a nemesis.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Case;
use super::record::{OPERATIONS_MIN, Record, Records};
use crate::judgement::Word;
use crate::nemesis::NemesisKind;
use crate::workload::WorkloadKind;

/// What all runs of a workload under a nemesis say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The worst verdict of those that were not starved.
    verdict: Word,
    /// Whether a valid run covers it.
    covered: bool,
    /// Whether enough operations succeeded in one.
    worked: bool,
    ok: usize,
    effects: u64,
}

/// What stands in a cell; the later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The promises held while the nemesis had effects.
    Valid,
    /// The nemesis never had an effect that anyone could see.
    NoEffect,
    /// Too few operations succeeded.
    TooFew,
    /// Nobody knows.
    Unknown,
    /// A promise was broken.
    Invalid,
}

impl Standing {
    /// It in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NoEffect => "no effect",
            Self::TooFew => "too few",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

impl Cell {
    /// What stands in it.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match (self.verdict, self.covered, self.worked) {
            (Word::Invalid, ..) => Standing::Invalid,
            (Word::Unknown, ..) => Standing::Unknown,
            (Word::Valid, true, _) => Standing::Valid,
            (Word::Valid, false, true) => Standing::NoEffect,
            (Word::Valid, false, false) => Standing::TooFew,
        }
    }

    fn add(&mut self, record: &Record, kind: NemesisKind) {
        if !record.is_starved() {
            self.verdict = self.verdict.max(record.verdict);
        }
        self.covered |= record.verdict == Word::Valid && record.covers(kind);
        self.worked |= record.has_worked();
        self.ok += record.summary.ok;
        self.effects += record.did(kind).effects;
    }

    fn text(&self, kind: NemesisKind) -> String {
        let mut text = match self.standing() {
            Standing::Valid => "valid".to_owned(),
            other => format!("**{}**", other.as_str()),
        };
        let _ = write!(text, " {}", self.ok);
        if kind != NemesisKind::None {
            let _ = write!(text, "/{}", self.effects);
        }
        text
    }
}

/// The table; see the module.
#[derive(Clone, Debug, Default)]
pub struct Table {
    cells: BTreeMap<(WorkloadKind, NemesisKind), Cell>,
}

impl Table {
    /// Puts runs together.
    #[must_use]
    pub fn of<'r>(records: impl Iterator<Item = (&'r Case, &'r Record)>) -> Self {
        let mut table = Self::default();
        for (case, record) in records {
            for kind in case.columns() {
                let empty =
                    Cell { verdict: Word::Valid, covered: false, worked: false, ok: 0, effects: 0 };
                table.cells.entry((case.workload, kind)).or_insert(empty).add(record, kind);
            }
        }
        table
    }

    /// All cells in which something stands, in the order of the rows.
    pub fn cells(&self) -> impl Iterator<Item = ((WorkloadKind, NemesisKind), &Cell)> {
        self.cells.iter().map(|(place, cell)| (*place, cell))
    }

    /// The nemeses that were there and never had an effect, whatever the workload.
    #[must_use]
    pub fn idle(&self) -> Vec<NemesisKind> {
        let there = |kind: &NemesisKind| self.cells.keys().any(|(_, found)| found == kind);
        let worked = |kind: &NemesisKind| {
            self.cells().any(|((_, found), cell)| found == *kind && cell.effects > 0)
        };
        let kinds = NemesisKind::ALL.into_iter().filter(|kind| *kind != NemesisKind::None);
        kinds.filter(|kind| there(kind) && !worked(kind)).collect()
    }

    /// The rows as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::from("| workload |");
        for kind in NemesisKind::ALL {
            let _ = write!(text, " `{kind}` |");
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(NemesisKind::ALL.len()));
        text.push('\n');
        for workload in WorkloadKind::ALL {
            let _ = write!(text, "| `{workload}` |");
            for kind in NemesisKind::ALL {
                let cell = self.cells.get(&(workload, kind));
                let shown = cell.map_or_else(|| "-".to_owned(), |cell| cell.text(kind));
                let _ = write!(text, " {shown} |");
            }
            text.push('\n');
        }
        text
    }
}

/// The whole page: where it comes from, how to read it, the table, and what stands out.
#[must_use]
pub fn page(command: &str, records: &Records, left_out: &[Case]) -> String {
    let table = Table::of(records.iter());
    let runs = records.iter().count();
    let mut text = format!(
        "# The matrix of the lab\n\nWritten by this command; do not edit.\n\n```\n{command}\n```\n\n\
         Workloads on clusters of real processes, disturbed by nemeses ([lab.md](lab.md)): {runs} runs"
    );
    let mut servers: Vec<&str> =
        records.iter().filter_map(|(_, record)| record.server.as_deref()).collect();
    servers.sort_unstable();
    servers.dedup();
    if !servers.is_empty() {
        let _ = write!(text, " of {}", servers.join(" and "));
    }
    let _ = write!(
        text,
        ".\nA run with `disk` or `messages` is of a server that was built with the feature `lab`.\n\n\
         A cell has the verdict, how many operations succeeded, and how often the faults had an effect.\n\
         **no effect**: no fault had one that anyone could see, so nothing is proven. **too few**: fewer\n\
         than {OPERATIONS_MIN} operations succeeded. `-`: not run.\n\n{}",
        table.markdown()
    );
    let idle = table.idle();
    if !idle.is_empty() {
        let words: Vec<String> = idle.iter().map(|kind| format!("`{kind}`")).collect();
        let _ = write!(text, "\nNever had an effect, in any run: {}.\n", words.join(", "));
    }
    let bad: Vec<_> = records.iter().filter(|(_, record)| record.verdict != Word::Valid).collect();
    if !bad.is_empty() {
        text.push_str("\n## Not valid\n\n");
    }
    for (case, record) in bad {
        let why = record.explanation.as_deref().unwrap_or_default();
        let line = why.lines().next().unwrap_or_default();
        let _ = writeln!(
            text,
            "- `{case}`, seed {}: {}, model `{}`: {}",
            record.seed,
            record.verdict.as_str(),
            record.model,
            without_paths(line)
        );
    }
    if !left_out.is_empty() {
        let _ = write!(text, "\n## Left out\n\nThere was no time for {} runs:", left_out.len());
        let words: Vec<String> = left_out.iter().map(|case| format!("`{case}`")).collect();
        let _ = writeln!(text, " {}.", words.join(", "));
    }
    text
}

/// A sentence without the places of files, which nobody else has.
fn without_paths(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word.trim_start_matches(['(', '"']);
        if bare.starts_with('/') && bare.len() > 1 { "(a file)" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}
