//! Memory that is no longer read and is given back bit by bit.

use super::layer::Layer;
use super::superseded::Superseded;

/// Remains of layers and of closed keyspaces.
///
/// Freeing a million versions at once takes seconds; each apply frees a few instead.
#[derive(Debug, Default)]
pub struct Retired {
    layers: Vec<Layer>,
    superseded: Vec<Superseded>,
}

impl Retired {
    /// Takes a layer that is no longer read.
    pub fn layer(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// Takes the history of a keyspace that was closed.
    pub fn superseded(&mut self, superseded: Superseded) {
        self.superseded.push(superseded);
    }

    /// Frees a few keys.
    pub fn shed(&mut self, keys: usize) {
        if self.layers.last_mut().is_some_and(|layer| layer.shed(keys)) {
            self.layers.pop();
        }
        if let Some(superseded) = self.superseded.last_mut() {
            superseded.shed(keys);
            if superseded.len() == 0 {
                self.superseded.pop();
            }
        }
    }
}
