//! What each `cargo xtask` command does, step by step.
//!
//! A step is named when it begins and timed when it ends; the first failure ends the run with the
//! command that repeats it. The steps are ordered by how soon they can fail, and share what they
//! build: one dependency graph for lints and docs, one for tests, one optimised.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{packages, tidy};

/// The variable by which the stories choose their driver.
const STORIES_DRIVER: &str = "RINGLANE_IT_DRIVER";
const STORIES: [&str; 5] = ["test", "-p", "ringlane", "--test", "it"];

/// Stories about the control side alone, by module: the driver of the shards can't change them.
const CONTROL_STORIES: [&str; 10] = [
    "admin::",
    "certificates::",
    "checks::",
    "demo::",
    "documents::",
    "logins::",
    "metrics::",
    "names::",
    "refusals::",
    "warnings::",
];

const WARNINGS_ARE_ERRORS: &str = "-D warnings";

/// `cargo xtask test`.
pub(crate) fn test(root: &Path) -> Result<(), String> {
    let begin = Instant::now();
    step("set-up", || {
        packages::install_missing(packages::TESTS)?;
        packages::add_rust_components()
    })?;
    step("format", || cargo(root, &["fmt", "--all", "--check"]))?;
    tidy(root)?;
    step("lints", || {
        let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        cargo(root, &lints)
    })?;
    docs(root)?;
    step("build", || {
        cargo(root, &["build", "--release", "-p", "ringlane", "-p", "ringlane-loadgen"])
    })?;
    step("tests, stories over the binary on io_uring", || cargo(root, &["test", "--workspace"]))?;
    step("stories over the binary on epoll", || {
        let skipped = CONTROL_STORIES.iter().flat_map(|module| ["--skip", module]);
        let stories: Vec<_> = STORIES.into_iter().chain(["--"]).chain(skipped).collect();
        let mut command = cargo_in(root, &stories);
        let again = format!("{STORIES_DRIVER}=epoll cargo {}", stories.join(" "));
        run(command.env(STORIES_DRIVER, "epoll"), &again)
    })?;
    step("threads in every order", || loom(root))?;
    step("licences and bans", || {
        if packages::runs("cargo", &["deny", "--version"]) {
            return cargo(root, &["deny", "check", "bans", "licenses", "sources"]);
        }
        println!("  skipped: cargo-deny is not installed (cargo install cargo-deny)");
        Ok(())
    })?;
    println!("\nall passed in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// What shards share, under loom: a build of its own, with atomics that loom sees.
fn loom(root: &Path) -> Result<(), String> {
    let test = ["test", "-p", "ringlane-core", "--release", "--lib", "loom_"];
    let again = format!("RUSTFLAGS='--cfg loom' cargo {} --target-dir target/loom", test.join(" "));
    let mut command = cargo_in(root, &test);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", root.join("target/loom"));
    // Optimised code, but not for long: this build runs for seconds.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    run(&mut command, &again)
}

/// `cargo xtask tidy`.
pub(crate) fn tidy(root: &Path) -> Result<(), String> {
    step("tidy", || {
        let offences = tidy::check(root)?;
        if offences.is_empty() {
            return Ok(());
        }
        offences.iter().for_each(|offence| eprintln!("{offence}"));
        Err(format!("{} offences; again: cargo xtask tidy", offences.len()))
    })
}

/// `cargo xtask bench`: micro-benches; with arguments, what `ringlane-bench` does with them.
pub(crate) fn bench(root: &Path, arguments: &[String]) -> Result<(), String> {
    let needed = match arguments.first().map(String::as_str) {
        None => return micro_benches(root),
        Some("l4" | "reload") => packages::COMPARISON,
        Some("instructions") => packages::INSTRUCTIONS,
        Some(_) => &[],
    };
    step("set-up", || packages::install_missing(needed))?;
    step("build", || {
        let packages = ["-p", "ringlane", "-p", "ringlane-loadgen", "-p", "ringlane-bench"];
        cargo(root, &[&["build", "--release"][..], &packages].concat())
    })?;
    let mut run = vec!["run", "--quiet", "--release", "-p", "ringlane-bench", "--"];
    run.extend(arguments.iter().map(String::as_str));
    step(&arguments.join(" "), || cargo(root, &run))
}

/// The benches by name: the one that counts instructions is no business of the clock.
fn micro_benches(root: &Path) -> Result<(), String> {
    step("micro-benches", || {
        let parts = ["--bench", "balance", "--bench", "parts"];
        cargo(root, &[&["bench", "-p", "ringlane-bench"][..], &parts].concat())?;
        cargo(root, &["bench", "-p", "ringlane", "--bench", "config"])
    })
}

/// `cargo xtask docs`.
pub(crate) fn docs(root: &Path) -> Result<(), String> {
    step("docs", || {
        let document = ["doc", "--workspace", "--no-deps"];
        let again = format!("RUSTDOCFLAGS='{WARNINGS_ARE_ERRORS}' cargo {}", document.join(" "));
        run(cargo_in(root, &document).env("RUSTDOCFLAGS", WARNINGS_ARE_ERRORS), &again)
    })
}

/// Runs one step between its name and its duration.
fn step(name: &str, body: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("── {name}");
    let begin = Instant::now();
    let result = body();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("── {name}: {verdict}, {:.1} s", begin.elapsed().as_secs_f64());
    result.map_err(|message| format!("{name} failed: {message}"))
}

/// Runs cargo in the workspace; the error names the command that repeats it.
fn cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    run(&mut cargo_in(root, arguments), &format!("cargo {}", arguments.join(" ")))
}

fn cargo_in(root: &Path, arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root);
    command
}

fn run(command: &mut Command, again: &str) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}; again: {again}")),
        Err(error) => Err(format!("{error}; again: {again}")),
    }
}
