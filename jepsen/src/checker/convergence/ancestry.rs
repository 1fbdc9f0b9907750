//! Which value replaced which, by way of others.

use std::collections::HashMap;

use crate::checker::stop::Stop;

/// Steps that the search for ancestors may take on one key.
pub const ANCESTORS_MAX: usize = 50_000_000;

/// Changes, each with those that it replaced.
pub struct Ancestry {
    parents: Vec<Vec<usize>>,
    /// The length of the longest line of ancestors.
    depths: Vec<u32>,
    /// Pairs that are no ancestors of one another.
    apart: std::collections::HashSet<(usize, usize)>,
    steps: usize,
}

impl Ancestry {
    /// Changes by their numbers.
    pub fn new(parents: Vec<Vec<usize>>) -> Self {
        let depths = depths(&parents);
        Self { parents, depths, apart: std::collections::HashSet::new(), steps: 0 }
    }

    /// The line from a change to an ancestor of it, both included.
    pub fn path(&mut self, from: usize, to: usize) -> Result<Option<Vec<usize>>, Stop> {
        if self.depths[to] >= self.depths[from] || self.apart.contains(&(from, to)) {
            return Ok(None);
        }
        let mut child: HashMap<usize, usize> = HashMap::new();
        let mut open = vec![from];
        while let Some(one) = open.pop() {
            for &parent in &self.parents[one] {
                self.steps += 1;
                if self.depths[parent] < self.depths[to] || child.contains_key(&parent) {
                    continue;
                }
                child.insert(parent, one);
                if parent == to {
                    let mut path = vec![to];
                    while let Some(&next) = child.get(&path[path.len() - 1]) {
                        path.push(next);
                        if next == from {
                            break;
                        }
                    }
                    path.reverse();
                    return Ok(Some(path));
                }
                open.push(parent);
            }
        }
        if self.steps > ANCESTORS_MAX {
            let why = format!("more than {ANCESTORS_MAX} steps to the ancestors of siblings");
            return Err(Stop::Unjudged(why));
        }
        self.apart.insert((from, to));
        Ok(None)
    }
}

/// The length of the longest line of ancestors of each change. A cycle, which no store can make,
/// ends a line.
fn depths(parents: &[Vec<usize>]) -> Vec<u32> {
    let mut depths = vec![0_u32; parents.len()];
    // 0: not begun, 1: begun, 2: done.
    let mut states = vec![0_u8; parents.len()];
    for start in 0..parents.len() {
        let mut stack = vec![start];
        while let Some(&one) = stack.last() {
            let before = states[one];
            if before == 0 {
                states[one] = 1;
                stack.extend(parents[one].iter().filter(|&&parent| states[parent] == 0));
                continue;
            }
            stack.pop();
            if before == 1 {
                states[one] = 2;
                let above = parents[one].iter().map(|&parent| depths[parent]).max();
                depths[one] = above.map_or(0, |above| above + 1);
            }
        }
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_found_with_the_line_to_them() {
        let parents = vec![vec![], vec![0], vec![1], vec![1], vec![2, 3], vec![]];
        let mut ancestry = Ancestry::new(parents);
        assert_eq!(ancestry.path(4, 0).unwrap(), Some(vec![4, 3, 1, 0]));
        assert_eq!(ancestry.path(2, 1).unwrap(), Some(vec![2, 1]));
        for apart in [(2, 3), (0, 4), (4, 5), (5, 0), (4, 4)] {
            assert_eq!(ancestry.path(apart.0, apart.1).unwrap(), None, "{apart:?}");
        }
    }
}
