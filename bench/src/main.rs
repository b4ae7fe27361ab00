//! The comparison: what a balancer's core does for a round trip, a gigabyte and a connection.
//!
//! `ringlane-bench l4` runs this balancer, HAProxy, nginx and the yardsticks one after the other on
//! one core, in a network namespace of its own, with the load on another core, and compares CPU
//! time, which is steadier than throughput on a shared machine. `reload` reloads each of them under
//! load and shows what its clients notice. `report` writes the page of a kept
//! run once more; `instructions` runs the micro-benches under valgrind and keeps their counts.
//! Micro-benches are in `benches/`. Read `plan` first, then `l4`.

#![forbid(unsafe_code)]

mod cpu;
mod floor;
mod instructions;
mod l4;
mod listening;
mod load;
mod machine;
mod namespace;
mod plan;
mod plot;
mod relay;
mod reload;
mod report;
mod samples;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The comparison with HAProxy, nginx and the yardsticks. Run it in the root of the repository.
#[derive(Debug, Parser)]
#[command(name = "ringlane-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU time, latency and memory of a TCP relay
    L4(Box<l4::Options>),
    /// What reloads cost live sessions and new connections
    Reload(reload::ReloadOptions),
    /// Write docs/BENCHMARKS.md once more, from a kept run
    Report {
        /// A line of JSON as in docs/benchmarks/run.json
        file: PathBuf,
    },
    /// Count instructions of the micro-benches and keep the table in docs/
    Instructions,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::L4(options) if !options.inside => return inside(),
        Command::Reload(options) if !options.inside => return inside(),
        Command::Reload(options) => reload::run(&options),
        Command::L4(options) => l4::run(&options),
        Command::Report { file } => report::again(&file),
        Command::Instructions => instructions::run(),
    };
    result.map_or_else(|why| failed(&why), |()| ExitCode::SUCCESS)
}

/// Runs this program again in a network namespace of its own.
fn inside() -> ExitCode {
    namespace::run_self_inside().unwrap_or_else(|why| failed(&why))
}

fn failed(message: &str) -> ExitCode {
    eprintln!("ringlane-bench: {message}");
    ExitCode::FAILURE
}
