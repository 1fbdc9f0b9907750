//! What a write came to of which fewer replicas have a durable copy than were asked for.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{Hex, v1};

/// A write to an eventual keyspace that is durable, on fewer replicas than were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Replicas that have it durably, as far as the answering node knows.
    pub durable_on: u32,
    /// Replicas that were asked for.
    pub wanted: u32,
    /// The write.
    pub dot: v1::Dot,
    /// The causal token that covers it; may be empty, as in `v1.Written`.
    pub context: Bytes,
}

impl Partial {
    /// Appends it to the details of an error.
    pub(super) fn put(&self, metadata: &mut HashMap<String, String>) {
        let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
        put("durable_on", self.durable_on.to_string());
        put("wanted", self.wanted.to_string());
        put("dot", self.dot.to_string());
        put("context", Hex(&self.context).to_string());
    }

    /// Reads it from the details of an error.
    pub(super) fn read(metadata: &HashMap<String, String>) -> Option<Self> {
        let text = |key: &str| metadata.get(key);
        Some(Self {
            durable_on: text("durable_on")?.parse().ok()?,
            wanted: text("wanted")?.parse().ok()?,
            dot: text("dot")?.parse().ok()?,
            context: Hex::read(text("context")?)?.into(),
        })
    }
}
