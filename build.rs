//! Tells the program which revision it is built from: `RINGLANE_REVISION` if that is set, as
//! packagers do, otherwise what git says of this folder, otherwise `unknown`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RINGLANE_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("RINGLANE_REVISION").ok().filter(|revision| is_word(revision));
    let revision = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=RINGLANE_REVISION={revision}");
}

/// The commit that is checked out, if this folder is the root of a repository: unpacked within
/// somebody else's, it has nothing to do with that one's commits.
fn from_git() -> Option<String> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&root).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // It grows with every commit and every other branch that is checked out.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).filter(|revision| is_word(revision))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Whether it can stand in a label and on a line.
fn is_word(revision: &str) -> bool {
    !revision.is_empty() && revision.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
}
