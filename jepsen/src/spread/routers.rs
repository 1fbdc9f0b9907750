//! The network below the nodes: which links a message crosses, and how far that is.

use clap::ValueEnum;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// What connects the nodes. They are placed at random in each run, as a protocol that knows nothing of
/// the network would have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Routers {
    /// A tree of routers: 16 nodes below each of the lowest, 16 routers below each of the others. A link
    /// for each node, and one upward for each router but the topmost.
    Tree,
    /// A router for each node, on a grid as square as it goes; messages go along a row, then along a
    /// column.
    Grid,
    /// Nothing that is looked at: no stress, no stretch, and less time.
    None,
}

impl Routers {
    /// It in words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Tree => "a tree of routers, 16 below each",
            Self::Grid => "a grid of routers, one for each node",
            Self::None => "no network below",
        }
    }
}

/// Bits of what is below one router of a tree.
const TREE_BITS: u32 = 4;

/// A network with nodes in it, and what its links carried.
#[derive(Clone, Debug)]
pub struct Underlay {
    /// Where each node is.
    places: Vec<u32>,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    /// Counts of the links above nodes, above the lowest routers, and so on.
    Tree(Vec<Vec<u32>>),
    Grid(Grid),
}

/// How the counts of links change along rows and columns: a message adds one where it enters and takes one
/// where it leaves, whatever the distance.
#[derive(Clone, Debug)]
struct Grid {
    wide: u32,
    /// Change at the link to the right of each place.
    rows: Vec<i32>,
    /// Change at the link below each place.
    columns: Vec<i32>,
}

/// Most and mean messages over one link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stress {
    /// Over the busiest link.
    pub most: f64,
    /// Over all links, idle ones included.
    pub mean: f64,
}

impl Underlay {
    /// Places so many nodes at random; nothing for [`Routers::None`].
    #[must_use]
    pub fn new(routers: Routers, nodes: u32, rng: &mut ChaCha8Rng) -> Option<Self> {
        let shape = match routers {
            Routers::None => return None,
            Routers::Tree => {
                let mut levels = Vec::new();
                let mut width = nodes;
                while width > 1 {
                    levels.push(vec![0; width as usize]);
                    width = width.div_ceil(1 << TREE_BITS);
                }
                Shape::Tree(levels)
            }
            Routers::Grid => {
                let wide = (nodes - 1).isqrt() + 1;
                let empty = vec![0; nodes as usize];
                Shape::Grid(Grid { wide, rows: empty.clone(), columns: empty })
            }
        };
        let mut places: Vec<u32> = (0..nodes).collect();
        places.shuffle(rng);
        Some(Self { places, shape })
    }

    /// Links between two nodes.
    #[must_use]
    pub fn distance(&self, from: u32, to: u32) -> u32 {
        let (a, b) = (self.places[from as usize], self.places[to as usize]);
        match &self.shape {
            Shape::Tree(_) => 2 * levels_between(a, b),
            Shape::Grid(grid) => grid.corners(a, b).length(),
        }
    }

    /// Sends a message over the links between two nodes.
    pub fn carry(&mut self, from: u32, to: u32) {
        let (a, b) = (self.places[from as usize], self.places[to as usize]);
        match &mut self.shape {
            Shape::Tree(levels) => {
                let between = levels_between(a, b) as usize;
                for (level, counts) in (0..).zip(&mut levels[..between]) {
                    counts[(a >> (TREE_BITS * level)) as usize] += 1;
                    counts[(b >> (TREE_BITS * level)) as usize] += 1;
                }
            }
            Shape::Grid(grid) => grid.carry(a, b),
        }
    }

    /// What the links carried so far.
    #[must_use]
    pub fn stress(&self) -> Stress {
        match &self.shape {
            Shape::Tree(levels) => stress(levels.iter().flatten().map(|count| i64::from(*count))),
            Shape::Grid(grid) => stress(grid.counts()),
        }
    }
}

/// Levels from two places up to the router above both; 0 for the same place.
fn levels_between(a: u32, b: u32) -> u32 {
    (u32::BITS - (a ^ b).leading_zeros()).div_ceil(TREE_BITS)
}

fn stress(counts: impl Iterator<Item = i64>) -> Stress {
    let (mut links, mut total, mut most) = (0_u64, 0_i64, 0_i64);
    for count in counts {
        assert!(count >= 0, "a link carried {count} messages");
        links += 1;
        total += count;
        most = most.max(count);
    }
    Stress { most: most as f64, mean: total as f64 / links as f64 }
}

/// Where a way on the grid goes: along `row` from `left` to `right`, and along `column` from `top` to
/// `bottom`. The lower row may be cut short, so the way along a row is in the upper one.
struct Corners {
    row: u32,
    left: u32,
    right: u32,
    column: u32,
    top: u32,
    bottom: u32,
}

impl Corners {
    const fn length(&self) -> u32 {
        self.right - self.left + self.bottom - self.top
    }
}

impl Grid {
    fn corners(&self, a: u32, b: u32) -> Corners {
        let (upper, lower) = (a.min(b), a.max(b));
        let (row, column) = (upper / self.wide, lower % self.wide);
        let other = upper % self.wide;
        Corners {
            row,
            left: column.min(other),
            right: column.max(other),
            column,
            top: row,
            bottom: lower / self.wide,
        }
    }

    fn carry(&mut self, a: u32, b: u32) {
        let way = self.corners(a, b);
        let row = way.row * self.wide;
        self.rows[(row + way.left) as usize] += 1;
        self.rows[(row + way.right) as usize] -= 1;
        self.columns[(way.top * self.wide + way.column) as usize] += 1;
        self.columns[(way.bottom * self.wide + way.column) as usize] -= 1;
    }

    /// Messages over each link.
    fn counts(&self) -> impl Iterator<Item = i64> {
        let places = self.rows.len() as u32;
        let (mut along, mut down) = (0_i64, vec![0_i64; self.wide as usize]);
        (0..places).flat_map(move |place| {
            let column = place % self.wide;
            if column == 0 {
                along = 0;
            }
            along += i64::from(self.rows[place as usize]);
            down[column as usize] += i64::from(self.columns[place as usize]);
            let right = (column + 1 < self.wide && place + 1 < places).then_some(along);
            let below = (place + self.wide < places).then_some(down[column as usize]);
            right.into_iter().chain(below)
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn underlay(routers: Routers, nodes: u32) -> Underlay {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut underlay = Underlay::new(routers, nodes, &mut rng).unwrap();
        underlay.places = (0..nodes).collect();
        underlay
    }

    #[test]
    fn a_tree_counts_each_link_on_the_way_once() {
        let mut tree = underlay(Routers::Tree, 300);
        assert_eq!(tree.distance(0, 15), 2);
        assert_eq!(tree.distance(0, 16), 4);
        assert_eq!(tree.distance(0, 256), 6);
        assert_eq!(tree.distance(7, 7), 0);
        tree.carry(0, 16);
        tree.carry(1, 256);
        // 300 nodes, 19 routers above them, 2 above those; the topmost has no link upward.
        let stress = tree.stress();
        assert_eq!(stress.most, 2.0);
        assert!((stress.mean - 10.0 / 321.0).abs() < 1e-12);
    }

    #[test]
    fn a_grid_counts_what_walking_counts() {
        // 11 places, 4 wide: the last row is cut short.
        let mut grid = underlay(Routers::Grid, 11);
        let Shape::Grid(shape) = &grid.shape else { panic!("a grid") };
        assert_eq!(shape.wide, 4);
        let (mut walked, mut crossings) = (std::collections::BTreeMap::new(), 0);
        for (a, b) in (0..11).flat_map(|a| (0..11).map(move |b| (a, b))) {
            grid.carry(a, b);
            let (upper, lower) = (a.min(b), a.max(b));
            let mut at = upper;
            while at % 4 != lower % 4 {
                let next = if at % 4 < lower % 4 { at + 1 } else { at - 1 };
                *walked.entry((at.min(next), at.max(next))).or_insert(0) += 1;
                at = next;
            }
            while at != lower {
                assert!(at + 4 < 11, "the way stays on the grid");
                *walked.entry((at, at + 4)).or_insert(0) += 1;
                at += 4;
            }
            let away = |of: u32| (i64::from(of / 4), i64::from(of % 4));
            let ((ar, ac), (br, bc)) = (away(a), away(b));
            let distance = (ar - br).abs() + (ac - bc).abs();
            assert_eq!(i64::from(grid.distance(a, b)), distance);
            crossings += distance;
        }
        // Rows of 4, 4 and 3 places have 3 + 3 + 2 links, and 4 + 3 go down.
        assert_eq!(walked.len(), 15);
        let stress = grid.stress();
        assert_eq!(stress.most, *walked.values().max().unwrap() as f64);
        assert!((stress.mean - crossings as f64 / 15.0).abs() < 1e-9);
    }
}
