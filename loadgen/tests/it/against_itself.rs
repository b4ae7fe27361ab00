//! The program against its own servers: what it counts is what was done.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;

use crate::program::{Server, load, measured, program, said};

#[test]
fn round_trips_are_counted_with_their_bytes_and_latencies() {
    let server = Server::start("echo --threads 2");
    let result =
        measured("tcp-rr", &server.address, "--sessions 5 --threads 2 --size 300 --for 300ms");
    let requests = result["requests"].as_u64().unwrap();
    assert!(requests >= 5, "{result}");
    assert_eq!(result["bytes"], requests * 600);
    assert_eq!(result["sessions"], 5);
    let quantile = |name: &str| result[name].as_f64().unwrap();
    assert!(quantile("p50") > 0.0 && quantile("p50") <= quantile("p99"), "{result}");
    assert!(quantile("p99.9") <= quantile("max") * 1.01, "{result}");
}

#[test]
fn streams_carry_every_byte_in_every_direction() {
    for (role, direction) in [("sink", "up"), ("source", "down"), ("echo", "both")] {
        let server = Server::start(role);
        let arguments = format!("--streams 3 --direction {direction} --bytes 10000001 --checksum");
        let result = measured("tcp-stream", &server.address, &arguments);
        let due = |way| if direction == way || direction == "both" { 10_000_001 } else { 0 };
        assert_eq!(result["bytes_sent"], due("up"), "{direction}: {result}");
        assert_eq!(result["bytes_received"], due("down"), "{direction}: {result}");
        assert_eq!(result["requests"], 3, "{direction}: {result}");
    }
}

#[test]
fn streams_end_when_the_time_is_over() {
    for (role, direction) in [("sink", "up"), ("source", "down"), ("echo", "both")] {
        let server = Server::start(role);
        let arguments = format!("--streams 2 --direction {direction} --for 200ms --checksum");
        let result = measured("tcp-stream", &server.address, &arguments);
        assert!(result["bytes"].as_u64().unwrap() > 0, "{direction}: {result}");
    }
}

#[test]
fn wrong_bytes_are_told() {
    // An echo takes the order for content and sends it back.
    let server = Server::start("echo");
    let arguments = "--direction down --bytes 16 --checksum";
    let output = load("tcp-stream", &server.address, arguments);
    assert!(!output.status.success());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["errors"]["corrupt"], 1, "{result}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrong bytes"), "{output:?}");
}

#[test]
fn short_connections_are_made_as_often_as_asked() {
    let server = Server::start("echo");
    let result = measured("tcp-crr", &server.address, "--concurrency 7 --count 500 --threads 2");
    assert_eq!(result["requests"], 500);
    assert_eq!(result["sessions"], 500);
}

#[test]
fn idle_sessions_answer_before_and_after_their_silence() {
    let server = Server::start("echo --threads 2");
    let arguments = "--sessions 300 --threads 2 --for 300ms --source 127.0.0.2,127.0.0.3";
    let result = measured("tcp-idle", &server.address, arguments);
    assert_eq!(result["sessions"], 300);
    assert_eq!(result["requests"], 600);
}

#[test]
fn a_server_that_is_away_is_counted_and_said() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = load("tcp-crr", &free, "--concurrency 2 --count 4");
    assert!(!output.status.success());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["errors"]["refused"], 4, "{result}");
    let said = said(&output);
    assert!(said.contains("4 failed") && said.contains(&free), "{said}");
}

#[test]
fn an_interrupted_run_prints_what_was_measured() {
    let server = Server::start("echo");
    for pace in ["--closed", "--rate 100"] {
        let arguments = format!("tcp-rr {} --json --marks --for 10m {pace}", server.address);
        let mut child =
            program(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut mark = String::new();
        said.read_line(&mut mark).unwrap();
        assert_eq!(mark, "ready\n");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["sessions"], 1, "{result}");
        assert_eq!(result["failed"], 0, "{result}");
        let most = result["seconds"].as_f64().unwrap() * 100.0 + 2.0;
        let due = result["schedule"]["due"].as_f64().unwrap_or(0.0);
        assert!(due <= most, "nothing is due after the end: {result}");
    }
}

#[test]
fn an_open_loop_sends_what_its_schedule_has() {
    let server = Server::start("echo");
    let arguments = "--sessions 8 --threads 2 --rate 500 --for 1s";
    let result = measured("tcp-rr", &server.address, arguments);
    assert_eq!(result["loop"], "open");
    assert_eq!(result["schedule"]["due"], 500, "{result}");
    let never_sent = result["schedule"]["never_sent"].as_u64().unwrap();
    assert_eq!(result["requests"].as_u64().unwrap() + never_sent, 500, "{result}");
    assert_eq!(result["latency"]["intended"]["count"], 500, "{result}");
}

#[test]
fn poisson_arrivals_and_short_connections_go_together() {
    let server = Server::start("echo");
    let arguments = "--concurrency 32 --rate 300 --arrivals poisson --for 1s";
    let result = measured("tcp-crr", &server.address, arguments);
    let due = result["schedule"]["due"].as_u64().unwrap();
    // The deviation of a Poisson count is its root: six of those never happen.
    assert!((196..=404).contains(&due), "{result}");
    assert_eq!(result["sessions"], result["requests"], "{result}");
}

#[test]
fn datagrams_come_back() {
    let server = Server::start("echo");
    let result = measured("udp-rr", &server.address, "--flows 4 --rate 200 --for 1s --timeout 5s");
    assert_eq!(result["schedule"]["due"], 200, "{result}");
    assert!(result["requests"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn datagram_streams_are_counted_on_both_sides() {
    for (role, direction, flow) in
        [("sink", "up", "flow_up"), ("source", "down", "flow_down"), ("echo", "both", "flow_down")]
    {
        let server = Server::start(role);
        let arguments = format!("--direction {direction} --flows 3 --rate 600 --size 500 --for 1s");
        let result = measured("udp-stream", &server.address, &arguments);
        let count = |name: &str| result[flow][name].as_u64().unwrap();
        assert!(count("received") > 0, "{direction}: {result}");
        assert_eq!(count("sent"), count("received") + count("lost"), "{direction}: {result}");
        assert_eq!(count("doubled"), 0, "{direction}: {result}");
        assert_eq!(result["requests"], count("received"), "{direction}: {result}");
        let bytes = if direction == "up" { "bytes_sent" } else { "bytes_received" };
        assert_eq!(result[bytes].as_u64().unwrap() % 500, 0, "{direction}: {result}");
    }
}

#[test]
fn the_cost_of_holding_sessions_is_read() {
    let server = Server::start("echo");
    let pid = server.running.0.id();
    let arguments = format!("--sessions 200 --for 200ms --pid {pid}");
    let result = measured("tcp-idle", &server.address, &arguments);
    let holding = &result["holding"];
    assert!(holding["memory_held"].as_u64() >= holding["memory_before"].as_u64(), "{result}");
}

#[test]
fn results_go_to_files_and_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = Server::start("echo");
    for name in ["a.json", "b.json"] {
        let (svg, hgrm) = (path("plot.svg"), path("latency.hgrm"));
        let arguments = format!("--rate 200 --for 300ms --svg {svg} --hgrm {hgrm}");
        let result = measured("tcp-rr", &server.address, &arguments);
        std::fs::write(path(name), result.to_string()).unwrap();
    }
    assert!(std::fs::read_to_string(path("plot.svg")).unwrap().contains("<polyline"));
    assert!(std::fs::read_to_string(path("latency.hgrm")).unwrap().contains("1/(1-Percentile)"));
    let line = format!("--compare {} {}", path("a.json"), path("b.json"));
    let output = program(&line).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("p99.9 µs") && !text.contains("DIFFERENT"), "{text}");
    let line = format!("--compare {} {}", path("a.json"), path("plot.svg"));
    let output = program(&line).output().unwrap();
    assert!(
        !output.status.success() && said(&output).contains("not one JSON object"),
        "{output:?}"
    );
}

#[test]
fn the_highest_rate_is_searched_up_to_a_limit() {
    let server = Server::start("echo");
    let line = format!(
        "find-max --slo max<60s --from 50 --to 100 tcp-rr {} --sessions 4 --for 300ms --json",
        server.address
    );
    let output = program(&line).output().unwrap();
    let said = said(&output);
    // A busy machine may make the generator the limit at any step.
    assert!(said.contains("50 a second: "), "{said}");
    if output.status.success() {
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["rate"], 100.0, "{result}");
        assert!(said.contains("is met up to 100 a second"), "{said}");
    }
}
