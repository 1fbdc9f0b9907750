//! What a detector does.

use super::world::{Event, Timer, World};

/// All members of one run, by what they do when something happens to one of them.
pub trait Protocol {
    /// What members send to each other.
    type Message;

    /// The period of a member begins.
    fn tick(&mut self, member: u32, world: &mut World<Self::Message>);

    /// A message reaches a member.
    fn arrive(
        &mut self,
        from: u32,
        to: u32,
        message: Self::Message,
        world: &mut World<Self::Message>,
    );

    /// What a member waited for is due.
    fn timer(&mut self, member: u32, timer: Timer, world: &mut World<Self::Message>);

    /// Hands an event on.
    fn happen(&mut self, event: Event<Self::Message>, world: &mut World<Self::Message>) {
        match event {
            Event::Tick(member) => self.tick(member, world),
            Event::Arrive { from, to, message } => self.arrive(from, to, message, world),
            Event::Timer { member, timer } => self.timer(member, timer, world),
        }
    }
}
