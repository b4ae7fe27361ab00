//! CPU time of a process and all its descendants, from the scheduler's own accounts.
//!
//! `schedstat` counts nanoseconds; the ticks of `stat` are too coarse for short runs. Kernel
//! threads that work for a process (io_uring's workers) are tasks of it and counted with it. Network
//! work that the kernel puts off to a core's `ksoftirqd` belongs to no process; it is read apart.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the scheduler has noted of some tasks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Time on a CPU.
    pub(crate) spent: Duration,
    /// Time ready to run while something else had the CPU: how busy the machine was otherwise.
    pub(crate) waited: Duration,
}

impl Account {
    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            spent: self.spent.saturating_sub(earlier.spent),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// The account so far of `pid` and everything that it started and that still runs.
pub(crate) fn of_tree(pid: u32) -> Result<Account, String> {
    let mut sum = Account::default();
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        let tasks = format!("/proc/{pid}/task");
        let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
        for task in entries.flatten() {
            // A thread that ends in between has its time lost, and no relay here ends any.
            let account = schedstat(&task.path()).unwrap_or_default();
            sum.spent += account.spent;
            sum.waited += account.waited;
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            left.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(sum)
}

/// The CPU time so far of the thread that does put-off network work on `core`; none where it can't
/// be seen, as in a container.
pub(crate) fn of_softirqs(core: usize) -> Duration {
    let name = format!("ksoftirqd/{core}\n");
    let is_it = |folder: &Path| fs::read_to_string(folder.join("comm")).is_ok_and(|n| n == name);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes.map(|entry| entry.path()).find(|folder| is_it(folder));
    found.and_then(|folder| schedstat(&folder)).unwrap_or_default().spent
}

/// The first two fields of a task's schedstat: nanoseconds on a CPU, nanoseconds waiting for one.
fn schedstat(task: &Path) -> Option<Account> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    let mut fields = text.split_whitespace().map(|field| field.parse().map(Duration::from_nanos));
    Some(Account { spent: fields.next()?.ok()?, waited: fields.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_account() {
        let own = std::process::id();
        let before = of_tree(own).unwrap();
        let mut after = before;
        while after.since(before).spent < Duration::from_millis(20) {
            after = of_tree(own).unwrap(); // which is work enough
        }
        assert!(of_tree(u32::MAX).is_err());
    }
}
