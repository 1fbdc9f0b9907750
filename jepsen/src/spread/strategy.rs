//! Ways to spread one update, and the rules that tell their variants apart.

use clap::ValueEnum;
use serde::Serialize;

use super::graph::Graph;

/// A way to spread an update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "strategy", rename_all = "kebab-case")]
pub enum Strategy {
    /// Whoever hears the update first sends it to all neighbours but the one it came from.
    Flood(Graph),
    /// The source is the root of a tree; each node sends to its children.
    Tree {
        /// Children of a node.
        fanout: u32,
    },
    /// All nodes compare what they have with others, round after round, until all have the update.
    AntiEntropy(AntiEntropy),
    /// Nodes that heard the update spread it until they lose interest.
    Rumor(Rumor),
}

/// Which way an update travels in a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the node that makes the contact.
    Push,
    /// To the node that makes the contact.
    Pull,
    /// Both.
    PushPull,
}

impl Direction {
    /// Whether nodes that have the update bring it to others.
    #[must_use]
    pub const fn pushes(self) -> bool {
        matches!(self, Self::Push | Self::PushPull)
    }

    /// Whether nodes that lack the update ask for it.
    #[must_use]
    pub const fn pulls(self) -> bool {
        matches!(self, Self::Pull | Self::PushPull)
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::PushPull => "push-pull",
        }
    }
}

/// Anti-entropy. What a node gives in a round is what it had when the round began, so all contacts of
/// a round happen at once. Both sides compare first, so only what is lacking is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AntiEntropy {
    /// Which way the update travels.
    pub direction: Direction,
    /// Contacts that each node makes in a round, each with any other node.
    pub fanout: u32,
}

/// Rumor mongering, the "complex epidemics" of Demers et al. 1987.
///
/// In each cycle, nodes that were interested when it began spread the update: they bring it to a random
/// other node (push), or all nodes ask a random other (pull), or both. All pushes of a cycle arrive
/// before its pulls. At the end of the cycle nodes lose interest by the rules below. Nodes that heard the
/// update in a cycle are interested from the next one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rumor {
    /// Which way the update travels.
    pub direction: Direction,
    /// Whether a node takes into account what others knew.
    pub interest: Interest,
    /// How it decides to stop.
    pub stop: Stop,
    /// Mean or number of unnecessary contacts (all contacts, if blind) before it stops.
    pub k: u32,
    /// When a push counts as unnecessary.
    pub judged: Judged,
    /// What a useful contact does to the counter.
    pub useful: Useful,
    /// How several contacts of one node in one cycle count.
    pub counted: Counted,
    /// Contacts that a node makes in a cycle.
    pub fanout: u32,
    /// Anti-entropy, one contact a node and round, once nobody is interested any more, until all have
    /// the update.
    pub repair: Option<Direction>,
}

/// Whether a node takes into account what others knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Interest {
    /// Contacts with nodes that had the update already are unnecessary, and only they count.
    Feedback,
    /// Every contact counts.
    Blind,
}

/// How a node decides to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// With chance 1/k each time.
    Coin,
    /// After k times.
    Counter,
}

/// When a push counts as unnecessary. A pull is always judged when it arrives, since a node that asks says
/// what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    /// If the target had the update when the cycle began: of two pushes to one target in one cycle,
    /// both are useful.
    Start,
    /// If the target has the update when the push arrives: of the two, only the first is.
    Arrival,
}

/// What a useful contact does to the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Useful {
    /// It begins again.
    Reset,
    /// Nothing.
    Keep,
}

/// How several contacts of one node in one cycle count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// Together: one useful contact makes the cycle useful, else the cycle counts once.
    Cycle,
    /// Each by itself.
    Contact,
}

impl Strategy {
    /// Its name, as the command line has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Flood(_) => "flood",
            Self::Tree { .. } => "tree",
            Self::AntiEntropy(_) => "anti-entropy",
            Self::Rumor(_) => "rumor",
        }
    }

    /// It and its rules in words.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Flood(graph) => format!("flood, {}", graph.title()),
            Self::Tree { fanout } => format!("tree, {fanout} children a node"),
            Self::AntiEntropy(AntiEntropy { direction, fanout }) => {
                format!("anti-entropy, {}{}", direction.as_str(), contacts(*fanout))
            }
            Self::Rumor(rumor) => rumor.title(),
        }
    }

    /// What tells it from others in a table.
    #[must_use]
    pub fn short(&self) -> String {
        match self {
            Self::Flood(graph) => format!("flood {}", graph.name()),
            Self::Tree { fanout } => format!("tree {fanout}"),
            Self::AntiEntropy(AntiEntropy { direction, .. }) => {
                format!("anti-entropy {}", direction.as_str())
            }
            Self::Rumor(rumor) => format!("rumor {} k={}", rumor.direction.as_str(), rumor.k),
        }
    }
}

impl Rumor {
    fn title(&self) -> String {
        let interest = match self.interest {
            Interest::Feedback => "feedback",
            Interest::Blind => "blind",
        };
        let stop = match self.stop {
            Stop::Coin => "coin",
            Stop::Counter => "counter",
        };
        let mut title = format!(
            "rumor, {}, {interest}, {stop} k={}{}",
            self.direction.as_str(),
            self.k,
            contacts(self.fanout)
        );
        if self.interest == Interest::Feedback {
            if self.direction.pushes() {
                title += match self.judged {
                    Judged::Start => ", judged by the start of the cycle",
                    Judged::Arrival => ", judged in order of arrival",
                };
            }
            if self.stop == Stop::Counter && self.useful == Useful::Keep {
                title += ", never reset";
            }
        }
        if self.counted == Counted::Contact {
            title += ", each contact counts";
        }
        if let Some(direction) = self.repair {
            title += &format!(", then anti-entropy {}", direction.as_str());
        }
        title
    }
}

fn contacts(fanout: u32) -> String {
    if fanout == 1 { String::new() } else { format!(", {fanout} contacts a round") }
}
