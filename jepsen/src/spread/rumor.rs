//! Rumor mongering: one run.

use std::ops::ControlFlow;

use rand::RngExt;

use super::field::{Field, SOURCE};
use super::strategy::{Counted, Direction, Interest, Judged, Rumor, Stop, Useful};

/// A contact of one cycle.
struct Contact {
    from: u32,
    to: u32,
    /// Whether what the first node says arrives.
    asked: bool,
    /// Whether the answer does.
    answered: bool,
}

/// What the contacts of one node came to in a cycle, and before.
#[derive(Clone, Copy, Default)]
struct Experience {
    interested: bool,
    useful: u32,
    unnecessary: u32,
    counter: u32,
}

/// Spreads the rumor until nobody is interested any more, or `rounds_max` is reached.
pub fn spread(
    rules: &Rumor,
    field: &mut Field,
    rounds_max: u32,
    tell: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut crowd = vec![Experience::default(); field.nodes() as usize];
    crowd[SOURCE as usize].interested = true;
    let mut interested = vec![SOURCE];
    let mut contacts = Vec::new();
    while !interested.is_empty() && field.round() < rounds_max {
        tell(field.round())?;
        field.next_round();
        contacts.clear();
        if rules.direction == Direction::Push {
            for node in &interested {
                meet(rules, *node, field, &mut contacts);
            }
        } else {
            for node in 0..field.nodes() {
                meet(rules, node, field, &mut contacts);
            }
        }
        if rules.direction.pushes() {
            push(rules, &contacts, field, &mut crowd);
        }
        if rules.direction.pulls() {
            pull(rules, &contacts, field, &mut crowd);
        }
        interested.retain(|node| {
            let one = &mut crowd[*node as usize];
            settle(rules, one, field);
            one.interested
        });
        for node in field.fresh() {
            crowd[*node as usize].interested = true;
        }
        interested.extend_from_slice(field.fresh());
    }
    ControlFlow::Continue(())
}

/// Draws whom a node talks to in this cycle, and which messages are lost.
fn meet(rules: &Rumor, from: u32, field: &mut Field, contacts: &mut Vec<Contact>) {
    for _ in 0..rules.fanout {
        let to = field.other(from);
        let (asked, answered) = (field.arrives(), field.arrives());
        contacts.push(Contact { from, to, asked, answered });
    }
}

fn push(rules: &Rumor, contacts: &[Contact], field: &mut Field, crowd: &mut [Experience]) {
    for contact in contacts {
        if !crowd[contact.from as usize].interested {
            continue;
        }
        let useful = match rules.judged {
            Judged::Start => !field.knew(contact.to),
            Judged::Arrival => !field.knows(contact.to),
        };
        field.send(contact.from, contact.to, contact.asked);
        // Only who hears an answer knows how it went.
        if rules.interest == Interest::Blind || (contact.asked && contact.answered) {
            crowd[contact.from as usize].note(rules, useful);
        }
    }
}

fn pull(rules: &Rumor, contacts: &[Contact], field: &mut Field, crowd: &mut [Experience]) {
    for contact in contacts.iter().filter(|contact| contact.asked) {
        if !crowd[contact.to as usize].interested {
            continue;
        }
        let useful = !field.knows(contact.from);
        field.send(contact.to, contact.from, contact.answered);
        crowd[contact.to as usize].note(rules, useful);
    }
}

impl Experience {
    fn note(&mut self, rules: &Rumor, useful: bool) {
        if useful && rules.interest == Interest::Feedback {
            self.useful += 1;
        } else {
            self.unnecessary += 1;
        }
    }
}

/// Ends the cycle of one node, which may lose interest.
fn settle(rules: &Rumor, one: &mut Experience, field: &mut Field) {
    let (useful, unnecessary) = (one.useful > 0, one.unnecessary);
    (one.useful, one.unnecessary) = (0, 0);
    let counts = match rules.counted {
        Counted::Cycle => u32::from(unnecessary > 0 && !useful),
        Counted::Contact => unnecessary,
    };
    match rules.stop {
        Stop::Coin => {
            let loses = |field: &mut Field| field.rng.random_ratio(1, rules.k);
            one.interested = !(0..counts).any(|_| loses(field));
        }
        Stop::Counter if useful && rules.useful == Useful::Reset => one.counter = 0,
        Stop::Counter => {
            one.counter += counts;
            one.interested = one.counter < rules.k;
        }
    }
}
