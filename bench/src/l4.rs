//! The rounds of the TCP comparison.
//!
//! Each round goes through every workload with every relay, one after the other and in an order
//! that moves on from round to round, so that a change of the machine's mood hits all alike. A
//! relay is started afresh for each measurement and its account is read while all sessions are
//! open: between the load generator's marks `ready` and `measured`. What is measured is in `plan`;
//! what becomes of it in `samples`, `verdict` and `report`.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use crate::listening::{self, Ports};
use crate::load::{Loadgen, Server};
use crate::machine::{self, Machine};
use crate::plan::{self, Case, Depth, IDLE_SESSIONS, Pace, Setting, Workload};
use crate::relay::{Relay, Running, Wiring};
use crate::samples::{Run, Sample};
use crate::{cpu, floor, namespace, report};

/// How to compare.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Finish in 5 minutes instead of 40: fewer rounds, shorter, and only what the bars need
    #[arg(long)]
    quick: bool,
    /// Rounds; the figures are medians over them [default: 5, quick: 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of each measurement [default: what fits into the time]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Congestion control: all with cubic, all with bbr, or bbr with each relay as its guide says
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Setting::value_variants().to_vec())]
    congestion: Vec<Setting>,
    /// Relays to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Relay::value_variants().to_vec())]
    relays: Vec<Relay>,
    /// Another build of `ringlane` to compare this one with, in the same rounds
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// Workloads to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::value_variants().to_vec())]
    workloads: Vec<Workload>,
    /// The core of the relay
    #[arg(long, default_value_t = 0)]
    relay_core: usize,
    /// The core of the load generator and the servers
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Set by the program itself
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

impl Options {
    fn depth(&self) -> Depth {
        if self.quick { Depth::Quick } else { Depth::Full }
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or_else(|| self.depth().rounds()).max(1)
    }

    /// The relays to compare; another build is one of them only if it is named.
    fn relays(&self) -> Vec<Relay> {
        let has_program = |relay: &Relay| *relay != Relay::Before || self.before.is_some();
        self.relays.iter().copied().filter(has_program).collect()
    }

    /// Whether the run is one of the two that are documented, whose results are published.
    fn is_whole(&self) -> bool {
        self.rounds.is_none()
            && self.seconds.is_none()
            && self.congestion == Setting::value_variants()
            && self.before.is_none()
            && self.relays == Relay::value_variants()
            && self.workloads == Workload::value_variants()
    }
}

/// Runs the whole comparison, prints it and writes it down.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    raise_descriptors();
    namespace::set_up()?;
    let mut comparison = Comparison::prepare(options)?;
    let cases = comparison.cases(options);
    let each: usize = cases.iter().map(|case| case.relays.len()).sum();
    let all = u32::try_from(each * options.rounds()).unwrap_or(u32::MAX);
    let fixed = options.seconds.map(Duration::from_secs);
    let mut pace = Pace::new(all, fixed, options.depth().budget());
    let begin = Instant::now();
    for round in 0..options.rounds() {
        let length = pace.length(Instant::now());
        let run = &mut comparison.run;
        let seconds = length.as_secs_f64();
        let (least, most) = if round == 0 { (seconds, seconds) } else { run.seconds };
        run.seconds = (least.min(seconds), most.max(seconds));
        println!("── round {} of {}, {seconds:.1} s each", round + 1, options.rounds());
        for case in &cases {
            if let Err(why) = comparison.measure_case(case, round, length, &mut pace) {
                comparison.leave_out(why);
            }
        }
    }
    println!("── {} measurements in {:.0} s\n", all, begin.elapsed().as_secs_f64());
    if comparison.run.samples.is_empty() {
        return Err("nothing could be measured".to_owned());
    }
    report::publish(&comparison.run, options.is_whole())?;
    match comparison.failures {
        0 => Ok(()),
        failures => Err(format!("{failures} of {all} measurements failed; see \"left out\" above")),
    }
}

/// What all measurements share.
struct Comparison {
    loadgen: Loadgen,
    wiring: Wiring,
    run: Run,
    /// Measurements that failed.
    failures: usize,
    servers: [Server; 2],
    _folder: tempfile::TempDir,
}

impl Comparison {
    /// Compiles the floor, asks every relay for its version and starts the servers.
    fn prepare(options: &Options) -> Result<Self, String> {
        let folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let uses_floor = options.relays.contains(&Relay::Floor);
        let floor = if uses_floor { floor::compile(folder.path())? } else { PathBuf::new() };
        let mut versions = Vec::new();
        let before = options.before.clone().unwrap_or_default();
        for relay in options.relays() {
            versions.push((relay.name().to_owned(), relay.version(&before)?));
        }
        let loadgen = Loadgen::find(options.load_core)?;
        let (echo, source) = (loadgen.serve("echo")?, loadgen.serve("source")?);
        let wiring = Wiring {
            core: options.relay_core,
            ports: Ports::new(),
            server_echo: echo.address.clone(),
            server_source: source.address.clone(),
            floor,
            before,
        };
        let run = Run {
            date: format!("{:.0}", jiff::Timestamp::now()),
            commit: machine::commit(),
            arguments: if options.quick { "--quick".to_owned() } else { String::new() },
            machine: Machine::look(),
            versions,
            rounds: options.rounds(),
            seconds: (0.0, 0.0),
            samples: Vec::new(),
            left_out: Vec::new(),
        };
        let servers = [echo, source];
        Ok(Self { loadgen, wiring, run, failures: 0, servers, _folder: folder })
    }

    /// The cases that this machine can measure; what it can't is noted.
    fn cases(&mut self, options: &Options) -> Vec<Case> {
        let (mut settings, mut workloads) = (options.congestion.clone(), options.workloads.clone());
        settings.retain(|setting| {
            let name = setting.machine();
            let has = namespace::has_congestion(name);
            if !has {
                let why = format!("{}: the kernel has no {name}", setting.title());
                self.run.left_out.push(why);
            }
            has
        });
        if !self.loadgen.keeps_rates {
            workloads.retain(|workload| *workload != Workload::HalfRate);
            let title = Workload::HalfRate.title();
            self.run.left_out.push(format!("{title}: the load generator has no --rate"));
        }
        plan::cases(options.depth(), &settings, &workloads, &options.relays())
    }

    /// Measures one workload with all its relays.
    fn measure_case(
        &mut self,
        case: &Case,
        round: usize,
        length: Duration,
        pace: &mut Pace,
    ) -> Result<(), String> {
        namespace::use_congestion(case.setting.machine())?;
        let rate = match case.workload {
            Workload::HalfRate => Some(self.highest_rate(case.setting, round, length)? / 2.0),
            _ => None,
        };
        let mut order = case.relays.clone();
        let first = round % order.len().max(1);
        order.rotate_left(first);
        for relay in order {
            let begin = Instant::now();
            match self.measure(case.setting, case.workload, relay, round, length, rate) {
                Ok(sample) => self.run.samples.push(sample),
                Err(why) => self.leave_out(why),
            }
            pace.note(length, begin.elapsed());
        }
        Ok(())
    }

    /// One failure in a run of many measurements is noted, and the rest goes on.
    fn leave_out(&mut self, why: String) {
        println!("left out: {why}");
        self.failures += 1;
        let first = why.lines().next().unwrap_or_default().to_owned();
        self.run.left_out.push(first);
    }

    /// HAProxy's highest rate, as this run has seen it, or by a measurement of its own.
    fn highest_rate(
        &mut self,
        setting: Setting,
        round: usize,
        length: Duration,
    ) -> Result<f64, String> {
        if let Some(rate) = self.run.highest_rate(setting, Relay::Haproxy) {
            return Ok(rate);
        }
        let sample = self.measure(setting, Workload::Rr32, Relay::Haproxy, round, length, None)?;
        Ok(sample.rate)
    }

    /// Starts the relay, runs the workload against it, and prints what was found.
    fn measure(
        &mut self,
        setting: Setting,
        workload: Workload,
        relay: Relay,
        round: usize,
        length: Duration,
        rate: Option<f64>,
    ) -> Result<Sample, String> {
        let what = format!("{}, {}, {}", relay.name(), workload.title(), setting.title());
        let found = self.measure_once(setting, workload, relay, length, rate);
        let found = found.map_err(|why| format!("{what}: {why}"))?;
        let sample = found.sample(setting, workload, relay, round)?;
        println!("{}", sample.line());
        Ok(sample)
    }

    fn measure_once(
        &mut self,
        setting: Setting,
        workload: Workload,
        relay: Relay,
        length: Duration,
        rate: Option<f64>,
    ) -> Result<Found, String> {
        let mut running = Running::start(relay, setting, &self.wiring)?;
        let found = self.under_load(running.as_ref(), workload, length, rate);
        // What ended is the reason, whatever the load makes of it; and an account of a relay that
        // ended halfway would look like a cheap one.
        running.as_mut().map_or(Ok(()), Running::check)?;
        self.servers.iter_mut().try_for_each(Server::check)?;
        found
    }

    /// Waits until all idle sessions have reached the server and their first bytes are back: a
    /// session that waits to be accepted costs a relay nothing yet.
    fn wait_until_silent(&self) -> Result<(), String> {
        let server = self.wiring.server_echo.parse();
        let server = server.map_err(|error| format!("the echo server's address: {error}"))?;
        let deadline = Instant::now() + SILENCE_MAX;
        // Twice, since a byte may be in a program's hands between two sockets.
        let mut silent = 0;
        while silent < 2 {
            let traffic = listening::traffic(server);
            let is_silent = traffic.at_server >= IDLE_SESSIONS as usize && !traffic.is_under_way;
            silent = if is_silent { silent + 1 } else { 0 };
            if Instant::now() > deadline {
                let has = traffic.at_server;
                return Err(format!("{has} of {IDLE_SESSIONS} idle sessions reached the server"));
            }
            thread::sleep(SILENCE_LOOK);
        }
        Ok(())
    }

    /// Runs the workload and reads the relay's accounts while its sessions are open.
    fn under_load(
        &self,
        running: Option<&Running>,
        workload: Workload,
        length: Duration,
        rate: Option<f64>,
    ) -> Result<Found, String> {
        let pid = running.map(Running::pid);
        let core = self.wiring.core;
        let account = || {
            let own = pid.map(cpu::of_tree).transpose()?.unwrap_or_default();
            Ok::<_, String>((own, cpu::of_softirqs(core)))
        };
        let empty = pid.map(cpu::memory_of_tree).transpose()?;
        let address = self.wiring.address(running, workload == Workload::Stream);
        // Idle sessions are held until their memory is known, however slow the machine is.
        let length = if workload == Workload::Idle { SILENCE_MAX * 2 } else { length };
        let mut load = self.loadgen.begin(workload, &address, length, rate)?;
        let before = account()?;
        let mut memory = None;
        if let (Workload::Idle, Some(pid), Some(empty)) = (workload, pid, empty) {
            self.wait_until_silent()?;
            // What an idle session costs, not what its opening has left for a moment.
            thread::sleep(SETTLING);
            let held = cpu::memory_of_tree(pid)?.saturating_sub(empty);
            memory = Some(held as f64 / 1024.0 / f64::from(IDLE_SESSIONS));
            load.interrupt()?;
        }
        load.measured()?;
        let after = account()?;
        let (result, load_limited) = load.finish()?;
        let has_relay = pid.is_some();
        let own = after.0.since(before.0);
        let put_off = after.1.saturating_sub(before.1);
        Ok(Found { has_relay, own, put_off, memory, result, load_limited })
    }
}

/// What idle sessions get to open, and how often it is looked whether they have.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const SILENCE_LOOK: Duration = Duration::from_millis(100);

/// What every relay gets to give back what opening the sessions has needed.
const SETTLING: Duration = Duration::from_secs(2);

/// What one measurement found.
struct Found {
    has_relay: bool,
    own: cpu::Account,
    put_off: Duration,
    memory: Option<f64>,
    /// What the load generator said.
    result: Value,
    load_limited: bool,
}

impl Found {
    fn sample(
        &self,
        setting: Setting,
        workload: Workload,
        relay: Relay,
        round: usize,
    ) -> Result<Sample, String> {
        let number = |name: &str| {
            let missing = || format!("the load's result has no {name}");
            self.result[name].as_f64().ok_or_else(missing)
        };
        let seconds = number("seconds")?;
        let cpu = (self.own.spent + self.put_off).as_secs_f64();
        let (work, cost) = match workload {
            Workload::Stream => {
                let bytes = number("bytes_received")?;
                (bytes / 1e6, cpu / (bytes / 1e9))
            }
            _ => {
                let requests = number("requests")?;
                (requests, cpu * 1e6 / requests)
            }
        };
        if work == 0.0 || seconds == 0.0 {
            return Err(format!("{}, {}: nothing was done", relay.name(), workload.title()));
        }
        if self.has_relay && self.own.spent.is_zero() && workload != Workload::Idle {
            return Err(format!("{}, {}: it used no CPU time", relay.name(), workload.title()));
        }
        let counts = self.has_relay && workload != Workload::Idle;
        Ok(Sample {
            round,
            setting,
            workload,
            relay,
            cost: counts.then_some(cost),
            user: self.has_relay.then(|| self.own.user_share()).flatten(),
            rate: work / seconds,
            p50: number("p50")?,
            p99: number("p99")?,
            p999: number("p99.9")?,
            memory: self.memory,
            disturbed: self.has_relay.then(|| self.own.disturbed()),
            put_off: self.put_off.as_secs_f64(),
            load_limited: self.load_limited,
        })
    }
}

/// Idle sessions need two descriptors each in every relay. Every program started from here inherits
/// the limit; one that can't be raised shows in a clear error of a relay.
pub(crate) fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
