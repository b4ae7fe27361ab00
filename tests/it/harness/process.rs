//! What the kernel says about a process.

use std::fs;
use std::time::Duration;

use super::program::run;

/// A process by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// Bytes of memory that it has in use.
    pub(crate) fn resident(self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap().count()
    }

    /// The highest number of a descriptor that is open to the same as another one.
    pub(crate) fn highest_descriptor_like(self, other: u32) -> u64 {
        let folder = format!("/proc/{}/fd", self.0);
        let target = |name: &str| fs::read_link(format!("{folder}/{name}")).ok();
        let wanted = target(&other.to_string());
        let open = fs::read_dir(&folder).unwrap().flatten();
        let names = open.filter_map(|entry| entry.file_name().into_string().ok());
        let alike = names.filter(|name| target(name) == wanted);
        alike.filter_map(|name| name.parse().ok()).max().unwrap()
    }

    /// Lowers its soft limit on open files while it runs.
    pub(crate) fn limit_open_files(self, most: u64) {
        let (process, limit) = (self.0.to_string(), format!("--nofile={most}:"));
        let output = run("prlimit", "util-linux", &["--pid", &process, &limit]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Processor time that it has used, to the kernel's hundredth of a second.
    pub(crate) fn cpu_time(self) -> Duration {
        let stat = self.read("stat");
        let after_name = stat.rsplit_once(") ").unwrap().1;
        let fields = after_name.split(' ').skip(11).take(2);
        Duration::from_millis(fields.map(|field| field.parse::<u64>().unwrap() * 10).sum())
    }

    /// How many threads it has.
    pub(crate) fn threads(self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.0)).unwrap().count()
    }

    /// Whether a signal has stopped it, with all of its threads.
    pub(crate) fn is_stopped(self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).unwrap().flatten();
        let mut stats =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        stats.all(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
    }

    fn read(self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).unwrap()
    }
}
