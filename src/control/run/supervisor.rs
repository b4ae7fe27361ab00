//! Starts a balancer step by step, and ends it: the life of the process around its shards.
//!
//! Not here: the steps themselves (`start`, `shards`), and the work of the control thread while
//! shards serve (`serving`). Invariant: every step that can fail comes before the first session is
//! accepted, and a failed start leaves nothing behind.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use ringlane_core::machine::sys::{self, DriverKind, SetupError};
use ringlane_core::settings::Snapshot;
use tokio::runtime::{Builder, Runtime};

use super::publish;
use super::reload::Reloader;
use super::requests::{ReloadOrders, Requests};
use super::serving::Serving;
use super::shards::Shards;
use super::signals::Signals;
use crate::config::{self, Config};
use crate::control::life::Stage;
use crate::control::log::{self, NotStarted};
use crate::control::report::access_log::{self, AccessLogThread};
use crate::control::report::admin;
use crate::control::running::{Current, Running, Served, Shutdown};
use crate::control::servers::tasks::{Task, Tasks};
use crate::control::servers::{alarms, checks, names, outliers, rates};
use crate::control::start::descriptors::{self, Room};
use crate::control::start::privileges::Identity;
use crate::control::start::sockets::{self, Listening};
use crate::control::start::{StartError, cores, explain, probe};

/// Bytes of the ready line after which no further address is listed.
const LISTING_MAX: usize = 1024;

/// A balancer whose shards serve. Dropping it stops them at once; normally [`Supervisor::serve`]
/// follows.
#[derive(Debug)]
pub struct Supervisor {
    current: Current,
    /// The tasks that every configuration has. Ended with this.
    tasks: Tasks,
    reloader: Reloader,
    requests: Requests,
    orders: ReloadOrders,
    shards: Shards,
    admin: admin::Bound,
    ready: String,
    signals: Signals,
    runtime: Runtime,
}

impl Supervisor {
    /// Starts the shards and returns when all of them accept sessions.
    ///
    /// From here on signals are answered, or do nothing, through
    /// [`Supervisor::serve`].
    ///
    /// # Errors
    /// A sentence for the operator; nothing is left running or listening then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let Config { global, mut snapshot, watches, lookups, sources, objects, .. } = config;
        let driver = choose_driver(global.driver).map_err(StartError::Kernel)?;
        let identity = Identity::find(global.user.as_deref(), global.group.as_deref())
            .map_err(StartError::Privileges)?;
        let cpus = cores::plan(global.shards, global.pin).map_err(StartError::Cores)?;
        let room = descriptors::make_room(
            global.max_connections,
            cpus.len(),
            sockets::count(&snapshot, cpus.len()) + names::sockets(lookups.len()),
        )
        .map_err(StartError::Descriptors)?;
        snapshot.max_connections = room.max_connections;

        let listeners = sockets::bind(&snapshot, cpus.len(), None).map_err(StartError::Bind)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::system("the control thread's event loop"))?;
        let inside = runtime.enter();
        let admin =
            admin::bind(&global.admin).map_err(|error| StartError::Admin(error.to_string()))?;
        if let Some(identity) = identity {
            admin.give_to(&identity).map_err(StartError::Privileges)?;
            identity.assume().map_err(StartError::Privileges)?;
        }
        let signals = Signals::catch().map_err(StartError::system("signal handlers"))?;
        log::start(&global.log).map_err(StartError::log)?;
        drop(inside);

        probe::check(&mut snapshot).map_err(StartError::Connect)?;
        let resolver = global.resolver.clone();
        let shutdown = Shutdown::of(&global);
        let served = Served { snapshot, watches, lookups, resolver, shutdown };
        let (requests, orders) = Requests::channel();
        let running = Running::new(served, driver, cpus, listeners.addresses, requests.clone())
            .map_err(StartError::system("the mailboxes of the shards"))?;
        let log = start_log(global.access_log.as_ref(), &running)?;
        let mut tasks = Tasks::default();
        let Running { servers, names, watches, .. } = &running;
        let first = runtime.block_on(names::ask_first(names, &global.resolver));
        let inside = runtime.enter();
        names::begin(&mut tasks, names, servers, &global.resolver, first);
        drop(inside);
        let installations = publish::installations(&running, listeners.shards, Vec::new());
        let shards = Shards::start(&running, installations, room.pipes)?;
        running.life.enter(Stage::Serving);
        let inside = runtime.enter();
        checks::begin(&mut tasks, servers, watches);
        let own = Arc::clone(servers);
        tasks.start(Task::Delivery, async move { own.deliver().await });
        let http = admin.http().map(|http| (http, admin.listens_on_http()));
        let ready = ready_line(&running, room, &global.admin, http);
        let current = Current::new(running);
        let for_all = begin_for_all(&current);
        drop(inside);
        let config = (global, sources, objects);
        let reloader = Reloader::new(current.clone(), config, tasks, listeners.files, log);
        Ok(Self {
            current,
            tasks: for_all,
            reloader,
            requests,
            orders,
            shards,
            admin,
            ready,
            signals,
            runtime,
        })
    }

    /// What the admin API and the demo read while shards serve.
    pub fn shared(&self) -> Running {
        self.current.get()
    }

    /// Turns the calling thread into the control thread, until a signal or `Life::drain` has ended
    /// every shard. The code is 0 after an orderly end and 1 after a shard broke.
    pub fn serve(self) -> ExitCode {
        let Self {
            current,
            tasks,
            mut reloader,
            requests,
            mut orders,
            shards,
            admin,
            ready,
            signals,
            runtime,
        } = self;
        let serving = Serving::new(current.clone(), shards, signals, requests);
        let admin = admin::serve(admin, current);
        let reloads = reloader.run(&mut orders);
        let code = runtime.block_on(async { serving.run(&ready, join(admin, reloads)).await });
        drop(tasks);
        reloader.end();
        // A file that a check reads may never answer; the end of the process does not wait for it.
        runtime.shutdown_background();
        code
    }
}

/// Starts the tasks that every configuration has.
fn begin_for_all(current: &Current) -> Tasks {
    let mut tasks = Tasks::default();
    let threads = current.get().threads;
    tasks.start(Task::Rates, rates::measure(current.clone(), threads));
    tasks.start(Task::Alarms, alarms::watch(current.clone()));
    tasks.start(Task::Outliers, outliers::judge(current.clone()));
    tasks
}

/// Polls both, for ever.
async fn join(one: impl Future, other: impl Future) {
    tokio::join!(one, other);
}

/// The configured driver, or the best that works here, with a warning if it is not the best.
fn choose_driver(configured: config::Driver) -> Result<DriverKind, SetupError> {
    match configured {
        config::Driver::Uring => sys::probe(DriverKind::Uring).map(|()| DriverKind::Uring),
        config::Driver::Epoll => sys::probe(DriverKind::Epoll).map(|()| DriverKind::Epoll),
        config::Driver::Auto => {
            let Err(refused) = sys::probe(DriverKind::Uring) else { return Ok(DriverKind::Uring) };
            sys::probe(DriverKind::Epoll)?;
            let refused = explain(&refused);
            log::warning(format_args!(
                "using epoll, which needs more CPU time than io_uring: {refused}"
            ));
            Ok(DriverKind::Epoll)
        }
    }
}

fn start_log(
    configured: Option<&config::AccessLog>,
    running: &Running,
) -> Result<Option<AccessLogThread>, StartError> {
    let Some(configured) = configured else { return Ok(None) };
    let opened = access_log::open(configured).map_err(NotStarted::Destination);
    let (snapshots, lost) = (Arc::clone(&running.snapshots), running.records_lost.clone());
    opened
        .and_then(|opened| {
            opened.start(snapshots, lost, running.logs.to_vec()).map_err(NotStarted::Thread)
        })
        .map(Some)
        .map_err(StartError::access_log)
}

/// The line that announces to people and programs that sessions are accepted, and where.
fn ready_line(
    running: &Running,
    room: Room,
    admin: &config::Admin,
    http: Option<(SocketAddr, bool)>,
) -> String {
    let shards = running.traffic.shards();
    let mut line = format!(
        "ringlane {} ready: {shards} shard{} on {}, frontends ",
        env!("CARGO_PKG_VERSION"),
        if shards == 1 { "" } else { "s" },
        running.driver.name(),
    );
    line.push_str(&listing(&running.traffic.snapshot, &running.listening));
    let _ = write!(line, "; max_connections {}", room.max_connections);
    if let Some(limit) = room.derived_from {
        let _ = write!(line, " (from the limit of {limit} open files)");
    }
    let socket = admin.socket.iter().map(|path| format!("unix:{}", path.display()));
    let http = http.map(|(http, listens)| {
        format!("{http}{}", if listens { "" } else { " (as soon as it is free)" })
    });
    let admin: Vec<_> = socket.chain(http).collect();
    if !admin.is_empty() {
        let _ = write!(line, "; admin on {}", admin.join(" and "));
    }
    line
}

/// Where frontends listen, as in `a on 10.0.0.1:80 and [::1]:80, b on …`, cut behind
/// [`LISTING_MAX`] bytes: what follows it must be seen, too.
fn listing(snapshot: &Snapshot, listening: &Listening) -> String {
    let mut text = String::new();
    for (nth, (frontend, addresses)) in snapshot.frontends.iter().zip(listening.all()).enumerate() {
        if text.len() > LISTING_MAX {
            let left = snapshot.frontends.len() - nth;
            let _ = write!(text, "; {left} more frontend{}", if left == 1 { "" } else { "s" });
            break;
        }
        // Writing to a string can't fail.
        let _ = write!(text, "{}{} on ", if nth == 0 { "" } else { ", " }, frontend.name);
        for (nth, address) in addresses.iter().enumerate() {
            // The first is always listed: a name alone would say nothing.
            if nth > 0 && text.len() > LISTING_MAX {
                let _ = write!(text, " and {} more", addresses.len() - nth);
                break;
            }
            let _ = write!(text, "{}{address}", if nth == 0 { "" } else { " and " });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use ringlane_core::ids::FrontendId;
    use ringlane_core::machine::Address;

    use super::*;

    #[test]
    fn the_ready_line_says_what_listens_where_and_how_much_fits() {
        let text = r#"
            frontend = [
                { name = "a", bind = ["127.0.0.1:1", "[::1]:1"], mode = "tcp", backend = "b" },
                { name = "c", bind = "127.0.0.1:2", mode = "tcp", backend = "b" },
            ]
            backend = [{ name = "b", server = [{ name = "s", address = "127.0.0.1:3" }] }]
        "#;
        let Config { snapshot, .. } = config::parse("test.toml", text).unwrap();
        let bound = snapshot.frontends.iter().map(|frontend| frontend.bind.clone()).collect();
        let (cpus, listening) = (vec![Some(0), Some(1)], Listening::new(bound));
        let running = Running::for_test(snapshot, Vec::new(), DriverKind::Epoll, cpus, listening);
        let room = Room { max_connections: 350, pipes: 64, derived_from: Some(1024) };
        let admin =
            config::Admin { socket: Some("/run/a.sock".into()), ..config::Admin::default() };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            ready_line(&running, room, &admin, Some((([127, 0, 0, 1], 9000).into(), true))),
            format!(
                "ringlane {version} ready: 2 shards on epoll, frontends a on 127.0.0.1:1 and [::1]:1, c on \
                 127.0.0.1:2; max_connections 350 (from the limit of 1024 open files); admin on \
                 unix:/run/a.sock and 127.0.0.1:9000"
            )
        );
    }

    #[test]
    fn the_listing_of_a_thousand_addresses_is_cut() {
        let bound = |ports: std::ops::Range<u16>| -> Vec<Address> {
            ports.map(|port| Address::Inet(([127, 0, 0, 1], port).into())).collect()
        };
        let frontend = |nth: u16| ringlane_core::settings::Frontend {
            name: format!("customer-{nth:04}"),
            ..Default::default()
        };
        let snapshot = |frontends| Snapshot {
            generation: 1,
            max_connections: 1,
            log_sessions: false,
            frontends,
            backends: Vec::new(),
            servers: Vec::new(),
        };
        let one_each: Vec<_> = (1..=1000).map(|port| bound(port..port + 1)).collect();
        let cut = listing(&snapshot((1..=1000).map(frontend).collect()), &Listening::new(one_each));
        assert!(cut.len() < LISTING_MAX + 100, "{}", cut.len());
        let listed = cut.matches(" on ").count();
        let end = format!("; {} more frontends", 1000 - listed);
        assert!(listed > 20 && cut.ends_with(&end), "{cut}");
        // Whatever the length of a name, it is followed by an address.
        for length in 1..200 {
            let frontends = [frontend(1), frontend(2)].map(|frontend| {
                let name = frontend.name.repeat(80) + &"x".repeat(length);
                ringlane_core::settings::Frontend { name, ..frontend }
            });
            let cut = listing(&snapshot(frontends.into()), &Listening::new(vec![bound(1..9); 2]));
            assert!(!cut.contains(" on  and ") && cut.matches(" more").count() <= 2, "{cut}");
        }
        let all_in_one =
            listing(&snapshot(vec![frontend(1)]), &Listening::new(vec![bound(1..1001)]));
        let listed = all_in_one.matches("127.0.0.1:").count();
        assert!(all_in_one.ends_with(&format!(" and {} more", 1000 - listed)), "{all_in_one}");
        // At once the longest names and paths that a file may have.
        let name = "n".repeat(128);
        let long = (0..99).map(|_| ringlane_core::settings::Frontend {
            name: name.clone(),
            ..Default::default()
        });
        let path = Address::Unix("p".repeat(107).into());
        let longest = listing(&snapshot(long.collect()), &Listening::new(vec![vec![path; 99]; 99]));
        assert!(longest.len() < 2 * LISTING_MAX, "{}", longest.len());
    }

    #[test]
    fn a_balancer_starts_serves_and_drains_when_it_is_asked_to() {
        let text = r#"
            global = { shards = 2, pin = false, max_connections = 10 }
            frontend = [{ name = "a", bind = "127.0.0.1:0", mode = "tcp", backend = "b" }]
            backend = [{ name = "b", server = [{ name = "s", address = "127.0.0.1:1" }] }]
        "#;
        let supervisor = Supervisor::start(config::parse("test.toml", text).unwrap()).unwrap();
        let running = supervisor.shared();
        assert_eq!((running.life.stage(), running.traffic.shards()), (Stage::Serving, 2));
        let [Address::Inet(address)] = running.listening.of(FrontendId(0))[..] else {
            panic!("{running:?}")
        };
        TcpStream::connect(address).unwrap();
        running.life.drain();
        let code = supervisor.serve();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(running.life.stage(), Stage::Draining);
        TcpStream::connect(address).unwrap_err();
    }

    #[test]
    fn a_start_that_fails_leaves_no_socket_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let text = format!(
            r#"
            global = {{ max_connections = 10 }}
            frontend = [
                {{ name = "a", bind = "unix:{}", mode = "tcp", backend = "b" }},
                {{ name = "c", bind = "127.0.0.1:0", mode = "tcp", backend = "b", congestion = "none" }},
            ]
            backend = [{{ name = "b", server = [{{ name = "s", address = "127.0.0.1:1" }}] }}]
            "#,
            path.display()
        );
        let config = config::parse("test.toml", &text).unwrap();
        let error = Supervisor::start(config).unwrap_err().to_string();
        assert!(error.starts_with("frontend \"c\" cannot listen on 127.0.0.1:0"), "{error}");
        assert!(!path.exists());
    }
}
