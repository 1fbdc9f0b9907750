//! Compiles the `.proto` files with `protox`, so that no `protoc` is needed.

use std::error::Error;

const FILES: [&str; 3] = ["kv/v1/kv.proto", "kv/log/v1/log.proto", "kv/peer/v1/peer.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        // Nothing may print a secret: `src/secret_reply.rs`.
        .skip_debug([".kv.peer.v1.SecretReply"])
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
