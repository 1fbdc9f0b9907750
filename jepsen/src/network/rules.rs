//! What happens to the bytes between two sites.

use std::collections::BTreeMap;
use std::time::Duration;

/// What happens to what goes one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Connections end, and no new one comes up.
    pub cut: bool,
    /// Bytes wait until this ends. The connection stays, and neither side is told.
    pub stalled: bool,
    /// Bytes arrive by so much later.
    pub delay: Duration,
    /// At most so many bytes a second pass; `None`: as many as there are.
    pub bytes_per_second: Option<u64>,
}

impl Rule {
    /// A rule that ends connections.
    pub const CUT: Self = Self { cut: true, ..Self::PASS };
    /// A rule that holds bytes back.
    pub const STALLED: Self = Self { stalled: true, ..Self::PASS };
    /// No rule at all.
    pub const PASS: Self =
        Self { cut: false, stalled: false, delay: Duration::ZERO, bytes_per_second: None };

    /// Both at once.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let slower = match (self.bytes_per_second, other.bytes_per_second) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        Self {
            cut: self.cut || other.cut,
            stalled: self.stalled || other.stalled,
            delay: self.delay + other.delay,
            bytes_per_second: slower,
        }
    }
}

/// A place that connections come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// A node, by its number in the cluster.
    Node(usize),
    /// All clients.
    Clients,
}

/// The rules that are in force: some from each of those who disturb the network. What none of them
/// speaks of passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    layers: BTreeMap<&'static str, Vec<(Site, Site, Rule)>>,
}

impl Rules {
    /// Replaces the rules that `layer` has made: what goes from the first site to the second one.
    pub fn set(&mut self, layer: &'static str, rules: Vec<(Site, Site, Rule)>) {
        if rules.is_empty() {
            self.layers.remove(layer);
        } else {
            self.layers.insert(layer, rules);
        }
    }

    /// The rule for what goes from one site to the other.
    #[must_use]
    pub fn between(&self, from: Site, to: Site) -> Rule {
        let all = self.layers.values().flatten();
        let own = all.filter(|(a, b, _)| (*a, *b) == (from, to));
        own.fold(Rule::PASS, |sum, (_, _, rule)| sum.and(*rule))
    }

    /// Whether a connection between two sites can be there.
    #[must_use]
    pub fn connects(&self, a: Site, b: Site) -> bool {
        !self.between(a, b).cut && !self.between(b, a).cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_several_layers_add_up_and_end_one_by_one() {
        let (a, b) = (Site::Node(0), Site::Node(1));
        let slow = Rule { delay: Duration::from_millis(5), ..Rule::PASS };
        let narrow = Rule { bytes_per_second: Some(10), delay: slow.delay, ..Rule::PASS };
        let mut rules = Rules::default();
        rules.set("one", vec![(a, b, slow), (a, Site::Clients, Rule::STALLED)]);
        rules.set("two", vec![(a, b, narrow)]);
        let both = rules.between(a, b);
        assert_eq!((both.delay, both.bytes_per_second), (2 * slow.delay, Some(10)));
        assert_eq!(rules.between(b, a), Rule::PASS);
        assert!(rules.connects(a, b) && rules.between(a, Site::Clients).stalled);
        rules.set("two", vec![(b, a, Rule::CUT)]);
        assert!(!rules.connects(a, b) && !rules.connects(b, a));
        rules.set("two", Vec::new());
        rules.set("one", Vec::new());
        assert_eq!(rules, Rules::default());
    }
}
