//! A world out of a seed: calm or troubled, small or large, every knob turned by chance.

use std::time::Duration;

use ringlane_core::counters::{Ending, Reason};
use ringlane_core::machine::sys::sim::Weather;
use ringlane_core::prng::Prng;
use ringlane_core::settings::{
    BalanceKind, ClientLimits, ClientRate, Path, Refusal, RoleWanted, Unrouted,
};

use crate::client::{self, Client};
use crate::first_message::{FirstMessages, Form, Opening, Wants};
use crate::mirror::Mirrored;
use crate::orders::EndOrder;
use crate::server::{Behaviour, Server};
use crate::world::{Order, World};

/// Chance, with words for it.
struct Dice(Prng);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// Sets the dice apart that throw what was added later, so that older worlds stay as they are.
const LATER: u64 = 0x6f64_6473;

/// The same for worlds with limits, orders and whatever else shards learned since.
const MODERN: u64 = 0x6d6f_646c;

/// The world of this seed.
pub(crate) fn world(seed: u64) -> World {
    let mut world = oddities(&mut Dice(Prng::new(seed ^ LATER)), ordinary(seed));
    if Dice(Prng::new(seed ^ MODERN)).one_in(3) {
        // Dice of its own for each, so that one more changes none of the others.
        for (salt, teach) in (1..).zip(LESSONS) {
            world = teach(&mut Dice(Prng::new(seed ^ MODERN ^ salt << 32)), world);
        }
    }
    world
}

/// What shards can do beyond relaying bytes to servers without limits.
const LESSONS: [fn(&mut Dice, World) -> World; 10] =
    [limits, orders, permits, races, memory, throttle, first_messages, throttles, mirrors, reloads];

/// Other configurations while it goes on.
fn reloads(dice: &mut Dice, mut world: World) -> World {
    if dice.one_in(3) {
        world.reloads = (0..=dice.below(3)).map(|_| dice.millis(3000)).collect();
    }
    world
}

/// Servers with room for a few sessions, and a queue before them.
fn limits(dice: &mut Dice, mut world: World) -> World {
    if dice.one_in(3) {
        return world;
    }
    for server in &mut world.servers {
        if !dice.one_in(4) {
            server.max_connections = dice.below(4) as u32 + 1;
        }
    }
    if world.calm {
        return world.queueing(1000, Some(Duration::from_secs(3600)));
    }
    let timeout = dice.of(&[None, Some(300), Some(2000), Some(10_000)]);
    let size = dice.of(&[1, 3, 10, 1000]);
    let queues = !dice.one_in(5);
    if queues { world.queueing(size, timeout.map(Duration::from_millis)) } else { world }
}

/// Orders to end sessions, of this role or another one, each with a reason of its own.
fn orders(dice: &mut Dice, mut world: World) -> World {
    if dice.one_in(2) {
        return world;
    }
    let roles = [RoleWanted::Any, RoleWanted::Primary, RoleWanted::Replica];
    world = world.wanting(dice.of(&roles));
    let reasons = [Reason::Drained, Reason::Down, Reason::Demoted, Reason::Lag, Reason::Conflict];
    let most = dice.of(&[500, 3000, 20_000]);
    for why in reasons.into_iter().take(dice.below(5) as usize + 1) {
        let order = EndOrder {
            at: dice.millis(most),
            server: dice.below(world.servers.len() as u64) as u32,
            role: dice.of(&roles),
            how: dice.of(&[Ending::Fence, Ending::Drain]),
            why,
        };
        world = world.ending(order);
    }
    world
}

/// Clients that may have a few sessions, or may come now and then.
fn permits(dice: &mut Dice, world: World) -> World {
    if !dice.one_in(3) {
        return world;
    }
    let rate = ClientRate { per_100_seconds: dice.of(&[100, 1000, 5000]) };
    world.with_per_client(ClientLimits {
        max_connections: dice.of(&[1, 2, 4, u32::MAX]),
        rate: dice.one_in(3).then_some(rate),
        burst: dice.below(3) as u32 + 1,
        allow: Vec::new(),
        size: 64,
        refusal: dice.of(&[Refusal::Reset, Refusal::Close]),
    })
}

/// A second server that is tried beside a slow one.
fn races(dice: &mut Dice, world: World) -> World {
    if !dice.one_in(3) {
        return world;
    }
    // At once, before an answer can come, in the midst of them, and when none comes any more.
    let after = Duration::from_micros(dice.of(&[1, 100, 3000, 30_000, 200_000]));
    world.racing_after(after)
}

/// Clients that return to the server that they had.
fn memory(dice: &mut Dice, world: World) -> World {
    let ttl = Duration::from_millis(dice.of(&[1, 500, 60_000]));
    if dice.one_in(3) { world.remembering_for(ttl) } else { world }
}

/// Sessions that may pass only so much.
fn throttle(dice: &mut Dice, world: World) -> World {
    let rate = dice.of(&[500_000, 1_000_000]);
    if dice.one_in(3) { world.throttled_to(rate) } else { world }
}

/// Sessions that may pass only so much together.
fn throttles(dice: &mut Dice, world: World) -> World {
    let rate = dice.of(&[400_000, 1_500_000]);
    if dice.one_in(4) { world.throttled_together_to(rate) } else { world }
}

/// A second server that gets a copy of what clients send, whatever it makes of that.
fn mirrors(dice: &mut Dice, world: World) -> World {
    if !dice.one_in(3) {
        return world;
    }
    let behaviour = dice.of(&[
        Behaviour::Echoes,
        Behaviour::Echoes,
        Behaviour::Answers(900),
        Behaviour::EchoesSlowly(700, Duration::from_millis(3)),
        Behaviour::EchoesSlowly(100, Duration::from_millis(300)),
        Behaviour::Pours(500_000),
        Behaviour::ResetsAfter(1000),
        Behaviour::Stares,
        Behaviour::NeverAccepts,
        Behaviour::Refuses,
        Behaviour::Swallows,
    ]);
    let mut server = Server::that(behaviour);
    server.form = world.first.map_or(Form::Plain, |first| first.form);
    world.copying_to(Mirrored { server, per_million: dice.of(&[1_000_000, 1_000_000, 500_000]) })
}

/// Clients whose first messages choose a backend.
fn first_messages(dice: &mut Dice, mut world: World) -> World {
    // Those who wait in a queue are judged by when they came.
    if dice.one_in(2) || world.is_limited() {
        return world;
    }
    let policies = [Unrouted::Backend, Unrouted::Reject];
    let (form, tls) = (dice.of(&[Form::Tls, Form::Postgres]), dice.one_in(2));
    let by_name = form == Form::Tls || tls && dice.one_in(2);
    let (no_sni, unmatched) = (dice.of(&policies), dice.of(&policies));
    let last = world.servers.len() as u64 - 1;
    let split = (last > 0 && world.affinity.is_none()).then(|| dice.below(last) as usize + 1);
    if let Some(split) = split {
        // Each backend has a server that takes sessions.
        world.servers[split].weight = 1;
    }
    if form == Form::Postgres {
        // A question that can't be sent at once is a broken connection. And what comes behind a
        // first message keeps its buffers until a server has answered, for which one is needed.
        world.weather.squeezes = 0;
        world.weather.buffers = world.weather.buffers.max(130);
    }
    let is_ordered = !world.ends.is_empty() || world.order.is_some();
    for client in &mut world.clients {
        let wants = dice.of(&Wants::ALL);
        let (is_cut, part) = (dice.one_in(8), dice.below(200));
        let opening = Opening {
            // An order that ends a session in clear text says so in the midst of it.
            tls: form == Form::Tls || is_ordered || dice.one_in(2),
            asks: form == Form::Postgres && !is_ordered && dice.one_in(2),
            wants,
            brief: is_ordered,
            cut: (!world.calm && is_cut).then_some(part),
        };
        client.opening = Some(opening);
        if world.calm {
            // Its first message takes less time than it may.
            client.chunk = client.chunk.max(200);
        }
    }
    world.beginning_with(FirstMessages { form, tls, by_name, split, no_sni, unmatched })
}

/// What few connections meet: urgent data, and sockets that are not as ready as they are said to
/// be.
fn oddities(dice: &mut Dice, mut world: World) -> World {
    if dice.one_in(3) {
        for client in &mut world.clients {
            client.urgent = dice.one_in(2).then(|| dice.below(client.sends + 1));
        }
        for server in &mut world.servers {
            let most = dice.of(&[10, 1000, 60_000]);
            server.urgent = dice.one_in(2).then(|| dice.below(most));
        }
    }
    if dice.one_in(4) {
        world.weather.squeezes = dice.of(&[4, 24]);
    }
    world
}

fn ordinary(seed: u64) -> World {
    let dice = &mut Dice(Prng::new(seed));
    let calm = dice.one_in(3);
    let weather = weather(dice, calm);
    let mut world = World::new(seed)
        .on_shards(dice.of(&[1, 1, 2, 3, 4]))
        .by(dice.of(&[Path::Auto, Path::Auto, Path::Copy, Path::Splice]))
        .balanced(dice.of(&[
            BalanceKind::RoundRobin,
            BalanceKind::LeastConn,
            BalanceKind::RandomTwo,
            BalanceKind::Source,
            BalanceKind::RingHash(None),
            BalanceKind::LeastBandwidth,
            BalanceKind::First,
        ]))
        .in_weather(|own| *own = weather);
    if dice.one_in(4) {
        world = world.with_at_most(dice.below(6) as u32 + 1);
    }
    if !calm {
        world = troubles(dice, world);
    }
    let manner = dice.of(&[
        Behaviour::Echoes,
        Behaviour::Echoes,
        Behaviour::EchoesSlowly(700, Duration::from_millis(3)),
        Behaviour::Answers(900),
        Behaviour::Answers(120_000),
        Behaviour::Pours(50_000),
    ]);
    for index in 0..dice.below(4) + 1 {
        let behaviour = if calm || index == 0 { manner } else { any_behaviour(dice, manner) };
        world = world.server(server(dice, behaviour, calm, index));
    }
    let talks = matches!(manner, Behaviour::Echoes | Behaviour::EchoesSlowly(..));
    for _ in 0..dice.of(&[1, 4, 10, 25]) {
        let client = client(dice, calm, talks);
        world = world.client(client);
    }
    world
}

fn weather(dice: &mut Dice, calm: bool) -> Weather {
    let least = Duration::from_micros(dice.of(&[5, 50, 1000]));
    Weather {
        latency: (least, least + dice.of(&[0, 1, 30]) * Duration::from_millis(1)),
        capacity: dice.of(&[1000, 10_000, 64_000, 256_000]),
        fragments: dice.of(&[0, 16, 128]),
        lateness: dice.of(&[0, 16, 96]),
        mishaps: dice.of(&[0, 8, 48]),
        squeezes: 0,
        pipe: dice.of(&[4096, 65_536]),
        buffers: dice.of(&[2, 6, 130, 1024]),
        descriptors: if !calm && dice.one_in(5) { dice.below(30) as usize + 8 } else { 100_000 },
    }
}

fn troubles(dice: &mut Dice, world: World) -> World {
    let connect = dice.of(&[1000, 3000]) * Duration::from_millis(1);
    let idle = dice.of(&[2, 5, 20]) * Duration::from_secs(1);
    let world = world.troubled().giving_up_after(connect, idle);
    match dice.below(8) {
        0 => world.ordered_at(dice.millis(3000), Order::Stop),
        1 => {
            let time = dice.millis(4000);
            world.ordered_at(dice.millis(3000), Order::Drain(time))
        }
        _ => world,
    }
}

fn any_behaviour(dice: &mut Dice, manner: Behaviour) -> Behaviour {
    let resets = Behaviour::ResetsAfter(dice.of(&[0, 1, 100, 20_000]));
    let troubles = [
        resets,
        resets,
        Behaviour::Stares,
        Behaviour::NeverAccepts,
        Behaviour::Refuses,
        Behaviour::Refuses,
        Behaviour::Swallows,
    ];
    if dice.one_in(2) { manner } else { dice.of(&troubles) }
}

fn server(dice: &mut Dice, behaviour: Behaviour, calm: bool, index: u64) -> Server {
    let weight = dice.below(3) as u32 + u32::from(index == 0);
    let mut server =
        Server::that(behaviour).weighing(weight).standing_by(index > 0 && dice.one_in(5));
    if !calm && dice.one_in(4) {
        let dies = dice.millis(2000);
        server = server.dying_at(dies);
        if dice.one_in(2) {
            server = server.returning_at(dies + dice.millis(2000));
        }
    }
    server
}

fn client(dice: &mut Dice, calm: bool, may_talk: bool) -> Client {
    let most = dice.of(&[10, 1000, 1000, 1000, 70_000, 300_000]);
    let sends = dice.below(most);
    let chunk = dice.of(&[sends + 1, sends / 4 + 1, sends / 20 + 1]);
    let spread = dice.of(&[1, 2000]);
    let mut client = Client::sending(sends)
        .coming_after(dice.millis(spread))
        .in_chunks(chunk, dice.of(&[0, 0, 1, 30]) * Duration::from_millis(1))
        .talking(may_talk && dice.one_in(3));
    if dice.one_in(6) {
        client = client.reading_slowly(4000, Duration::from_millis(10));
    }
    if !calm && dice.one_in(3) {
        let part = dice.below(sends + 1);
        client = client.that(dice.of(&[
            client::Ending::ResetsAfter(part),
            client::Ending::ResetsAfter(part),
            client::Ending::VanishesAfter(part),
            client::Ending::ClosesUnread,
        ]));
    }
    client
}
