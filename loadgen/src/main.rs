//! Traffic for tests and comparisons: TCP, UDP, PostgreSQL and Redis sessions, in an open or a
//! closed loop, and the servers that answer them.
//!
//! A program of its own, on monoio, one thread per core: it shares no code with the balancer that
//! it measures, and so no bug either. Not here: starting balancers and judging them (bench). Read
//! `load` for how a run goes, `schedule` and `latency` for what the figures mean, then one kind of
//! traffic, such as `load::tcp::rr`.

#![forbid(unsafe_code)]

mod cli;
mod clock;
mod content;
mod failure;
mod find_max;
mod flow;
mod gaps;
mod latency;
mod load;
mod machine;
mod output;
mod random;
mod report;
mod schedule;
mod serve;
mod slo;

use std::process::ExitCode;

use clap::Parser;

use crate::output::Verdict;

/// The exit code of a run whose figures are the generator's own.
const INVALID: u8 = 3;

fn main() -> ExitCode {
    match cli::Cli::parse().into_work().and_then(work) {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Ok(Verdict::Invalid) => INVALID.into(),
        Err(message) => {
            output::say(format_args!("ringlane-loadgen: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn work(work: cli::Work) -> Result<Verdict, String> {
    machine::raise_descriptor_limit()?;
    match work {
        cli::Work::Serve(plan) => serve::run(&plan).map(|()| Verdict::Fine),
        cli::Work::Load(plan, output) => {
            let interrupt = machine::Interrupt::watch()?;
            let report = load::run(&plan, &interrupt)?;
            output.write(&plan, &report)
        }
        cli::Work::FindMax(question, plan, output) => {
            let interrupt = machine::Interrupt::watch()?;
            find_max::run(&question, &plan, &output, &interrupt)
        }
        cli::Work::Compare(a, b) => {
            output::print(&output::compare::files(&a, &b)?)?;
            Ok(Verdict::Fine)
        }
    }
}
