//! Traffic for tests and comparisons: closed-loop TCP sessions, and the servers that answer them.
//!
//! A program of its own, on monoio, one thread per core: it shares no code with the balancer that it
//! measures, and so no bug either. Not here: starting balancers and judging them (bench). Read
//! `load` for how a run goes, then one kind of traffic, such as `load::rr`.

#![forbid(unsafe_code)]

mod cli;
mod content;
mod load;
mod machine;
mod report;
mod serve;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let result = machine::raise_descriptor_limit().and_then(|()| match cli.into_work()? {
        cli::Work::Serve(plan) => serve::run(&plan).map(|()| true),
        cli::Work::Load(plan, as_json) => load::run(plan).map(|report| report.print(as_json)),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("ringlane-loadgen: {message}");
            ExitCode::FAILURE
        }
    }
}
