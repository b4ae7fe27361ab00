//! What a reload costs the clients: this balancer, HAProxy and nginx, one after the other.
//!
//! Each relay has one core; the load and three echo servers have another. The load (`tcp-mixed` of
//! the load generator) holds sessions and bulk streams and opens new connections, all by the clock.
//! After a calm time the relay is reloaded once a second, and each reload is marked as an event of
//! the load just before it is ordered. Invariant: a reload counts only if it was seen that new
//! connections meet the new configuration; a relay that ignores the order would look perfect.
//! Sessions that an old process keeps alive are not lost: only what clients see is counted. After
//! each reload one more session is opened and kept, as happens on any day. Without
//! a relay, events are marked and nothing is done: what that run shows is the machine's own noise.
//! `change` is what reloads change, `relay` how they are ordered, `table` what becomes of it.

mod change;
mod relay;
mod table;

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use self::change::{Addresses, Kind, State};
use self::relay::{Reloadable, Size, template, version};
use self::table::{Outcome, ReloadRun};
use crate::listening::Ports;
use crate::load::{Loadgen, Server, Underway};
use crate::machine::{self, Machine};
use crate::relay::Relay;
use crate::{l4, listening, namespace};

/// Relays that are compared, in the order of the tables.
const RELAYS: [Relay; 5] =
    [Relay::Direct, Relay::Ringlane, Relay::RinglaneEpoll, Relay::Haproxy, Relay::Nginx];

/// Time between two reloads.
const EVERY: Duration = Duration::from_secs(1);

/// How long after an event a gap counts as in its window.
const WINDOW: Duration = Duration::from_millis(700);

/// When it is looked for the first time whether a reload is in force: after the window, so that
/// looking disturbs nothing in it.
const LOOK_AFTER: Duration = Duration::from_millis(750);

/// When a reload that is not in force counts as without effect, and how often it is looked.
const LOOK_MOST: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// What opening and ending the load and slow reloads may take beyond the planned time.
const SPARE: Duration = Duration::from_secs(120);

/// How to compare.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReloadOptions {
    /// A smoke test: 200 sessions and 3 reloads
    #[arg(long)]
    quick: bool,
    /// Relays to compare: direct, ringlane, ringlane-epoll, haproxy, nginx
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = RELAYS)]
    relays: Vec<Relay>,
    /// Reloads, one a second; half change servers, half listeners [default: 20, quick: 3]
    #[arg(long)]
    reloads: Option<usize>,
    /// Sessions that send a message every 200 ms [default: 2000, quick: 200]
    #[arg(long)]
    sessions: Option<u32>,
    /// Bulk streams [default: 64, quick: 8]
    #[arg(long)]
    streams: Option<u32>,
    /// New connections a second [default: 200, quick: 50]
    #[arg(long)]
    rate: Option<u32>,
    /// The core of the relay
    #[arg(long, default_value_t = 0)]
    relay_core: usize,
    /// The core of the load generator and the servers
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Set by the program itself
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

impl ReloadOptions {
    fn reloads(&self) -> usize {
        self.reloads.unwrap_or(if self.quick { 3 } else { 20 })
    }

    /// The calm time before the first reload, and after the last one.
    fn calm(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 5 })
    }

    fn load(&self) -> Vec<String> {
        let (sessions, streams, rate) = if self.quick { (200, 8, 50) } else { (2000, 64, 200) };
        let words = format!(
            "--sessions {} --every 200ms --size 64 --streams {} --rate {} --window {}ms",
            self.sessions.unwrap_or(sessions),
            self.streams.unwrap_or(streams),
            self.rate.unwrap_or(rate),
            WINDOW.as_millis()
        );
        words.split(' ').map(str::to_owned).collect()
    }

    /// Whether the run is the documented one, whose result is published.
    fn is_whole(&self) -> bool {
        let is_default = self.reloads.is_none() && self.sessions.is_none();
        !self.quick
            && is_default
            && self.streams.is_none()
            && self.rate.is_none()
            && self.relays == RELAYS
    }
}

/// Runs the whole comparison, prints it and writes it down.
pub(crate) fn run(options: &ReloadOptions) -> Result<(), String> {
    l4::raise_descriptors();
    namespace::set_up()?;
    let mut versions = Vec::new();
    for relay in &options.relays {
        if !RELAYS.contains(relay) {
            return Err(format!("{} has no configuration to reload", relay.name()));
        }
        versions.push((relay.name().to_owned(), version(*relay)?));
    }
    let loadgen = Loadgen::find(options.load_core)?;
    let servers = [loadgen.serve("echo")?, loadgen.serve("echo")?, loadgen.serve("echo")?];
    let mut run = ReloadRun {
        date: format!("{:.0}", jiff::Timestamp::now()),
        commit: machine::commit(),
        machine: Machine::look(),
        load: options.load().join(" "),
        versions,
        outcomes: Vec::new(),
    };
    let mut stage = Stage { options, loadgen, servers, ports: Ports::new() };
    let mut failures = Vec::new();
    for relay in &options.relays {
        println!("── {}: {} reloads", relay.name(), options.reloads());
        match stage.measure(*relay) {
            Ok(outcome) => run.outcomes.push(outcome),
            Err(why) => {
                println!("left out: {why}");
                failures.push(format!("{}: it could not be measured", relay.name()));
            }
        }
    }
    if run.outcomes.is_empty() {
        return Err("nothing could be measured".to_owned());
    }
    table::publish(&run, options.is_whole())?;
    failures.extend(run.outcomes.iter().filter_map(Outcome::fault));
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// What all relays share.
struct Stage<'o> {
    options: &'o ReloadOptions,
    loadgen: Loadgen,
    servers: [Server; 3],
    ports: Ports,
}

impl Stage<'_> {
    fn measure(&mut self, relay: Relay) -> Result<Outcome, String> {
        let addresses = Addresses {
            listen: self.ports.next()?,
            extra: self.ports.next()?,
            servers: self.servers.each_ref().map(|server| server.address.clone()),
        };
        let state = State::first();
        let can_reload = template(relay).is_some();
        let mut running = can_reload
            .then(|| Reloadable::start(relay, state, &addresses, self.options.relay_core))
            .transpose()?;
        let target = match &running {
            Some(_) => addresses.listen.to_string(),
            None => self.servers[0].address.clone(),
        };
        let reloads = u32::try_from(self.options.reloads()).unwrap_or(u32::MAX);
        let length = self.options.calm() * 2 + EVERY * reloads * 3 + SPARE;
        let mut load = self.loadgen.begin_mixed(&target, &self.options.load(), length)?;
        thread::sleep(self.options.calm());
        let before = size(running.as_ref())?;
        let mut reloaded = self.reload_all(running.as_ref(), state, &mut load)?;
        thread::sleep(self.options.calm());
        let after = size(running.as_ref())?;
        let late_lost = reloaded.late_lost();
        load.interrupt()?;
        let (result, load_limited, said) = load.finish_anyhow()?;
        running.as_mut().map_or(Ok(()), Reloadable::check)?;
        self.servers.iter_mut().try_for_each(Server::check)?;
        if let Some(line) = said.lines().find(|line| line.contains("failed, the first")) {
            println!("{line}");
        }
        let reloads = if can_reload { self.options.reloads() } else { 0 };
        let in_force = reloaded.in_force;
        let outcome =
            Outcome { relay, reloads, in_force, late_lost, before, after, result, load_limited };
        println!("{}", outcome.line());
        Ok(outcome)
    }

    /// Makes all reloads.
    fn reload_all(
        &self,
        running: Option<&Reloadable>,
        mut state: State,
        load: &mut Underway,
    ) -> Result<Reloaded, String> {
        let mut reloaded = Reloaded::default();
        // What was seen of each kind of change. One that was not in force leaves the state that the
        // next one of its kind leads to, and that one proves nothing.
        let mut is_known = Kind::ALL.map(|_| true);
        for (nth, kind) in (0..self.options.reloads()).zip(Kind::ALL.into_iter().cycle()) {
            state = state.after(kind);
            let Some(running) = running else {
                load.event(kind.label())?;
                thread::sleep(EVERY);
                continue;
            };
            // Writing the file is the operator's work and no part of the window.
            running.write(state)?;
            load.event(kind.label())?;
            let begin = Instant::now();
            running.reload()?;
            thread::sleep(LOOK_AFTER.saturating_sub(begin.elapsed()));
            let mut is_in_force = running.is_in_force(kind, state, &self.servers[2]);
            while !is_in_force && begin.elapsed() < LOOK_MOST {
                thread::sleep(LOOK);
                is_in_force = running.is_in_force(kind, state, &self.servers[2]);
            }
            let was_known = std::mem::replace(&mut is_known[nth % Kind::ALL.len()], is_in_force);
            reloaded.in_force += usize::from(is_in_force && was_known);
            reloaded.late_opened += 1;
            reloaded.late.extend(running.open_session());
            thread::sleep(EVERY.saturating_sub(begin.elapsed()));
        }
        Ok(reloaded)
    }
}

/// What became of the reloads of one relay.
#[derive(Debug, Default)]
struct Reloaded {
    in_force: usize,
    /// Sessions that were opened one after each reload, so that each configuration has one.
    late: Vec<TcpStream>,
    late_opened: usize,
}

impl Reloaded {
    /// Sessions among those opened late that don't return a byte any more, or never did.
    fn late_lost(&mut self) -> usize {
        let alive = self.late.iter_mut().filter_map(|session| listening::echo(session).ok());
        self.late_opened - alive.count()
    }
}

fn size(running: Option<&Reloadable>) -> Result<Size, String> {
    running.map_or_else(|| Ok(Size::default()), Reloadable::size)
}
