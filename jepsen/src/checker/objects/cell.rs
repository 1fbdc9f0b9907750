//! A register as an object of the search.

use super::{DEAD, Kind, Object, State};
use crate::checker::acts::{Act, Effect, INITIAL, Register, Value};
use crate::hash::QuickMap;

/// A register; states are its values.
pub struct Cell<'r, 'h> {
    register: &'r Register<'h>,
    /// For each value the last moment at which something can see it.
    last_seen: Vec<u64>,
    effects: Vec<(Effect, Value, Value)>,
}

impl<'r, 'h> Cell<'r, 'h> {
    /// The object, and the effect of each act.
    pub fn new(register: &'r Register<'h>) -> (Self, Vec<u32>) {
        let mut effects = Vec::new();
        let mut numbers: QuickMap<u64, [Option<u32>; 3]> = QuickMap::default();
        let number = |act: &Act| {
            let values = u64::from(act.value) << 32 | u64::from(act.expected);
            *numbers.entry(values).or_default()[act.effect as usize].get_or_insert_with(|| {
                effects.push((act.effect, act.value, act.expected));
                u32::try_from(effects.len() - 1).expect("there are fewer effects than acts")
            })
        };
        let of_acts = register.acts.iter().map(number).collect();
        (Self { register, last_seen: register.last_seen(), effects }, of_acts)
    }

    fn seen_from(&self, value: State, now: u64) -> bool {
        usize::try_from(value).is_ok_and(|value| self.last_seen[value] >= now)
    }
}

impl Object for Cell<'_, '_> {
    fn initial(&self) -> State {
        u64::from(INITIAL)
    }

    fn kind(&self, effect: u32) -> Kind {
        match self.effects[effect as usize].0 {
            Effect::Read => Kind::Observe,
            Effect::Write => Kind::Overwrite,
            Effect::Cas => Kind::Change,
        }
    }

    fn step(&mut self, state: State, effect: u32) -> Option<State> {
        let (effect, value, expected) = self.effects[effect as usize];
        match effect {
            Effect::Write => Some(u64::from(value)),
            Effect::Read | Effect::Cas => {
                (state == u64::from(expected)).then_some(u64::from(value))
            }
        }
    }

    fn settle(&mut self, state: State, now: u64) -> Option<State> {
        Some(if state != DEAD && self.seen_from(state, now) { state } else { DEAD })
    }

    fn useful(&self, effect: u32, now: u64) -> bool {
        self.seen_from(u64::from(self.effects[effect as usize].1), now)
    }

    fn observed_at_once(&self) -> bool {
        true
    }

    fn show(&self, state: State) -> String {
        match u32::try_from(state) {
            Ok(value) if state != DEAD => self.register.show(value),
            _ => "a value that nobody reads".to_owned(),
        }
    }
}
