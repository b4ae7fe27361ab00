//! What is read from the host: a plain struct of values as the kernel prints them.
//!
//! Not here: judgement (`plan`). Invariant: a file that is missing or unreadable is an absent fact,
//! never an error; containers hide many of them.

use std::collections::BTreeMap;
use std::fs;

use crate::sysctl::SYSCTLS;

/// One host (or container) as a relay sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub kernel: Option<String>,
    /// The processor's name.
    pub processor: Option<String>,
    /// CPUs that this process may use; 0 when unknown.
    pub cpus: usize,
    /// CPU time per period that the cgroup grants, in microseconds: (quota, period).
    pub cpu_quota: Option<(u64, u64)>,
    /// The frequency governor of the first CPU.
    pub governor: Option<String>,
    /// Values of those sysctls of the table that this kernel has, whitespace made single.
    pub sysctls: BTreeMap<&'static str, String>,
    /// `kernel.io_uring_disabled`: 0 everybody may, 1 one group may, 2 nobody may.
    pub io_uring_disabled: Option<u64>,
    /// The host's congestion control.
    pub congestion: Option<String>,
    /// Those that a process without privileges may choose.
    pub congestion_allowed: Vec<String>,
    /// Hard limit of open files; `u64::MAX` for no limit.
    pub open_files_max: Option<u64>,
    /// Hard limit of locked memory in bytes; `u64::MAX` for no limit.
    pub locked_memory_max: Option<u64>,
}

impl Facts {
    /// Looks at this host. Reads files under /proc and /sys, and nothing else.
    pub fn look() -> Self {
        Self::gather(|path| fs::read_to_string(path).ok())
    }

    /// Collects facts from `read`, which gives a file's text by its absolute path.
    pub fn gather(read: impl Fn(&str) -> Option<String>) -> Self {
        let value = |path: &str| read(path).map(|text| squeeze(&text));
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let limits = read("/proc/self/limits").unwrap_or_default();
        Self {
            kernel: value("/proc/sys/kernel/osrelease"),
            processor: processor(&cpuinfo),
            cpus: read("/proc/self/status").as_deref().map_or(0, cpus_allowed),
            cpu_quota: cpu_quota(&read),
            governor: value("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            sysctls: SYSCTLS
                .iter()
                .filter_map(|sysctl| Some((sysctl.key, value(&sysctl.path())?)))
                .collect(),
            io_uring_disabled: value("/proc/sys/kernel/io_uring_disabled")
                .and_then(|text| text.parse().ok()),
            congestion: value("/proc/sys/net/ipv4/tcp_congestion_control"),
            congestion_allowed: value("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
                .map(|text| text.split(' ').map(String::from).collect())
                .unwrap_or_default(),
            open_files_max: hard_limit(&limits, "Max open files"),
            locked_memory_max: hard_limit(&limits, "Max locked memory"),
        }
    }
}

/// One line, with single spaces between its words.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The processor's name in the text of /proc/cpuinfo.
fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(squeeze(line.split_once(':')?.1))
}

/// How many CPUs the text of /proc/self/status allows, the cgroup's set included.
fn cpus_allowed(status: &str) -> usize {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let count = |range: &str| match range.split_once('-') {
        Some((low, high)) => (high.parse::<usize>().ok()? + 1).checked_sub(low.parse().ok()?),
        None => range.parse::<usize>().ok().map(|_| 1),
    };
    list.map_or(0, |list| list.trim().split(',').filter_map(count).sum())
}

/// The hard limit of one row in the text of /proc/self/limits.
fn hard_limit(limits: &str, row: &str) -> Option<u64> {
    let hard = limits.lines().find_map(|line| line.strip_prefix(row))?.split_whitespace().nth(1)?;
    if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() }
}

/// The tightest quota between this process's cgroup (version 2) and the root.
fn cpu_quota(read: &impl Fn(&str) -> Option<String>) -> Option<(u64, u64)> {
    let cgroups = read("/proc/self/cgroup")?;
    let mut path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end();
    let mut tightest: Option<(u64, u64)> = None;
    loop {
        let text = read(&format!("/sys/fs/cgroup{}/cpu.max", path.trim_end_matches('/')));
        if let Some(quota) = text.as_deref().and_then(parse_quota)
            && tightest.is_none_or(|known| share(quota) < share(known))
        {
            tightest = Some(quota);
        }
        let Some((parent, _)) = path.rsplit_once('/') else { return tightest };
        path = parent;
    }
}

/// Thousandths of a CPU.
fn share((quota, period): (u64, u64)) -> u64 {
    quota.saturating_mul(1000) / period.max(1)
}

/// The two numbers of a `cpu.max` file; `None` for "max".
fn parse_quota(text: &str) -> Option<(u64, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}
