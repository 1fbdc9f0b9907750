//! Sessions between two replicas, part by part.

use super::difference::Comparison;
use super::follower::{Checked, EPOCH, Follower};
use crate::clock::FoldNumber;
use crate::model::session::Sent;
use crate::model::truth::Truth;
use crate::session::{Ended, Hello, Meeting, Part, PartBody, Serving, Taking, meet};

/// A session between two replicas.
#[derive(Debug)]
pub(super) struct Link {
    from: usize,
    to: usize,
    serving: Serving,
    taking: Taking,
}

impl Follower {
    pub(super) fn begin(
        &mut self,
        truth: &Truth,
        slot: u8,
        from: usize,
        to: usize,
        flagged: bool,
    ) -> Checked<()> {
        self.sessions += 1;
        let hello = Hello::of(&self.nodes[to].replica, self.sessions, EPOCH, Vec::new());
        let bytes = self.nodes[to].let_out(hello).encode(FoldNumber::NONE);
        let (sender, receiver) = (&self.nodes[from].replica, &self.nodes[to].replica);
        let hello = Hello::decode(&bytes, sender.state().folds());
        let unread = |error| self.comparison(truth, to as u8).difference("hello", error);
        let hello = hello.map_err(unread)?;
        let meeting = meet(sender, EPOCH, &hello);
        let comparison = self.comparison(truth, to as u8);
        if !matches!(meeting, Meeting::Same | Meeting::Differs) {
            return Err(comparison.difference("meeting", format!("{meeting:?}")));
        }
        let serving = Serving::begin(sender, &hello, 0);
        comparison.same("flag of a session", &serving.is_flagged(), &flagged)?;
        let taking = Taking::begin(receiver, self.sessions);
        self.links[usize::from(slot)] = Some(Link { from, to, serving, taking });
        Ok(())
    }

    /// Sends parts until the one that the model sent.
    pub(super) fn send(
        &mut self,
        truth: &Truth,
        slot: u8,
        sent: Sent,
        refused: bool,
    ) -> Checked<()> {
        let Some(mut link) = self.links[usize::from(slot)].take() else { return Ok(()) };
        if let Sent::Entry { key, .. } = sent
            && link.serving.left() == 0
        {
            link.serving.tell(&self.names.keys()[key]);
        }
        loop {
            let is_last = |part: &Part| match (&sent, &part.body) {
                (Sent::Record(_), PartBody::Records(_)) => true,
                (Sent::Entry { key, .. }, PartBody::Entry(staged)) => {
                    staged.is_whole && staged.key == self.names.keys()[*key]
                }
                _ => false,
            };
            if matches!(sent, Sent::Equal(_) | Sent::Done) {
                break;
            }
            let Some(part) = link.serving.next(&self.nodes[link.from].replica, 1) else {
                let at = link.from as u8;
                let detail = format!("nothing is left, and the model sent {sent:?}");
                return Err(self.comparison(truth, at).difference("session", detail));
            };
            let part = self.nodes[link.from].let_out(part);
            let is_last = is_last(&part);
            let is_taken = !(refused && matches!(part.body, PartBody::Records(_)));
            if is_taken {
                let ended = self.take(truth, &mut link, &part)?;
                if ended.is_some() {
                    let detail = format!("over with {ended:?}, and the model sent {sent:?}");
                    let comparison = self.comparison(truth, link.to as u8);
                    return Err(comparison.difference("session", detail));
                }
            }
            if is_last {
                break;
            }
        }
        self.links[usize::from(slot)] = Some(link);
        Ok(())
    }

    /// The receiver takes a part, from its bytes.
    fn take(&mut self, truth: &Truth, link: &mut Link, part: &Part) -> Checked<Option<Ended>> {
        let bytes = part.encode(link.serving.folds());
        let node = &mut self.nodes[link.to];
        let part = Part::decode(&bytes, node.replica.state().folds());
        let comparison = Comparison { names: &self.names, truth, at: link.to as u8 };
        let part = part.map_err(|error| comparison.difference("part", error))?;
        let taken = link.taking.take(&mut node.replica, part);
        node.changed(taken.changes);
        node.due.extend(taken.collapses);
        Ok(taken.ended)
    }

    pub(super) fn end(&mut self, truth: &Truth, slot: u8, closed: bool) -> Checked<()> {
        let Some(mut link) = self.links[usize::from(slot)].take() else { return Ok(()) };
        let ended = loop {
            let sender = &self.nodes[link.from].replica;
            let part = match link.serving.next(sender, 1) {
                Some(part) => Some(part),
                None => {
                    link.taking.walked();
                    link.serving.end(sender)
                }
            };
            let Some(part) = part else { break None };
            let part = self.nodes[link.from].let_out(part);
            if let Some(ended) = self.take(truth, &mut link, &part)? {
                break Some(ended);
            }
        };
        if (ended == Some(Ended::Closed)) == closed {
            return Ok(());
        }
        let detail = format!("core {ended:?}, closed in the model: {closed}");
        Err(self.comparison(truth, link.to as u8).difference("end of a session", detail))
    }
}
