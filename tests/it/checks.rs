//! Active checks: who fails them gets no sessions, and operators are told why.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::balancer::{Ringlane, Setup, path_str};
use crate::harness::checked::verdict;
use crate::harness::client::{connect, greeting, round_trip, try_round_trip};
use crate::harness::echo::Echo;
use crate::harness::program::{self, Beside, find};
use crate::harness::server::{Server, free_port};
use crate::harness::{pause, wait_for, wait_until};

/// The servers that so many sessions, one after the other, got.
fn letters(ringlane: &Ringlane, sessions: usize) -> String {
    let letter = |_| {
        let mut client = connect(ringlane.address());
        let letter = greeting(&mut client).unwrap();
        round_trip(&mut client, b"hello");
        letter
    };
    (0..sessions).map(letter).collect()
}

#[test]
fn a_server_that_fails_its_check_gets_no_session_until_it_passes_again() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let dir = TempDir::new().unwrap();
    let script = format!(
        "test ! -e {}/$${{RINGLANE_SERVER#*/}} || {{ echo marked as down; exit 1; }}",
        path_str(dir.path())
    );
    let check = format!(
        "check = {{ kind = \"exec\", command = [\"/bin/sh\", \"-c\", {script:?}], \
         interval = \"50ms\", timeout = \"10s\", rise = 2, fall = 2 }}"
    );
    let ringlane =
        Setup::to(&servers.each_ref().map(|s| s.address)).shards(1).backend(&check).start();
    assert_eq!(letters(&ringlane, 4).matches('a').count(), 2);
    // Otherwise it would be down at its first check, which is another line.
    wait_until("the first check", || ringlane.server_field(0, "/check/ok") == true);
    let mark = dir.path().join("s1");
    fs::write(&mark, "").unwrap();
    wait_until("the check to fail", || ringlane.server_field(0, "/state") == "down");
    assert_eq!(letters(&ringlane, 4), "bbbb");
    assert_eq!(ringlane.server_field(0, "/changes/0/from"), "up");
    let why = ringlane.server_field(0, "/changes/0/reason");
    assert!(why.as_str().unwrap().ends_with("marked as down"), "{why}");
    ringlane.wait_for_word("server back/s1 is down (was up): /bin/sh failed with");
    assert_eq!(ringlane.metrics()["ringlane_server_up{backend=\"back\",server=\"s1\"}"], 0.0);
    fs::remove_file(&mark).unwrap();
    wait_until("the check to pass", || ringlane.server_field(0, "/state") == "up");
    // In its turn again, which may be the first.
    assert!((2..=3).contains(&letters(&ringlane, 4).matches('a').count()));
    ringlane.end();
}

#[test]
fn with_every_server_down_sessions_are_refused_at_once() {
    let echo = Echo::start();
    let check = format!(
        "check = {{ kind = \"tcp\", port = {}, interval = \"50ms\", timeout = \"10s\" }}",
        free_port().port()
    );
    let ringlane = Setup::to(&[echo.address]).backend(&check).start();
    wait_until("the first check", || ringlane.server_field(0, "/state") == "down");
    let said = ringlane.server_field(0, "/check/said");
    assert!(said.as_str().unwrap().ends_with("connection refused"), "{said}");
    assert!(try_round_trip(&mut connect(ringlane.address()), b"hello").is_err());
    assert_eq!(ringlane.log(1)[0]["close"], "SC");
    ringlane.end();
}

/// Every connection to it gets the line that stands there now.
fn agent(line: &Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, line) = (listener.local_addr().unwrap(), Arc::clone(line));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let line = line.lock().unwrap().clone();
            let _ = stream.and_then(|mut stream| stream.write_all(line.as_bytes()));
        }
    });
    address
}

#[test]
fn an_agent_says_state_and_weight() {
    let servers = ['a', 'b'].map(Echo::greeting);
    let line = Arc::new(Mutex::new("up 50%\n".to_owned()));
    let agent = agent(&line);
    let check = format!(
        "check = {{ kind = \"agent\", port = {}, interval = \"50ms\", timeout = \"10s\" }}",
        agent.port()
    );
    let mut setup = Setup::to(&[]).backend(&check);
    setup.server(&format!("address = \"{}\", weight = 10", servers[0].address));
    setup.server(&format!("address = \"{}\", weight = 10", servers[1].address));
    let ringlane = setup.start();
    wait_until("the weight", || ringlane.server_field(0, "/weight_effective") == 5.0);
    assert_eq!(ringlane.server_field(0, "/weight"), 10);
    *line.lock().unwrap() = "drain\n".to_owned();
    wait_until("the drain", || ringlane.server_field(1, "/admin") == "drain");
    *line.lock().unwrap() = "down # the disk is full\n".to_owned();
    wait_until("the fall", || ringlane.server_field(1, "/state") == "down");
    ringlane.wait_for_word("agent reports down (the disk is full)");
    ringlane.end();
}

/// An agent that says one line per connection, each when it is told to.
fn scripted() -> (SocketAddr, Sender<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (lines, next)) = (listener.local_addr().unwrap(), mpsc::channel());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(line) = next.recv() else { return };
            let _ = stream.and_then(|mut stream| writeln!(stream, "{line}"));
        }
    });
    (address, lines)
}

#[test]
fn rise_and_fall_hold_to_the_letter() {
    let echo = Echo::start();
    let (agent, lines) = scripted();
    let check = format!(
        "check = {{ kind = \"agent\", port = {}, interval = \"20ms\", timeout = \"1h\", rise = 2, \
         fall = 3 }}",
        agent.port()
    );
    let ringlane = Setup::to(&[echo.address]).backend(&check).start();
    let mut last = Value::Null;
    for (line, state) in [
        ("up", "up"),
        ("down # 1", "up"),
        ("down # 2", "up"),
        ("up", "up"),
        ("down # 1", "up"),
        ("down # 2", "up"),
        ("down # 3", "down"),
        ("up", "down"),
        ("down # 4", "down"),
        ("up", "down"),
        ("up", "up"),
    ] {
        lines.send(line).unwrap();
        wait_until("the check to be over", || {
            let check = ringlane.server_field(0, "/check");
            let is_new = check["at"] != last["at"] && check != Value::Null;
            if is_new {
                last = check;
            }
            is_new
        });
        assert_eq!(ringlane.server_field(0, "/state"), state, "{line}");
    }
    let reason = ringlane.server_field(0, "/changes/1/reason");
    assert_eq!(reason, "agent reports down (3)");
    drop(lines);
    ringlane.end();
}

#[test]
fn a_server_can_be_checked_elsewhere() {
    let echo = Echo::start();
    let (ours, theirs) = (Arc::default(), Arc::default());
    *Mutex::lock(&ours).unwrap() = "75%\n".to_owned();
    *Mutex::lock(&theirs).unwrap() = "50%\n".to_owned();
    let (all, one) = (agent(&theirs), agent(&ours));
    let check = format!(
        "check = {{ kind = \"agent\", address = \"{}\", port = {}, interval = \"50ms\", \
         timeout = \"10s\" }}",
        all.ip(),
        all.port()
    );
    let mut setup = Setup::to(&[]).backend(&check);
    setup.server(&format!("address = \"{}\", weight = 100", echo.address));
    setup.server(&format!(
        "name = \"b\", address = \"10.255.0.1:1\", weight = 100, check_address = \"{one}\""
    ));
    let ringlane = setup.start();
    for (server, weight) in [(0, 50.0), (1, 75.0)] {
        let seen = || ringlane.server_field(server, "/weight_effective") == weight;
        wait_until("the agent of each to be heard", seen);
    }
    ringlane.end();
}

/// nginx with a page that is fine, one that is not, and one that is slow to say so.
fn nginx() -> (SocketAddr, Beside, TempDir) {
    let (address, dir) = (free_port(), TempDir::with_prefix("ringlane-it-nginx-").unwrap());
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p;\n\
         fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         server {{ listen {address}; location /good {{ return 200 'all is fine'; }}\n\
         location /bad {{ return 503; }} }} }}\n",
        path_str(dir.path())
    );
    let file = dir.path().join("nginx.conf");
    fs::write(&file, config).unwrap();
    let mut command = program::bound_to_us();
    command.arg(find("nginx", "nginx")).arg("-c").arg(&file).arg("-p").arg(dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Beside::start(&mut command, Signal::SIGTERM);
    wait_for("nginx to answer", || {
        assert!(!process.has_ended(), "nginx has ended");
        TcpStream::connect(address).ok()
    });
    (address, process, dir)
}

#[test]
fn a_page_of_nginx_decides_by_status_and_body() {
    let (address, _nginx, _dir) = nginx();
    for (keys, state, said) in [
        ("path = \"/good\"", "up", "status 200"),
        ("path = \"/good\", body = \"is fine\"", "up", "status 200"),
        ("path = \"/good\", body_regex = \"^all .* fine$\"", "up", "status 200"),
        ("path = \"/good\", body = \"is lost\"", "down", "\"is lost\" not found in the body"),
        ("path = \"/bad\"", "down", "status 503, expected 200-399"),
        ("path = \"/bad\", status = \"200, 500-599\"", "up", "status 503"),
        ("path = \"/good\", method = \"HEAD\"", "up", "status 200"),
    ] {
        let check = format!(
            "check = {{ kind = \"http\", {keys}, interval = \"50ms\", timeout = \"10s\" }}"
        );
        let ringlane = Setup::to(&[address]).backend(&check).start();
        wait_until("the first check", || ringlane.server_field(0, "/check") != Value::Null);
        assert_eq!(ringlane.server_field(0, "/state"), state, "{keys}");
        let found = ringlane.server_field(0, "/check/said");
        assert!(found.as_str().unwrap().contains(said), "{keys}: {found}");
        ringlane.end();
    }
}

/// A server that accepts and then does this with each connection, which it keeps.
fn strange(manner: fn(&mut TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            manner(&mut stream);
            kept.push(stream);
        }
    });
    address
}

#[test]
fn no_kind_of_check_is_fooled_by_silence_or_garbage() {
    let silent = strange(|_| {});
    let garbled = strange(|stream| {
        let _ = stream.write_all(&[0xF5, 0, 0x0A, 7, 0x80, b'X'].repeat(1000));
    });
    let hangs_up = strange(|stream| {
        let _ = stream.shutdown(Shutdown::Both);
    });
    for kind in [
        "kind = \"tcp\", steps = [{ send = \"PING\\r\\n\" }, { expect = \"+PONG\" }]",
        "kind = \"http\"",
        "kind = \"tls\", verify = false",
        "kind = \"http\", tls = true, verify = false",
        "kind = \"postgres\"",
        "kind = \"postgres\", tls = \"require\"",
        "kind = \"redis\", tls = \"require\"",
        "kind = \"mysql\"",
        "kind = \"mysql\", tls = \"require\"",
        "kind = \"redis\"",
        "kind = \"agent\"",
    ] {
        let check =
            format!("check = {{ {kind}, interval = \"50ms\", timeout = \"300ms\", rise = 1 }}");
        let ringlane = Setup::to(&[silent, garbled, hangs_up]).backend(&check).start();
        for server in 0..3 {
            // An agent that hangs up has said nothing, which is what HAProxy's may do.
            let state = if kind.contains("agent") && server == 2 { "up" } else { "down" };
            wait_until("the first check", || {
                ringlane.server_field(server, "/check") != Value::Null
            });
            assert_eq!(ringlane.server_field(server, "/state"), state, "{kind}, server {server}");
        }
        let said = ringlane.server_field(0, "/check/said");
        assert_eq!(said, "no answer within 300ms", "{kind}");
        ringlane.end();
    }
}

#[test]
fn a_slow_answer_is_an_answer_while_there_is_time() {
    let trickles = |answer: &'static str| {
        Server::each(move |mut stream| {
            for byte in answer.as_bytes().chunks(1) {
                // PAUSE: an answer that comes slowly, byte by byte, is the subject.
                pause(Duration::from_millis(5));
                let _ = stream.write_all(byte);
            }
            // A close with something unread would be a reset.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = io::copy(&mut stream, &mut io::sink());
        })
    };
    for (kind, answer, said) in [
        ("kind = \"tcp\", steps = [{ expect = \"PONG\" }]", "+PONG\r\n", ""),
        ("kind = \"http\", body = \"fine\"", "HTTP/1.1 200 OK\r\n\r\nfine", "status 200"),
        ("kind = \"agent\"", "up ready\n", ""),
    ] {
        let slow = trickles(answer);
        let (state, why) = verdict(slow.address, kind);
        assert!(state == "up" && why == said, "{kind}: {state}, {why}");
    }
}

#[test]
fn a_program_that_hangs_is_ended_with_its_children() {
    let echo = Echo::start();
    let dir = TempDir::new().unwrap();
    let marks = dir.path().join("pids");
    let script = format!("echo $$ >> {0}; sleep 600 & echo $! >> {0}; wait", path_str(&marks));
    let check = format!(
        "check = {{ kind = \"exec\", command = [\"/bin/sh\", \"-c\", {script:?}], \
         interval = \"100ms\", timeout = \"200ms\" }}"
    );
    let ringlane = Setup::to(&[echo.address]).backend(&check).start();
    wait_until("the check to be given up", || ringlane.server_field(0, "/state") == "down");
    assert_eq!(ringlane.server_field(0, "/check/said"), "no answer within 200ms");
    ringlane.end();
    let pids = fs::read_to_string(&marks).unwrap();
    for pid in pids.lines() {
        let gone = || !std::path::Path::new(&format!("/proc/{pid}/root")).exists();
        wait_until("the program and its child to be gone", gone);
    }
}

#[test]
fn a_program_may_say_much_and_leave_children_behind() {
    let echo = Echo::start();
    let dir = TempDir::new().unwrap();
    let pid = dir.path().join("pid");
    let leaves = format!("sleep 600 & echo $! > {}; echo left; exit 0", path_str(&pid));
    for (script, said) in
        [("echo first; head -c 300000 /dev/zero | tr '\\0' x", "first"), (leaves.as_str(), "left")]
    {
        let keys = format!("kind = \"exec\", command = [\"/bin/sh\", \"-c\", {script:?}]");
        let (state, why) = verdict(echo.address, &keys);
        assert!(state == "up" && why == said, "{script}: {state}, {why}");
    }
    let pid = fs::read_to_string(&pid).unwrap();
    let gone = || !std::path::Path::new(&format!("/proc/{}/root", pid.trim())).exists();
    wait_until("what it left behind to be gone", gone);
}

#[test]
fn a_page_is_whole_when_it_says_so() {
    /// Answers whoever speaks HTTP/1.1 to it, and keeps the connection.
    fn server(answer: &'static str, resets: bool) -> Server {
        Server::each(move |mut stream| {
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while !request.ends_with("\r\n\r\n") {
                if reader.read_line(&mut request).unwrap_or_default() == 0 {
                    return;
                }
            }
            assert!(request.contains("\r\nHost: ") && request.contains("Connection: close\r\n"));
            let answer = match request.contains("HTTP/1.1") {
                true => answer,
                false => "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n",
            };
            let _ = stream.write_all(answer.as_bytes());
            if resets {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return;
            }
            let _ = io::copy(&mut reader, &mut io::sink());
        })
    }
    let counted = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhealthy";
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nheal\r\n3\r\nthy\r\n0\r\n\r\n";
    let early =
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhealthy";
    let body = "kind = \"http\", body = \"healthy\"";
    for (answer, resets, keys, state) in [
        (counted, false, body, "up"),
        (counted, true, body, "up"),
        (chunked, false, body, "up"),
        (early, false, body, "up"),
        (counted, false, "kind = \"http\", version = \"1.0\"", "down"),
        (counted, false, "kind = \"http\", body = \"ill\"", "down"),
    ] {
        let server = server(answer, resets);
        let (found, why) = verdict(server.address, keys);
        assert_eq!(found, state, "{keys}: {answer}: {why}");
    }
}

#[test]
fn an_agent_may_leave_the_end_of_its_line_out() {
    let server = strange(|stream| {
        let _ = stream.write_all(b"up 50%");
    });
    let check = "check = { kind = \"agent\", interval = \"1s\", timeout = \"1s\" }";
    let mut setup = Setup::to(&[]).backend(check);
    setup.server(&format!("address = \"{server}\", weight = 10"));
    let ringlane = setup.start();
    wait_until("the weight", || ringlane.server_field(0, "/weight_effective") == 5.0);
    ringlane.end();
}

#[test]
fn a_file_that_does_not_answer_holds_up_nothing_else() {
    let echo = Echo::start();
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for keys in [
        format!("kind = \"redis\", password = {{ file = {:?} }}", path_str(&fifo)),
        format!("kind = \"redis\", tls = \"require\", ca = {:?}", path_str(&fifo)),
        format!("kind = \"mysql\", tls = \"require\", ca = {:?}", path_str(&fifo)),
    ] {
        let check = format!("check = {{ {keys}, interval = \"50ms\", timeout = \"300ms\" }}");
        let ringlane = Setup::to(&[echo.address]).backend(&check).start();
        wait_until("the check to fail", || ringlane.server_field(0, "/state") == "down");
        assert!(ringlane.is_healthy());
        ringlane.end();
    }
}

/// A server that answers every connection with these bytes and leaves it open.
fn answers_and_stays(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let sent =
                stream.and_then(|mut stream| stream.write_all(answer.as_bytes()).map(|()| stream));
            open.extend(sent);
        }
    });
    address
}

#[test]
fn a_body_without_length_is_searched_as_it_comes() {
    let ready = answers_and_stays("HTTP/1.1 200 OK\r\n\r\nall is ready");
    let failed = answers_and_stays("HTTP/1.1 503 No\r\n\r\nall is ready");
    for (server, body, state, said) in [
        (ready, "body = \"is ready\"", "up", "status 200"),
        (ready, "body_regex = \"is r..dy\"", "up", "status 200"),
        (failed, "body = \"is ready\"", "down", "status 503, expected"),
    ] {
        let (found, why) = verdict(server, &format!("kind = \"http\", {body}"));
        assert!(found == state && why.contains(said), "{body}: {found}, {why}");
    }
    let check =
        "check = { kind = \"http\", body = \"healthy\", interval = \"50ms\", timeout = \"200ms\" }";
    let ringlane = Setup::to(&[ready]).shards(1).backend(check).start();
    let said = "status 200, but \"healthy\" not found in the body, which did not end within 200ms";
    ringlane.wait_for_word(said);
    ringlane.end();
}
