//! The planted faults still fit the sources: `cargo xtask sim --faults` would find them all again.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_planted_fault_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut patches = 0;
    for entry in fs::read_dir(root.join("tests/sim/faults")).unwrap() {
        let patch = entry.unwrap().path();
        let dry = ["-p1", "--dry-run", "--silent", "--force", "--input"];
        let applied = Command::new("patch").args(dry).arg(&patch).current_dir(root).output();
        let output = applied.expect("the program `patch` is needed");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{} does not apply: {said}", patch.display());
        patches += 1;
    }
    assert!(patches >= 24, "only {patches} faults are planted");
}
