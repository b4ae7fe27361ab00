//! A shard's view of the world: requests filed, carried out piece by piece, completed in turns.
//!
//! Behaves as the ring does: a request goes on until its last completion, a multishot one may end
//! at any time, a cancellation may come too late or fail, and what has completed may be reaped in
//! several visits. Invariant: nothing is carried out but in `enter`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use socket2::SockAddr;

use super::held::{SimPipe, SimSocket};
use super::net::{Net, SocketOwner, State};
use super::tcp::By;
use crate::limits::{BUFFER_SIZE, RECEIVE_WINDOW};
use crate::machine::Address;
use crate::machine::sys::buffers::BufferPool;
use crate::machine::sys::kernel::{CANCELLATION, Completion, Interest, Presence, Request};
use crate::machine::sys::pipe::Pipe;
use crate::machine::sys::socket::{Socket, wrong_world};

/// Where connections of the shards come from.
const SOURCE: [u8; 4] = [10, 9, 0, 1];

/// The time of day at which every world begins, microseconds since the Unix epoch.
const EPOCH_US: u64 = 1_700_000_000_000_000;

/// Visits that a late cancellation waits for at most.
const VISITS_LATE: u64 = 4;

/// A shard's place in a simulated world.
pub struct Place {
    net: Net,
    index: usize,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.index)
    }
}

impl Place {
    pub(super) fn new(net: Net, index: usize) -> Self {
        Self { net, index }
    }

    /// Receive buffers that the world grants.
    pub(in crate::machine::sys) fn buffers(&self) -> usize {
        self.net.lock().weather.buffers
    }
}

/// The kernel of one simulated shard.
pub(in crate::machine::sys) struct Port {
    net: Net,
    index: usize,
    pool: Rc<BufferPool>,
    /// By socket and number.
    requests: BTreeMap<(u32, u64), Pending>,
    cancellations: Vec<Cancellation>,
    done: VecDeque<Completion>,
}

#[derive(Clone, Copy)]
enum Pending {
    Accept,
    Receive { window: usize },
    Send { bytes: *const u8, len: usize, sent: usize },
    Connect,
    Poll(Interest),
}

#[derive(Clone, Copy)]
struct Cancellation {
    key: (u32, u64),
    visits: u64,
}

impl Port {
    /// A kernel that receives into this pool.
    pub(in crate::machine::sys) fn new(place: Place, pool: Rc<BufferPool>) -> Self {
        Self {
            net: place.net,
            index: place.index,
            pool,
            requests: BTreeMap::new(),
            cancellations: Vec::new(),
            done: VecDeque::new(),
        }
    }

    /// Files a request.
    ///
    /// # Safety
    /// As `Kernel::submit`: a buffer that is being sent must stay until its completion.
    pub(in crate::machine::sys) unsafe fn submit(
        &mut self,
        request: Request<'_>,
        user_data: u64,
    ) -> io::Result<()> {
        let (socket, pending) = match request {
            Request::Accept(socket) => (socket, Pending::Accept),
            Request::Receive(socket) => (socket, Pending::Receive { window: RECEIVE_WINDOW }),
            Request::Send(socket, buffer) => {
                (socket, Pending::Send { bytes: buffer.address(), len: buffer.len(), sent: 0 })
            }
            Request::Connect(socket, _) => (socket, Pending::Connect),
            Request::Poll(socket, interest) => (socket, Pending::Poll(interest)),
        };
        let id = socket.simulated().ok_or_else(wrong_world)?.id();
        let mut state = self.net.lock();
        if let Request::Connect(_, address) = request {
            let to = address.as_socket().ok_or_else(wrong_world)?;
            state.connect(id, to);
        }
        self.requests.insert((id, user_data), pending);
        // Another shard may have accepted it.
        state.at(id).owner = SocketOwner::Port(self.index);
        state.tell(id);
        Ok(())
    }

    /// Asks for the end of a request; only a failure answers.
    pub(in crate::machine::sys) fn cancel(&mut self, socket: &Socket, user_data: u64) {
        let Some(socket) = socket.simulated() else { return };
        let state = &mut *self.net.lock();
        let late = state.chance(state.weather.lateness);
        let visits = if late { state.below(VISITS_LATE) + 1 } else { 0 };
        self.cancellations.push(Cancellation { key: (socket.id(), user_data), visits });
    }

    /// Carries out what can be, and hands over completions: all, or some and the rest next time.
    pub(in crate::machine::sys) fn enter(&mut self, out: &mut Vec<Completion>) {
        let net = self.net.clone();
        let state = &mut *net.lock();
        let cancel_first = state.below(2) == 0;
        if cancel_first {
            self.cancel_due(state);
        }
        let mut news = std::mem::take(&mut state.news[self.index]);
        while !news.is_empty() {
            let id = news.swap_remove(state.below(news.len() as u64) as usize);
            let keys: Vec<_> =
                self.requests.range((id, 0)..=(id, u64::MAX)).map(|(key, _)| *key).collect();
            for key in keys {
                self.carry_out(state, key);
            }
        }
        if !cancel_first {
            self.cancel_due(state);
        }
        let all = self.done.len();
        let some = all > 1 && state.chance(state.weather.lateness);
        let reaped = if some { state.below(all as u64) as usize + 1 } else { all };
        out.extend(self.done.drain(..reaped));
    }

    fn cancel_due(&mut self, state: &mut State) {
        for mut cancellation in std::mem::take(&mut self.cancellations) {
            if cancellation.visits > 0 {
                cancellation.visits -= 1;
                self.cancellations.push(cancellation);
                continue;
            }
            let key = cancellation.key;
            let failed = match self.requests.get(&key) {
                None => Some(libc::ENOENT),
                Some(_) if state.chance(state.weather.mishaps) => Some(libc::EALREADY),
                Some(_) => None,
            };
            state.note("cancel", key.0.into(), failed.unwrap_or(0).unsigned_abs().into());
            match (failed, self.requests.get(&key)) {
                (Some(errno), _) => self.complete(key.1 | CANCELLATION, -errno),
                (None, Some(Pending::Send { sent, .. })) if *sent > 0 => {
                    let sent = result(*sent);
                    self.end(key, sent);
                }
                (None, _) => self.end(key, -libc::ECANCELED),
            }
        }
    }

    /// Carries a request out as far as it goes.
    fn carry_out(&mut self, state: &mut State, key: (u32, u64)) {
        match self.requests.get(&key).copied() {
            None => {}
            Some(Pending::Accept) => self.accept(state, key),
            Some(Pending::Receive { window }) => self.receive(state, key, window),
            Some(Pending::Send { bytes, len, sent }) => {
                self.send(state, key, (bytes, len), sent);
            }
            Some(Pending::Connect) => {
                let socket = state.at(key.0);
                if let Some(errno) = socket.error.take() {
                    self.end(key, -errno);
                } else if socket.phase == super::tcp::TcpState::Connected {
                    self.end(key, 0);
                }
            }
            Some(Pending::Poll(interest)) => {
                let ready = match interest {
                    Interest::Readable => state.is_readable(key.0),
                    Interest::Writable => state.is_writable(key.0),
                    Interest::Hangup => state.presence(key.0) != Presence::Open,
                };
                if ready || state.chance(state.weather.squeezes) {
                    self.end(key, 0);
                } else if interest == Interest::Writable {
                    state.want_room(key.0);
                }
            }
        }
    }

    fn accept(&mut self, state: &mut State, key: (u32, u64)) {
        loop {
            match state.accept_for(key.0, SocketOwner::Port(self.index)) {
                Ok(None) => return,
                Ok(Some(id)) => {
                    let more = !state.chance(state.weather.mishaps);
                    let result = i32::try_from(id).unwrap_or(i32::MAX);
                    self.push(key.1, result, more, None, false);
                    if !more {
                        self.requests.remove(&key);
                        return;
                    }
                }
                Err(errno) => {
                    self.end(key, -errno);
                    return;
                }
            }
        }
    }

    fn receive(&mut self, state: &mut State, key: (u32, u64), mut window: usize) {
        while state.is_readable(key.0) {
            let taken = self.pool.take().filter(|id| {
                let lost = state.chance(state.weather.mishaps / 4);
                if lost {
                    self.pool.untake(*id);
                }
                !lost
            });
            let Some(buffer) = taken else {
                state.note("no buffer", key.0.into(), 0);
                self.end(key, -libc::ENOBUFS);
                return;
            };
            let start = self.pool.address(buffer);
            let received = state.read(key.0, BUFFER_SIZE, By::Read, |bytes| {
                // SAFETY: the pool has just given the buffer, nobody else uses it, and it is
                // BUFFER_SIZE long, which the bytes are at most.
                unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
            });
            let count = match received {
                Ok(count) if count > 0 => count,
                ended => {
                    self.pool.untake(buffer);
                    self.end(key, ended.map_or_else(|errno| -errno, |_| 0));
                    return;
                }
            };
            window = window.saturating_sub(count);
            let more = window > 0 && !state.chance(state.weather.mishaps);
            let backlog = !state.at(key.0).inbox.is_empty();
            self.push(key.1, result(count), more, Some(buffer), backlog);
            if !more {
                self.requests.remove(&key);
                return;
            }
            if state.chance(state.weather.lateness) {
                // The rest comes later.
                state.touch(key.0);
                break;
            }
        }
        self.requests.insert(key, Pending::Receive { window });
    }

    fn send(
        &mut self,
        state: &mut State,
        key: (u32, u64),
        (bytes, len): (*const u8, usize),
        mut sent: usize,
    ) {
        while sent < len {
            // SAFETY: `sent` is below the length.
            let rest = unsafe { bytes.add(sent) };
            // SAFETY: whoever submitted the request keeps the buffer until its completion.
            let rest = unsafe { std::slice::from_raw_parts(rest, len - sent) };
            if sent > 0 && state.at(key.0).error.is_some() {
                // The next attempt will tell what struck.
                break;
            }
            match state.write(key.0, rest) {
                Ok(count) => {
                    sent += count;
                    if sent < len && state.is_writable(key.0) && state.below(2) == 0 {
                        state.touch(key.0);
                        self.requests.insert(key, Pending::Send { bytes, len, sent });
                        return;
                    }
                }
                Err(libc::EAGAIN) => {
                    self.requests.insert(key, Pending::Send { bytes, len, sent });
                    return;
                }
                Err(errno) if sent == 0 => {
                    self.end(key, -errno);
                    return;
                }
                Err(_) => break,
            }
        }
        self.end(key, result(sent));
    }

    /// The last completion of a request.
    fn end(&mut self, key: (u32, u64), result: i32) {
        self.requests.remove(&key);
        self.complete(key.1, result);
    }

    fn complete(&mut self, user_data: u64, result: i32) {
        self.push(user_data, result, false, None, false);
    }

    fn push(
        &mut self,
        user_data: u64,
        result: i32,
        more: bool,
        buffer: Option<u16>,
        backlog: bool,
    ) {
        self.done.push_back(Completion { user_data, result, more, buffer, backlog });
    }

    /// Whether the next visit has something to do or to hand over.
    pub(in crate::machine::sys) fn is_busy(&self) -> bool {
        !self.done.is_empty() || !self.cancellations.is_empty() || self.net.has_news(self.index)
    }

    /// A socket towards `address`, not connected yet, and what to connect it to.
    pub(in crate::machine::sys) fn open(
        &self,
        address: &Address,
    ) -> io::Result<(Socket, SockAddr)> {
        let Address::Inet(to) = address else {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        };
        let mut state = self.net.lock();
        if state.descriptors >= state.weather.descriptors {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        state.descriptors += 1;
        state.last_port = (state.last_port + 1) % 64_000;
        let port = u16::try_from(state.last_port).unwrap_or(0) + 1024;
        let id = state.socket(SocketOwner::Port(self.index), SocketAddr::from((SOURCE, port)));
        drop(state);
        let socket = SimSocket::new(self.net.clone(), id);
        Ok((Socket::from_sim(socket), SockAddr::from(*to)))
    }

    /// An empty pipe.
    pub(in crate::machine::sys) fn pipe(&self) -> io::Result<Pipe> {
        SimPipe::new(self.net.clone()).map(Pipe::simulated)
    }

    /// The time.
    pub(in crate::machine::sys) fn now(&self) -> Instant {
        self.net.origin() + self.net.now()
    }

    /// The time of day, microseconds since the Unix epoch.
    pub(in crate::machine::sys) fn unix_micros(&self) -> u64 {
        EPOCH_US + u64::try_from(self.net.now().as_micros()).unwrap_or(0)
    }
}

fn result(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
