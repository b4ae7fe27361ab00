//! Every option with the words that `--help` shows.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, value_parser};

use super::values::{duration, percent, rate, rate_or_none, size};
use crate::load::Direction;
use crate::schedule::Arrivals;
use crate::slo::Slo;
use crate::{load, serve};

/// The most sessions of one run.
const SESSIONS_MOST: i64 = 10_000_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(flatten)]
    Load(Load),
    /// Search the highest rate that meets an objective
    FindMax(FindMax),
    /// The other side: answers on --listen (TCP and UDP) and prints the address when it is ready
    Serve {
        #[arg(value_enum)]
        role: serve::Role,
        /// Address to listen on; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        #[command(flatten)]
        cores: Cores,
    },
}

#[derive(Args, Debug)]
pub(super) struct FindMax {
    /// What must hold, such as 'p99<2ms' or 'p99.9<5ms,errors<0.1%'
    #[arg(long, value_parser = Slo::parse)]
    pub(super) slo: Slo,
    /// The first rate to try, a second
    #[arg(long, default_value = "100", value_parser = rate)]
    pub(super) from: f64,
    /// The highest rate to try, a second
    #[arg(long, default_value = "10m", value_parser = rate)]
    pub(super) to: f64,
    /// How close the answer must be
    #[arg(long, default_value = "5%", value_parser = percent)]
    pub(super) precision: f64,
    #[command(subcommand)]
    pub(super) load: Load,
}

#[derive(Debug, Subcommand)]
pub(super) enum Load {
    /// Round trips: each session sends SIZE bytes and waits for as many, again and again
    TcpRr {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        pace: Pace,
        /// Sessions at once
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        sessions: u32,
        /// Bytes each way per round trip
        #[arg(long, default_value = "128", value_parser = size)]
        size: u64,
        #[command(flatten)]
        watch: Watch,
    },
    /// Bulk: long streams; up needs `serve sink`, down `serve source`, both `serve echo`
    TcpStream {
        #[command(flatten)]
        common: Common,
        /// Streams at once
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        streams: u32,
        #[arg(long, value_enum, default_value_t = Direction::Down)]
        direction: Direction,
        /// Bytes each way over all streams; without it, until the time is over
        #[arg(long, value_parser = size)]
        bytes: Option<u64>,
        /// Compare every byte that arrives with what was sent
        #[arg(long)]
        checksum: bool,
    },
    /// Short connections: connect, one round trip, close
    TcpCrr {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        pace: Pace,
        /// Connections at once
        #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        concurrency: u32,
        /// Connections in all; without it, until the time is over
        #[arg(long)]
        count: Option<u64>,
        /// Bytes each way
        #[arg(long, default_value = "128", value_parser = size)]
        size: u64,
    },
    /// Idle sessions: one byte there and back at the beginning and at the end, silence between
    TcpIdle {
        #[command(flatten)]
        common: Common,
        /// Sessions at once
        #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        sessions: u32,
        /// A process of this machine that holds the other side: what the sessions cost it is read
        #[arg(long)]
        pid: Option<i32>,
    },
    /// Sessions, bulk streams and new connections at once, and the gaps that a change of the other
    /// side causes; needs `serve echo`
    TcpMixed {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        mixed: Mixed,
    },
    /// Round trips of one datagram; needs `serve echo`
    UdpRr {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        pace: Pace,
        /// Flows at once
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        flows: u32,
        /// Bytes each way
        #[arg(long, default_value = "128", value_parser = size)]
        size: u64,
        /// What an answer may take before it counts as lost
        #[arg(long, default_value = "1s", value_parser = duration)]
        timeout: Duration,
    },
    /// Datagrams at a given rate; up needs `serve sink`, down `serve source`, both `serve echo`
    UdpStream {
        #[command(flatten)]
        common: Common,
        /// Flows at once
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        flows: u32,
        #[arg(long, value_enum, default_value_t = Direction::Up)]
        direction: Direction,
        /// Datagrams a second over all flows, such as 1000 or 20k
        #[arg(long, value_parser = rate)]
        rate: f64,
        /// Bytes of each
        #[arg(long, default_value = "1200", value_parser = size)]
        size: u64,
    },
    /// PostgreSQL: log in (SCRAM-SHA-256, md5, trust), then one query after the other
    Pgsql {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        pace: Pace,
        /// Sessions at once
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        sessions: u32,
        #[arg(long, default_value = "postgres")]
        user: String,
        /// The user's name without it
        #[arg(long)]
        database: Option<String>,
        #[arg(long, default_value = "SELECT 1")]
        query: String,
        /// The password is in this file; without it, in the environment as PGPASSWORD
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Redis: pipelines of SET and GET on keys `loadgen:N`
    Redis {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        pace: Pace,
        /// Sessions at once
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=SESSIONS_MOST))]
        sessions: u32,
        #[command(flatten)]
        redis: Pipelines,
    },
}

#[derive(Args, Debug)]
pub(super) struct Pipelines {
    #[arg(long, value_enum, default_value_t = load::CommandMix::Mixed)]
    pub(super) command: load::CommandMix,
    /// Commands that are sent before their answers are waited for; a pipeline counts as one request
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(super) pipeline: u32,
    /// Different keys
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u64).range(1..))]
    pub(super) keys: u64,
    /// Bytes of a value
    #[arg(long, default_value = "64", value_parser = size)]
    pub(super) size: u64,
    #[arg(long)]
    pub(super) user: Option<String>,
    /// The password is in this file; without it, in the environment as REDISCLI_AUTH
    #[arg(long)]
    pub(super) password_file: Option<PathBuf>,
}

/// Watching sessions instead of counting round trips.
#[derive(Args, Debug)]
pub(super) struct Watch {
    /// Report every session that is cut, stalls or is corrupted, with the moment
    #[arg(long)]
    pub(super) sessions_lost: bool,
    /// With --sessions-lost: how often each session sends a message
    #[arg(long, default_value = "100ms", value_parser = duration, requires = "sessions_lost")]
    pub(super) every: Duration,
    /// With --sessions-lost: the longest silence that is not reported
    #[arg(long, default_value = "1s", value_parser = duration, requires = "sessions_lost")]
    pub(super) stall: Duration,
}

/// What a mixed run consists of.
#[derive(Args, Debug)]
pub(super) struct Mixed {
    /// Sessions that are kept
    #[arg(long, default_value_t = 2000, value_parser = value_parser!(u32).range(0..=SESSIONS_MOST))]
    pub(super) sessions: u32,
    /// How often each session sends a message
    #[arg(long, default_value = "200ms", value_parser = duration)]
    pub(super) every: Duration,
    /// Bytes of a message
    #[arg(long, default_value = "64", value_parser = size)]
    pub(super) size: u64,
    /// Bulk streams that are kept
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(0..=SESSIONS_MOST))]
    pub(super) streams: u32,
    /// Bytes a second of each stream, each way
    #[arg(long, default_value = "256k", value_parser = size)]
    pub(super) stream_rate: u64,
    /// New connections a second, each with one message; 0 for none
    #[arg(long, default_value = "200", value_parser = rate_or_none)]
    pub(super) rate: f64,
    /// What a new connection gets until its answer is there
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// Lines on stdin mark events; the line is the event's label
    #[arg(long)]
    pub(super) events: bool,
    /// How long after an event a gap still counts as in its window
    #[arg(long, default_value = "700ms", value_parser = duration)]
    pub(super) window: Duration,
}

/// When requests are sent.
#[derive(Args, Debug)]
pub(super) struct Pace {
    /// Open loop: so many arrivals a second, such as 0.5, 1000, 20k, whatever the answers do
    #[arg(long, value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// Closed loop, which is so without --rate: every session sends as soon as it has its answer
    #[arg(long, conflicts_with = "rate")]
    closed: bool,
    /// How the arrivals of an open loop are spread over time
    #[arg(long, value_enum, default_value_t = Arrivals::Constant)]
    pub(super) arrivals: Arrivals,
    /// Which random sequence the arrivals follow
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: None, closed: true, arrivals: Arrivals::Constant, seed: 1 }
    }
}

#[derive(Args, Debug)]
pub(super) struct Common {
    /// Where to connect to, as ADDRESS:PORT or NAME:PORT
    pub(super) address: String,
    /// How long to go on, such as 500ms, 5s, 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(super) for_: Option<Duration>,
    /// How long to go on at most when the work is given as a number
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(super) give_up: Duration,
    /// Client addresses to use in turn; a list of addresses of this machine
    #[arg(long, value_delimiter = ',')]
    pub(super) source: Vec<IpAddr>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
    /// Draw latency by percentile into this file
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
    /// Write latency by percentile into this file, as plotters of HdrHistogram read it
    #[arg(long, value_name = "FILE")]
    pub(super) hgrm: Option<PathBuf>,
    /// Say `ready` and `measured` on stderr, for a program that measures in between
    #[arg(long)]
    pub(super) marks: bool,
    #[command(flatten)]
    pub(super) cores: Cores,
}

#[derive(Args, Debug)]
pub(super) struct Cores {
    /// Threads; sessions are shared evenly among them
    #[arg(long, default_value_t = 1)]
    pub(super) threads: usize,
    /// Pin the threads to these cores, in turn, such as 0,2,3
    #[arg(long, value_delimiter = ',')]
    pub(super) cpu: Vec<usize>,
}
