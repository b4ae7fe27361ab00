//! `cargo xtask sim`: many seeds of the simulated worlds, and the faults that they must find.
//!
//! A planted fault is a patch in tests/sim/faults. It is applied to a copy of the workspace below
//! target/, never to the sources themselves, and the worlds are run there until one fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seeds of a run that names no number.
const SEEDS: u64 = 10_000;

/// Seeds within which a planted fault must be found.
const SEEDS_PER_FAULT: u64 = 1000;

const USAGE: &str = "\
usage: cargo xtask sim [--seeds N] [--from S] [--trace] | --fault NAME | --faults";

const FAULTS: &str = "tests/sim/faults";

/// `cargo xtask sim`.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--faults"] => table(root),
        ["--fault", name] => {
            let found = find(root, name)?;
            println!("{name} was found: {found}");
            Ok(())
        }
        _ => seeds(root, &words),
    }
}

fn seeds(root: &Path, words: &[&str]) -> Result<(), String> {
    let (mut seeds, mut from, mut trace) = (SEEDS, 0, false);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut number = || {
            let text = rest.next().ok_or_else(|| format!("{word} needs a number\n{USAGE}"))?;
            text.parse().map_err(|_| format!("{word} {text}: not a number\n{USAGE}"))
        };
        match *word {
            "--seeds" => seeds = number()?,
            "--from" => from = number()?,
            "--trace" => trace = true,
            _ => return Err(format!("unknown argument {word}\n{USAGE}")),
        }
    }
    let mut command = worlds(root, &["--release"], from, seeds);
    if trace {
        command.env("RINGLANE_SIM_TRACE", "1");
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the simulation failed ({status})")),
        Err(error) => Err(format!("cannot run cargo: {error}")),
    }
}

/// The command that runs worlds of the workspace in `root`.
fn worlds(root: &Path, options: &[&str], from: u64, seeds: u64) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "--package", "ringlane", "--test", "sim"]).args(options);
    command.args(["--", "--exact", "many_seeds", "--nocapture"]).current_dir(root);
    command.env("RINGLANE_SIM_FROM", from.to_string());
    command.env("RINGLANE_SIM_SEEDS", seeds.to_string());
    command
}

/// All planted faults, as the table of docs/simulation.md.
fn table(root: &Path) -> Result<(), String> {
    let mut names: Vec<String> = entries(&root.join(FAULTS))?
        .iter()
        .filter_map(|path| path.file_stem().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    println!("| fault | what is wrong | found by | what was seen |\n|---|---|---|---|");
    let mut missed = 0;
    for name in names {
        let text = read(&root.join(FAULTS).join(format!("{name}.patch")))?;
        let what = text.lines().next().unwrap_or_default();
        let found = find(root, &name).unwrap_or_else(|error| {
            missed += 1;
            error
        });
        let (seed, seen) = found.split_once(": ").unwrap_or((&found, ""));
        println!("| `{name}` | {what} | {seed} | {seen} |");
    }
    if missed == 0 { Ok(()) } else { Err(format!("{missed} faults were not found")) }
}

/// Plants a fault in a copy and says by which seed it was found, and what was seen.
fn find(root: &Path, name: &str) -> Result<String, String> {
    let patch = root.join(FAULTS).join(format!("{name}.patch"));
    let copy = root.join("target/sim-faults/workspace");
    copy_changes(root, &copy, &|path| is_source(root, path))?;
    let mut apply = Command::new("patch");
    apply.args(["-p1", "--silent", "--force", "--no-backup-if-mismatch", "--input"]).arg(&patch);
    let applied =
        apply.current_dir(&copy).output().map_err(|e| format!("cannot run patch: {e}"))?;
    if !applied.status.success() {
        let said = String::from_utf8_lossy(&applied.stdout);
        return Err(format!("{} does not apply: {said}", patch.display()));
    }
    let mut command = worlds(&copy, &[], 0, SEEDS_PER_FAULT);
    let build = root.join("target/sim-faults/build");
    let run = command.env("CARGO_TARGET_DIR", build).env("RUST_BACKTRACE", "0").output();
    let output = run.map_err(|error| format!("cannot run cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    first_failure(&said).ok_or_else(|| {
        if output.status.success() {
            format!("not found in {SEEDS_PER_FAULT} seeds")
        } else {
            format!("the copy does not build:\n{said}")
        }
    })
}

/// "seed N: what was seen" from the output of a failed run.
fn first_failure(said: &str) -> Option<String> {
    let again = said.lines().find_map(|line| line.split_once("--from "))?;
    let seed = again.1.split_whitespace().next()?;
    let panic = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1)?;
    let seen = panic.split_once(" failed: ").map_or(panic, |(_, seen)| seen);
    let short = seen.split([';', '[', '{']).next().unwrap_or(seen);
    Some(format!("seed {seed}: {}", short.trim_end()))
}

/// What belongs to the workspace, and so to its copy.
fn is_source(root: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let is_build = name == "target" && path.parent() == Some(root);
    !is_build && !name.as_encoded_bytes().starts_with(b".")
}

/// Makes `to` a copy of `from`, touching only files that differ, so that little is built again.
fn copy_changes(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), String> {
    let cannot = |what: &Path, error| format!("cannot copy to {}: {error}", what.display());
    fs::create_dir_all(to).map_err(|error| cannot(to, error))?;
    for path in entries(from)? {
        let copy = to.join(path.file_name().unwrap_or_default());
        if !wanted(&path) {
            continue;
        }
        if path.is_dir() {
            copy_changes(&path, &copy, wanted)?;
        } else if fs::read(&path).ok() != fs::read(&copy).ok() {
            fs::copy(&path, &copy).map_err(|error| cannot(&copy, error))?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot = |error| format!("cannot list {}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(cannot)?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(cannot)).collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_told_in_a_line() {
        let said = "running 1 test\n\nthread 'many_seeds' panicked at tests/sim/main.rs:42:29:\n\
                    seed 17 failed: client 3: got a wrong byte at 8; Client { }\n\
                    see it again: cargo xtask sim --seeds 1 --from 17 --trace\n";
        let found = first_failure(said).unwrap();
        assert_eq!(found, "seed 17: client 3: got a wrong byte at 8");
        assert_eq!(first_failure("error: could not compile"), None);
    }

    #[test]
    fn a_copy_changes_only_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("src")).unwrap();
        fs::write(from.join("src/a.rs"), "a").unwrap();
        fs::write(from.join(".hidden"), "no").unwrap();
        copy_changes(&from, &to, &|path| is_source(&from, path)).unwrap();
        let first = fs::metadata(to.join("src/a.rs")).unwrap().modified().unwrap();
        copy_changes(&from, &to, &|path| is_source(&from, path)).unwrap();
        assert_eq!(fs::metadata(to.join("src/a.rs")).unwrap().modified().unwrap(), first);
        assert!(!to.join(".hidden").exists());
    }
}
