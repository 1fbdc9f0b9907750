//! Flooding and trees: one run.

use std::ops::ControlFlow;

use super::field::{Field, SOURCE};
use super::graph::Overlay;

/// Who a node sends the update to.
#[derive(Clone, Debug)]
pub enum Plane {
    /// All neighbours but the one it came from.
    Graph(Overlay),
    /// Its children in a tree of this fanout, whose root is the source.
    Tree(u32),
}

impl Plane {
    /// Puts those that a node sends to in place of what is in `out`.
    fn targets(&self, node: u32, parent: u32, nodes: u32, out: &mut Vec<u32>) {
        match self {
            Self::Graph(overlay) => {
                overlay.neighbours(node, out);
                if node != SOURCE {
                    out.retain(|target| *target != parent);
                }
            }
            Self::Tree(fanout) => {
                let first = u64::from(node) * u64::from(*fanout) + 1;
                let children = first..(first + u64::from(*fanout)).min(u64::from(nodes));
                out.clear();
                out.extend(children.map(|child| u32::try_from(child).expect("below nodes")));
            }
        }
    }
}

/// Lets each node send the update on in the round after it heard it, until nobody new hears it.
pub fn spread(
    plane: &Plane,
    field: &mut Field,
    tell: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut senders = vec![(SOURCE, SOURCE)];
    let mut targets = Vec::new();
    while !senders.is_empty() {
        tell(field.round())?;
        field.next_round();
        let mut next = Vec::new();
        for (node, parent) in senders {
            plane.targets(node, parent, field.nodes(), &mut targets);
            for target in &targets {
                let knew = field.knows(*target);
                let arrives = field.arrives();
                field.send(node, *target, arrives);
                if !knew && arrives {
                    next.push((*target, node));
                }
            }
        }
        senders = next;
    }
    ControlFlow::Continue(())
}
