//! The command line, and its translation into a plan.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::{Kind, Plan};
use crate::serve;

/// Traffic for tests and comparisons.
#[derive(Debug, Parser)]
#[command(name = "ringlane-loadgen", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Round trips: each session sends SIZE bytes and waits for as many, again and again
    TcpRr {
        #[command(flatten)]
        common: Common,
        /// Sessions at once
        #[arg(long, default_value_t = 1)]
        sessions: usize,
        /// Bytes each way per round trip
        #[arg(long, default_value = "128", value_parser = size)]
        size: u64,
    },
    /// Bulk: long streams; up needs `serve sink`, down `serve source`, both `serve echo`
    TcpStream {
        #[command(flatten)]
        common: Common,
        /// Streams at once
        #[arg(long, default_value_t = 1)]
        streams: usize,
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
        /// Connections at once
        #[arg(long, default_value_t = 64)]
        concurrency: usize,
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
        #[arg(long, default_value_t = 1000)]
        sessions: usize,
    },
    /// The other side: answers on --listen and prints the bound address when it is ready
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
struct Common {
    /// Where to connect to, as ADDRESS:PORT or NAME:PORT
    address: String,
    /// How long to go on, such as 500ms, 5s, 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    for_: Option<Duration>,
    /// How long to go on at most when the work is given as a number
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    give_up: Duration,
    /// Client addresses to use in turn; a list of addresses of this machine
    #[arg(long, value_delimiter = ',')]
    source: Vec<IpAddr>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Say `ready` and `measured` on stderr, for a program that measures in between
    #[arg(long)]
    marks: bool,
    #[command(flatten)]
    cores: Cores,
}

#[derive(Args, Debug)]
struct Cores {
    /// Threads; sessions are shared evenly among them
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Pin the threads to these cores, in turn, such as 0,2,3
    #[arg(long, value_delimiter = ',')]
    cpu: Vec<usize>,
}

/// Which way a stream's bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Direction {
    /// From here to the server.
    Up,
    /// From the server to here.
    Down,
    /// Up, and back at the same time.
    Both,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Work {
    /// Make traffic; print the result as JSON or as text.
    Load(Plan, bool),
    /// Answer it.
    Serve(serve::Plan),
}

impl Cli {
    /// Checks what clap can't and resolves names.
    pub(crate) fn into_work(self) -> Result<Work, String> {
        let (common, kind, sessions) = match self.command {
            Command::TcpRr { common, sessions, size } => {
                (common, Kind::RoundTrip { size: payload(size)? }, sessions)
            }
            Command::TcpStream { common, streams, direction, bytes, checksum } => {
                (common, Kind::Stream { direction, bytes, checksum }, streams)
            }
            Command::TcpCrr { common, concurrency, count, size } => {
                (common, Kind::Connect { count, size: payload(size)? }, concurrency)
            }
            Command::TcpIdle { common, sessions } => (common, Kind::Idle, sessions),
            Command::Serve { role, listen, cores } => {
                let threads = cores.threads.max(1);
                return Ok(Work::Serve(serve::Plan { role, listen, threads, cpus: cores.cpu }));
            }
        };
        if common.for_.is_none() && !kind.is_counted() {
            return Err("how long? Give --for TIME, such as --for 5s".to_owned());
        }
        let plan = Plan {
            kind,
            sessions,
            address: resolve(&common.address)?,
            sources: common.source,
            threads: common.cores.threads.clamp(1, sessions.max(1)),
            cpus: common.cores.cpu,
            for_: common.for_,
            give_up: common.give_up,
            marks: common.marks,
        };
        Ok(Work::Load(plan, common.json))
    }
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| format!("{address}: {error}; say ADDRESS:PORT or NAME:PORT"))?;
    found.next().ok_or_else(|| format!("{address}: the name has no address"))
}

/// The bytes of one message, which are all held in memory for every session.
fn payload(size: u64) -> Result<usize, String> {
    let most = 16 << 20;
    match usize::try_from(size) {
        Ok(size @ 1..) if size <= most => Ok(size),
        _ => Err(format!("--size {size}: between 1 and {most} bytes")),
    }
}

/// Reads `128`, `64k`, `16m`, `1g` (powers of 1024).
fn size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if lower.ends_with('k') => (digits, 10),
        Some(digits) if lower.ends_with('m') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (lower.as_str(), 0),
    };
    let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    number.ok_or_else(|| "a number of bytes such as 128, 64k, 16m or 1g".to_owned())
}

/// Reads `500ms`, `5s`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(millis)) {
        Some(millis @ 1..) => Ok(Duration::from_millis(millis)),
        _ => Err("a time such as 500ms, 5s, 2m or 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_or_refused() {
        for (text, bytes) in [("128", 128), ("64k", 65_536), ("1G", 1 << 30), ("0", 0)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for (text, millis) in [("500ms", 500), ("5s", 5000), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "k", "1t", "-1", "99999999999g"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["", "5", "0s", "s", "1.5s", "1d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn work_without_an_end_is_refused() {
        let work = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().into_work();
        assert!(work("x tcp-rr 127.0.0.1:1").unwrap_err().contains("--for"));
        assert!(work("x tcp-crr 127.0.0.1:1").is_err());
        assert!(work("x tcp-rr 127.0.0.1:1 --size 0 --for 1s").is_err());
        assert!(work("x tcp-crr 127.0.0.1:1 --count 5").is_ok());
        assert!(work("x tcp-stream 127.0.0.1:1 --bytes 1g").is_ok());
    }
}
