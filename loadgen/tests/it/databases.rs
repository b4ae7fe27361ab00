//! Real servers: Redis, and PostgreSQL with each way to log in.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::program::{Running, measured, program, result, said};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server of a database and its folder, ended and removed together.
struct Database {
    running: Running,
    folder: TempDir,
    address: String,
}

impl Database {
    /// Starts a server; it is ready when it says so on stdout or stderr.
    fn start(folder: TempDir, port: u16, mut command: Command, ready: &str) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer).stdin(Stdio::null());
        let running = Running(command.spawn().unwrap());
        drop(command); // its ends of the pipe, so that the last word is followed by the end
        let mut lines = BufReader::new(reader).lines();
        let mut said = Vec::new();
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| {
            said.push(line);
            said.last().is_some_and(|line| line.contains(ready))
        });
        assert!(is_ready, "it ended before it was ready: {said:?}");
        // What it says from now on must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { running, folder, address: format!("127.0.0.1:{port}") }
    }

    fn redis(password: Option<&str>) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(folder.path());
        command.args(password.into_iter().flat_map(|password| ["--requirepass", password]));
        Self::start(folder, port, command, "Ready to accept connections")
    }

    fn postgres(method: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let (data, secret) = (folder.path().join("data"), folder.path().join("secret"));
        fs::write(&secret, "correct horse\n").unwrap();
        if nix::unistd::geteuid().is_root() {
            let own = Command::new("chown").arg("-R").arg("postgres").arg(folder.path()).status();
            assert!(own.unwrap().success());
        }
        let mut initdb = as_postgres("initdb");
        initdb.arg("-D").arg(&data).args(["-U", "alice", "-A", method, "--no-sync"]);
        initdb.arg("--pwfile").arg(&secret);
        let output = initdb.current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut command = as_postgres("postgres");
        command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1"]);
        command.args(["-c", "fsync=off", "-k", ""]).current_dir("/");
        Self::start(folder, port, command, "ready to accept connections")
    }

    /// A run as alice of PostgreSQL, with the password of this file.
    fn query(&self, file: &Path, arguments: &str) -> Output {
        let line = format!(
            "pgsql {} --json --user alice --database postgres --password-file {} {arguments}",
            self.address,
            file.display()
        );
        program(&line).output().unwrap()
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("given");
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Database {
    /// In order, so that a server with processes of its own takes them along.
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.running.0.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let _ = self.running.0.wait();
    }
}

/// A program of PostgreSQL, which refuses to run as root.
fn as_postgres(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
    let newest = versions.map(|version| version.path()).max().unwrap();
    let path = newest.join("bin").join(name);
    if !nix::unistd::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    // Not runuser, which would stay between us and the server's end.
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(path);
    command
}

#[test]
fn redis_answers_what_was_set() {
    let redis = Database::redis(None);
    let arguments = "--sessions 4 --pipeline 16 --keys 50 --for 400ms";
    for command in ["set", "get", "mixed"] {
        let line = format!("{arguments} --command {command}");
        let result = measured("redis", &redis.address, &line);
        let requests = result["requests"].as_u64().unwrap();
        assert!(requests > 0, "{result}");
        assert_eq!(result["operations"], requests * 16, "{result}");
    }
    let result = measured("redis", &redis.address, "--sessions 2 --rate 100 --for 500ms");
    assert_eq!(result["schedule"]["due"], 50, "{result}");
}

#[test]
fn redis_wants_its_password() {
    let redis = Database::redis(Some("sesame"));
    let file = redis.file("sesame\n");
    let line = format!("--for 200ms --password-file {}", file.display());
    assert!(measured("redis", &redis.address, &line)["requests"].as_u64() > Some(0));
    fs::write(&file, "other").unwrap();
    let output = program(&format!("redis {} {line}", redis.address)).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("WRONGPASS"), "{output:?}");
}

#[test]
fn postgres_lets_us_in_by_every_method() {
    for method in ["scram-sha-256", "md5", "password", "trust"] {
        let postgres = Database::postgres(method);
        let file = postgres.file("correct horse\n");
        let output = postgres.query(&file, "--sessions 3 --rate 200 --for 500ms");
        let result = result(&output);
        assert_eq!(result["failed"], 0, "{method}: {output:?}");
        assert_eq!(result["schedule"]["due"], 100, "{method}: {result}");
        assert!(result["requests"].as_u64().unwrap() > 0, "{method}: {result}");
        if method == "trust" {
            continue;
        }
        fs::write(&file, "wrong").unwrap();
        let output = postgres.query(&file, "--for 200ms");
        assert_eq!(output.status.code(), Some(1), "{method}: {output:?}");
        assert!(said(&output).contains("28P01"), "{method}: {output:?}");
    }
}

#[test]
fn a_query_that_fails_is_counted_in_the_servers_words() {
    let postgres = Database::postgres("trust");
    let file = postgres.file("");
    let output = postgres.query(&file, "--query SELECT+1/0 --rate 20 --for 500ms");
    let result = result(&output);
    assert_eq!(result["requests"], 0, "{result}");
    let refused = result["errors"]["server_said_no"].as_u64().unwrap();
    let never_sent = result["schedule"]["never_sent"].as_u64().unwrap();
    assert_eq!(refused + never_sent, 10, "{result}");
    assert_eq!(result["sessions"], 1, "the session survives: {result}");
    assert!(said(&output).contains("22012"), "{output:?}");
}
