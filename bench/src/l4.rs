//! The rounds of the TCP comparison.
//!
//! Each round measures every workload with every relay, one after the other and in an order that
//! moves on from round to round, so that a change of the machine's mood hits all alike. A relay is
//! started afresh for each measurement and its account is read while all sessions are open: between
//! the load generator's marks `ready` and `measured`.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::relay::{LISTEN_ECHO, LISTEN_SOURCE, Relay, Running, Setting, on_core, sibling};
use crate::{cpu, namespace, verdict};

/// How to compare.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Rounds; the figures are medians over them
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Congestion control of all sockets: cubic, bbr or another; `host` is the machine's own
    #[arg(long, default_value = "host")]
    congestion: String,
    /// Relays to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Relay::value_variants().to_vec())]
    relays: Vec<Relay>,
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

/// What is done to a relay.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, ValueEnum)]
pub(crate) enum Workload {
    /// 128-byte round trips on 32 sessions.
    Rr32,
    /// 128-byte round trips on 256 sessions.
    Rr256,
    /// Bulk from the server on 8 streams.
    Bulk,
    /// Short connections, 64 at once.
    Crr,
}

impl Workload {
    /// What is counted, and its unit.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Rr32 => "µs per round trip, 32 sessions",
            Self::Rr256 => "µs per round trip, 256 sessions",
            Self::Bulk => "CPU s per GB, 8 streams",
            Self::Crr => "µs per short connection",
        }
    }

    fn arguments(self) -> Vec<&'static str> {
        let line = match self {
            Self::Rr32 => ["tcp-rr", LISTEN_ECHO, "--sessions=32"],
            Self::Rr256 => ["tcp-rr", LISTEN_ECHO, "--sessions=256"],
            Self::Bulk => ["tcp-stream", LISTEN_SOURCE, "--streams=8"],
            Self::Crr => ["tcp-crr", LISTEN_ECHO, "--concurrency=64"],
        };
        line.to_vec()
    }

    /// CPU time over work, in its unit.
    fn cost(self, cpu: Duration, result: &Value) -> Option<f64> {
        let (seconds, work) = match self {
            Self::Bulk => (cpu.as_secs_f64(), result["bytes_received"].as_f64()? / 1e9),
            _ => (cpu.as_secs_f64() * 1e6, result["requests"].as_f64()?),
        };
        (work > 0.0).then(|| seconds / work)
    }

    /// Whether this comparison says anything about the relay: splicing is a matter of bulk.
    fn concerns(self, relay: Relay) -> bool {
        relay != Relay::HaproxySplice || self == Self::Bulk
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) workload: Workload,
    pub(crate) relay: Relay,
    /// In the workload's unit.
    pub(crate) cost: f64,
    /// The part of its time that the relay could run and did not, from 0 to 1.
    pub(crate) disturbed: f64,
}

/// Runs the whole comparison; the exit code says whether every bar was met.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let congestion = namespace::set_up(&options.congestion)?;
    let loadgen = sibling("ringlane-loadgen")?;
    let mut versions = Vec::new();
    for relay in &options.relays {
        versions.push((relay.name(), relay.version()?));
    }
    let echo = Server::start(&loadgen, "echo", options.load_core)?;
    let source = Server::start(&loadgen, "source", options.load_core)?;
    let setting = Setting {
        core: options.relay_core,
        congestion: congestion.clone(),
        server_echo: echo.address.clone(),
        server_source: source.address.clone(),
    };
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        for &workload in &options.workloads {
            let mut order: Vec<Relay> =
                options.relays.iter().copied().filter(|relay| workload.concerns(*relay)).collect();
            let first = round % order.len().max(1);
            order.rotate_left(first);
            for relay in order {
                let found = measure(relay, workload, &setting, options, &loadgen)?;
                println!("{}", line(round, relay, workload, &congestion, &found));
                let Measured { cost, disturbed, .. } = found;
                samples.push(Sample { round, workload, relay, cost, disturbed });
            }
        }
    }
    println!("\ncongestion control {congestion}; {} s each", options.seconds);
    versions.iter().for_each(|(name, version)| println!("{name:<15} {version}"));
    print!("{}", verdict::table(&samples));
    let (text, all_met) = verdict::verdicts(&samples);
    print!("{text}");
    verdict::disturbance(&samples).inspect(|warning| println!("\n{warning}"));
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run as a line of JSON.
fn line(
    round: usize,
    relay: Relay,
    workload: Workload,
    congestion: &str,
    found: &Measured,
) -> Value {
    json!({
        "round": round,
        "relay": relay.name(),
        "workload": workload.unit(),
        "congestion": congestion,
        "cost": found.cost,
        "disturbed": found.disturbed,
        "load": found.result,
    })
}

/// What one measurement found.
struct Measured {
    cost: f64,
    /// The part of its time that the relay could run and did not.
    disturbed: f64,
    /// What the load generator said.
    result: Value,
}

/// Starts the relay and runs the workload against it.
fn measure(
    relay: Relay,
    workload: Workload,
    setting: &Setting,
    options: &Options,
    loadgen: &Path,
) -> Result<Measured, String> {
    let what = format!("{}, {}", relay.name(), workload.unit());
    let running = Running::start(relay, setting)?;
    let mut load = on_core(options.load_core, loadgen)
        .args(workload.arguments())
        .args(["--for", &format!("{}s", options.seconds), "--json", "--marks"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", loadgen.display()))?;
    let mut said = BufReader::new(load.stderr.take().ok_or("no stderr")?);
    wait_for_mark(&mut said, "ready").map_err(|why| format!("{what}: {why}"))?;
    let account =
        || Ok::<_, String>((cpu::of_tree(running.pid())?, cpu::of_softirqs(setting.core)));
    let before = account()?;
    wait_for_mark(&mut said, "measured").map_err(|why| format!("{what}: {why}"))?;
    let after = account()?;
    let mut rest = String::new();
    let _ = said.read_to_string(&mut rest);
    let output = load.wait_with_output().map_err(|error| format!("{what}: {error}"))?;
    let mut result: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{what}: the load's result: {error}; it said {rest}"))?;
    if result["failed"] != 0 {
        return Err(format!("{what}: {rest}"));
    }
    let own = after.0.since(before.0);
    let put_off = after.1.saturating_sub(before.1);
    let cost = workload
        .cost(own.spent + put_off, &result)
        .ok_or_else(|| format!("{what}: nothing was done"))?;
    result["cpu_own"] = json!(own.spent.as_secs_f64());
    result["cpu_waited_for"] = json!(own.waited.as_secs_f64());
    result["cpu_put_off"] = json!(put_off.as_secs_f64());
    let disturbed = own.waited.as_secs_f64() / (own.waited + own.spent).as_secs_f64();
    Ok(Measured { cost, disturbed, result })
}

fn wait_for_mark(said: &mut impl BufRead, mark: &str) -> Result<(), String> {
    let mut all = String::new();
    loop {
        let begin = all.len();
        match said.read_line(&mut all) {
            Ok(0) | Err(_) => return Err(format!("the load ended before `{mark}`; it said {all}")),
            Ok(_) if all[begin..].trim_end() == mark => return Ok(()),
            Ok(_) => {}
        }
    }
}

/// A server of the load generator, ended with its value.
#[derive(Debug)]
struct Server {
    child: Child,
    address: String,
    /// Kept open, or the server's next word would end it.
    _said: BufReader<ChildStdout>,
}

impl Server {
    fn start(loadgen: &Path, role: &str, core: usize) -> Result<Self, String> {
        let cannot = |error| format!("cannot start `{} serve {role}`: {error}", loadgen.display());
        let mut child = on_core(core, loadgen)
            .args(["serve", role])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        let mut said = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut address = String::new();
        said.read_line(&mut address).map_err(cannot)?;
        Ok(Self { child, address: address.trim().to_owned(), _said: said })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
