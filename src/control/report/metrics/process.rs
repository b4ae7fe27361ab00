//! What the kernel accounts for: CPU time, memory, descriptors, ports.
//!
//! Read at a scrape, on the scrape's thread. What can't be read (no /proc in a container) is absent
//! from the page. Not here: what the balancer counts itself.

use std::fs::{self, Metadata};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use ringlane_core::machine::{Address, SourceAddress, SourcePorts};
use ringlane_core::settings::{Server, Snapshot};

/// CPU time of the whole process, seconds.
pub(super) fn cpu_seconds() -> Option<f64> {
    seconds_of(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn seconds_of(clock: ClockId) -> Option<f64> {
    clock_gettime(clock).ok().map(|time| Duration::from(time).as_secs_f64())
}

/// Bytes of memory: virtual, resident.
pub(super) fn memory() -> Option<[u64; 2]> {
    let page = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').map(|pages| pages.parse::<u64>().ok());
    Some([pages.next()?? * page, pages.next()?? * page])
}

/// Open descriptors.
pub(super) fn open_fds() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    // From Linux 6.2 on the folder's size is their number; before it is 0.
    match fs::metadata(FOLDER).as_ref().map(Metadata::size) {
        Ok(0) => fs::read_dir(FOLDER).ok().map(|entries| entries.count() as u64),
        size => size.ok(),
    }
}

/// Descriptors that may be open.
pub(super) fn max_fds() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

/// When the process started, in seconds since 1970: the same at every scrape, even if the clock is
/// set, since Prometheus takes a change for a restart.
pub(super) fn start_time(started_on: SystemTime) -> Option<f64> {
    Some(started_on.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

/// The ports that the kernel draws the source ports of connections from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LocalPorts {
    range: RangeInclusive<u16>,
    reserved: Vec<RangeInclusive<u16>>,
}

impl LocalPorts {
    pub(super) fn of_kernel() -> Option<Self> {
        let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok();
        let reserved = read("ip_local_reserved_ports").unwrap_or_default();
        Self::parse(&read("ip_local_port_range")?, &reserved)
    }

    fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut ends = range.split_whitespace().map(|end| end.parse().ok());
        let range = ends.next()??..=ends.next()??;
        let part = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        };
        Some(Self { range, reserved: reserved.split(',').filter_map(part).collect() })
    }

    /// How many of these ports there are.
    fn count(&self, ports: &RangeInclusive<u16>) -> u64 {
        let (first, last) = (*ports.start(), *ports.end());
        let size = |first: u16, last: u16| u64::from(last) + 1 - u64::from(first.min(last));
        let taken = self.reserved.iter().map(|part| (*part.start(), *part.end()));
        let taken = taken.filter(|(from, to)| *from <= last && *to >= first);
        let taken: u64 = taken.map(|(from, to)| size(first.max(from), last.min(to))).sum();
        size(first, last).saturating_sub(taken)
    }

    /// How many connections to a server this machine has source ports for; nothing where that is
    /// no limit.
    pub(super) fn towards(&self, snapshot: &Snapshot, server: &Server) -> Option<u64> {
        let source = &snapshot.backend(server.backend).source;
        let clients_own =
            matches!(source.address, SourceAddress::Client | SourceAddress::ClientAndPort);
        if clients_own || matches!(server.address, Some(Address::Unix(_))) {
            return None;
        }
        Some(match source.ports {
            None => self.count(&self.range),
            Some(SourcePorts { first, last, by_kernel: true }) => self.count(&(first..=last)),
            // Drawn here, reserved or not.
            Some(SourcePorts { first, last, .. }) => u64::from(last) + 1 - u64::from(first),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_about_this_process() {
        assert!(cpu_seconds().unwrap() > 0.0);
        let [virtual_bytes, resident] = memory().unwrap();
        assert!(virtual_bytes > resident && resident > 100_000, "{virtual_bytes} {resident}");
        assert!((3..=max_fds().unwrap()).contains(&open_fds().unwrap()));
    }

    #[test]
    fn ports_are_those_of_the_range_without_the_reserved_ones() {
        for (range, reserved, expected) in [
            ("32768\t60999\n", "\n", Some(28_232)),
            ("1024 65535", "8080,9148-9150\n", Some(64_508)),
            ("1000 1999", "900-1009,1990-3000,5000", Some(980)),
            ("1000 1999", "1-65535", Some(0)),
            ("7 7", "", Some(1)),
            ("", "", None),
            ("1 x", "", None),
        ] {
            let ports = LocalPorts::parse(range, reserved);
            let count = ports.map(|ports| ports.count(&ports.range));
            assert_eq!(count, expected, "{range:?} without {reserved:?}");
        }
    }
}
