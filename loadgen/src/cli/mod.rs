//! The command line, and its translation into a plan. The options themselves are in `options`.

mod options;
mod values;

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use self::options::{Command, Common, Load, Mixed, Pace};
use self::values::{between, message};
use crate::find_max::Question;
use crate::flow::HEADER;
use crate::load::lost::NUMBERS;
use crate::load::{Kind, Login, Mixture, Plan, RedisSetting};
use crate::output::Output;
use crate::schedule::Open;
use crate::serve;

/// Traffic for tests and comparisons.
#[derive(Debug, Parser)]
#[command(name = "ringlane-loadgen", version, args_conflicts_with_subcommands = true)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Compare two results of --json
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    compare: Option<Vec<PathBuf>>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How long a step of a search goes on if nobody says otherwise.
const STEP: Duration = Duration::from_secs(5);

/// The longest datagram that is sent.
const DATAGRAM_MOST: u64 = 65_000;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Work {
    /// Make traffic.
    Load(Plan, Output),
    /// Make traffic again and again, until the highest rate is known.
    FindMax(Question, Plan, Output),
    /// Answer it.
    Serve(serve::ServePlan),
    /// Read two results.
    Compare(PathBuf, PathBuf),
}

impl Cli {
    /// Checks what clap can't, resolves names and reads passwords.
    pub(crate) fn into_work(self) -> Result<Work, String> {
        match (self.command, self.compare.as_deref()) {
            (Some(Command::Load(load)), _) => {
                let Asked { plan, output, .. } = asked(load)?;
                if plan.for_.is_none() && !plan.kind.is_counted() {
                    return Err("how long? Give --for TIME, such as --for 5s".to_owned());
                }
                Ok(Work::Load(plan, output))
            }
            (Some(Command::FindMax(find)), _) => {
                let Asked { mut plan, output, pace } = asked(find.load)?;
                if !paced(&plan.kind) {
                    return Err(format!("find-max: {} has no arrivals", plan.kind.name()));
                }
                if plan.open.is_some() {
                    return Err("find-max: it searches the rate, so leave --rate away".to_owned());
                }
                plan.for_.get_or_insert(STEP);
                let question = Question {
                    slo: find.slo,
                    from: find.from,
                    to: find.to,
                    precision: find.precision,
                    arrivals: pace.arrivals,
                    seed: pace.seed,
                };
                Ok(Work::FindMax(question, plan, output))
            }
            (Some(Command::Serve { role, listen, cores }), _) => {
                let threads = cores.threads.clamp(1, 1024);
                Ok(Work::Serve(serve::ServePlan { role, listen, threads, cpus: cores.cpu }))
            }
            (None, Some([a, b])) => Ok(Work::Compare(a.clone(), b.clone())),
            (None, _) => Err("what to do? See --help".to_owned()),
        }
    }
}

/// Whether the kind has arrivals that a schedule can spread.
fn paced(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::RoundTrip { .. }
            | Kind::Connect { .. }
            | Kind::Datagrams { .. }
            | Kind::Pgsql(_)
            | Kind::Redis(_)
    )
}

/// What the options of a kind of load ask for.
struct Asked {
    plan: Plan,
    output: Output,
    pace: Pace,
}

fn asked(load: Load) -> Result<Asked, String> {
    let (common, pace, kind, sessions) = match load {
        Load::TcpRr { common, pace, sessions, size, watch } => {
            let size = message("--size", size)?;
            let kind = if watch.sessions_lost {
                if pace.rate.is_some() {
                    return Err("--sessions-lost goes by --every, not by --rate".to_owned());
                }
                between("--size", size as u64, NUMBERS as u64, 65_536)?;
                Kind::Watched { size, every: watch.every, stall: watch.stall }
            } else {
                Kind::RoundTrip { size }
            };
            (common, pace, kind, sessions)
        }
        Load::TcpStream { common, streams, direction, bytes, checksum } => {
            (common, Pace::default(), Kind::Stream { direction, bytes, checksum }, streams)
        }
        Load::TcpCrr { common, pace, concurrency, count, size } => {
            let size = message("--size", size)?;
            (common, pace, Kind::Connect { count, size }, concurrency)
        }
        Load::TcpIdle { common, sessions, pid } => {
            (common, Pace::default(), Kind::Idle { pid }, sessions)
        }
        Load::TcpMixed { common, mixed } => {
            let sessions = mixed.sessions.saturating_add(mixed.streams);
            (common, Pace::default(), Kind::Mixed(mixture(mixed)?), sessions)
        }
        Load::UdpRr { common, pace, flows, size, timeout } => {
            let size = between("--size", size, HEADER as u64, DATAGRAM_MOST)?;
            (common, pace, Kind::Datagrams { size, timeout }, flows)
        }
        Load::UdpStream { common, flows, direction, rate, size } => {
            let size = between("--size", size, HEADER as u64, DATAGRAM_MOST)?;
            let kind = Kind::DatagramStream { direction, size, rate };
            (common, Pace::default(), kind, flows)
        }
        Load::Pgsql { common, pace, sessions, user, database, query, password_file } => {
            let password = password(password_file.as_deref(), "PGPASSWORD")?;
            let orderly = |text: &str| !text.contains('\0');
            if ![&user, &query].into_iter().chain(&database).all(|text| orderly(text)) {
                return Err("a zero byte in --user, --database or --query".to_owned());
            }
            let database = database.unwrap_or_else(|| user.clone());
            (common, pace, Kind::Pgsql(Login { user, password, database, query }), sessions)
        }
        Load::Redis { common, pace, sessions, redis } => {
            let setting = RedisSetting {
                command: redis.command,
                pipeline: redis.pipeline as usize,
                keys: redis.keys,
                size: message("--size", redis.size)?,
                user: redis.user,
                password: password(redis.password_file.as_deref(), "REDISCLI_AUTH")?,
            };
            (common, pace, Kind::Redis(setting), sessions)
        }
    };
    assemble(common, pace, kind, sessions)
}

/// What a mixed run consists of.
fn mixture(mixed: Mixed) -> Result<Mixture, String> {
    let size = between("--size", mixed.size, NUMBERS as u64, 65_536)?;
    let stream_rate = between("--stream-rate", mixed.stream_rate, 1, 1 << 40)? as f64;
    let Mixed { sessions, every, streams, rate, timeout, events, window, .. } = mixed;
    if sessions == 0 && streams == 0 && rate == 0.0 {
        return Err("--sessions 0 --streams 0 --rate 0: that is no load".to_owned());
    }
    Ok(Mixture { sessions, every, size, streams, stream_rate, rate, timeout, events, window })
}

fn assemble(common: Common, pace: Pace, kind: Kind, sessions: u32) -> Result<Asked, String> {
    let sessions = sessions as usize;
    let open = pace.rate.map(|rate| Open { rate, arrivals: pace.arrivals, seed: pace.seed });
    let output = Output { json: common.json, svg: common.svg, hgrm: common.hgrm };
    let plan = Plan {
        kind,
        sessions,
        address: resolve(&common.address)?,
        sources: common.source,
        threads: common.cores.threads.clamp(1, sessions.max(1)),
        cpus: common.cores.cpu,
        open,
        for_: common.for_,
        give_up: common.give_up,
        marks: common.marks,
        progress: !common.marks && io::stderr().is_terminal(),
    };
    Ok(Asked { plan, output, pace })
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| format!("{address}: {error}; say ADDRESS:PORT or NAME:PORT"))?;
    found.next().ok_or_else(|| format!("{address}: the name has no address"))
}

/// From a file, or else from the environment; never from the command line, which all can read.
fn password(file: Option<&Path>, variable: &str) -> Result<Option<String>, String> {
    let Some(file) = file else { return Ok(env::var(variable).ok()) };
    let text = fs::read_to_string(file)
        .map_err(|error| format!("--password-file {}: {error}", file.display()))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests;
