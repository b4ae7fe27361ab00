//! The floor: a minimal relay in C (`floor/relay.c`), compiled when a comparison begins.
//!
//! In C and without the crates that the balancer stands on, so that a cost which both sides have by
//! mistake would not hide; and because `unsafe` has one room in this workspace, which it isn't.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles it into `folder`; the path of the program.
pub(crate) fn compile(folder: &Path) -> Result<PathBuf, String> {
    let source = folder.join("floor.c");
    let program = folder.join("floor");
    let text = include_str!("../floor/relay.c");
    fs::write(&source, text).map_err(|error| format!("{}: {error}", source.display()))?;
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-o"])
        .args([&program, &source])
        .output()
        .map_err(|error| {
            format!("cannot run `cc` ({error}); it compiles the floor: install gcc")
        })?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`cc` does not compile the floor (Linux headers of 6.1 or later?); it said:\n{said}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_compiles() {
        let folder = tempfile::tempdir().unwrap();
        assert!(compile(folder.path()).unwrap().exists());
    }
}
