//! Sessions that would go round for ever.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use crate::harness::balancer::Setup;
use crate::harness::client::{connect, round_trip};
use crate::harness::dns::Dns;
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::wait_until;

/// A frontend and its backend with one server.
fn hop(name: &str, bind: SocketAddr, server: &str) -> String {
    format!(
        "[[frontend]]\nname = \"{name}\"\nbind = \"{bind}\"\nbackend = \"{name}\"\n\
         [[backend]]\nname = \"{name}\"\nserver = [{{ name = \"s\", address = \"{server}\" }}]\n"
    )
}

fn record(address: SocketAddr) -> String {
    format!("host-record=back.test,{}", address.ip())
}

#[test]
fn a_loop_by_name_is_stopped_counted_and_logged_and_leaves_nothing() {
    let (first, second) = (free_port(), free_port());
    let dns = Dns::with(&[record(first)]);
    let body = hop("front", first, &second.to_string())
        + &hop("inner", second, &format!("back.test:{}", first.port()));
    let ringlane = Setup::of(&body).global(&dns.resolver("10s")).start();
    let mut client = TcpStream::connect(first).unwrap();
    // Closed or reset, perhaps by now, but nothing comes.
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    ringlane.wait_for_word("loop suspected");
    // Though the client keeps its side open.
    wait_until("all hops to end", || ringlane.live() == 0);
    let counted: f64 = ringlane
        .metrics()
        .iter()
        .filter(|(name, _)| name.starts_with("ringlane_frontend_loops_suspected_total"))
        .map(|(_, count)| count)
        .sum();
    assert!(counted >= 1.0, "{counted}");
    wait_until("the refusal in the log", || {
        ringlane.log_now().iter().any(|record| record["close"] == "PR")
    });
    ringlane.end();
}

#[test]
fn a_chain_of_own_frontends_by_name_serves() {
    let (first, second) = (free_port(), free_port());
    let echo = Echo::start();
    let dns = Dns::with(&[record(second)]);
    let body = hop("front", first, &format!("back.test:{}", second.port()))
        + &hop("inner", second, &echo.address.to_string());
    let ringlane = Setup::of(&body).global(&dns.resolver("10s")).start();
    for _ in 0..5 {
        round_trip(&mut connect(first), b"through both");
    }
    wait_until("the sessions in the log", || ringlane.log_now().len() == 10);
    assert!(ringlane.log_now().iter().all(|record| record["close"] == "--"));
    ringlane.end();
}
