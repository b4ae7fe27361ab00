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
    /// How the kernel chooses the clock rate, where it does.
    #[serde(default)]
    pub(crate) governor: String,
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
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            processor: model(&processors),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            is_virtual: field(&processors, "flags").split(' ').any(|flag| flag == "hypervisor"),
            memory: kilobytes / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .trim()
                .to_owned(),
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
        format!(
            "{}, {} MiB, {}, default congestion control {}",
            self.in_short(),
            self.memory,
            self.system,
            self.congestion
        )
    }

    /// What every figure depends on most.
    pub(crate) fn in_short(&self) -> String {
        let kind = if self.is_virtual { "virtual cores" } else { "cores" };
        let governor = match self.governor.as_str() {
            "" => "no frequency governor".to_owned(),
            name => format!("frequency governor {name}"),
        };
        format!("{}, {} {kind}, Linux {}, {governor}", self.processor, self.cores, self.kernel)
    }
}

/// The value of a field in a text of lines such as `name : value` or `name="value"`.
fn field(text: &str, name: &str) -> String {
    let is_it = |line: &str| {
        let (key, value) = line.split_once([':', '='])?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    };
    text.lines().find_map(is_it).unwrap_or_default()
}

/// The model of the first processor. Its numbers stand beside the name, as virtual machines often
/// give names that several generations share.
fn model(cpuinfo: &str) -> String {
    let field = |name| Some(field(cpuinfo, name)).filter(|value| !value.is_empty());
    let name = field("model name").unwrap_or_else(|| "unknown processor".to_owned());
    match (field("cpu family"), field("model"), field("stepping")) {
        (Some(family), Some(model), Some(stepping)) => {
            format!("{name} (family {family}, model {model}, stepping {stepping})")
        }
        _ => name,
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
        for line in [machine.describe(), machine.in_short()] {
            assert!(line.contains(&machine.kernel) && line.contains(&machine.processor), "{line}");
        }
    }

    #[test]
    fn a_model_is_told_from_its_brothers_by_numbers() {
        let text = "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nstepping\t: 2\n";
        assert_eq!(model(text), "AMD EPYC (family 25, model 1, stepping 2)");
        assert_eq!(model("model name : Neoverse-N1\n"), "Neoverse-N1");
        assert_eq!(model(""), "unknown processor");
    }
}
