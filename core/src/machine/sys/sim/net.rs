//! The world itself: clock, chance, events to come, and a trace of what happened.
//!
//! Everything that needs time is an event on one heap, ordered by time and then by birth. What an
//! event changes is told to the owner of the socket: a shard's port looks at it in its next turn,
//! an outside actor is woken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::outside::Wake;
use super::tcp::Sock;
use crate::prng::Prng;

/// What the network and the kernel are like. Chances are in 256.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The least and the most that a connection's bytes are under way.
    pub latency: (Duration, Duration),
    /// Bytes that one direction of a connection holds, under way and received.
    pub capacity: usize,
    /// How often a read or write moves fewer bytes than it could.
    pub fragments: u64,
    /// How often a shard hears of something late.
    pub lateness: u64,
    /// How often the kernel does what it may and seldom does: ends a multishot request, finds no
    /// buffer, fails a cancellation.
    pub mishaps: u64,
    /// How often readiness is false: a shard is told that a socket is ready when it is not, or
    /// finds no memory to send for a while though there is room.
    pub squeezes: u64,
    /// Bytes that a pipe holds.
    pub pipe: usize,
    /// Receive buffers of a shard.
    pub buffers: usize,
    /// Descriptors that all shards may have.
    pub descriptors: usize,
}

/// A simulated network. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    /// Time zero; only differences to it are ever seen.
    origin: Instant,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({:?})", self.now())
    }
}

/// Who hears of a socket's news.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SocketOwner {
    /// A shard.
    Port(usize),
    /// Somebody outside.
    Actor(u32),
    /// Nobody yet: it waits to be accepted.
    Nobody,
}

/// What is to come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Event {
    /// A connection attempt reaches the other side.
    Syn(u32),
    /// The attempt's answer is back.
    Connected(u32),
    /// The attempt was refused.
    Refused(u32),
    /// Bytes reach a socket.
    Arrive(u32, usize),
    /// The end of the stream reaches a socket.
    Fin(u32),
    /// A reset reaches a socket.
    Reset(u32),
    /// A socket's owner should look at it.
    Touch(u32),
    /// An actor wanted to be woken.
    Alarm(u32, u32),
}

pub(super) struct State {
    pub(super) now: Duration,
    pub(super) weather: Weather,
    pub(super) sockets: Vec<Sock>,
    pub(super) listening: BTreeMap<SocketAddr, Vec<u32>>,
    /// Addresses that swallow what is sent to them.
    pub(super) silent: BTreeSet<SocketAddr>,
    /// Sockets of each shard that it should look at.
    pub(super) news: Vec<Vec<u32>>,
    pub(super) woken: VecDeque<(u32, Wake)>,
    /// Descriptors and pipes that shards have.
    pub(super) descriptors: usize,
    pub(super) pipes: usize,
    pub(super) accepted: u64,
    pub(super) processed: u64,
    pub(super) last_port: u32,
    prng: Prng,
    heap: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    born: u64,
    trace: u64,
    printing: bool,
}

impl Net {
    /// A network in which nothing has happened.
    pub fn new(seed: u64, weather: Weather) -> Self {
        let state = State {
            now: Duration::ZERO,
            weather,
            sockets: Vec::new(),
            listening: BTreeMap::new(),
            silent: BTreeSet::new(),
            news: Vec::new(),
            woken: VecDeque::new(),
            descriptors: 0,
            pipes: 0,
            accepted: 0,
            processed: 0,
            last_port: 0,
            prng: Prng::new(seed),
            heap: BinaryHeap::new(),
            born: 0,
            trace: seed,
            printing: false,
        };
        Self { state: Arc::new(Mutex::new(state)), origin: Instant::now() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints every event from now on.
    pub fn print_trace(&self) {
        self.lock().printing = true;
    }

    /// A number that depends on everything that has happened, and on its order.
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// Adds something to the trace.
    pub fn note(&self, what: &str, a: u64, b: u64) {
        self.lock().note(what, a, b);
    }

    /// Time since the beginning.
    pub fn now(&self) -> Duration {
        self.lock().now
    }

    /// When the world began, on the clock that shards see.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// A random number below `bound`, which must not be 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.lock().below(bound)
    }

    /// When the next event is due.
    pub fn next_event(&self) -> Option<Duration> {
        self.lock().heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Events that have happened.
    pub fn events(&self) -> u64 {
        self.lock().processed
    }

    /// Lets time pass until `time`, with all that happens meanwhile.
    pub fn advance_to(&self, time: Duration) {
        let state = &mut *self.lock();
        while let Some(Reverse((at, _, event))) = state.heap.peek().copied() {
            if at > time {
                break;
            }
            state.heap.pop();
            state.now = at;
            state.processed += 1;
            state.happen(event);
        }
        state.now = state.now.max(time);
    }

    /// Whether a shard should look at a socket.
    pub fn has_news(&self, shard: usize) -> bool {
        self.lock().news.get(shard).is_some_and(|news| !news.is_empty())
    }

    /// Descriptors and pipes that the shards have now.
    pub fn held(&self) -> (usize, usize) {
        let state = self.lock();
        (state.descriptors, state.pipes)
    }

    /// Connections that the shards have accepted.
    pub fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    /// Descriptors that the shards may have from now on.
    pub fn limit_descriptors(&self, max: usize) {
        self.lock().weather.descriptors = max;
    }
}

impl State {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.prng.below(bound)
    }

    /// Whether something of this chance (in 256) comes true.
    pub(super) fn chance(&mut self, chance: u64) -> bool {
        chance > 0 && self.below(256) < chance
    }

    /// How many of `n` bytes are moved at once.
    pub(super) fn piece(&mut self, n: usize) -> usize {
        if n > 1 && self.chance(self.weather.fragments) {
            self.below(n as u64) as usize + 1
        } else {
            n
        }
    }

    pub(super) fn schedule(&mut self, at: Duration, event: Event) {
        self.born += 1;
        self.heap.push(Reverse((at.max(self.now), self.born, event)));
    }

    /// Makes the owner of a socket look at it soon, at once most of the time.
    pub(super) fn touch(&mut self, id: u32) {
        if matches!(self.sockets[id as usize].owner, SocketOwner::Port(_))
            && self.chance(self.weather.lateness)
        {
            let late = Duration::from_micros(self.below(2000));
            self.schedule(self.now + late, Event::Touch(id));
        } else {
            self.tell(id);
        }
    }

    /// Makes the owner of a socket look at it now.
    pub(super) fn tell(&mut self, id: u32) {
        match self.sockets[id as usize].owner {
            SocketOwner::Port(port) if !self.news[port].contains(&id) => self.news[port].push(id),
            SocketOwner::Actor(actor) => self.woken.push_back((actor, Wake::Socket(id.into()))),
            SocketOwner::Port(_) | SocketOwner::Nobody => {}
        }
    }

    pub(super) fn note(&mut self, what: &str, a: u64, b: u64) {
        let numbers = [self.now.as_nanos() as u64, a, b];
        let words = what.bytes().map(u64::from).chain(numbers);
        self.trace = words.fold(self.trace, |trace, word| {
            (trace ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
        });
        if self.printing {
            println!("{:>14.6} {what} {a} {b}", self.now.as_secs_f64());
        }
    }
}
