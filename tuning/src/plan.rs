//! Facts in, changes out: what this host should change for a layer-4 relay.
//!
//! Not here: reading (`facts`), wording around the changes (`explain`). Invariants: pure; a fact
//! that is absent leads to no change; a host that is good already gets an empty plan.

use crate::facts::Facts;
use crate::sysctl::SYSCTLS;

/// The kernel that Ringlane needs.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// What `files/ringlane.service` asks for as LimitNOFILE.
const OPEN_FILES_WANTED: u64 = 1_048_576;
/// Rings and buffer rings of one shard, rounded up, bytes.
const LOCKED_MEMORY_PER_SHARD: u64 = 1 << 20;

/// One thing to change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// What it is called: a sysctl's key, or a name of the same form.
    pub key: &'static str,
    /// What the host has.
    pub now: String,
    /// What a relay wants.
    pub wanted: String,
    /// What is lost without it.
    pub why: &'static str,
    /// What it costs.
    pub cost: &'static str,
    /// Who can change it.
    pub how: How,
}

/// How a change is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// By a line in sysctl.d.
    Sysctl,
    /// By hand, as this sentence says.
    ByHand(&'static str),
}

/// Everything that `facts` give reason to change: what stops Ringlane from running first, then
/// sysctls in the order of their table, then the rest.
pub fn plan(facts: &Facts) -> Vec<Change> {
    [kernel(facts), io_uring(facts)]
        .into_iter()
        .flatten()
        .chain(sysctls(facts))
        .chain(
            [
                open_files(facts),
                locked_memory(facts),
                cpu_quota(facts),
                governor(facts),
                congestion(facts),
            ]
            .into_iter()
            .flatten(),
        )
        .collect()
}

fn sysctls(facts: &Facts) -> impl Iterator<Item = Change> + '_ {
    SYSCTLS.iter().filter_map(|sysctl| {
        let now = facts.sysctls.get(sysctl.key)?;
        (!sysctl.is_enough(now)).then(|| Change {
            key: sysctl.key,
            now: now.clone(),
            wanted: sysctl.wanted.to_owned(),
            why: sysctl.why,
            cost: sysctl.cost,
            how: How::Sysctl,
        })
    })
}

fn kernel(facts: &Facts) -> Option<Change> {
    let release = facts.kernel.as_deref()?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    ((major, minor) < KERNEL_MIN).then(|| Change {
        key: "kernel.osrelease",
        now: release.to_owned(),
        wanted: format!("{}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1),
        why: "Ringlane does not start on an older kernel: its rings need deferred task running and \
              multishot receive.",
        cost: "A reboot.",
        how: How::ByHand("Install a newer kernel; on Debian 11 there is one in backports."),
    })
}

fn io_uring(facts: &Facts) -> Option<Change> {
    let disabled = facts.io_uring_disabled.filter(|disabled| *disabled != 0)?;
    Some(Change {
        key: "kernel.io_uring_disabled",
        now: disabled.to_string(),
        wanted: "0, or 1 with Ringlane's group in kernel.io_uring_group".to_owned(),
        why: "This host forbids io_uring (2: to everybody, 1: to all but one group and privileged \
              processes). Ringlane does not start where it is forbidden.",
        cost: "io_uring has had more security bugs than most of the kernel: with 1 and a group of \
               its own, only Ringlane gets it.",
        how: How::ByHand(
            "Set both keys in a file of your own in /etc/sysctl.d; the file of this project leaves \
             the decision to you.",
        ),
    })
}

fn open_files(facts: &Facts) -> Option<Change> {
    let max = facts.open_files_max.filter(|max| *max < OPEN_FILES_WANTED)?;
    Some(Change {
        key: "limit.open_files",
        now: format!("{max}, about {} sessions", sessions(max, facts.cpus.max(1) as u64)),
        wanted: OPEN_FILES_WANTED.to_string(),
        why: "Each session takes two descriptors, and the hard limit bounds how many there can be.",
        cost: "None until they are used.",
        how: How::ByHand("LimitNOFILE= in the unit; `ulimit -Hn` for a shell."),
    })
}

/// About how many sessions fit under a limit of open files; the balancer subtracts its listeners,
/// too.
pub fn sessions(open_files: u64, shards: u64) -> u64 {
    // Those of the process, and pipes for bulk: up to an eighth of what is left, two ends each.
    let left = open_files.saturating_sub(64);
    let pipes = (left / (8 * 2 * shards)).clamp(64, 1024);
    (left.saturating_sub(2 * pipes * shards) / 2).max(1)
}

fn locked_memory(facts: &Facts) -> Option<Change> {
    let wanted = LOCKED_MEMORY_PER_SHARD * facts.cpus.max(1) as u64;
    let max = facts.locked_memory_max.filter(|max| *max < wanted)?;
    Some(Change {
        key: "limit.locked_memory",
        now: format!("{} KiB", max / 1024),
        wanted: format!("{} KiB", wanted / 1024),
        why: "Newer kernels count rings and buffer rings of processes without privileges here; at \
              the limit a shard can't start. The limit is per user, not per process.",
        cost: "None beyond the rings, about 1 MiB per shard.",
        how: How::ByHand("LimitMEMLOCK= in the unit; `ulimit -l` for a shell."),
    })
}

fn cpu_quota(facts: &Facts) -> Option<Change> {
    let (quota, period) = facts.cpu_quota?;
    // A quota of all CPUs or more never throttles anybody.
    let throttles = quota < period.saturating_mul(facts.cpus.max(1) as u64);
    throttles.then(|| Change {
        key: "cgroup.cpu.max",
        now: format!("{quota} {period}"),
        wanted: "max, with whole CPUs in cpuset.cpus".to_owned(),
        why: "When the quota of a period is used up, every shard stands still until the next one: \
              tens of milliseconds at the 99th percentile.",
        cost: "The CPUs given can't be lent to others by time.",
        how: How::ByHand(
            "AllowedCPUs= instead of CPUQuota= in the unit; --cpuset-cpus for Docker.",
        ),
    })
}

fn governor(facts: &Facts) -> Option<Change> {
    let now = facts.governor.as_deref().filter(|now| *now != "performance")?;
    Some(Change {
        key: "cpu.scaling_governor",
        now: now.to_owned(),
        wanted: "performance".to_owned(),
        why: "A relay sleeps and wakes thousands of times a second, which looks like little load: \
              the clock stays low and every round trip is slower.",
        cost: "Power.",
        how: How::ByHand(
            "`cpupower frequency-set -g performance`, kept by your distribution's unit.",
        ),
    })
}

fn congestion(facts: &Facts) -> Option<Change> {
    let paced = facts.congestion.as_deref().is_some_and(|name| name.starts_with("bbr"));
    let allowed = &facts.congestion_allowed;
    let lacks_cubic = !allowed.is_empty() && !allowed.iter().any(|name| name == "cubic");
    (paced && lacks_cubic).then(|| Change {
        key: "net.ipv4.tcp_allowed_congestion_control",
        now: allowed.join(" "),
        wanted: format!("{} cubic", allowed.join(" ")),
        why: "This host paces (bbr), which doubles the cost of bulk on paths under a millisecond. \
              Ringlane moves such sessions to cubic where it may, and else to reno.",
        cost: "None.",
        how: How::ByHand(
            "`sysctl net.ipv4.tcp_allowed_congestion_control=\"…\"` with the value above, or \
             CAP_NET_ADMIN for Ringlane.",
        ),
    })
}
