//! How much of each process lies before each act.

use super::act::{Acts, Reads};
use crate::checker::graph::Node;
use crate::checker::stop::Stop;

/// Numbers that the clocks of one history may hold: half a gigabyte.
pub const CLOCK_NUMBERS_MAX: usize = 1 << 27;

/// For each act the number of acts of each process before it. What comes before an act includes
/// all that its process did before, so a count a process is all there is to know.
#[derive(Debug)]
pub struct Clocks {
    sessions: usize,
    /// Rows of one number a process. An act's row says nothing of its own process.
    rows: Vec<u32>,
    /// The row of each act. Acts that learned nothing new share that of the act before.
    row: Vec<u32>,
}

impl Clocks {
    /// The clocks by process, by what was read, and by `links`, pairs of acts in order; `sorted`
    /// are all acts that count, in an order that respects all this.
    pub fn new(acts: &Acts<'_>, sorted: &[Node], links: &[(Node, Node)]) -> Result<Self, Stop> {
        let sessions = acts.sessions();
        let mut clocks = Self { sessions, rows: vec![0; sessions], row: vec![0; acts.acts.len()] };
        let mut links: Vec<(Node, Node)> = links.iter().map(|&(one, other)| (other, one)).collect();
        links.sort_unstable();
        for &node in sorted {
            let act = acts.act(node);
            let mut row = if act.position == 0 { 0 } else { clocks.row[node as usize - 1] };
            let from = match act.reads {
                Some(Reads::From(write)) => Some(write),
                Some(Reads::Absence) | None => None,
            };
            let linked = links.partition_point(|&(after, _)| after < node);
            let linked = links[linked..].iter().take_while(|(after, _)| *after == node);
            let mut own = false;
            for before in from.into_iter().chain(linked.map(|&(_, before)| before)) {
                let other = acts.act(before);
                let known = clocks.rows[row as usize * sessions + other.session as usize];
                if other.session == act.session || known > other.position {
                    continue;
                }
                if !own {
                    row = clocks.copy(row)?;
                    own = true;
                }
                clocks.join(row, clocks.row[before as usize]);
                let known = &mut clocks.rows[row as usize * sessions + other.session as usize];
                *known = (*known).max(other.position + 1);
            }
            clocks.row[node as usize] = row;
        }
        Ok(clocks)
    }

    /// How many acts of a process lie before an act.
    pub fn before(&self, acts: &Acts<'_>, node: Node, session: u32) -> u32 {
        let act = acts.act(node);
        if act.session == session {
            return act.position;
        }
        self.rows[self.row[node as usize] as usize * self.sessions + session as usize]
    }

    /// Whether one act lies before another one.
    pub fn is_before(&self, acts: &Acts<'_>, one: Node, other: Node) -> bool {
        let act = acts.act(one);
        self.before(acts, other, act.session) > act.position
    }

    fn copy(&mut self, row: u32) -> Result<u32, Stop> {
        if self.rows.len() + self.sessions > CLOCK_NUMBERS_MAX {
            return Err(Stop::Unjudged(format!(
                "{} processes need more than {CLOCK_NUMBERS_MAX} numbers for their clocks",
                self.sessions
            )));
        }
        let start = row as usize * self.sessions;
        let next = self.rows.len() / self.sessions;
        self.rows.extend_from_within(start..start + self.sessions);
        Ok(u32::try_from(next).expect("there are fewer rows than numbers in them"))
    }

    fn join(&mut self, row: u32, other: u32) {
        let (row, other) = (row as usize * self.sessions, other as usize * self.sessions);
        for session in 0..self.sessions {
            self.rows[row + session] = self.rows[row + session].max(self.rows[other + session]);
        }
    }
}
