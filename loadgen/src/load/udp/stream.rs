//! Datagrams at a given rate, and what became of them on the way.
//!
//! Up: to a sink, which is asked at the end what arrived. Down: a source is told rate and size,
//! once a second again, and says at the end how many it sent. Both: to an echo and back, with the
//! time of the round trip. Words between the two sides are datagrams too, so they are repeated
//! until answered.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Socket;
use crate::clock::{Timer, nanos};
use crate::flow::{Flow, HEADER, Header, Word};
use crate::load::Direction;
use crate::load::lane::Lane;
use crate::random::Random;
use crate::schedule::{Arrivals, Open, Schedule};

/// How often a word to the other side is repeated, and how many times.
const REPEAT: Duration = Duration::from_millis(100);
const REPEATS: usize = 30;

/// How often a source wants to hear that somebody still listens.
const RENEW: Duration = Duration::from_secs(1);

/// What stragglers get to arrive at the end.
const STRAGGLERS: Duration = Duration::from_millis(300);

/// Datagrams that are taken before others get their turn.
const AT_ONCE: usize = 64;

/// One flow.
struct Stream {
    lane: Rc<Lane>,
    socket: Socket,
    flow: u64,
    /// What came here.
    arrived: RefCell<Flow>,
    /// The other side's last word.
    word: RefCell<Option<Vec<u8>>>,
    /// Whether the time between sending and arriving is that of a round trip.
    round_trip: bool,
}

/// Starts this thread's flows.
pub(in crate::load) fn start(lane: &Rc<Lane>, direction: Direction, size: usize, rate: f64) {
    let flows = lane.plan.sessions;
    let own = lane.share(flows as u64) as usize;
    let unique = nanos_since_epoch() ^ u64::from(std::process::id()).rotate_left(40);
    let mut random = Random::new(unique ^ lane.index as u64);
    for nth in 0..own {
        let flow = random.next();
        let open = Open { rate, arrivals: Arrivals::Constant, seed: 0 };
        // The flows take turns.
        let place = nth * lane.plan.threads + lane.index;
        let schedule = Schedule::new(open, place, flows);
        let lane = Rc::clone(lane);
        lane.clone().spawn(async move {
            let socket = match Socket::open(&lane) {
                Ok(socket) => socket,
                Err(error) => return lane.failed("opening a flow to", &error),
            };
            let stream = Rc::new(Stream {
                lane: Rc::clone(&lane),
                socket,
                flow,
                arrived: RefCell::default(),
                word: RefCell::default(),
                round_trip: direction == Direction::Both,
            });
            let result = match direction {
                Direction::Up => stream.up(size, schedule).await,
                Direction::Down => stream.down(size, rate / flows as f64).await,
                Direction::Both => Rc::clone(&stream).both(size, schedule).await,
            };
            if let Err(error) = result {
                lane.failed("in a flow with", &error);
            }
        });
    }
}

/// Makes the numbers of flows differ from those of earlier runs.
fn nanos_since_epoch() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default()
}

impl Stream {
    async fn up(&self, size: usize, schedule: Schedule) -> io::Result<()> {
        let sent = self.send_all(size, schedule).await?;
        let report = self.ask(Word::Ask).await?;
        let flow = Flow::decode(&report, sent).ok_or_else(|| crate::failure::corrupt("report"))?;
        self.lane.note(|report| {
            report.requests += flow.received;
            report.operations += flow.received;
            crate::report::merge_flow(&mut report.flow_up, Some(flow));
        });
        Ok(())
    }

    async fn down(&self, size: usize, rate: f64) -> io::Result<()> {
        let order = Header {
            flow: Word::Order.with(self.flow),
            sequence: (rate * 1000.0) as u64,
            sent_ns: size as u64,
        };
        let mut datagram = [0; HEADER];
        order.write(&mut datagram);
        while !self.lane.is_stopping() {
            self.socket.send(&datagram).await?;
            let until = Instant::now() + RENEW;
            self.receive_until(until, || self.lane.is_stopping()).await?;
        }
        let said = self.ask(Word::Stop).await?;
        // What the source sent last may be on its way behind its last word.
        self.receive_until(Instant::now() + STRAGGLERS, || false).await?;
        let sent = Flow::decode(&said, 0).ok_or_else(|| crate::failure::corrupt("report"))?;
        self.arrived.borrow_mut().sent = sent.received;
        self.finish_arrived();
        Ok(())
    }

    async fn both(self: Rc<Self>, size: usize, schedule: Schedule) -> io::Result<()> {
        let sender = Rc::clone(&self);
        let sending = monoio::spawn(async move { sender.send_all(size, schedule).await });
        while !self.lane.is_stopping() {
            let soon = Instant::now() + REPEAT;
            self.receive_until(soon, || self.lane.is_stopping()).await?;
        }
        let sent = sending.await?;
        let all = || self.arrived.borrow().received >= sent;
        self.receive_until(Instant::now() + STRAGGLERS, all).await?;
        self.arrived.borrow_mut().sent = sent;
        self.finish_arrived();
        Ok(())
    }

    fn finish_arrived(&self) {
        let flow = self.arrived.take();
        self.lane.note(|report| crate::report::merge_flow(&mut report.flow_down, Some(flow)));
    }

    /// Sends on schedule until the run ends; returns how many.
    async fn send_all(&self, size: usize, schedule: Schedule) -> io::Result<u64> {
        let (lane, timer) = (&self.lane, Timer::new()?);
        let mut datagram = vec![b'u'; size.max(HEADER)];
        let mut sent = 0;
        for at in schedule {
            let moment = lane.begin() + Duration::from_nanos(at);
            while Instant::now() < moment && !lane.is_stopping() {
                timer.until(moment.min(Instant::now() + REPEAT)).await?;
            }
            if lane.is_stopping() {
                break;
            }
            let sent_ns = nanos(lane.begin(), Instant::now());
            Header { flow: self.flow & Word::FLOW, sequence: sent, sent_ns }.write(&mut datagram);
            lane.note(|report| {
                report.account.kept.came_due(sent_ns.saturating_sub(at));
                report.account.kept.sent(sent_ns.saturating_sub(at));
                report.sent += datagram.len() as u64;
            });
            match self.socket.send(&datagram).await {
                Ok(()) => sent += 1,
                // The kernel's word about an earlier one: nobody listened.
                Err(error) => lane.failed("sending a datagram to", &error),
            }
        }
        Ok(sent)
    }

    /// Takes what comes until a moment, or until `enough`.
    async fn receive_until(&self, until: Instant, enough: impl Fn() -> bool) -> io::Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || enough() {
                return Ok(());
            }
            // A short look at `enough` in between.
            let readable = self.socket.readable();
            if monoio::time::timeout(left.min(REPEAT / 4), readable).await.is_err() {
                continue;
            }
            for _ in 0..AT_ONCE {
                match self.socket.take(&mut buffer) {
                    Ok(Some(size)) => self.take(&buffer[..size]),
                    Ok(None) => break,
                    Err(error) => {
                        self.lane.failed("receiving from", &error);
                        break;
                    }
                }
            }
        }
    }

    fn take(&self, datagram: &[u8]) {
        let Some(header) = Header::read(datagram) else { return };
        if header.flow & Word::FLOW != self.flow & Word::FLOW {
            return;
        }
        match Word::of(header.flow) {
            Word::Data => {
                let now = nanos(self.lane.begin(), Instant::now());
                self.arrived.borrow_mut().arrived(header, datagram.len(), now);
                self.lane.note(|report| {
                    report.requests += 1;
                    report.operations += 1;
                    report.received += datagram.len() as u64;
                    if self.round_trip {
                        report.account.answered(None, header.sent_ns, now);
                    }
                });
            }
            Word::Report => *self.word.borrow_mut() = Some(datagram[HEADER..].to_vec()),
            Word::Ask | Word::Order | Word::Stop => {}
        }
    }

    /// Says a word until it is answered.
    async fn ask(&self, word: Word) -> io::Result<Vec<u8>> {
        let mut datagram = [0; HEADER];
        Header { flow: word.with(self.flow), sequence: 0, sent_ns: 0 }.write(&mut datagram);
        for _ in 0..REPEATS {
            // An error is the kernel's word about an earlier one; silence follows all the same.
            let _ = self.socket.send(&datagram).await;
            let until = Instant::now() + REPEAT;
            self.receive_until(until, || self.word.borrow().is_some()).await?;
            if let Some(answer) = self.word.take() {
                return Ok(answer);
            }
        }
        let seconds = (REPEAT * REPEATS as u32).as_secs();
        let words =
            format!("no report in {seconds} s: is this a sink or a source of this program?");
        Err(io::Error::new(io::ErrorKind::TimedOut, words))
    }
}
