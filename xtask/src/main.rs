//! The only automation of this repository: `cargo xtask test | tidy | bench | sim | docs`.
//!
//! Not here: anything that ships. Read `steps` for what `test` does and `tidy` for the rules
//! of CONTRIBUTING.md that are enforced.

#![forbid(unsafe_code)]

mod packages;
mod sim;
mod steps;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  test           everything: set-up, format, tidy, lints, docs, build, all tests, licences
  tidy           check the rules listed in CONTRIBUTING.md
  bench          micro-benches
  bench l4 [..]  CPU, latency and memory beside HAProxy, nginx and other runtimes; --quick: 5 minutes
  bench reload [..]  what reloads cost live sessions, beside HAProxy and nginx; --quick: a smoke test
  bench instructions  the micro-benches counted by valgrind; keeps docs/instructions.md
  sim [..]       many seeds of the simulated worlds; --faults: do they find what they must
  docs           build the API documentation; warnings are errors";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("test") if arguments.len() == 1 => steps::test(&root()),
        Some("tidy") if arguments.len() == 1 => steps::tidy(&root()),
        Some("bench") => steps::bench(&root(), &arguments[1..]),
        Some("sim") => sim::run(&root(), &arguments[1..]),
        Some("docs") if arguments.len() == 1 => steps::docs(&root()),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace. `cargo run` says where it is now, which may not be where this
/// program was compiled.
fn root() -> PathBuf {
    let own =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let own = Path::new(&own);
    own.parent().unwrap_or(own).to_path_buf()
}
