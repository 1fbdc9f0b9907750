//! The `kv` command.

fn main() {}
