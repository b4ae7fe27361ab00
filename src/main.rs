//! The `ringlane` program. Everything is in the library; read `cli` first.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ringlane::cli::run(std::env::args_os())
}
