//! What is known of the machine that measures. Its name is not asked for.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Facts that numbers depend on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Machine {
    /// The model of its processors.
    pub(crate) processor: String,
    /// How many this process may use.
    pub(crate) cores: usize,
    /// Whether it is a virtual one.
    pub(crate) is_virtual: bool,
    /// MiB of memory.
    pub(crate) memory: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    /// The machine's own congestion control.
    pub(crate) congestion: String,
    /// The average number of runnable tasks in the minute before.
    pub(crate) load: f64,
}

impl Machine {
    /// Looks. What can't be seen is left empty.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            let value = line.split_once([':', '=']).map_or("", |(_, value)| value);
            value.trim().trim_matches('"').to_owned()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            processor: field(&processors, "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            is_virtual: field(&processors, "flags").split(' ').any(|flag| flag == "hypervisor"),
            memory: kilobytes / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME"),
            congestion: read("/proc/sys/net/ipv4/tcp_congestion_control").trim().to_owned(),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0.0),
        }
    }

    /// In one line.
    pub(crate) fn describe(&self) -> String {
        let kind = if self.is_virtual { "virtual cores" } else { "cores" };
        format!(
            "{}, {} {kind}, {} MiB, Linux {} ({}), default congestion control {}",
            self.processor, self.cores, self.memory, self.kernel, self.system, self.congestion
        )
    }
}

/// The commit of the sources in the current folder, with `+` if files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    // Generated pages differ after every run; they are not what was measured.
    let sources = ["status", "--porcelain", "--untracked-files=no", "--", ":!docs"];
    let is_clean = git(&sources).is_some_and(|changes| changes.is_empty());
    if is_clean { commit } else { format!("{commit}+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_core_and_a_kernel() {
        let machine = Machine::look();
        assert!(machine.cores > 0 && machine.memory > 0 && !machine.kernel.is_empty());
        assert!(machine.describe().contains(&machine.kernel));
    }
}
