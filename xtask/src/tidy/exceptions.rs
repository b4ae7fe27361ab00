//! What may break a promise, and why. These lists may only shrink.
//!
//! Invariant: an exception that no check asked for is reported as an offence, so that the lists
//! never outlive their reasons.

use super::size::FILE_LINES_MAX;
use super::{Offence, offence};

/// Files longer than [`super::size::FILE_LINES`], never than [`super::size::FILE_LINES_MAX`]: path,
/// reason.
const LONG_FILES: &[(&str, &str)] = &[
    ("bench/src/l4.rs", "the rounds of one comparison, in the order in which they run"),
    ("core/src/balance/affinity.rs", "one table of atomic words and its races, argued together"),
    ("core/src/balance/tests.rs", "a table of shares for each policy"),
    ("core/src/machine/reactor/mod.rs", "the loop of a shard; its parts have files of their own"),
    ("core/src/machine/reactor/stream.rs", "a stream and the futures that borrow its state"),
    ("core/src/machine/sys/driver.rs", "the one argument for memory safety, kept in one place"),
    ("core/src/machine/sys/epoll.rs", "one driver: a request and its answer side by side"),
    ("core/src/machine/sys/sim/tcp.rs", "TCP of the simulated kernel, one state machine"),
    ("core/src/machine/sys/socket.rs", "one short function for each socket option and call"),
    ("core/src/settings/snapshot.rs", "all settings of shards, mostly fields and their meaning"),
    ("fuzz/src/entries/relay.rs", "one session as a machine, with its two ends and the mirror"),
    ("health/src/lib.rs", "the state machine of a backend and its inputs"),
    ("health/src/tests.rs", "scenarios of one backend over one small harness"),
    ("l4/src/transactions/mysql.rs", "one protocol; 100 lines are its tests"),
    ("l4/src/transactions/redis.rs", "one protocol; 100 lines are its tests"),
    ("loadgen/src/load/lane.rs", "one thread of a run with all that its tasks share"),
    ("src/control/servers.rs", "the only writer of the states of servers, behind one lock"),
    ("src/control/servers/names/dns.rs", "one lookup from file to answer; 75 lines are its tests"),
    ("tests/it/checks.rs", "the stories of one feature"),
    ("tests/it/harness/balancer.rs", "everything that a story asks of a running balancer"),
    ("tests/it/logs.rs", "the stories of one feature"),
    ("tests/it/reloads.rs", "the stories of one feature"),
    ("tests/sim/world.rs", "the builder of a world and its run"),
];

/// Functions longer than [`super::size::FUNCTION_LINES`]: path, name, lines at most, reason.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// Names that hold a banned word: path, name, reason.
const NAMES: &[(&str, &str, &str)] = &[];

/// Types that a package defines more than once: package, name, what each of them is.
const TYPES: &[(&str, &str, &str)] = &[
    (
        "ringlane-core",
        "Table",
        "a table of atomic words that shards share: of affinities, of clients",
    ),
    ("ringlane-l4", "Tracker", "the tracker of a protocol, one per module; the enum chooses"),
    (
        "ringlane-loadgen",
        "Talk",
        "an open session of a kind of load, one per module; the enum chooses",
    ),
    ("ringlane", "End", "how a shard's thread ended; in an HTTP check, how a body ends"),
    ("ringlane", "Probe", "how one server is checked; for PostgreSQL, with what it keeps"),
    (
        "ringlane",
        "Session",
        "a login that a check keeps: the trait, and its type for each database",
    ),
];

/// One exception and whether a check needed it.
#[derive(Debug)]
struct Exception {
    file: &'static str,
    item: &'static str,
    lines: usize,
    used: bool,
}

/// All exceptions.
#[derive(Debug)]
pub(super) struct Exceptions(Vec<Exception>);

impl Exceptions {
    /// Those of the lists above.
    pub(super) fn listed() -> Self {
        let entry = |file, item, lines| Exception { file, item, lines, used: false };
        let files = LONG_FILES.iter().map(|&(file, _)| entry(file, "", FILE_LINES_MAX));
        let functions = LONG_FUNCTIONS.iter().map(|&(file, f, lines, _)| entry(file, f, lines));
        let names = NAMES.iter().map(|&(file, name, _)| entry(file, name, 0));
        let types = TYPES.iter().map(|&(package, name, _)| entry(package, name, 0));
        Self(files.chain(functions).chain(names).chain(types).collect())
    }

    /// None at all.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// One exception.
    #[cfg(test)]
    pub(super) fn one(file: &'static str, item: &'static str, lines: usize) -> Self {
        Self(vec![Exception { file, item, lines, used: false }])
    }

    /// Whether `item` of `file` (the whole file if empty) may be `lines` long.
    pub(super) fn allows(&mut self, file: &str, item: &str, lines: usize) -> bool {
        let found =
            self.0.iter_mut().find(|e| e.file == file && e.item == item && lines <= e.lines);
        found.map(|e| e.used = true).is_some()
    }

    /// Whether `name` in `file` may hold a banned word.
    pub(super) fn allows_name(&mut self, file: &str, name: &str) -> bool {
        self.allows(file, name, 0)
    }

    /// Whether `package` may define several types called `name`.
    pub(super) fn allows_type(&mut self, package: &str, name: &str) -> bool {
        self.allows(package, name, 0)
    }

    /// Offences for the exceptions that no check asked for.
    pub(super) fn unused(&self) -> Vec<Offence> {
        let unused = self.0.iter().filter(|e| !e.used);
        unused
            .map(|e| {
                let item = if e.item.is_empty() { "its length" } else { e.item };
                let message = format!("exception for {item} is not needed (any more): remove it");
                offence(e.file, 1, message)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exception_has_a_reason() {
        let files = LONG_FILES.iter().map(|(_, reason)| reason);
        let functions = LONG_FUNCTIONS.iter().map(|(.., reason)| reason);
        let names = NAMES.iter().chain(TYPES).map(|(.., reason)| reason);
        assert!(files.chain(functions).chain(names).all(|reason| reason.contains(' ')));
    }

    #[test]
    fn an_exception_holds_up_to_its_length_and_must_be_needed() {
        let mut exceptions = Exceptions::one("a.rs", "run", 90);
        assert_eq!(exceptions.unused().len(), 1);
        assert!(!exceptions.allows("a.rs", "run", 91), "it may only shrink");
        assert!(!exceptions.allows("b.rs", "run", 80));
        assert!(exceptions.allows("a.rs", "run", 90));
        assert!(exceptions.unused().is_empty());
    }
}
