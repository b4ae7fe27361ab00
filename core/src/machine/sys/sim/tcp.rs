//! Connections as TCP makes, fills, ends and breaks them.
//!
//! Each socket of a connection holds what is on its way to it (`flight`) and what has arrived
//! (`inbox`); together they are bounded, and a full direction takes no more. What Linux does is
//! done here too: received bytes can be read after a reset, an error is told once, closing with
//! unread bytes resets, and bytes for a closed socket are answered with a reset. An urgent byte
//! lies in the stream where it was sent: a read ends before it and the next one steps over it, a
//! splice does not get past it.

use std::net::SocketAddr;
use std::time::Duration;

use super::net::{Event, SocketOwner, State};
use super::queue::ByteQueue;
use crate::machine::sys::kernel::Presence;

/// Connections that wait to be accepted on one socket; more are put off.
const QUEUE_MAX: usize = 64;

/// When a connection attempt that found the queue full is repeated.
const SYN_AGAIN: Duration = Duration::from_secs(1);

/// How long a socket that finds no memory to send finds none, at most.
const SQUEEZE_MAX_US: u64 = 5000;

/// Bytes that a plain send takes whole.
const FEW: usize = 1000;

/// The byte that is sent as urgent data.
const URGENT: &[u8] = b"!";

/// Who takes received bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    Read,
    Splice,
}

/// What a socket is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TcpState {
    Fresh,
    Listening,
    Connecting,
    Connected,
}

pub(super) struct Sock {
    pub(super) owner: SocketOwner,
    pub(super) phase: TcpState,
    pub(super) own: SocketAddr,
    pub(super) far: SocketAddr,
    /// The other end of the connection.
    pub(super) other: Option<u32>,
    /// Not closed by its owner.
    pub(super) open: bool,
    pub(super) resets_on_close: bool,
    /// Broken by a reset, sent or received.
    pub(super) dead: bool,
    pub(super) sent_reset: bool,
    /// What went wrong, until it is told.
    pub(super) error: Option<i32>,
    pub(super) finished: bool,
    pub(super) far_finished: bool,
    pub(super) inbox: ByteQueue,
    flight: ByteQueue,
    /// Bytes that have left the inbox.
    passed: u64,
    /// Where in the stream the urgent byte is, until it is stepped over.
    mark: Option<u64>,
    /// Until when there is no memory to send.
    squeezed_until: Duration,
    latency: Duration,
    last_arrival: Duration,
    /// A write found no room.
    wants_room: bool,
    /// Connections to be accepted.
    pub(super) waiting: Vec<u32>,
    /// When bytes last went in or out, or else when it was connected.
    pub(super) moved: Duration,
    pub(super) closed: Option<Duration>,
    /// Bytes that had arrived and were not read when its owner closed it.
    pub(super) unread: usize,
}

impl State {
    pub(super) fn socket(&mut self, owner: SocketOwner, own: SocketAddr) -> u32 {
        let id = u32::try_from(self.sockets.len()).unwrap_or(u32::MAX);
        self.sockets.push(Sock {
            owner,
            phase: TcpState::Fresh,
            own,
            far: own,
            other: None,
            open: true,
            resets_on_close: false,
            dead: false,
            sent_reset: false,
            error: None,
            finished: false,
            far_finished: false,
            inbox: ByteQueue::default(),
            flight: ByteQueue::default(),
            passed: 0,
            mark: None,
            squeezed_until: Duration::ZERO,
            latency: Duration::ZERO,
            last_arrival: Duration::ZERO,
            wants_room: false,
            waiting: Vec::new(),
            moved: self.now,
            closed: None,
            unread: 0,
        });
        id
    }

    pub(super) fn at(&mut self, id: u32) -> &mut Sock {
        &mut self.sockets[id as usize]
    }

    pub(super) fn listen(&mut self, id: u32) {
        let own = self.at(id).own;
        self.at(id).phase = TcpState::Listening;
        self.listening.entry(own).or_default().push(id);
    }

    pub(super) fn connect(&mut self, id: u32, to: SocketAddr) {
        let (least, most) = self.weather.latency;
        let spread = most.saturating_sub(least).as_nanos() as u64;
        let latency = least + Duration::from_nanos(self.below(spread + 1));
        let socket = self.at(id);
        (socket.phase, socket.far, socket.latency) = (TcpState::Connecting, to, latency);
        self.schedule(self.now + latency, Event::Syn(id));
    }

    /// One thing happens.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Syn(id) => self.answer(id),
            Event::Connected(id) => self.connected(id),
            Event::Refused(id) => {
                self.note("refused", id.into(), 0);
                self.at(id).error = Some(libc::ECONNREFUSED);
                self.touch(id);
            }
            Event::Arrive(id, n) => self.arrive(id, n),
            Event::Fin(id) => {
                self.note("fin", id.into(), 0);
                self.at(id).far_finished = true;
                self.touch(id);
            }
            Event::Reset(id) => {
                self.note("reset", id.into(), 0);
                let socket = self.at(id);
                if !std::mem::replace(&mut socket.dead, true) {
                    socket.error = Some(libc::ECONNRESET);
                    self.touch(id);
                }
            }
            Event::Touch(id) => self.tell(id),
            Event::Alarm(actor, token) => {
                self.woken.push_back((actor, super::outside::Wake::Alarm(token)));
            }
        }
    }

    /// A connection attempt has reached the address that it is meant for.
    fn answer(&mut self, id: u32) {
        let socket = &self.sockets[id as usize];
        let (own, far, latency, open) = (socket.own, socket.far, socket.latency, socket.open);
        self.note("syn", id.into(), far.port().into());
        if !open || self.silent.contains(&far) {
            return;
        }
        let Some(listeners) = self.listening.get(&far).filter(|all| !all.is_empty()).cloned()
        else {
            self.schedule(self.now + latency, Event::Refused(id));
            return;
        };
        let listener = listeners[self.below(listeners.len() as u64) as usize];
        if self.at(listener).waiting.len() >= QUEUE_MAX {
            self.schedule(self.now + SYN_AGAIN, Event::Syn(id));
            return;
        }
        let made = self.socket(SocketOwner::Nobody, far);
        let back = self.now + latency;
        let socket = self.at(made);
        (socket.phase, socket.far, socket.other) = (TcpState::Connected, own, Some(id));
        (socket.latency, socket.last_arrival) = (latency, back + latency);
        let socket = self.at(id);
        (socket.other, socket.last_arrival) = (Some(made), back);
        self.at(listener).waiting.push(made);
        self.schedule(back, Event::Connected(id));
        self.touch(listener);
    }

    fn connected(&mut self, id: u32) {
        self.note("connected", id.into(), 0);
        let now = self.now;
        let socket = self.at(id);
        (socket.phase, socket.moved) = (TcpState::Connected, now);
        if socket.open {
            self.touch(id);
        } else {
            self.break_off(id);
        }
    }

    fn arrive(&mut self, id: u32, n: usize) {
        let socket = self.at(id);
        let n = n.min(socket.flight.len());
        if socket.open && !socket.dead {
            let mut flight = std::mem::take(&mut socket.flight);
            flight.move_to(&mut socket.inbox, n);
            socket.flight = flight;
            self.note("arrive", id.into(), n as u64);
            self.touch(id);
            return;
        }
        socket.flight.drop_front(n);
        if !socket.dead {
            self.note("arrives at a closed socket", id.into(), n as u64);
            self.break_off(id);
        }
    }

    /// When what is sent now reaches `id`.
    fn arrival(&mut self, id: u32) -> Duration {
        let jitter = Duration::from_micros(self.below(50));
        let now = self.now;
        let socket = self.at(id);
        socket.last_arrival = socket.last_arrival.max(now + socket.latency + jitter);
        socket.last_arrival
    }

    /// Sends a reset: what is on its way to the other side may be lost from any byte on.
    pub(super) fn break_off(&mut self, id: u32) {
        let socket = self.at(id);
        (socket.dead, socket.sent_reset) = (true, true);
        let Some(other) = socket.other else { return };
        let under_way = self.at(other).flight.len() as u64;
        let kept = self.below(under_way + 1) as usize;
        self.at(other).flight.truncate(kept);
        self.note("sends reset", id.into(), kept as u64);
        let at = self.arrival(other);
        self.schedule(at, Event::Reset(other));
    }

    /// Takes as many bytes as there is room for, in pieces of the network's choice.
    pub(super) fn write(&mut self, id: u32, bytes: &[u8]) -> Result<usize, i32> {
        self.take(id, bytes, Self::piece)
    }

    /// The same for a plain send, of which kernels take a few bytes whole while there is room.
    pub(super) fn write_few(&mut self, id: u32, bytes: &[u8]) -> Result<usize, i32> {
        self.take(id, bytes, |state, n| if n <= FEW { n } else { state.piece(n) })
    }

    fn take(
        &mut self,
        id: u32,
        bytes: &[u8],
        piece: impl Fn(&mut Self, usize) -> usize,
    ) -> Result<usize, i32> {
        let socket = self.at(id);
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        if socket.dead || socket.finished {
            return Err(libc::EPIPE);
        }
        let Some(other) = socket.other.filter(|_| socket.phase == TcpState::Connected) else {
            return Err(libc::ENOTCONN);
        };
        if self.is_squeezed(id) {
            return Err(libc::EAGAIN);
        }
        let room = self.room(other);
        let n = piece(self, room.min(bytes.len()));
        self.at(id).wants_room = n < bytes.len();
        if n == 0 {
            return Err(libc::EAGAIN);
        }
        let now = self.now;
        self.at(id).moved = now;
        self.at(other).flight.push(&bytes[..n]);
        let at = self.arrival(other);
        self.schedule(at, Event::Arrive(other, n));
        self.note("write", id.into(), n as u64);
        Ok(n)
    }

    /// Sends an urgent byte, unless there is no room or the last one has not been stepped over: the
    /// kernel makes ordinary data of that.
    pub(super) fn write_urgent(&mut self, id: u32) -> Result<(), i32> {
        let other = self.at(id).other.filter(|other| self.sockets[*other as usize].mark.is_none());
        let Some(other) = other.filter(|other| self.room(*other) > 0) else {
            self.want_room(id);
            return Err(libc::EAGAIN);
        };
        let to = self.at(other);
        let at = to.passed + (to.inbox.len() + to.flight.len()) as u64;
        self.write(id, URGENT)?;
        self.at(other).mark = Some(at);
        self.note("urgent", id.into(), at);
        Ok(())
    }

    /// Whether a shard finds no memory to send on a socket now, though there is room.
    fn is_squeezed(&mut self, id: u32) -> bool {
        let now = self.now;
        let socket = &self.sockets[id as usize];
        if socket.squeezed_until > now {
            return true;
        }
        let squeezed =
            matches!(socket.owner, SocketOwner::Port(_)) && self.chance(self.weather.squeezes);
        if squeezed {
            let until = now + Duration::from_micros(self.below(SQUEEZE_MAX_US) + 1);
            self.at(id).squeezed_until = until;
            self.note("squeezed", id.into(), 0);
            self.schedule(until, Event::Touch(id));
        }
        squeezed
    }

    /// How much of what was written has not arrived; 0 only if all of it has.
    pub(super) fn under_way(&self, id: u32) -> u64 {
        let socket = &self.sockets[id as usize];
        let to = socket.other.map(|other| &self.sockets[other as usize]);
        to.filter(|_| !socket.dead).map_or(0, |to| to.flight.len() as u64)
    }

    fn room(&self, to: u32) -> usize {
        let to = &self.sockets[to as usize];
        self.weather.capacity.saturating_sub(to.flight.len() + to.inbox.len())
    }

    /// Whether a write or read would tell something.
    pub(super) fn is_writable(&self, id: u32) -> bool {
        let socket = &self.sockets[id as usize];
        socket.dead
            || socket.error.is_some()
            || (socket.phase == TcpState::Connected
                && socket.other.is_some_and(|o| self.room(o) > 0))
    }

    pub(super) fn is_readable(&self, id: u32) -> bool {
        let socket = &self.sockets[id as usize];
        let urgent = usize::from(socket.mark == Some(socket.passed));
        socket.inbox.len() > urgent || socket.far_finished || socket.dead || socket.error.is_some()
    }

    /// What the other side has done with the connection.
    pub(super) fn presence(&self, id: u32) -> Presence {
        let socket = &self.sockets[id as usize];
        if socket.dead || socket.error.is_some() {
            Presence::Broken
        } else if socket.far_finished && socket.inbox.is_empty() {
            Presence::Ended
        } else {
            Presence::Open
        }
    }

    /// Asks to be told when there is room.
    pub(super) fn want_room(&mut self, id: u32) {
        self.at(id).wants_room = true;
    }

    /// Takes up to `max` received bytes to `take`; 0 at the end of the stream, and where a splice
    /// does not get further before one.
    pub(super) fn read(
        &mut self,
        id: u32,
        max: usize,
        by: By,
        take: impl FnOnce(&[u8]),
    ) -> Result<usize, i32> {
        let socket = self.at(id);
        if by == By::Read && socket.mark == Some(socket.passed) && !socket.inbox.is_empty() {
            socket.inbox.drop_front(1);
            socket.passed += 1;
            socket.mark = None;
            self.note("steps over urgent data", id.into(), 0);
        }
        let socket = self.at(id);
        let before_mark = socket.mark.map_or(usize::MAX, |mark| (mark - socket.passed) as usize);
        let available = socket.inbox.len().min(max).min(before_mark);
        let n = self.piece(available);
        let now = self.now;
        let socket = self.at(id);
        if n == 0 {
            return match socket.error.take() {
                Some(error) => Err(error),
                None if socket.far_finished || socket.dead => Ok(0),
                None => Err(libc::EAGAIN),
            };
        }
        take(socket.inbox.front(n));
        socket.inbox.drop_front(n);
        socket.passed += n as u64;
        socket.moved = now;
        let (other, latency) = (socket.other, socket.latency);
        self.note("read", id.into(), n as u64);
        if let Some(other) = other
            && std::mem::take(&mut self.at(other).wants_room)
        {
            self.schedule(now + latency, Event::Touch(other));
        }
        Ok(n)
    }

    pub(super) fn finish(&mut self, id: u32) -> Result<(), i32> {
        let socket = self.at(id);
        let Some(other) = socket.other.filter(|_| !socket.dead) else {
            return Err(libc::ENOTCONN);
        };
        if !std::mem::replace(&mut socket.finished, true) {
            self.note("finish", id.into(), 0);
            let at = self.arrival(other);
            self.schedule(at, Event::Fin(other));
        }
        Ok(())
    }

    pub(super) fn close(&mut self, id: u32) {
        self.note("close", id.into(), 0);
        let now = self.now;
        let socket = self.at(id);
        socket.open = false;
        socket.closed = Some(now);
        socket.unread = socket.inbox.len();
        let waiting = std::mem::take(&mut socket.waiting);
        match socket.phase {
            TcpState::Listening => {
                let own = socket.own;
                if let Some(all) = self.listening.get_mut(&own) {
                    all.retain(|listener| *listener != id);
                }
                for connection in waiting {
                    self.at(connection).open = false;
                    self.at(connection).closed = Some(now);
                    self.break_off(connection);
                }
            }
            TcpState::Connected if !socket.dead => {
                if socket.resets_on_close || !socket.inbox.is_empty() {
                    self.break_off(id);
                } else {
                    // A connection without other side has nobody to tell.
                    let _ = self.finish(id);
                }
            }
            TcpState::Fresh | TcpState::Connecting | TcpState::Connected => {}
        }
    }

    /// Takes a connection that waits on a listener.
    pub(super) fn accept(&mut self, listener: u32, owner: SocketOwner) -> Option<u32> {
        let waiting = &mut self.at(listener).waiting;
        if waiting.is_empty() {
            return None;
        }
        let id = waiting.remove(0);
        let now = self.now;
        let socket = self.at(id);
        (socket.owner, socket.moved) = (owner, now);
        self.note("accept", id.into(), listener.into());
        Some(id)
    }
}
