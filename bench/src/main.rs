//! The comparison: what a balancer's core does for a round trip, a gigabyte and a connection.
//!
//! `ringlane-bench l4` runs this balancer, HAProxy and nginx one after the other on one core, in a
//! network namespace of its own, with the load on another core, and compares CPU time, which is
//! steadier than throughput on a shared machine. Micro-benches are in `benches/`. Read `l4` first.

#![forbid(unsafe_code)]

mod cpu;
mod l4;
mod namespace;
mod relay;
mod verdict;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The comparison with HAProxy and nginx.
#[derive(Debug, Parser)]
#[command(name = "ringlane-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU time per round trip, per GB and per short connection of a TCP relay
    L4(l4::Options),
}

fn main() -> ExitCode {
    let Command::L4(options) = Cli::parse().command;
    let result = if options.inside { l4::run(&options) } else { namespace::run_self_inside() };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("ringlane-bench: {message}");
            ExitCode::FAILURE
        }
    }
}
