//! CPU time and memory of a process and all its descendants, from the kernel's own accounts.
//!
//! `schedstat` counts nanoseconds; the ticks of `stat` are too coarse for short runs and only say
//! which part was spent in user code. Kernel threads that work for a process (io_uring's workers)
//! are tasks of it and counted with it. Network work that the kernel puts off to a core's
//! `ksoftirqd` belongs to no process; it is read apart.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the kernel has noted of some tasks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Time on a CPU.
    pub(crate) spent: Duration,
    /// Time ready to run while something else had the CPU: how busy the machine was otherwise.
    pub(crate) waited: Duration,
    /// Ticks in user code.
    user: u64,
    /// Ticks in the kernel.
    system: u64,
}

impl Account {
    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            spent: self.spent.saturating_sub(earlier.spent),
            waited: self.waited.saturating_sub(earlier.waited),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// The part of its time that was user code, from 0 to 1; `None` if it is too short to tell.
    pub(crate) fn user_share(self) -> Option<f64> {
        let ticks = self.user + self.system;
        (ticks > 0).then(|| self.user as f64 / ticks as f64)
    }

    /// The part of its time that it could run and did not, from 0 to 1.
    pub(crate) fn disturbed(self) -> f64 {
        let all = (self.waited + self.spent).as_secs_f64();
        if all > 0.0 { self.waited.as_secs_f64() / all } else { 0.0 }
    }
}

/// The account so far of `pid` and everything that it started and that still runs.
pub(crate) fn of_tree(pid: u32) -> Result<Account, String> {
    let mut sum = Account::default();
    for pid in processes(pid)? {
        // A thread that ends in between has its time lost, and no relay here ends any.
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let Some(account) = of_task(&task.path()) else { continue };
            sum.spent += account.spent;
            sum.waited += account.waited;
            sum.user += account.user;
            sum.system += account.system;
        }
    }
    Ok(sum)
}

/// Bytes of memory that `pid` and everything that it started hold now: pages of their own, and
/// their parts of those that they share with others. The kernel's memory for sockets is not in it.
pub(crate) fn memory_of_tree(pid: u32) -> Result<u64, String> {
    let mut sum = 0;
    for pid in processes(pid)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let kilobytes = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = kilobytes.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        sum += number.ok_or_else(|| format!("{path}: no Pss"))? * 1024;
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
    found.and_then(|folder| of_task(&folder)).unwrap_or_default().spent
}

/// A process and everything that it started and that still runs.
pub(crate) fn processes(root: u32) -> Result<Vec<u32>, String> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        let tasks = format!("/proc/{pid}/task");
        let entries = fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
        for task in entries.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(found)
}

/// A task's `schedstat` (nanoseconds on a CPU, nanoseconds waiting for one) and the ticks of
/// `stat`.
fn of_task(task: &Path) -> Option<Account> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    let mut fields = text.split_whitespace().map(|field| field.parse().map(Duration::from_nanos));
    let (spent, waited) = (fields.next()?.ok()?, fields.next()?.ok()?);
    let (user, system) = fs::read_to_string(task.join("stat")).ok().and_then(|s| ticks(&s))?;
    Some(Account { spent, waited, user, system })
}

/// User and system ticks: the 14th and 15th field, counted from the name, which may hold anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
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
        assert!(memory_of_tree(own).unwrap() > 0);
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 90 0 0 0 12 34 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some((12, 34)));
        assert_eq!(ticks("7 (short) R 1"), None);
    }

    #[test]
    fn shares_are_of_what_there_was() {
        let account = Account {
            spent: Duration::from_secs(3),
            waited: Duration::from_secs(1),
            user: 1,
            system: 3,
        };
        assert_eq!(account.user_share(), Some(0.25));
        assert_eq!(account.disturbed(), 0.25);
        assert_eq!(Account::default().user_share(), None);
        assert_eq!(Account::default().disturbed(), 0.0);
    }
}
