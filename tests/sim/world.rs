//! A world to tell a story in: a balancer of several shards, clients, servers, and what goes wrong.
//!
//! Built step by step, run to its end, judged by `verdict`. Time passes only when nobody has
//! anything left to do at this instant; within an instant shards take their turns in random order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringlane_core::counters::SessionRecord;
use ringlane_core::ids::{BackendId, ServerId};
use ringlane_core::machine::sys::sim::{Net, Wake, Weather};
use ringlane_core::machine::{Address, Congestion};
use ringlane_core::settings::{
    Affinity, Backend, BalanceKind, Bandwidth, ClientLimits, Frontend, HashKey, Path,
    QueueSettings, RaceAfter, RoleWanted, Snapshot, Timeout,
};
use ringlane_core::shared::Gauges;
use ringlane_shard::Message;

use crate::balancer::Balancer;
use crate::client::{Client, Visitor};
use crate::first_message::FirstMessages;
use crate::mirror::{self, Mirrored};
use crate::orders::{self, EndOrder};
use crate::queues::{self, IdleRoom};
use crate::server::{Machine, Server};
use crate::verdict;

/// Where the balancer listens.
const FRONTEND: ([u8; 4], u16) = ([10, 0, 0, 1], 5432);

/// Turns of all shards in one instant, above which they are said to spin.
const TURNS_AT_ONCE: u32 = 20_000;

/// Turns of all shards in one second, besides some for each thing that happened.
const TURNS_PER_SECOND: u64 = 400;
const TURNS_PER_EVENT: u64 = 20;

/// No world may last longer.
const LAST_DAY: Duration = Duration::from_secs(4 * 3600);

/// The alarm of a world's order; those of orders to end sessions come after it.
const ORDER: u32 = 0;

/// The alarm of another configuration.
const RELOAD: u32 = u32::MAX;

/// What happens to the balancer from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Stop accepting; end when the last session has ended, or after this time.
    Drain(Duration),
    /// End at once.
    Stop,
    /// A server is where another one is from now on.
    Move(u32, usize),
    /// A server is nowhere.
    Vanish(u32),
}

/// A world before it begins.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) shards: usize,
    pub(crate) path: Path,
    pub(crate) balance: BalanceKind,
    pub(crate) timeout: Timeout,
    pub(crate) max_connections: u32,
    /// Whether sessions wait while all servers are full.
    pub(crate) queue: Option<QueueSettings>,
    pub(crate) order: Option<(Duration, Order)>,
    /// Which servers the frontend wants. All of them are of every role.
    pub(crate) role: RoleWanted,
    /// What one client may take.
    pub(crate) per_client: Option<ClientLimits>,
    /// When a second server is tried beside a slow one.
    pub(crate) race_after: Option<Duration>,
    /// Whether clients return to the server that they had.
    pub(crate) affinity: Option<Affinity>,
    /// Bytes per second of one session, in either direction.
    pub(crate) rate: Option<u64>,
    /// Bytes per second of all sessions of a backend, in either direction.
    pub(crate) backend_rate: Option<u64>,
    /// What clients begin with, and where that leads.
    pub(crate) first: Option<FirstMessages>,
    /// Who gets a copy of what clients send.
    pub(crate) mirror: Option<Mirrored>,
    /// Orders to end sessions.
    pub(crate) ends: Vec<EndOrder>,
    /// When another configuration is to be served.
    pub(crate) reloads: Vec<Duration>,
    /// When the balancer's process stands still, and for how long.
    pub(crate) pause: Option<(Duration, Duration)>,
    pub(crate) clients: Vec<Client>,
    pub(crate) servers: Vec<Server>,
    /// Nothing goes wrong, so every session must end well.
    pub(crate) calm: bool,
    pub(crate) printed: bool,
}

/// A world that has ended as it should.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// Sessions that the balancer recorded.
    pub(crate) sessions: u64,
    /// A number that depends on everything that happened.
    pub(crate) trace: u64,
    /// How long it lasted, on its own clock.
    pub(crate) lasted: Duration,
}

impl World {
    /// A calm world: one shard, fast and faithful network, long timeouts, nobody in it.
    pub(crate) fn new(seed: u64) -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            seed,
            weather: Weather {
                latency: (Duration::from_micros(20), Duration::from_micros(200)),
                capacity: 64 * 1024,
                fragments: 0,
                lateness: 0,
                mishaps: 0,
                squeezes: 0,
                pipe: 64 * 1024,
                buffers: 1024,
                descriptors: 100_000,
            },
            shards: 1,
            path: Path::Auto,
            balance: BalanceKind::RoundRobin,
            timeout: Timeout {
                greeting: minutes(1),
                connect: minutes(1),
                client: minutes(5),
                server: minutes(5),
                fin: None,
            },
            max_connections: 10_000,
            queue: None,
            order: None,
            role: RoleWanted::Any,
            per_client: None,
            race_after: None,
            affinity: None,
            rate: None,
            backend_rate: None,
            first: None,
            mirror: None,
            ends: Vec::new(),
            reloads: Vec::new(),
            pause: None,
            clients: Vec::new(),
            servers: Vec::new(),
            calm: true,
            printed: false,
        }
    }

    pub(crate) fn on_shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    pub(crate) fn by(mut self, path: Path) -> Self {
        self.path = path;
        self
    }

    pub(crate) fn balanced(mut self, balance: BalanceKind) -> Self {
        self.balance = balance;
        self
    }

    pub(crate) fn in_weather(mut self, change: impl FnOnce(&mut Weather)) -> Self {
        change(&mut self.weather);
        self
    }

    pub(crate) fn giving_up_after(mut self, connect: Duration, idle: Duration) -> Self {
        self.timeout =
            Timeout { greeting: connect, connect, client: idle, server: idle, fin: None };
        self
    }

    pub(crate) fn with_at_most(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    pub(crate) fn queueing(mut self, size: u32, timeout: Option<Duration>) -> Self {
        self.queue = Some(QueueSettings { size, timeout });
        self
    }

    pub(crate) fn ordered_at(mut self, at: Duration, order: Order) -> Self {
        self.order = Some((at, order));
        self
    }

    pub(crate) fn wanting(mut self, role: RoleWanted) -> Self {
        self.role = role;
        self
    }

    pub(crate) fn with_per_client(mut self, limits: ClientLimits) -> Self {
        self.per_client = Some(limits);
        self
    }

    pub(crate) fn racing_after(mut self, time: Duration) -> Self {
        self.race_after = Some(time);
        self
    }

    pub(crate) fn remembering_for(mut self, ttl: Duration) -> Self {
        self.affinity = Some(Affinity { key: HashKey::ClientIp, ttl, size: 1000 });
        self
    }

    pub(crate) fn throttled_to(mut self, rate: u64) -> Self {
        self.rate = Some(rate);
        self
    }

    pub(crate) fn beginning_with(mut self, first: FirstMessages) -> Self {
        for server in &mut self.servers {
            (server.form, server.tls) = (first.form, first.tls);
        }
        self.first = Some(first);
        self
    }

    pub(crate) fn throttled_together_to(mut self, rate: u64) -> Self {
        self.backend_rate = Some(rate);
        self
    }

    pub(crate) fn copying_to(mut self, mirrored: Mirrored) -> Self {
        self.mirror = Some(mirrored);
        self
    }

    pub(crate) fn ending(mut self, order: EndOrder) -> Self {
        self.ends.push(order);
        self
    }

    pub(crate) fn paused_at(mut self, at: Duration, lasting: Duration) -> Self {
        self.pause = Some((at, lasting));
        self
    }

    pub(crate) fn server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    pub(crate) fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Things go wrong in it: sessions may fail, each with the right code.
    pub(crate) fn troubled(mut self) -> Self {
        self.calm = false;
        self
    }

    /// Whether descriptors may run out.
    pub(crate) fn is_short_of_descriptors(&self) -> bool {
        self.weather.descriptors < 1000
    }

    /// Whether a server may be full.
    pub(crate) fn is_limited(&self) -> bool {
        self.servers.iter().any(|server| server.max_connections < u32::MAX)
    }

    /// The backend of these servers.
    fn backend(&self, (first, count): (usize, usize)) -> Backend {
        Backend {
            name: format!("backend-{first}"),
            balance: self.balance,
            queue: self.queue,
            race_after: self.race_after.map(RaceAfter::Time),
            affinity: self.affinity,
            mirror: self.mirror.as_ref().map(Mirrored::settings),
            bandwidth: Bandwidth { per_session: self.rate, per_backend: self.backend_rate },
            congestion: Congestion::Host,
            first_server: ServerId(u32::try_from(first).unwrap()),
            server_count: u32::try_from(count).unwrap(),
            ..Backend::default()
        }
    }

    fn snapshot(&self) -> Snapshot {
        let server = |(index, server): (usize, &Server)| ringlane_core::settings::Server {
            name: format!("server-{index}"),
            backend: BackendId(0),
            address: Some(Address::Inet(server_address(index))),
            weight: server.weight,
            backup: server.backup,
            max_connections: server.max_connections,
            ..ringlane_core::settings::Server::default()
        };
        let all = self.servers.len();
        let parts = self.first.map_or_else(|| vec![(0, all)], |first| first.parts(all));
        let mut snapshot = Snapshot {
            generation: 1,
            max_connections: 1_000_000,
            log_sessions: true,
            frontends: vec![Frontend {
                name: "frontend".into(),
                bind: vec![Address::Inet(FRONTEND.into())],
                backend: BackendId(0),
                max_connections: self.max_connections,
                timeout: self.timeout,
                congestion: Congestion::Host,
                path: self.path,
                role: self.role,
                per_client: self.per_client.clone(),
                ..Frontend::default()
            }],
            backends: parts.into_iter().map(|part| self.backend(part)).collect(),
            servers: self.servers.iter().enumerate().map(server).collect(),
        };
        if let Some(first) = self.first {
            first.configure(&mut snapshot);
        }
        snapshot
    }

    /// Runs to the end and checks everything that must be true then, and on the way.
    pub(crate) fn run(self) -> Result<Report, String> {
        let mut run = Run::begin(self)?;
        run.until_everybody_is_done()?;
        run.end()?;
        let failures = verdict::judge(&run);
        if failures.is_empty() {
            Ok(Report {
                sessions: run.records.len() as u64,
                trace: run.net.trace(),
                lasted: run.net.now(),
            })
        } else {
            Err(failures.join("\n"))
        }
    }
}

fn server_address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 2, 0, 1], 6000 + u16::try_from(index).unwrap()))
}

fn client_address(index: usize) -> SocketAddr {
    let [high, low] = u16::try_from(index).unwrap().to_be_bytes();
    SocketAddr::from(([10, 1, high, low % 4], 10_000 + u16::from(low)))
}

/// A world under way.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) net: Net,
    pub(crate) balancer: Balancer,
    pub(crate) clients: Vec<Visitor>,
    pub(crate) servers: Vec<Machine>,
    pub(crate) mirror: Option<Machine>,
    pub(crate) records: Vec<SessionRecord>,
    /// Whether an order was given that may cost sessions.
    pub(crate) ordered: bool,
    idle_room: IdleRoom,
    /// Turns and events at the beginning of this second.
    second: (u64, u64, u64),
    turns: u64,
}

impl Run {
    fn begin(world: World) -> Result<Self, String> {
        let net = Net::new(world.seed, world.weather);
        if world.printed {
            net.print_trace();
        }
        let snapshot = Arc::new(world.snapshot());
        let gauges = Arc::new(Gauges::new(&snapshot, world.shards, net.origin()));
        orders::open_for_every_role(&gauges, &snapshot);
        let balancer = Balancer::start(&net, world.shards, snapshot, gauges, FRONTEND.into())?;
        let machine = |(index, server): (usize, &Server)| {
            Machine::new(&net, index as u32, server.clone(), server_address(index))
        };
        let servers: Vec<_> = world.servers.iter().enumerate().map(machine).collect();
        let mirror = world.mirror.as_ref().map(|mirrored| {
            Machine::new(&net, mirror::ACTOR, mirrored.server.clone(), mirror::ADDRESS.into())
        });
        let first = servers.len();
        let visitor = |(index, client): (usize, &Client)| {
            let actor = (first + index) as u32;
            Visitor::new(&net, actor, client.clone(), client_address(index), FRONTEND.into())
        };
        let clients = world.clients.iter().enumerate().map(visitor).collect();
        if let Some((at, _)) = world.order {
            net.alarm(u32::MAX, at, ORDER);
        }
        for (token, order) in (ORDER + 1..).zip(&world.ends) {
            net.alarm(u32::MAX, order.at, token);
        }
        for at in &world.reloads {
            net.alarm(u32::MAX, *at, RELOAD);
        }
        Ok(Self {
            net,
            balancer,
            clients,
            servers,
            mirror,
            records: Vec::new(),
            ordered: false,
            idle_room: IdleRoom::default(),
            second: (0, 0, 0),
            turns: 0,
            world,
        })
    }

    fn until_everybody_is_done(&mut self) -> Result<(), String> {
        loop {
            self.live_this_instant()?;
            if self.everybody_is_done() {
                return Ok(());
            }
            if !self.pass_time()? {
                return Err(format!("nothing will ever happen again; {}", self.where_it_stands()));
            }
        }
    }

    /// Whether every client has gone, and the balancer has nothing to do with any of them.
    fn everybody_is_done(&self) -> bool {
        let is_parted = |client: &Visitor| {
            let other = client.socket.and_then(|socket| self.net.facts(socket).other);
            other.is_none_or(|other| self.net.facts(other).closed.is_some())
        };
        self.clients.iter().all(|client| client.done)
            && (self.balancer.has_ended()
                || (self.balancer.gauges.common.process.live() == 0
                    && self.clients.iter().all(is_parted)))
    }

    /// Everybody does what there is to do now.
    fn live_this_instant(&mut self) -> Result<(), String> {
        for turn in 0.. {
            let mut moved = false;
            while let Some((actor, wake)) = self.net.next_woken() {
                moved = true;
                if actor == u32::MAX {
                    match wake {
                        Wake::Alarm(RELOAD) => self.balancer.reloads.ask(),
                        Wake::Alarm(token) if token > ORDER => {
                            let order = self.world.ends[(token - ORDER - 1) as usize];
                            let gauges = &self.balancer.gauges;
                            self.balancer.tell(|| order.message(gauges));
                        }
                        _ => self.give_order(),
                    }
                } else if let Some(mirror) = self.mirror.as_mut().filter(|_| actor == mirror::ACTOR)
                {
                    mirror.wake(&self.net, wake);
                } else if let Some(server) = self.servers.get_mut(actor as usize) {
                    server.wake(&self.net, wake);
                } else {
                    self.clients[actor as usize - self.servers.len()].wake(&self.net, wake);
                }
            }
            let turns =
                if self.stands_still().is_some() { 0 } else { self.balancer.turn(&self.net)? };
            self.turns += turns;
            if !moved && turns == 0 {
                break;
            }
            if turn > TURNS_AT_ONCE {
                return Err(format!("shards spin at {:?}", self.net.now()));
            }
        }
        self.records.extend(self.balancer.records());
        let live = self.balancer.gauges.common.process.live();
        if live > self.world.max_connections {
            return Err(format!("{live} sessions at once are above the limit"));
        }
        queues::check_now(self)?;
        self.idle_room.check(&self.world, &self.balancer.gauges, self.net.now())
    }

    /// Until when the balancer's process stands still, if it does.
    fn stands_still(&self) -> Option<Duration> {
        let (at, lasting) = self.world.pause?;
        (at..at + lasting).contains(&self.net.now()).then_some(at + lasting)
    }

    fn give_order(&mut self) {
        let Some((_, order)) = self.world.order else { return };
        let moved = |server, to: Option<usize>| Message::Moved {
            server: self.balancer.gauges.server_tag(ServerId(server)),
            address: to.map(|to| Box::new(Address::Inet(server_address(to)))),
        };
        // Of these alone sessions may notice something.
        self.ordered = matches!(order, Order::Drain(_) | Order::Stop);
        self.balancer.tell(|| match order {
            Order::Drain(time) => Message::Drain(time),
            Order::Stop => Message::Stop,
            Order::Move(server, to) => moved(server, Some(to)),
            Order::Vanish(server) => moved(server, None),
        });
    }

    /// Goes on to the next event or timer; `false` if there is none.
    fn pass_time(&mut self) -> Result<bool, String> {
        let timer = self.stands_still().or_else(|| self.balancer.next_timer(&self.net));
        let next = [self.net.next_event(), timer];
        let Some(next) = next.into_iter().flatten().min() else { return Ok(false) };
        if next > LAST_DAY {
            return Err(format!("it never ends; {}", self.where_it_stands()));
        }
        self.net.advance_to(next);
        let (second, turns, events) = self.second;
        if next.as_secs() != second {
            let (turned, happened) = (self.turns - turns, self.net.events() - events);
            let seconds = next.as_secs() - second;
            if turned > seconds * TURNS_PER_SECOND + happened * TURNS_PER_EVENT {
                return Err(format!("{turned} turns for {happened} events before {next:?}"));
            }
            self.second = (next.as_secs(), self.turns, self.net.events());
        }
        Ok(true)
    }

    fn where_it_stands(&self) -> String {
        let waiting: Vec<_> = self.clients.iter().filter(|client| !client.done).collect();
        let live = self.balancer.gauges.common.process.live();
        let now = self.net.now();
        format!("{live} sessions live at {now:?}, and clients still wait: {waiting:#?}")
    }

    /// Everybody is done: nothing may be left over; then the balancer ends too.
    fn end(&mut self) -> Result<(), String> {
        let until = self.net.now() + mirror::time(&self.world);
        while self.net.now() < until && self.pass_time()? {
            self.live_this_instant()?;
        }
        self.balancer.check_rest(self.world.is_short_of_descriptors())?;
        self.balancer.tell(|| Message::Drain(Duration::from_secs(1)));
        while !self.balancer.has_ended() {
            self.live_this_instant()?;
            if !self.balancer.has_ended() && !self.pass_time()? {
                return Err("the balancer does not end when it is told to drain".into());
            }
        }
        self.records.extend(self.balancer.records());
        self.balancer.close(&self.net)?;
        // What is under way arrives, and the servers read it.
        while self.net.next_event().is_some() {
            self.pass_time()?;
            self.live_this_instant()?;
        }
        Ok(())
    }
}
