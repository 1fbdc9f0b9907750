//! The `kvstore` server.

fn main() {}
