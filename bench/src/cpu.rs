//! CPU time of a process and all its descendants, from the scheduler's own accounts.
//!
//! `schedstat` counts nanoseconds; the ticks of `stat` are too coarse for short runs. Kernel
//! threads that work for a process (io_uring's workers) are tasks of it and counted with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The CPU time so far of `pid` and everything that it started and that still runs.
pub(crate) fn of_tree(pid: u32) -> Result<Duration, String> {
    let mut nanos = 0;
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        let tasks = format!("/proc/{pid}/task");
        let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
        for task in entries.flatten() {
            // A thread that ends in between has its time lost, and no relay here ends any.
            nanos += schedstat(&task.path()).unwrap_or(0);
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            left.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// The first field of a task's schedstat: nanoseconds on a CPU.
fn schedstat(task: &Path) -> Option<u64> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_account() {
        let own = std::process::id();
        let before = of_tree(own).unwrap();
        let mut after = before;
        while after < before + Duration::from_millis(20) {
            after = of_tree(own).unwrap(); // which is work enough
        }
        assert!(of_tree(u32::MAX).is_err());
    }
}
