//! `ringlane demo`: the first thing that anybody tries.

use crate::harness::program;

#[test]
fn the_demo_ends_by_itself_and_well() {
    let output = program::bound_to_us()
        .args([env!("CARGO_BIN_EXE_ringlane"), "demo", "--for", "3s"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{complained}", output.status);
    assert!(said.lines().count() >= 3, "a line per second: {said}");
    assert!(!complained.contains("panicked"), "{complained}");
}
