//! Live control: events and numbers as they come, changes at run time, and what the API documents.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::client::{connect, round_trip, session};
use crate::harness::echo::Echo;
use crate::harness::server::free_port;
use crate::harness::{wait_for, wait_until};

/// A stream on the admin socket.
struct Stream(UnixStream, String);

impl Stream {
    fn open(ringlane: &Ringlane, page: &str, headers: &str) -> Self {
        let mut stream = UnixStream::connect(ringlane.admin_socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!("GET {page} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Self(stream, String::new())
    }

    /// Reads until something is there.
    #[track_caller]
    fn wait_for(&mut self, part: &str) -> &str {
        let mut piece = [0; 4096];
        while !self.1.contains(part) {
            let read = self.0.read(&mut piece).unwrap();
            assert!(read > 0, "ended without {part:?}: {}", self.1);
            self.1.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        &self.1
    }
}

#[test]
fn events_are_numbered_and_a_client_that_returns_misses_none() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let mut stream = Stream::open(&ringlane, "/v1/events", "");
    stream.wait_for("text/event-stream");
    stream.wait_for("retry: 1000");
    ringlane.order("back/s1", "drain");
    stream.wait_for("\"kind\":\"server_changed\"");
    stream.wait_for("up, drain");
    let seen = stream.1.clone();
    let id: u64 = {
        let at = seen.rfind("id: ").unwrap() + 4;
        seen[at..].lines().next().unwrap().parse().unwrap()
    };
    drop(stream);
    ringlane.order("back/s1", "ready");
    ringlane.order("back/s1", "maint");
    let mut again = Stream::open(&ringlane, "/v1/events", &format!("Last-Event-ID: {id}\r\n"));
    again.wait_for("up, maint");
    assert!(again.1.contains(&format!("id: {}", id + 1)), "{}", again.1);
    assert!(
        !again.1.contains(&format!("id: {id}\n")) && !again.1.contains("lagged"),
        "{}",
        again.1
    );

    drop(again);

    let output = ctl(&ringlane, &["events", "--limit", "2", "--json"]);
    let page: Value = serde_json::from_str(&output).unwrap();
    let events = page["events"].as_array().unwrap();
    assert_eq!((events.len(), &events[1]["server"]), (2, &"s1".into()), "{page}");
    let text = events[1]["text"].as_str().unwrap();
    assert!(text.contains("ordered by an operator (uid "), "{text}");
    let lines = ctl(&ringlane, &["events", "-n", "1"]);
    assert!(lines.lines().count() == 1 && lines.contains("up, maint"), "{lines}");
    ringlane.end();
}

/// What `ringlane ctl` prints.
#[track_caller]
fn ctl(ringlane: &Ringlane, arguments: &[&str]) -> String {
    let output = ctl_output(ringlane, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ctl_output(ringlane: &Ringlane, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane"));
    command.args(["ctl", "--socket", path_str(&ringlane.admin_socket())]).args(arguments);
    command.output().unwrap()
}

#[test]
fn streams_are_bounded_and_orders_are_still_served() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let mut streams: Vec<Stream> = (0..32)
        .map(|n| Stream::open(&ringlane, if n % 2 == 0 { "/v1/events" } else { "/v1/live" }, ""))
        .collect();
    for stream in &mut streams {
        stream.wait_for("retry: 1000");
    }
    let mut refused = Stream::open(&ringlane, "/v1/live", "");
    refused.wait_for("there are 32 streams already");
    assert!(refused.1.starts_with("HTTP/1.1 503 "), "{}", refused.1);
    // Clients that ask for nothing are put out for it, streams are not.
    let idle: Vec<UnixStream> =
        (0..200).map(|_| UnixStream::connect(ringlane.admin_socket()).unwrap()).collect();
    ringlane.order("back/s1", "drain");
    let name = "ringlane_admin_requests_refused_total{code=\"503\"}";
    assert_eq!(ringlane.metrics()[name], 1.0);
    for stream in streams.iter_mut().step_by(2) {
        stream.wait_for("up, drain");
    }
    let second = |stream: &Stream| stream.1.matches("data: ").count() >= 2;
    wait_until("a second frame of live numbers", || {
        let stream = &mut streams[1];
        let mut piece = [0; 4096];
        let read = stream.0.read(&mut piece).unwrap();
        stream.1.push_str(&String::from_utf8_lossy(&piece[..read]));
        second(stream)
    });
    let frame = streams[1].1.rsplit("data: ").nth(1).unwrap().trim();
    let frame: Value = serde_json::from_str(frame.lines().next().unwrap()).unwrap();
    assert_eq!(frame["frontends"][0]["name"], "front");
    assert_eq!(frame["backends"][0]["servers"][0]["name"], "s1");
    drop((streams, idle));
    // A place is free again once its client is gone.
    wait_for("a stream", || {
        let mut stream = Stream::open(&ringlane, "/v1/events", "");
        let mut piece = [0; 4096];
        let read = stream.0.read(&mut piece).unwrap();
        stream.1.push_str(&String::from_utf8_lossy(&piece[..read]));
        stream.1.contains(" 200 ").then_some(())
    });
    ringlane.end();
}

#[test]
fn a_paused_frontend_keeps_its_clients_waiting_and_serves_them_after_it() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).frontend("max_connections = 5").start();
    let address = ringlane.address();
    let mut live = session(address);
    assert_eq!(ctl(&ringlane, &["frontend", "front", "pause"]), "front: done\n");
    ringlane.wait_for_word("frontend front is paused: ordered by an operator (uid ");
    // Open sessions go on.
    round_trip(&mut live, b"hello");
    let mut waiting: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    for client in &mut waiting {
        client.write_all(b"x").unwrap();
    }
    let status = ringlane.status();
    let frontend = &status["frontends"][0];
    assert_eq!((&frontend["paused"], &frontend["changed"]), (&true.into(), &true.into()));
    assert_eq!((&frontend["sessions_max"], &frontend["max_connections"]), (&0.into(), &5.into()));
    // Shards may have accepted a connection each before they saw that the gate is closed.
    assert!(ringlane.frontend("sessions") == 1, "{frontend}");
    ctl(&ringlane, &["frontend", "front", "max-connections", "7"]);
    assert_eq!(ringlane.frontend("sessions_max"), 0);

    ctl(&ringlane, &["frontend", "front", "resume"]);
    for client in &mut waiting {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }
    assert_eq!(ringlane.frontend("sessions_max"), 7);
    let changes: Value = serde_json::from_str(&ctl(&ringlane, &["--json", "changes"])).unwrap();
    let [change] = &changes["changes"].as_array().unwrap()[..] else { panic!("{changes}") };
    assert_eq!((&change["key"], &change["from"]), (&"max_connections".into(), &5.into()));
    assert!(ctl(&ringlane, &["changes", "--toml"]).contains("\nmax_connections = 7\n"));
    ctl(&ringlane, &["changes", "put-back", &change["id"].to_string()]);
    assert_eq!(ringlane.frontend("sessions_max"), 5);
    assert_eq!(ringlane.status()["frontends"][0]["changed"], false);
    drop((live, waiting));
    ringlane.end();
}

#[test]
fn a_raised_limit_of_a_server_serves_sessions_that_wait() {
    let echo = Echo::start();
    let mut setup = Setup::to(&[]).backend("queue = { size = 9, timeout = \"60s\" }");
    setup.server(&format!("name = \"s1\", address = \"{}\", max_connections = 1", echo.address));
    let ringlane = setup.start();
    let live = session(ringlane.address());
    let mut waiting: Vec<TcpStream> = (0..4).map(|_| connect(ringlane.address())).collect();
    for client in &mut waiting {
        client.write_all(b"x").unwrap();
    }
    wait_until("four to wait", || ringlane.status()["backends"][0]["queue"]["sessions_live"] == 4);
    ctl(&ringlane, &["server", "back/s1", "max-connections", "5"]);
    for client in &mut waiting {
        client.read_exact(&mut [0]).unwrap();
    }
    let status = ringlane.status();
    let server = &status["backends"][0]["servers"][0];
    assert_eq!(server["max_connections"], 5);
    assert_eq!(
        (&server["max_connections_configured"], &server["changed"]),
        (&1.into(), &true.into())
    );
    drop((live, waiting));
    ringlane.end();
}

#[test]
fn ctl_waits_for_a_drain_and_knows_what_was_meant() {
    let echo = Echo::start();
    let ringlane = Setup::to(&[echo.address]).start();
    let live = session(ringlane.address());
    let late = ctl_output(&ringlane, &["drain", "back/s1", "--wait", "--timeout", "1ms"]);
    let said = String::from_utf8_lossy(&late.stderr);
    assert!(late.status.code() == Some(2) && said.contains("still 1 session;"), "{said}");
    drop(live);
    assert_eq!(ctl(&ringlane, &["drain", "back/s1", "--wait"]), "back/s1: drained\n");
    for (arguments, said) in [
        (&["server", "back/s2", "ready"][..], "has no server \"s2\"; did you mean \"s1\"?"),
        (&["server", "bakc/s1", "ready"], "did you mean \"back\"?"),
        (&["server", "s1", "ready"], "did you mean \"back/s1\"?"),
        (&["frontend", "frnt", "pause"], "did you mean \"front\"?"),
        (&["changes", "put-back", "99"], "there is no change 99"),
    ] {
        let output = ctl_output(&ringlane, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(said), "{stderr}");
    }
    ringlane.end();
}

#[test]
fn orders_are_taken_while_a_balancer_drains() {
    let echo = Echo::start();
    let mut ringlane = Setup::to(&[echo.address]).start();
    let live = session(ringlane.address());
    let mut stream = Stream::open(&ringlane, "/v1/events", "");
    stream.wait_for("retry: 1000");
    ringlane.signal(nix::sys::signal::Signal::SIGTERM);
    stream.wait_for("draining, 1 live session");
    for arguments in [
        &["server", "back/s1", "maint"][..],
        &["frontend", "front", "pause"],
        &["frontend", "front", "resume"],
        &["changes"],
    ] {
        ctl(&ringlane, arguments);
    }
    stream.wait_for("up, maint");
    drop((live, stream));
    ringlane.assert_ended_well();
}

/// What a JSON schema of the document has at the top, compared with a value.
fn check_shape(document: &Value, schema: &Value, value: &Value, of: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect(reference),
        None => schema,
    };
    assert_eq!(schema["type"], "object", "{of}: {schema}");
    let object = value.as_object().unwrap_or_else(|| panic!("{of}: {value}"));
    for key in schema["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(key.as_str().unwrap()), "{of}: no {key} in {value}");
    }
    let Some(known) = schema["properties"].as_object() else { return };
    for (key, value) in object {
        let kind = known.get(key).unwrap_or_else(|| panic!("{of}: {key} is not in the schema"));
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let kinds = kind["type"].to_string();
        let fits = kind["type"].is_null()
            || kinds.contains(&format!("\"{found}\""))
            || (found == "integer" && kinds.contains("\"number\""));
        assert!(fits, "{of}: {key} is {value}, not {kinds}");
        if let (Some(items), Value::Array(values)) = (kind.get("items"), value)
            && (items["$ref"].is_string() || items["type"] == "object")
        {
            values.iter().for_each(|value| check_shape(document, items, value, key));
        }
    }
}

#[test]
fn every_get_of_the_document_is_answered_as_it_says() {
    let echo = Echo::start();
    let keys = "affinity = { key = \"client_ip\", ttl = \"1h\" }\nqueue = { size = 5 }";
    let ringlane = Setup::to(&[echo.address, free_port()]).backend(keys).start();
    drop(session(ringlane.address()));
    ringlane.order("back/s2", "drain");
    ctl(&ringlane, &["frontend", "front", "max-connections", "9"]);
    let (_, text) = ringlane.ask("GET", "/v1/openapi.json");
    let document: Value = serde_json::from_str(&text).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut count = 0;
    for (path, methods) in paths {
        let Some(get) = methods.get("get") else { continue };
        let mut page = path.replace("{frontend}", "front").replace("{backend}", "back");
        page = page.replace("{server}", "s1");
        let mut stream = UnixStream::connect(ringlane.admin_socket()).unwrap();
        let head = format!("GET {page} HTTP/1.0\r\nAccept: application/json\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{page}: {answer}");
        let json = &get["responses"]["200"]["content"]["application/json"]["schema"];
        if !json.is_null() {
            assert!(head.contains("content-type: application/json"), "{page}: {head}");
            let value: Value = serde_json::from_str(body).unwrap();
            check_shape(&document, json, &value, &page);
        }
        let missing = page.replace("front", "nothing").replace("back/", "nothing/");
        if missing != page && path.contains('{') {
            assert!(ringlane.ask("GET", &missing).0.contains(" 404 "), "{missing}");
        }
        count += 1;
    }
    assert!(count >= 14, "{count} pages");
    ringlane.end();
}
