//! The shipped server under another name: cargo builds it with the tests of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvstore::main()
}
