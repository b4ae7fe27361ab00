//! The real binary with a configuration of its own in a directory of its own.
//!
//! Every balancer of the suite is made by [`Setup::command`], so that one variable of the
//! environment runs all stories on another driver: `RINGLANE_IT_DRIVER=epoll cargo test --test it`.
//! Invariant: a balancer ends with its [`Ringlane`], and a story that ends well has seen it exit
//! with 0 and without a panic.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, Once};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{program, wait_for, wait_until};

/// Looks at something that must give the same to count as settled.
const LOOKS: u32 = 20;

/// The token of the admin API on TCP; it allows orders.
pub(crate) const TOKEN: &str = "it-write-0123456789abcdef";

/// Where the balancer reads it: a file with it would be warned of if others may read it.
const TOKEN_VARIABLE: &str = "RINGLANE_IT_TOKEN";

/// What the line has that says that sessions are accepted.
const READY: &str = " ready: ";

/// A balancer that has not been started.
pub(crate) struct Setup {
    dir: TempDir,
    shards: usize,
    /// Lines above `[global]`.
    top: String,
    /// Instead of a socket in its directory and a TCP port.
    admin: Option<String>,
    global: String,
    frontend: String,
    backend: String,
    servers: String,
    /// Instead of the one frontend and backend that the fields above make.
    body: Option<String>,
    wrapper: Vec<String>,
    deaf: bool,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// One frontend "front" on a port of the kernel's choice, one backend "back" with these
    /// servers, named s1, s2, …; two shards, and an access log.
    pub(crate) fn to(servers: &[SocketAddr]) -> Self {
        let mut setup = Self::of("");
        setup.body = None;
        for (number, address) in (1..).zip(servers) {
            setup.server(&format!("name = \"s{number}\", address = \"{address}\""));
        }
        setup
    }

    /// Frontends and backends as written.
    pub(crate) fn of(body: &str) -> Self {
        Self {
            dir: TempDir::with_prefix("ringlane-it-").unwrap(),
            shards: 2,
            top: String::new(),
            admin: None,
            global: String::new(),
            frontend: "bind = \"127.0.0.1:0\"\n".to_owned(),
            backend: String::new(),
            servers: String::new(),
            body: Some(body.to_owned()),
            wrapper: Vec::new(),
            deaf: false,
            environment: Vec::new(),
        }
    }

    /// One shard per core is the default; this says how many.
    pub(crate) fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Includes files, by a path or pattern from its directory.
    pub(crate) fn include(mut self, pattern: &str) -> Self {
        self.top = format!("include = {pattern:?}\n");
        self
    }

    /// Adds lines to `[global]`.
    pub(crate) fn global(mut self, lines: &str) -> Self {
        let _ = writeln!(self.global, "{lines}");
        self
    }

    /// Adds lines to the frontend.
    pub(crate) fn frontend(mut self, lines: &str) -> Self {
        let _ = writeln!(self.frontend, "{lines}");
        self
    }

    /// Listens there instead.
    pub(crate) fn bind(mut self, value: &str) -> Self {
        self.frontend = format!("bind = {value}\n");
        self
    }

    /// Adds lines to the backend.
    pub(crate) fn backend(mut self, lines: &str) -> Self {
        let _ = writeln!(self.backend, "{lines}");
        self
    }

    /// Adds a server by its keys.
    pub(crate) fn server(&mut self, keys: &str) {
        let _ = write!(self.servers, "{{ {keys} }}, ");
    }

    /// Where the admin API listens, as written.
    pub(crate) fn admin(mut self, value: &str) -> Self {
        self.admin = Some(value.to_owned());
        self
    }

    /// Starts it through another program, given with its arguments.
    pub(crate) fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Nobody reads its stderr once it is ready, until [`Ringlane::listen_again`].
    pub(crate) fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> Ringlane {
        let mut child = self.command().spawn().unwrap();
        let said = Said::listen(child.stderr.take().unwrap(), self.deaf);
        let before_body = self.head();
        let mut ringlane = Ringlane { child, said, dir: self.dir, before_body };
        wait_for("the ready line", || {
            let has_ended = ringlane.child.try_wait().unwrap().is_some();
            let lines = ringlane.said.lines();
            let ready = lines.iter().any(|line| line.contains(READY));
            assert!(ready || !has_ended, "ended: {lines:#?}");
            ready.then_some(())
        });
        ringlane
    }

    /// Starts it, expects it to refuse with exit code 1, and returns what it said.
    #[track_caller]
    pub(crate) fn refused(&self) -> String {
        let mut child = self.command().spawn().unwrap();
        let mut said = Said::listen(child.stderr.take().unwrap(), false);
        let mut status = None;
        wait_for("the start to be refused", || {
            status = child.try_wait().unwrap();
            let lines = said.lines();
            if lines.iter().any(|line| line.contains(READY)) {
                let _ = child.kill();
                panic!("it started: {lines:#?}");
            }
            status
        });
        let said = said.all().join("\n");
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    fn command(&self) -> Command {
        raise_open_files();
        let file = self.path("ringlane.toml");
        fs::write(&file, self.text()).unwrap();
        let mut command = program::bound_to_us();
        command.args(&self.wrapper);
        command.arg(env!("CARGO_BIN_EXE_ringlane")).arg("run").arg("--config").arg(file);
        command.env(TOKEN_VARIABLE, TOKEN);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn text(&self) -> String {
        let mut text = self.head();
        match &self.body {
            Some(body) => text.push_str(body),
            None => {
                let Self { frontend, backend, servers, .. } = self;
                let _ = write!(
                    text,
                    "[[frontend]]\nname = \"front\"\nbackend = \"back\"\n{frontend}\n\
                     [[backend]]\nname = \"back\"\n{backend}server = [{servers}]\n"
                );
            }
        }
        text
    }

    /// What comes before frontends and backends.
    fn head(&self) -> String {
        let mut text = format!("{}[global]\nshards = {}\n", self.top, self.shards);
        let socket = self.path("admin.sock");
        let both = || {
            format!(
                "{{ socket = {:?}, http = \"127.0.0.1:0\", tokens = [{{ name = \"it\", role = \"write\", \
                 secret = {{ env = {TOKEN_VARIABLE:?} }} }}] }}",
                path_str(&socket)
            )
        };
        let _ = writeln!(text, "admin = {}", self.admin.clone().unwrap_or_else(both));
        if let Some(driver) = std::env::var("RINGLANE_IT_DRIVER").ok()
            && !self.global.contains("driver")
        {
            let _ = writeln!(text, "driver = {driver:?}");
        }
        text.push_str(&self.global);
        if !self.global.contains("access_log") {
            let log = self.path("access.log");
            let _ = writeln!(
                text,
                "access_log = {{ format = \"json\", to = \"file:{}\" }}",
                path_str(&log)
            );
        }
        text
    }
}

/// A running balancer.
pub(crate) struct Ringlane {
    child: Child,
    said: Said,
    pub(super) dir: TempDir,
    /// What its configuration has before frontends and backends.
    pub(super) before_body: String,
}

impl Ringlane {
    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Where its first frontend listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let binds = self.binds("front");
        binds[0].parse().unwrap()
    }

    /// Where a frontend listens.
    pub(crate) fn binds(&self, frontend: &str) -> Vec<String> {
        let status = self.status();
        let frontends = status["frontends"].as_array().unwrap();
        let found = frontends.iter().find(|found| found["name"] == frontend).unwrap();
        let binds = found["bind"].as_array().unwrap();
        binds.iter().map(|bind| bind.as_str().unwrap().to_owned()).collect()
    }

    /// The admin API's unix socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// The admin API's TCP address.
    pub(crate) fn admin_http(&self) -> SocketAddr {
        let lines = self.said.lines();
        let ready = lines.iter().find(|line| line.contains(READY)).unwrap();
        ready.rsplit(" and ").next().unwrap().parse().unwrap()
    }

    /// Whether `/healthz` says that it serves.
    pub(crate) fn is_healthy(&self) -> bool {
        self.get("/healthz").0.contains(" 200 ")
    }

    /// `/status`.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// `/metrics`: name with labels, value.
    pub(crate) fn metrics(&self) -> HashMap<String, f64> {
        parse_metrics(&self.get("/metrics").1)
    }

    /// What stands at a JSON pointer of a server of the first backend in `/status`: null for
    /// what is not there yet, such as the result of a check before the first one.
    pub(crate) fn server_field(&self, server: usize, pointer: &str) -> Value {
        let status = self.status();
        let server = &status["backends"][0]["servers"][server];
        server.pointer(pointer).cloned().unwrap_or_default()
    }

    /// A number of the first frontend in `/status`.
    pub(crate) fn frontend(&self, field: &str) -> u64 {
        self.status()["frontends"][0][field].as_u64().unwrap()
    }

    /// A number of each server of the first backend in `/status`.
    pub(crate) fn servers(&self, field: &str) -> Vec<u64> {
        let status = self.status();
        let servers = status["backends"][0]["servers"].as_array().unwrap();
        servers.iter().map(|server| server[field].as_u64().unwrap()).collect()
    }

    /// A number of each shard in `/status`.
    pub(crate) fn shards(&self, field: &str) -> Vec<u64> {
        let status = self.status();
        let shards = status["shards"].as_array().unwrap();
        shards.iter().map(|shard| shard[field].as_u64().unwrap()).collect()
    }

    /// Live sessions of the process.
    pub(crate) fn live(&self) -> u64 {
        self.status()["sessions_live"].as_u64().unwrap()
    }

    /// Orders a server, named with its backend, into a state.
    #[track_caller]
    pub(crate) fn order(&self, server: &str, state: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringlane"));
        command.args(["ctl", "--socket", path_str(&self.admin_socket()), "server", server, state]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until no session is left and all counts agree. Connections that still wait in the
    /// kernel's queue may become sessions in between.
    #[track_caller]
    pub(crate) fn wait_until_idle(&self) {
        let none_live =
            |of: &Value| of.as_array().unwrap().iter().all(|object| object["sessions_live"] == 0);
        wait_until("all sessions to end and be counted", || {
            let status = self.status();
            let mut frontends = status["frontends"].as_array().unwrap().iter();
            status["sessions_live"] == 0
                && frontends.all(|frontend| frontend["sessions"] == frontend["sessions_ended"])
                && none_live(&status["frontends"])
                && none_live(&status["shards"])
                && status["backends"].as_array().unwrap().iter().all(|b| none_live(&b["servers"]))
        });
    }

    /// Its open descriptors when no session is left and the admin API has closed what it served.
    #[track_caller]
    pub(crate) fn descriptors_at_rest(&self) -> usize {
        self.wait_until_idle();
        let mut seen = (self.process().descriptors(), 0);
        wait_for("the descriptors to stay as they are", || {
            let now = self.process().descriptors();
            seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 0) };
            (seen.1 == LOOKS).then_some(now)
        })
    }

    /// What it has said on stderr so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lines()
    }

    /// Waits until it has said something on stderr that contains `part`.
    #[track_caller]
    pub(crate) fn wait_for_word(&self, part: &str) -> String {
        let what = format!("{part:?} on stderr");
        wait_for(&what, || self.said().into_iter().find(|line| line.contains(part)))
    }

    /// The access log, once it has at least so many lines.
    #[track_caller]
    pub(crate) fn log(&self, lines: usize) -> Vec<Value> {
        let what = format!("{lines} lines in the access log");
        wait_for(&what, || {
            let records = self.log_now();
            (records.len() >= lines).then_some(records)
        })
    }

    /// The access log as it is.
    pub(crate) fn log_now(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Reads its stderr again.
    pub(crate) fn listen_again(&mut self) {
        self.said.deaf = None;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the balancer to end", || child.try_wait().unwrap())
    }

    /// Ends it in an orderly way; what it said all its life.
    #[track_caller]
    pub(crate) fn end(mut self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        self.assert_ended_well()
    }

    /// Waits until it has ended, which must have gone well; what it said all its life.
    #[track_caller]
    pub(crate) fn assert_ended_well(&mut self) -> Vec<String> {
        let status = self.ended();
        let lines = self.said.all();
        assert!(status.success(), "{status}: {lines:#?}");
        for bad in ["panicked", "bug in ringlane"] {
            assert!(!lines.iter().any(|line| line.contains(bad)), "{lines:#?}");
        }
        lines
    }

    fn get(&self, page: &str) -> (String, String) {
        self.ask("GET", page)
    }

    /// The head and the body of what the admin socket answers to a request.
    pub(crate) fn ask(&self, method: &str, page: &str) -> (String, String) {
        self.ask_with(method, page, "")
    }

    /// As above, of a request with a body.
    pub(crate) fn ask_with(&self, method: &str, page: &str, body: &str) -> (String, String) {
        ask(UnixStream::connect(self.admin_socket()).unwrap(), method, page, body)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

impl Drop for Ringlane {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the balancer said: {:#?}", self.said.lines());
        }
        // One that has ended already can't be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the admin API for a page over TCP.
pub(crate) fn get_over_tcp(address: SocketAddr, page: &str) -> (String, String) {
    ask_over_tcp(address, "GET", page)
}

/// Sends the admin API a request over TCP.
pub(crate) fn ask_over_tcp(address: SocketAddr, method: &str, page: &str) -> (String, String) {
    ask(TcpStream::connect(address).unwrap(), method, page, "")
}

/// The head and the body of an HTTP answer.
fn ask(mut stream: impl Read + Write, method: &str, page: &str, body: &str) -> (String, String) {
    let token = format!("Authorization: Bearer {TOKEN}");
    let head = format!("{method} {page} HTTP/1.0\r\nHost: localhost\r\n{token}\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The samples of a page of metrics.
pub(crate) fn parse_metrics(text: &str) -> HashMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// What a child says on stderr, line by line.
struct Said {
    lines: Arc<Mutex<Vec<String>>>,
    /// While it is there, nothing is read after the ready line.
    deaf: Option<Sender<()>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Said {
    fn listen(stderr: impl Read + Send + 'static, deaf: bool) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let (deafness, hears) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let is_ready = line.contains(READY);
                into.lock().unwrap().push(line);
                if is_ready {
                    // Ends when the sender is dropped.
                    let _ = hears.recv();
                }
            }
        });
        Self { lines, deaf: deaf.then_some(deafness), reader: Some(reader) }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Everything, once the child has ended.
    fn all(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.lines()
    }
}

/// A path as text.
pub(crate) fn path_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Lets this process, and the children that inherit it, have as many files as it may.
pub(crate) fn raise_open_files() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let needed = 12_000;
        assert!(
            hard >= needed,
            "RLIMIT_NOFILE is {hard}, the stories with thousands of sessions need {needed}: raise \
             it (`ulimit -Hn {needed}` as root)"
        );
    });
}
