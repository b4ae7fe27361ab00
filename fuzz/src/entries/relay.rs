//! One session of the real relay as a machine: any sequence of events at its two ends.
//!
//! A shard in a simulated network; the input says what client and server write, read, end and
//! reset, how fast they may, whether a mirror gets a copy, and how the weather is. After every
//! event the relay must keep its promises: bytes arrive as they were sent and no faster than they
//! may, a copy has no hole, the relay holds no more than its window, it does not spin; in the end
//! everything is given back and the session has one record with the right code.

mod world;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use ringlane_core::balance::HashTable;
use ringlane_core::counters::{Close, Counters, Phase, SessionRecord, ShardCounters};
use ringlane_core::ids::{FrontendId, ServerId};
use ringlane_core::limits::{BUFFER_SIZE, LAST_WORDS, RECEIVE_WINDOW};
use ringlane_core::machine::Address;
use ringlane_core::machine::reactor::{Reactor, Rest};
use ringlane_core::machine::sys::sim::{Net, SocketId, Weather};
use ringlane_core::settings::{Bandwidth, Path, Snapshot};
use ringlane_core::shared::Gauges;
use ringlane_shard::{Installation, ListenerId, Mailbox, Message, Published, Setup};

use super::Input;
use world::{snapshot, weather};

const FRONTEND: ([u8; 4], u16) = ([10, 0, 0, 1], 5432);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 5432);
const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 3], 40_000);
const MIRROR: ([u8; 4], u16) = ([10, 0, 0, 4], 5432);

/// The relay has so long to react to an event.
const A_MOMENT: Duration = Duration::from_millis(5);

/// Turns in one moment, above which the shard is said to spin.
const TURNS: usize = 20_000;

/// Those that a mirror may have in flight besides.
const OPERATIONS_OF_MIRROR: usize = 6;

/// Bytes per second of a session whose bandwidth is limited, or of a backend.
const LIMITED: u64 = 1_000_000;

/// What such a session may have had beyond its rate: a burst, and the last receive.
const AHEAD: u64 = 5 * BUFFER_SIZE as u64;

/// Operations that one session, its listener and cancellations may have in flight.
const OPERATIONS: usize = 12;

/// Moments that an end waits for the end of its stream.
const PATIENCE: usize = 20_000;

/// Events of one input; what is behind them is ignored.
const EVENTS: usize = 300;

/// Any events at the two ends of one session.
pub fn relay(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut machine = Machine::start(&mut input);
    for _ in 0..EVENTS {
        if input.is_over() {
            break;
        }
        let side = input.below(2);
        match input.byte() % 16 {
            0..=5 => machine.write(side, input.number() % 300_000),
            6..=10 => machine.read(side, input.number() % 300_000),
            11 => machine.write_urgent(side),
            12 | 13 => machine.run(Duration::from_millis(input.number() % 500)),
            14 => machine.finish(side),
            _ => machine.reset(side),
        }
        machine.run(A_MOMENT);
        machine.check();
    }
    machine.end();
}

/// One end of the session.
struct End {
    socket: SocketId,
    written: u64,
    read: u64,
    finished: bool,
    at_end: bool,
    /// It was reset, by itself or by the relay.
    gone: bool,
}

/// Who gets a copy of what the client sends.
struct Copy {
    listener: SocketId,
    socket: Option<SocketId>,
    /// It reads what comes; else it takes nothing.
    reads: bool,
    read: u64,
    at_end: bool,
}

struct Machine {
    net: Net,
    weather: Weather,
    bandwidth: Bandwidth,
    mirror: Option<Copy>,
    reactor: Reactor,
    rest: Rest,
    mailboxes: Arc<[Mailbox]>,
    log: Arc<ArrayQueue<SessionRecord>>,
    gauges: Arc<Gauges>,
    /// The client's and the server's.
    ends: [End; 2],
    resets: usize,
}

/// A configuration for the only shard, with its only listener.
fn installation(
    net: &Net,
    snapshot: Arc<Snapshot>,
    gauges: &Arc<Gauges>,
    log: &Arc<ArrayQueue<SessionRecord>>,
) -> Installation {
    Installation {
        addresses: vec![Some(Address::Inet(SERVER.into()))],
        published: Published {
            counters: [Counters::new(&snapshot)].into(),
            gauges: Arc::clone(gauges),
            tables: HashTable::of_all(&snapshot, None),
            logs: [Arc::clone(log)].into(),
            owners: Arc::new(HashMap::from([(ListenerId(0), FrontendId(0))])),
            snapshot,
        },
        listeners: vec![(ListenerId(0), net.listener(0, FRONTEND.into()))],
        changed: Arc::default(),
    }
}

impl Machine {
    fn start(input: &mut Input<'_>) -> Self {
        let weather = weather(input);
        let way = input.below(36);
        let path = [Path::Auto, Path::Copy, Path::Splice][way % 3];
        let limit = |is_limited: bool| is_limited.then_some(LIMITED);
        let bandwidth = Bandwidth {
            per_session: limit(way / 3 % 2 == 1),
            per_backend: limit(way / 6 % 2 == 1),
        };
        // None, one that reads, and one that takes nothing.
        let mirror = way / 12;
        let net = Net::new(u64::from(input.byte()), weather);
        let snapshot = Arc::new(snapshot(path, bandwidth, mirror > 0));
        let gauges = Arc::new(Gauges::new(&snapshot, 1, net.origin()));
        let mailboxes: Arc<[Mailbox]> = vec![Mailbox::new().expect("a descriptor")].into();
        let counters = Arc::new(ShardCounters::default());
        let (bell, counted) = (Arc::clone(mailboxes[0].bell()), Arc::clone(&counters.event_loop));
        let reactor = Reactor::simulated(net.place(), 0, bell, counted).expect("memory");
        let log = Arc::new(ArrayQueue::new(4));
        let setup = Setup {
            index: 0,
            installation: installation(&net, snapshot, &gauges, &log),
            mailboxes: Arc::clone(&mailboxes),
            carrier: ringlane::carriers::all(input.below(3)),
            counters,
            seed: 1,
        };
        ringlane_shard::start(&reactor, setup).expect("a simulated ring does not fail");
        let server = net.listen(1, SERVER.into());
        let mirror = (mirror > 0).then(|| Copy {
            listener: net.listen(2, MIRROR.into()),
            socket: None,
            reads: mirror == 1,
            read: 0,
            at_end: false,
        });
        let client = net.connect(0, CLIENT.into(), FRONTEND.into());
        let end = |socket| End {
            socket,
            written: 0,
            read: 0,
            finished: false,
            at_end: false,
            gone: false,
        };
        let ends = [end(client), end(client)];
        let rest = Rest::Not;
        let mut machine = Self {
            net,
            weather,
            bandwidth,
            mirror,
            reactor,
            rest,
            mailboxes,
            log,
            gauges,
            ends,
            resets: 0,
        };
        let accepted = (0..1000).find_map(|_| {
            machine.run(A_MOMENT);
            machine.net.accept(1, server)
        });
        machine.ends[1].socket = accepted.expect("the relay connects to its server");
        machine
    }

    /// Lets time pass, and the shard do what there is to do.
    fn run(&mut self, time: Duration) {
        let until = self.net.now() + time;
        let mut turns = 0;
        loop {
            while self.net.next_woken().is_some() {}
            while self.is_due() {
                self.rest = self.reactor.step().expect("a simulated ring does not fail");
                turns += 1;
                assert!(turns < TURNS, "the shard spins at {:?}", self.net.now());
            }
            let timer = match self.rest {
                Rest::Until(Some(at)) => Some(at.saturating_duration_since(self.net.origin())),
                _ => None,
            };
            let next = [timer, self.net.next_event()].into_iter().flatten().min();
            let next = next.filter(|next| *next <= until);
            self.net.advance_to(next.unwrap_or(until));
            self.read_copy();
            if next.is_none() {
                return;
            }
        }
    }

    /// The mirror takes what has come, if it does.
    fn read_copy(&mut self) {
        let Some(copy) = &mut self.mirror else { return };
        copy.socket = copy.socket.or_else(|| self.net.accept(2, copy.listener));
        let Some(socket) = copy.socket.filter(|_| copy.reads && !copy.at_end) else { return };
        let from = copy.read;
        let outcome = self.net.read(socket, usize::MAX, |bytes| {
            for (at, got) in (from..).zip(bytes) {
                assert_eq!(*got, byte(0, at), "byte {at} of the copy");
            }
        });
        match outcome {
            Ok(0) => copy.at_end = true,
            Ok(count) => copy.read += count as u64,
            Err(errno) if errno == AGAIN => {}
            // It was reset, and is no copy of all.
            Err(_) => copy.reads = false,
        }
        let read = self.mirror.as_ref().map_or(0, |copy| copy.read);
        assert!(read <= self.ends[0].written, "{read} bytes are copied");
    }

    fn is_due(&self) -> bool {
        let now = self.net.origin() + self.net.now();
        match self.rest {
            Rest::Not => true,
            Rest::Ended => false,
            Rest::Until(time) => {
                self.net.has_news(0)
                    || self.reactor.is_rung()
                    || time.is_some_and(|time| time <= now)
            }
        }
    }

    fn write(&mut self, side: usize, count: u64) {
        let end = &mut self.ends[side];
        if end.finished || end.gone {
            return;
        }
        let bytes: Vec<u8> = (end.written..end.written + count).map(|at| byte(side, at)).collect();
        match self.net.write(end.socket, &bytes) {
            Ok(count) => end.written += count as u64,
            Err(errno) if errno == AGAIN => {}
            Err(_) => end.gone = true,
        }
    }

    fn write_urgent(&mut self, side: usize) {
        let end = &self.ends[side];
        if !end.finished && !end.gone {
            // Without room there is just none.
            let _ = self.net.write_urgent(end.socket);
        }
    }

    fn read(&mut self, side: usize, max: u64) {
        let other = 1 - side;
        let end = &mut self.ends[side];
        if end.at_end || end.gone || max == 0 {
            return;
        }
        let from = end.read;
        let outcome = self.net.read(end.socket, max as usize, |bytes| {
            for (at, got) in (from..).zip(bytes) {
                assert_eq!(*got, byte(other, at), "byte {at} of the stream from end {other}");
            }
        });
        match outcome {
            Ok(0) => end.at_end = true,
            Ok(count) => end.read += count as u64,
            Err(errno) if errno == AGAIN => {}
            Err(_) => end.gone = true,
        }
    }

    fn finish(&mut self, side: usize) {
        if !self.ends[side].gone && !std::mem::replace(&mut self.ends[side].finished, true) {
            self.net.finish(self.ends[side].socket);
        }
    }

    fn reset(&mut self, side: usize) {
        if !std::mem::replace(&mut self.ends[side].gone, true) {
            self.net.reset(self.ends[side].socket);
            self.resets += 1;
        }
    }

    /// What must be true at any time.
    fn check(&self) {
        let held = 2 * self.weather.capacity + self.weather.pipe + RECEIVE_WINDOW + 2 * BUFFER_SIZE;
        for (from, to) in [(0, 1), (1, 0)] {
            let (written, read) = (self.ends[from].written, self.ends[to].read);
            assert!(read <= written, "end {to} got {read} bytes of {written}");
            let Bandwidth { per_session, per_backend } = self.bandwidth;
            if let Some(rate) = per_session.or(per_backend) {
                let allowed = (self.net.now().as_secs_f64() * rate as f64) as u64 + AHEAD;
                assert!(read <= allowed, "end {to} got {read} bytes, {allowed} were allowed");
            }
            let under_way = written - read;
            assert!(under_way <= held as u64, "{under_way} bytes are between the ends");
            let early = self.ends[to].at_end && !self.ends[from].finished && self.resets == 0;
            assert!(!early, "end {to} saw the end of a stream that goes on");
        }
        let (operations, buffers) = self.reactor.lent();
        let of_mirror = self.mirror.as_ref().map_or(0, |_| OPERATIONS_OF_MIRROR);
        assert!(operations <= OPERATIONS + of_mirror && buffers <= self.weather.buffers);
    }

    /// Both ends say and hear all there is to say, unless one was reset; then the shard drains.
    fn end(mut self) {
        // One after the other: the end of one direction must arrive while the other goes on.
        for side in [0, 1] {
            self.finish(side);
            for _ in 0..PATIENCE {
                self.read(0, u64::from(u32::MAX));
                self.read(1, u64::from(u32::MAX));
                if self.ends[1 - side].at_end || self.ends.iter().any(|end| end.gone) {
                    break;
                }
                self.run(A_MOMENT);
                self.check();
            }
            let heard = self.ends[1 - side].at_end || self.ends.iter().any(|end| end.gone);
            assert!(heard, "the end of stream {side} is not passed on by itself");
        }
        for _ in 0..PATIENCE {
            if self.ends.iter().all(|end| end.at_end || end.gone) {
                break;
            }
            self.run(A_MOMENT);
            self.read(0, u64::from(u32::MAX));
            self.read(1, u64::from(u32::MAX));
        }
        for (side, end) in self.ends.iter().enumerate() {
            assert!(end.at_end || end.gone, "end {side} never hears the end");
            if self.resets == 0 {
                assert!(!end.gone, "end {side} was reset though nobody broke");
                assert_eq!(end.read, self.ends[1 - side].written, "all that was written is read");
            }
            self.net.close(end.socket);
        }
        // What a broken side had sent is delivered, and acknowledged, within this much each.
        self.run(2 * LAST_WORDS + Duration::from_secs(1));
        let record = self.log.pop().expect("a session that has ended is recorded");
        assert!(self.log.is_empty(), "once");
        if let Some(copy) = self.mirror.as_ref().filter(|copy| copy.at_end) {
            assert_eq!(copy.read, record.bytes_in, "a copy that ends well is whole");
        }
        match self.resets {
            0 => assert_eq!(record.close, Close::NORMAL),
            _ => assert!(record.close == Close::NORMAL || record.close.phase == Phase::Data),
        }
        assert!(self.mailboxes[0].post(Message::Drain(Duration::from_secs(1))).is_ok());
        self.run(Duration::from_secs(2));
        assert_eq!(self.rest, Rest::Ended);
        // A copy may have been under way: the kernel gives back what was cancelled with it.
        for _ in 0..PATIENCE {
            if self.reactor.lent() == (0, 0) {
                break;
            }
            self.reactor.settle().expect("a simulated ring does not fail");
        }
        assert_eq!((self.reactor.lent(), self.reactor.timers()), ((0, 0), 0));
        assert_eq!(
            (self.gauges.common.process.live(), self.gauges.server(ServerId(0)).sessions()),
            (0, 0)
        );
        drop(self.reactor);
        assert_eq!(self.net.held(), (0, 0), "descriptors and pipes");
    }
}

/// "Not now", as the network says it.
const AGAIN: i32 = nix::errno::Errno::EAGAIN as i32;

/// Byte `at` of the stream that an end writes.
fn byte(side: usize, at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 16).wrapping_mul(31).wrapping_add(side as u64 * 101) as u8
}
