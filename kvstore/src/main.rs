//! The `kvstore` server; under the name `kv` it is the client.

/// A request's memory is taken on one thread and freed on another all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kvstore::main()
}
