//! What a run needs of the machine: descriptors, cores, accounts of CPU and memory, and a word when
//! somebody presses Ctrl-C.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

/// Raises the soft limit of open files to the hard one: sessions may be many thousands.
pub(crate) fn raise_descriptor_limit() -> Result<(), String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| format!("cannot read the limit of open files: {error}"))?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .map_err(|error| format!("cannot raise the limit of open files to {hard}: {error}"))?;
    }
    Ok(())
}

/// Refuses a run that cannot have a descriptor for each session.
pub(crate) fn check_descriptors(sessions: usize) -> Result<(), String> {
    let spare = 64;
    let needed = sessions as u64 + spare;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft < needed => Err(format!(
            "{sessions} sessions need {needed} open files, the limit is {soft}: \
             raise it with `ulimit -n {needed}`"
        )),
        _ => Ok(()),
    }
}

/// Pins the calling thread, the `index`th, to one of `cpus`; leaves it alone without any.
pub(crate) fn pin(cpus: &[usize], index: usize) -> Result<(), String> {
    if cpus.is_empty() {
        return Ok(());
    }
    let cpu = cpus[index % cpus.len()];
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|error| format!("cannot pin a thread to core {cpu}: {error}"))
}

/// The cores that `threads` threads can use when they are pinned as [`pin`] does it.
pub(crate) fn cores(cpus: &[usize], threads: usize) -> usize {
    let pinned: BTreeSet<usize> = cpus.iter().take(threads).copied().collect();
    if !pinned.is_empty() {
        return pinned.len();
    }
    thread::available_parallelism().map_or(1, usize::from).min(threads)
}

/// The CPU time of the calling thread, from the scheduler's account; `None` if it keeps none.
pub(crate) fn cpu_of_thread() -> Option<Duration> {
    cpu_in(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// The first figure of a `schedstat`: nanoseconds on a core.
fn cpu_in(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The CPU time of all threads of a process.
pub(crate) fn cpu_of(pid: i32) -> Result<Duration, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|error| format!("--pid {pid}: cannot read its threads: {error}"))?;
    // A thread that ends meanwhile is left out.
    let texts = tasks.flatten().filter_map(|t| fs::read_to_string(t.path().join("schedstat")).ok());
    Ok(texts.filter_map(|text| cpu_in(&text)).sum())
}

/// The resident memory of a process.
pub(crate) fn resident_bytes(pid: i32) -> Result<u64, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|error| format!("--pid {pid}: cannot read its memory: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|k| k * 1024).ok_or_else(|| format!("--pid {pid}: it has no memory"))
}

/// What the machine is: for whoever reads the figures later.
pub(crate) fn facts() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {cores} cores, {}", kernel.trim(), model.unwrap_or("CPU unknown"))
}

/// Whether somebody wants the program to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Watches for the first SIGINT or SIGTERM; the second ends the process.
    ///
    /// Must be called before any other thread exists: they inherit that these signals are blocked.
    pub(crate) fn watch() -> Result<Self, String> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
        let interrupt = Self::default();
        let seen = interrupt.clone();
        let body = move || {
            for nth in 1.. {
                if signals.wait().is_err() || nth > 1 {
                    std::process::exit(130);
                }
                seen.0.store(true, Ordering::Relaxed);
            }
        };
        let builder = thread::Builder::new().name("signals".to_owned());
        builder.spawn(body).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(interrupt)
    }

    /// Whether it has come.
    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_this_process_are_readable() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(resident_bytes(own).unwrap() > 100_000);
        assert!(cpu_of(own).is_ok());
        assert!(cpu_of_thread().is_some());
        assert!(resident_bytes(i32::MAX).unwrap_err().contains("--pid"));
    }

    #[test]
    fn cores_are_counted_once() {
        assert_eq!(cores(&[3, 3], 2), 1);
        assert_eq!(cores(&[0, 1, 2], 2), 2);
        assert_eq!(cores(&[], 1), 1);
    }
}
