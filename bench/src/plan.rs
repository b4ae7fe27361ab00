//! What is measured: workloads, settings of congestion control, and which relays they concern.
//!
//! Pure: no process is started here. A [`Case`] is one workload under one setting; a round goes
//! through all cases, and through all relays of each. Read `l4` for how that is done.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::relay::Relay;

/// What is done to a relay.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Round trips of 128 bytes on 1 session.
    Rr1,
    /// Round trips of 128 bytes on 32 sessions.
    Rr32,
    /// Round trips of 128 bytes on 256 sessions.
    Rr256,
    /// Round trips of 16 KiB on 1 session.
    Rr1Large,
    /// Round trips of 16 KiB on 32 sessions.
    Rr32Large,
    /// Round trips of 16 KiB on 256 sessions.
    Rr256Large,
    /// Bulk from the server on 8 streams.
    Stream,
    /// Short connections, 64 at once.
    Crr,
    /// Round trips of 128 bytes at half of HAProxy's highest rate, sent by the clock.
    HalfRate,
    /// 5,000 idle sessions.
    Idle,
}

/// Sessions held by [`Workload::Idle`].
pub(crate) const IDLE_SESSIONS: u32 = 5000;

/// What a workload is there to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Figure {
    /// CPU time per unit of work.
    Cost,
    /// The 99th percentile of latency.
    P99,
    /// Memory per session.
    Memory,
}

impl Workload {
    /// In a heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rr1 => "Round trips of 128 bytes, 1 session",
            Self::Rr32 => "Round trips of 128 bytes, 32 sessions",
            Self::Rr256 => "Round trips of 128 bytes, 256 sessions",
            Self::Rr1Large => "Round trips of 16 KiB, 1 session",
            Self::Rr32Large => "Round trips of 16 KiB, 32 sessions",
            Self::Rr256Large => "Round trips of 16 KiB, 256 sessions",
            Self::Stream => "Bulk from the server, 8 streams",
            Self::Crr => "Short connections, 64 at once",
            Self::HalfRate => "Round trips of 128 bytes at half of HAProxy's highest rate",
            Self::Idle => "5,000 idle sessions",
        }
    }

    /// In names of files.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is there to show.
    pub(crate) fn figure(self) -> Figure {
        match self {
            Self::HalfRate => Figure::P99,
            Self::Idle => Figure::Memory,
            _ => Figure::Cost,
        }
    }

    /// The unit of its figure.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Stream => "CPU s per GB",
            Self::Crr => "CPU µs per connection",
            Self::HalfRate => "p99 in µs",
            Self::Idle => "KiB per session",
            _ => "CPU µs per round trip",
        }
    }

    /// The unit of its throughput.
    pub(crate) fn rate_unit(self) -> &'static str {
        if self == Self::Stream { "MB/s" } else { "per s" }
    }

    /// What the load generator is told: the kind of traffic and its size.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Rr1 => &["tcp-rr", "--sessions=1", "--size=128"],
            Self::Rr32 | Self::HalfRate => &["tcp-rr", "--sessions=32", "--size=128"],
            Self::Rr256 => &["tcp-rr", "--sessions=256", "--size=128"],
            Self::Rr1Large => &["tcp-rr", "--sessions=1", "--size=16k"],
            Self::Rr32Large => &["tcp-rr", "--sessions=32", "--size=16k"],
            Self::Rr256Large => &["tcp-rr", "--sessions=256", "--size=16k"],
            Self::Stream => &["tcp-stream", "--streams=8"],
            Self::Crr => &["tcp-crr", "--concurrency=64", "--size=128"],
            Self::Idle => &["tcp-idle", "--sessions=5000"],
        }
    }

    /// Whether this comparison says anything about the relay: splicing is a matter of bulk, and
    /// an idle session that is held by nobody has no memory.
    fn concerns(self, relay: Relay) -> bool {
        match relay {
            Relay::HaproxySplice => self == Self::Stream,
            Relay::Direct => self != Self::Idle,
            _ => true,
        }
    }
}

/// Which congestion control the connections have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Setting {
    /// cubic for all connections of all relays.
    Cubic,
    /// bbr for all connections of all relays.
    Bbr,
    /// bbr is the machine's default and every relay is set up as its guide says: ours with
    /// `congestion = "auto"`, and the others have no say.
    Guide,
}

impl Setting {
    /// In a heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cubic => "cubic for all",
            Self::Bbr => "bbr for all",
            Self::Guide => "the machine's default is bbr, each as its guide says",
        }
    }

    /// In names of files.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// What the machine's default is.
    pub(crate) fn machine(self) -> &'static str {
        if self == Self::Cubic { "cubic" } else { "bbr" }
    }

    /// What our own configuration says.
    pub(crate) fn own(self) -> &'static str {
        if self == Self::Guide { "auto" } else { self.machine() }
    }
}

/// How thorough.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Depth {
    /// Every relay under every workload.
    Full,
    /// What the bars need, and little more.
    Quick,
}

impl Depth {
    /// Rounds unless told otherwise.
    pub(crate) fn rounds(self) -> usize {
        if self == Self::Quick { 3 } else { 5 }
    }

    /// What all rounds may take together; something is left for building and starting.
    pub(crate) fn budget(self) -> Duration {
        Duration::from_secs(if self == Self::Quick { 280 } else { 38 * 60 })
    }
}

/// One workload under one setting, with the relays that it concerns.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) setting: Setting,
    pub(crate) workload: Workload,
    pub(crate) relays: Vec<Relay>,
}

/// All cases of a round.
pub(crate) fn cases(
    depth: Depth,
    settings: &[Setting],
    workloads: &[Workload],
    relays: &[Relay],
) -> Vec<Case> {
    let mut cases = Vec::new();
    for &setting in settings {
        for &workload in workloads.iter().filter(|w| is_worth_it(depth, setting, **w)) {
            let concerned = relays.iter().copied().filter(|relay| {
                workload.concerns(*relay)
                    && (depth == Depth::Full || is_needed(setting, workload, *relay))
            });
            let relays: Vec<_> = concerned.collect();
            if !relays.is_empty() {
                cases.push(Case { setting, workload, relays });
            }
        }
    }
    cases
}

/// cubic is the setting for everything; under bbr it is bulk that differs, and the rest shows that
/// it does not.
fn is_worth_it(depth: Depth, setting: Setting, workload: Workload) -> bool {
    use Workload::{Crr, Rr1Large, Rr32, Rr256, Rr256Large, Stream};
    match (setting, depth) {
        (Setting::Cubic, Depth::Full) => true,
        (Setting::Cubic, Depth::Quick) => ![Rr1Large, Rr256Large].contains(&workload),
        (Setting::Bbr, Depth::Full) => [Rr32, Rr256, Stream, Crr].contains(&workload),
        _ => workload == Stream,
    }
}

/// What a quick run does not leave out.
fn is_needed(setting: Setting, workload: Workload, relay: Relay) -> bool {
    use Relay::{Before, HaproxySplice, Nginx, Ringlane};
    let is_yardstick = matches!(relay, Relay::Monoio | Relay::Glommio);
    match (setting, workload) {
        (Setting::Cubic, Workload::Idle | Workload::HalfRate) => !is_yardstick,
        (Setting::Cubic, _) => true,
        _ => matches!(relay, Ringlane | Before | HaproxySplice | Nginx),
    }
}

/// How long each measurement may take, so that all rounds fit into their time.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Fixed by whoever runs it, or the time when all must be done.
    length: Result<Duration, Instant>,
    /// Measurements still to come.
    left: u32,
    done: u32,
    /// What starting and ending took besides measuring, over all that is done.
    overhead: Duration,
}

/// What starting and ending a relay and its load takes, until it is known.
const OVERHEAD_GUESS: Duration = Duration::from_millis(600);

impl Pace {
    /// For so many measurements, of a fixed length or within a budget that begins now.
    pub(crate) fn new(measurements: u32, fixed: Option<Duration>, budget: Duration) -> Self {
        let length = fixed.ok_or_else(|| Instant::now() + budget);
        Self { length, left: measurements, done: 0, overhead: Duration::ZERO }
    }

    /// How long each measurement of the coming round shall be.
    pub(crate) fn length(&self, now: Instant) -> Duration {
        let end = match self.length {
            Ok(fixed) => return fixed,
            Err(end) => end,
        };
        let overhead = self.overhead.checked_div(self.done).unwrap_or(OVERHEAD_GUESS);
        let each = end.saturating_duration_since(now).checked_div(self.left).unwrap_or_default();
        let length = each.saturating_sub(overhead);
        length.clamp(Duration::from_millis(400), Duration::from_secs(10))
    }

    /// One more is done: it was to take `length` and took `took` in all.
    pub(crate) fn note(&mut self, length: Duration, took: Duration) {
        self.left = self.left.saturating_sub(1);
        self.done += 1;
        self.overhead += took.saturating_sub(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_can_be_judged_by_a_quick_run() {
        let all = cases(
            Depth::Quick,
            Setting::value_variants(),
            Workload::value_variants(),
            Relay::value_variants(),
        );
        for bar in crate::verdict::BARS {
            let case = all.iter().find(|c| (c.setting, c.workload) == (bar.setting, bar.workload));
            let relays = &case.unwrap().relays;
            assert!(relays.contains(&Relay::Ringlane) && relays.contains(&bar.against), "{bar:?}");
        }
    }

    #[test]
    fn a_pace_keeps_to_its_budget() {
        let start = Instant::now();
        let mut pace = Pace::new(100, None, Duration::from_secs(300));
        let first = pace.length(start).as_secs_f64();
        assert!((2.39..2.42).contains(&first), "{first}");
        // Starting and ending take 1 s, more than was thought: the rest is cut shorter.
        for _ in 0..50 {
            pace.note(Duration::from_secs(2), Duration::from_secs(3));
        }
        let second = pace.length(start + Duration::from_secs(150)).as_secs_f64();
        assert!((1.99..2.01).contains(&second), "{second}");
        let fixed = Pace::new(1, Some(Duration::from_secs(7)), Duration::ZERO);
        assert_eq!(fixed.length(start), Duration::from_secs(7));
    }
}
