//! The `kvstore` server; under the name `kv` it is the client.

fn main() -> std::process::ExitCode {
    kvstore::main()
}
