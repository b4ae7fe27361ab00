//! Many sessions: at once, one after the other, and fairly spread over shards.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;

use crate::harness::balancer::Setup;
use crate::harness::client::{connect, connect_from, round_trip, session, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::{heavy, wait_until};

#[test]
fn five_thousand_sessions_in_a_burst_cost_one_kibibyte_and_a_half_each() {
    let _alone = heavy();
    const SESSIONS: usize = 5000;
    // 1.0 KiB without an access log and on one shard. On epoll every shard has a table by
    // descriptor.
    let is_epoll = std::env::var("RINGLANE_IT_DRIVER").is_ok_and(|driver| driver == "epoll");
    let bytes_max = if is_epoll { 2048 } else { 1536 };
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let (address, process) = (ringlane.address(), ringlane.process());
    // One session before the measurement, so that what is made once is not put down to the others.
    drop(session(address));
    let descriptors = ringlane.descriptors_at_rest();
    let before = process.resident();

    // All open before the first byte, so that many openings are under way together: what they need
    // must not stay. The first bytes come all at once, too.
    let mut sessions: Vec<TcpStream> = (0..SESSIONS).map(|_| connect(address)).collect();
    sessions.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    sessions.iter_mut().for_each(|client| client.read_exact(&mut [0]).unwrap());
    assert_eq!(ringlane.live(), SESSIONS as u64);
    // The memory of buffers that the burst has used goes back after a moment of silence.
    let each = || process.resident().saturating_sub(before) / SESSIONS as u64;
    wait_until("an idle session to cost no more", || each() <= bytes_max);
    println!("{} bytes of memory per idle session", each());
    assert!(process.descriptors() >= descriptors + 2 * SESSIONS);

    sessions.iter_mut().for_each(|client| round_trip(client, b"still there"));
    drop(sessions);
    ringlane.wait_until_idle();
    wait_until("the descriptors to come back", || process.descriptors() <= descriptors);
    assert_eq!(ringlane.frontend("sessions"), SESSIONS as u64 + 1);
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    ringlane.end();
}

#[test]
fn a_hundred_thousand_short_connections_leave_nothing_behind() {
    let _alone = heavy();
    const CLIENTS: u8 = 16;
    const EACH: usize = 625;
    const TENTHS: usize = 10;
    const GROWTH_MAX: u64 = 512 * 1024;
    // Several addresses on either side, so that no side runs out of ports.
    let servers: Vec<Echo> = (1..=4).map(|n| Echo::on(Ipv4Addr::new(127, 0, 2, n), None)).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let ringlane = Setup::to(&addresses).start();
    let (address, process) = (ringlane.address(), ringlane.process());
    drop(session(address));
    let descriptors = ringlane.descriptors_at_rest();

    let mut resident = Vec::new();
    for _ in 0..TENTHS {
        thread::scope(|scope| {
            for client in 1..=CLIENTS {
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let source = Ipv4Addr::new(127, 0, 1, client);
                        let mut stream = connect_from(source, address).unwrap();
                        try_round_trip(&mut stream, b"hello").unwrap();
                    }
                });
            }
        });
        ringlane.wait_until_idle();
        resident.push(process.resident());
    }
    let total = u64::from(CLIENTS) * (EACH * TENTHS) as u64;
    println!(
        "KiB in use after each tenth: {:?}",
        resident.iter().map(|b| b / 1024).collect::<Vec<_>>()
    );
    let growth = resident[TENTHS - 1].saturating_sub(resident[0]);
    assert!(growth <= GROWTH_MAX, "grew by {growth} bytes");
    wait_until("the descriptors to come back", || process.descriptors() <= descriptors);
    assert_eq!(ringlane.frontend("sessions"), total + 1);
    assert_eq!(ringlane.frontend("sessions_failed"), 0);
    assert_eq!(ringlane.servers("sessions").iter().sum::<u64>(), total + 1);
    ringlane.end();
}

#[test]
fn long_sessions_are_spread_evenly_over_shards() {
    const SESSIONS: u64 = 64;
    let echo = Echo::start();
    for _ in 0..5 {
        let ringlane = Setup::to(&[echo.address]).start();
        let address = ringlane.address();
        let mut clients: Vec<_> = (0..SESSIONS).map(|_| connect(address)).collect();
        clients.iter_mut().for_each(|client| round_trip(client, b"hello"));
        let live = ringlane.shards("sessions_live");
        println!("{SESSIONS} sessions on 2 shards: {live:?}");
        assert_eq!(live.iter().sum::<u64>(), SESSIONS);
        let fair = SESSIONS as f64 / 2.0;
        for sessions in live {
            assert!((sessions as f64 - fair).abs() <= fair / 10.0, "{sessions} of {SESSIONS}");
        }
        drop(clients);
        ringlane.wait_until_idle();
        ringlane.end();
    }
}
