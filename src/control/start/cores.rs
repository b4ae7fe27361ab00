//! Which cores this process may use, and so how many shards it starts and where they are pinned.
//!
//! Not here: threads. The rules are functions over text that the kernel shows in files, so that
//! they are tested with recorded files. Invariant: a plan has at least one shard, and at most
//! `limits::SHARDS_MAX`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use ringlane_core::limits;

use crate::config::Shards;

/// The core of each shard, in the order of the shards; `None` for a shard that is not pinned.
pub(in crate::control) fn plan(shards: Shards, pin: bool) -> nix::Result<Vec<Option<usize>>> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    Ok(place(shards, pin, &Cores::read(&affinity()?, read)))
}

/// The cores that the scheduler may run this process on.
fn affinity() -> nix::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Gives each shard a core, where that is of use.
///
/// Shards are left to the scheduler when there are more of them than cores, and when a cgroup quota
/// made their number smaller than that of the cores: the cores then belong to others too, and
/// every container of the machine would crowd on the first ones.
fn place(shards: Shards, pin: bool, cores: &Cores) -> Vec<Option<usize>> {
    let usable = cores.cpus.len();
    let (count, alone) = match shards {
        Shards::Count(count) => (count, true),
        Shards::Auto => match cores.quota {
            Some(quota) if quota < usable => (quota, false),
            _ => (usable, true),
        },
    };
    let count = count.clamp(1, limits::SHARDS_MAX);
    if pin && alone && count <= usable {
        cores.cpus.iter().take(count).copied().map(Some).collect()
    } else {
        vec![None; count]
    }
}

/// What the scheduler and the control groups leave to this process.
#[derive(Debug, Eq, PartialEq)]
struct Cores {
    /// Cores by number.
    cpus: Vec<usize>,
    /// Cores' worth of time per period, rounded up.
    quota: Option<usize>,
}

impl Cores {
    /// Narrows `affinity` by the control groups that `read` shows.
    fn read(affinity: &[usize], read: impl Fn(&Path) -> Option<String>) -> Self {
        let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let mut cores = Self { cpus: affinity.to_vec(), quota: None };
        for folder in folders(&groups, &mounts, Hierarchy::Unified) {
            cores.limit(read(&folder.join("cpu.max")).and_then(|text| quota_v2(&text)));
            cores.keep(read(&folder.join("cpuset.cpus.effective")).and_then(|t| cpu_list(&t)));
        }
        for folder in folders(&groups, &mounts, Hierarchy::Controller("cpu")) {
            let quota = read(&folder.join("cpu.cfs_quota_us"));
            let period = read(&folder.join("cpu.cfs_period_us"));
            cores.limit(quota.zip(period).and_then(|(quota, period)| quota_v1(&quota, &period)));
        }
        for folder in folders(&groups, &mounts, Hierarchy::Controller("cpuset")) {
            cores.keep(read(&folder.join("cpuset.effective_cpus")).and_then(|t| cpu_list(&t)));
        }
        cores
    }

    fn limit(&mut self, quota: Option<usize>) {
        self.quota = self.quota.into_iter().chain(quota).min();
    }

    /// Keeps the cores that are in `allowed` too. A list that would leave none is not believed:
    /// the process is running somewhere.
    fn keep(&mut self, allowed: Option<Vec<usize>>) {
        let Some(allowed) = allowed else { return };
        let both: Vec<_> = self.cpus.iter().copied().filter(|cpu| allowed.contains(cpu)).collect();
        if !both.is_empty() {
            self.cpus = both;
        }
    }
}

/// One of the trees of control groups.
#[derive(Clone, Copy)]
enum Hierarchy {
    /// Version 2.
    Unified,
    /// Version 1, the tree that this controller is in.
    Controller(&'static str),
}

/// The folders of this process's control group and of all groups above it, as far as they are
/// visible.
fn folders(groups: &str, mounts: &str, hierarchy: Hierarchy) -> Vec<PathBuf> {
    let Some(group) = groups.lines().find_map(|line| group_path(line, hierarchy)) else {
        return Vec::new();
    };
    let Some((root, mount)) = mounts.lines().find_map(|line| mount_point(line, hierarchy)) else {
        return Vec::new();
    };
    // In a container the group may be named from the machine's root while the mount begins at the
    // container's own group: then `root` is a prefix of `group`, or has nothing to do with it.
    let inner = Path::new(group).strip_prefix(root).unwrap_or_else(|_| Path::new(""));
    inner.ancestors().map(|inner| Path::new(mount).join(inner)).collect()
}

/// The path in a line of /proc/self/cgroup (`ID:CONTROLLERS:PATH`), if it is of this hierarchy.
fn group_path(line: &str, hierarchy: Hierarchy) -> Option<&str> {
    let (id, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let matches = match hierarchy {
        Hierarchy::Unified => id == "0" && controllers.is_empty(),
        Hierarchy::Controller(name) => controllers.split(',').any(|c| c == name),
    };
    matches.then_some(path)
}

/// The root and the mount point in a line of /proc/self/mountinfo, if it mounts this hierarchy.
fn mount_point(line: &str, hierarchy: Hierarchy) -> Option<(&str, &str)> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, mount) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1)?);
    let matches = match hierarchy {
        Hierarchy::Unified => kind == "cgroup2",
        Hierarchy::Controller(name) => kind == "cgroup" && options.split(',').any(|o| o == name),
    };
    matches.then_some((root, mount))
}

/// Reads a list of cores such as `0-3,8`; `None` for an empty or broken one.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse::<usize>().ok()?);
        cpus.extend(first..=last.min(CpuSet::count()));
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// Reads `cpu.max` (`QUOTA PERIOD`, or `max PERIOD` for no limit).
fn quota_v2(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    quota_v1(quota, period)
}

/// Cores' worth of time, rounded up. Version 1 says -1 where there is no limit.
fn quota_v1(quota: &str, period: &str) -> Option<usize> {
    let (quota, period) = (quota.trim().parse::<usize>().ok()?, period.trim().parse().ok()?);
    (quota > 0 && period > 0).then(|| quota.div_ceil(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cores out of recorded files, from an affinity of cores 0 to 7.
    fn cores(files: &[(&str, &str)]) -> Cores {
        let affinity: Vec<_> = (0..8).collect();
        Cores::read(&affinity, |path| {
            let (_, text) = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some((*text).to_owned())
        })
    }

    const V2_MOUNT: (&str, &str) = (
        "/proc/self/mountinfo",
        "24 1 0:22 / /proc rw - proc proc rw\n\
         35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    );

    #[test]
    fn without_control_groups_the_affinity_stands() {
        assert_eq!(cores(&[]), Cores { cpus: (0..8).collect(), quota: None });
    }

    #[test]
    fn v2_takes_the_smallest_quota_on_the_way_up_and_the_cpuset() {
        let found = cores(&[
            ("/proc/self/cgroup", "0::/system.slice/ringlane.service\n"),
            V2_MOUNT,
            ("/sys/fs/cgroup/system.slice/ringlane.service/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/system.slice/cpu.max", "250000 100000\n"),
            ("/sys/fs/cgroup/system.slice/cpuset.cpus.effective", "2-4,6\n"),
            ("/sys/fs/cgroup/cpuset.cpus.effective", "0-7\n"),
        ]);
        assert_eq!(found, Cores { cpus: vec![2, 3, 4, 6], quota: Some(3) });
    }

    #[test]
    fn v2_in_a_container_reads_the_mount_itself() {
        let found = cores(&[
            ("/proc/self/cgroup", "0::/\n"),
            V2_MOUNT,
            ("/sys/fs/cgroup/cpu.max", "50000 100000\n"),
        ]);
        assert_eq!(found.quota, Some(1));
    }

    #[test]
    fn v1_with_the_machines_path_inside_a_container() {
        let found = cores(&[
            ("/proc/self/cgroup", "5:cpuset:/docker/ab\n4:cpuacct,cpu:/docker/ab\n0::/\n"),
            (
                "/proc/self/mountinfo",
                "40 30 0:33 /docker/ab /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n\
                 41 30 0:34 /docker/ab /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n",
            ),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpuset/cpuset.effective_cpus", "1,5\n"),
        ]);
        assert_eq!(found, Cores { cpus: vec![1, 5], quota: Some(2) });
    }

    #[test]
    fn nonsense_is_no_limit() {
        for text in ["", "max 100000", "-1 100000", "0 100000", "100000 0", "5", "a b"] {
            assert_eq!(quota_v2(text), None, "{text:?}");
        }
        for text in ["", "\n", "a", "1-", "-", "1,,2", "3-1"] {
            assert_eq!(cpu_list(text), None, "{text:?}");
        }
        let found = cores(&[
            ("/proc/self/cgroup", "0::/\nnonsense\n:\n"),
            V2_MOUNT,
            ("/sys/fs/cgroup/cpuset.cpus.effective", "64-65\n"),
        ]);
        assert_eq!(found.cpus.len(), 8, "a cpuset without any core of ours is not believed");
    }

    #[test]
    fn shards_are_pinned_where_the_cores_are_ours() {
        let cores = |quota| Cores { cpus: vec![2, 3, 6], quota };
        let check = |shards, pin, quota, expected: &[Option<usize>]| {
            assert_eq!(place(shards, pin, &cores(quota)), expected);
        };
        check(Shards::Auto, true, None, &[Some(2), Some(3), Some(6)]);
        check(Shards::Auto, false, None, &[None; 3]);
        check(Shards::Auto, true, Some(8), &[Some(2), Some(3), Some(6)]);
        check(Shards::Auto, true, Some(2), &[None; 2]);
        check(Shards::Count(2), true, Some(1), &[Some(2), Some(3)]);
        check(Shards::Count(4), true, None, &[None; 4]);
        check(Shards::Count(0), true, None, &[Some(2)]);
    }
}
