//! The world of the machine: how its network is, and what is configured.
//!
//! Not here: what happens in it.

use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::ids::BackendId;
use ringlane_core::machine::sys::sim::Weather;
use ringlane_core::machine::{Address, Congestion};
use ringlane_core::settings::{
    Backend, BalanceKind, Bandwidth, Frontend, Mirror, Path, Server, Snapshot, Timeout,
};

use super::super::Input;
use super::{FRONTEND, MIRROR, SERVER};

pub(super) fn weather(input: &mut Input<'_>) -> Weather {
    let least = Duration::from_micros(20);
    Weather {
        latency: (least, least + Duration::from_micros(u64::from(input.byte()) * 8)),
        capacity: [1000, 16_384, 64_000, 256_000][input.below(4)],
        fragments: u64::from(input.byte() / 2),
        lateness: u64::from(input.byte() / 4),
        mishaps: u64::from(input.byte() / 4),
        squeezes: u64::from(input.byte() / 8),
        pipe: [4096, 65_536][input.below(2)],
        buffers: [2, 3, 16, 256][input.below(4)],
        descriptors: 1000,
    }
}

pub(super) fn snapshot(path: Path, bandwidth: Bandwidth, is_copied: bool) -> Snapshot {
    let long = Duration::from_secs(24 * 3600);
    let address = |at: ([u8; 4], u16)| Address::Inet(SocketAddr::from(at));
    Snapshot {
        generation: 1,
        max_connections: 10,
        log_sessions: true,
        frontends: vec![Frontend {
            name: "frontend".into(),
            bind: vec![address(FRONTEND)],
            backend: BackendId(0),
            max_connections: 10,
            timeout: Timeout {
                greeting: long,
                connect: long,
                client: long,
                server: long,
                fin: None,
            },
            congestion: Congestion::Host,
            path,
            ..Frontend::default()
        }],
        backends: vec![Backend {
            name: "backend".into(),
            balance: BalanceKind::RoundRobin,
            congestion: Congestion::Host,
            bandwidth,
            mirror: is_copied.then(|| Mirror { server: address(MIRROR), per_million: 1_000_000 }),
            server_count: 1,
            ..Backend::default()
        }],
        servers: vec![Server {
            name: "server".into(),
            backend: BackendId(0),
            address: Some(address(SERVER)),
            weight: 1,
            backup: false,
            max_connections: u32::MAX,
            ..Server::default()
        }],
    }
}
