//! The epoll driver: the same requests and completions where io_uring may not be used.
//!
//! Edge-triggered, and non-blocking calls are tried first: a send costs its system call and nothing
//! else, a receive waits for the edge. A request is carried out inside `submit` or `enter` on this
//! thread, so nothing that it names is ever touched between the two. Invariants: a socket that is
//! not marked ready has an edge to come; a request is answered by its last completion exactly once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::rc::Rc;

use nix::sys::epoll::{self, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockAddr;

use super::buffers::{Buffer, BufferPool};
use super::kernel::{Completion, Interest, Request, WOKEN, Wait};
use super::setup::SetupError;
use super::socket::{self, Socket};
use crate::limits::{BUFFER_SIZE, RECEIVE_QUEUE};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;

/// Connections accepted on one listener before others get their turn.
const ACCEPTS_AT_ONCE: usize = 64;

/// The epoll instance of one shard.
pub(super) struct Epoll {
    epoll: epoll::Epoll,
    pool: Rc<BufferPool>,
    /// What is known of each socket, by descriptor.
    watches: Vec<Watch>,
    /// Carried out, not handed out yet.
    done: VecDeque<Completion>,
    /// Listeners that had more to give than their turn allowed.
    again: Vec<RawFd>,
    events: Vec<EpollEvent>,
    bell_watched: bool,
    /// Whether the last visit left the kernel alone.
    skipped: bool,
}

/// What is known of one socket, and what is waiting for it.
#[derive(Default)]
struct Watch {
    readable: bool,
    writable: bool,
    /// The other side has ended or broken the connection, or sent urgent data: a short receive
    /// does not mean that nothing is left.
    eventful: bool,
    reading: Option<Reading>,
    writing: Option<Writing>,
    /// The other side has ended or broken the connection.
    hung_up: bool,
    polling: [Option<u64>; Interest::COUNT],
}

#[derive(Clone, Copy)]
enum Reading {
    Accept {
        user_data: u64,
    },
    /// So many buffers may still be filled before it must be asked for again.
    Receive {
        user_data: u64,
        buffers: usize,
    },
}

#[derive(Clone, Copy)]
enum Writing {
    Send { user_data: u64, bytes: *const u8, len: usize, sent: usize },
    Connect { user_data: u64 },
}

impl Epoll {
    /// Sets an epoll instance up.
    pub(super) fn new(pool: Rc<BufferPool>) -> Result<Self, SetupError> {
        let epoll = epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|error| SetupError::from_epoll_setup(&error.into()))?;
        Ok(Self {
            epoll,
            pool,
            watches: Vec::new(),
            done: VecDeque::new(),
            again: Vec::new(),
            events: vec![EpollEvent::empty(); EVENTS],
            bell_watched: false,
            skipped: false,
        })
    }

    /// Carries a request out as far as it goes without waiting.
    ///
    /// # Safety
    /// As `Kernel::submit`: a buffer that is being sent must stay until its completion.
    pub(super) unsafe fn submit(&mut self, request: Request<'_>, user_data: u64) -> io::Result<()> {
        match request {
            Request::Accept(socket) => {
                self.watch_socket(socket)?.reading = Some(Reading::Accept { user_data });
                self.read(socket.fd());
            }
            Request::Receive(socket) => {
                let reading = Reading::Receive { user_data, buffers: RECEIVE_QUEUE };
                self.watch_socket(socket)?.reading = Some(reading);
                self.read(socket.fd());
            }
            Request::Send(socket, buffer) => self.begin_send(socket, buffer, user_data)?,
            Request::Connect(socket, address) => self.begin_connect(socket, address, user_data)?,
            Request::Poll(socket, interest) => {
                // The socket is also used past this driver, by `splice`: what was seen last proves
                // nothing.
                let ready = socket::is_ready(socket, interest)?;
                let watch = self.watch_socket(socket)?;
                watch.set(interest, ready);
                if ready {
                    self.complete(user_data, 0);
                } else {
                    watch.polling[interest as usize] = Some(user_data);
                }
            }
        }
        Ok(())
    }

    fn begin_send(&mut self, socket: &Socket, buffer: &Buffer, user_data: u64) -> io::Result<()> {
        let writing =
            Writing::Send { user_data, bytes: buffer.address(), len: buffer.len(), sent: 0 };
        self.watch_socket(socket)?.writing = Some(writing);
        self.write(socket.fd());
        Ok(())
    }

    fn begin_connect(
        &mut self,
        socket: &Socket,
        address: &SockAddr,
        user_data: u64,
    ) -> io::Result<()> {
        let result = socket::connect_now(socket, address);
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                let watch = self.watch_socket(socket)?;
                watch.writable = false;
                watch.writing = Some(Writing::Connect { user_data });
            }
            result => self.complete(user_data, outcome(result.map(|()| 0))),
        }
        Ok(())
    }

    /// Ends a request on this socket with `ECANCELED`, unless it has ended by itself.
    pub(super) fn cancel(&mut self, socket: &Socket, user_data: u64) {
        let Some(watch) = index(socket.fd()).and_then(|fd| self.watches.get_mut(fd)) else {
            return;
        };
        if watch.forget(user_data) {
            self.complete(user_data, -libc::ECANCELED);
        }
    }

    /// Completes as [`WOKEN`] whenever a bell's eventfd becomes readable.
    pub(super) fn watch(&mut self, event_fd: BorrowedFd<'_>) -> io::Result<()> {
        if !self.bell_watched {
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, WOKEN);
            self.epoll.add(event_fd, event)?;
            self.bell_watched = true;
        }
        Ok(())
    }

    /// Waits for events and carries out what they allow. The kernel is left alone when completions
    /// are there already, but never twice in a row, so that nobody waits for ever.
    pub(super) fn enter(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        for fd in std::mem::take(&mut self.again) {
            self.read(fd);
        }
        self.skipped = !self.done.is_empty() && !self.skipped;
        if !self.skipped {
            self.take_events(if self.done.is_empty() { wait } else { Wait::No })?;
        }
        out.extend(self.done.drain(..));
        Ok(())
    }

    fn take_events(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => EpollTimeout::ZERO,
            Wait::Completion => EpollTimeout::NONE,
            // Rounded up: before its time there is nothing to do.
            Wait::AtMost(time) => u32::try_from(time.as_nanos().div_ceil(1_000_000))
                .ok()
                .and_then(|millis| EpollTimeout::try_from(millis).ok())
                .unwrap_or(EpollTimeout::MAX),
        };
        let mut events = std::mem::take(&mut self.events);
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => {
                self.events = events;
                return Err(error.into());
            }
        };
        for event in &events[..count] {
            self.answer(*event);
        }
        self.events = events;
        Ok(())
    }

    fn answer(&mut self, event: EpollEvent) {
        if event.data() == WOKEN {
            self.complete(WOKEN, 0);
            return;
        }
        let Ok(fd) = RawFd::try_from(event.data()) else { return };
        let Some(watch) = index(fd).and_then(|fd| self.watches.get_mut(fd)) else { return };
        let ended = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let eventful = ended | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI;
        watch.eventful |= event.events().intersects(eventful);
        watch.hung_up |= event.events().intersects(ended | EpollFlags::EPOLLRDHUP);
        watch.readable |= event.events().intersects(eventful | EpollFlags::EPOLLIN);
        watch.writable |= event.events().intersects(ended | EpollFlags::EPOLLOUT);
        for interest in [Interest::Readable, Interest::Writable, Interest::Hangup] {
            let watch = &mut self.watches[fd as usize];
            if watch.is(interest)
                && let Some(user_data) = watch.polling[interest as usize].take()
            {
                self.complete(user_data, 0);
            }
        }
        self.read(fd);
        self.write(fd);
    }

    /// Reads for whoever reads this socket, until it runs dry or has had its turn.
    fn read(&mut self, fd: RawFd) {
        for _ in 0..ACCEPTS_AT_ONCE {
            let Some(watch) = index(fd).and_then(|fd| self.watches.get_mut(fd)) else { return };
            if !watch.readable {
                return;
            }
            match watch.reading {
                None => return,
                Some(Reading::Accept { user_data }) => self.accept_one(fd, user_data),
                Some(Reading::Receive { user_data, buffers }) => {
                    self.receive_one(fd, user_data, buffers);
                }
            }
        }
        self.again.push(fd);
    }

    fn accept_one(&mut self, fd: RawFd, user_data: u64) {
        // SAFETY: whoever submitted the request keeps the socket until its last completion.
        let listener = unsafe { BorrowedFd::borrow_raw(fd) };
        let result = match socket::accept_fd(&listener) {
            Ok(Some(connection)) => connection.into_raw_fd(),
            Ok(None) => {
                self.watches[fd as usize].readable = false;
                return;
            }
            Err(error) => outcome(Err(error)),
        };
        let more = result >= 0;
        if !more {
            self.watches[fd as usize].reading = None;
        }
        self.done.push_back(Completion { user_data, result, more, buffer: None, backlog: false });
    }

    fn receive_one(&mut self, fd: RawFd, user_data: u64, buffers: usize) {
        let Some(id) = self.pool.take() else {
            self.watches[fd as usize].reading = None;
            self.complete(user_data, -libc::ENOBUFS);
            return;
        };
        // SAFETY: the pool has just given the buffer, and nobody else uses it.
        let received = unsafe { socket::receive_now(fd, self.pool.address(id), BUFFER_SIZE) };
        let watch = &mut self.watches[fd as usize];
        let count = match received {
            Ok(count) if count > 0 => count,
            ended => {
                self.pool.untake(id);
                let would_block = matches!(&ended, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
                if would_block {
                    watch.readable = false;
                } else {
                    watch.reading = None;
                    self.complete(user_data, outcome(ended.map(|_| 0)));
                }
                return;
            }
        };
        let full = count == BUFFER_SIZE;
        // A short receive has emptied the socket, and what comes next comes with an edge.
        watch.readable = full || watch.eventful;
        let buffers = buffers - 1;
        let more = buffers > 0;
        watch.reading = more.then_some(Reading::Receive { user_data, buffers });
        let result = i32::try_from(count).unwrap_or(i32::MAX);
        let completion = Completion { user_data, result, more, buffer: Some(id), backlog: full };
        self.done.push_back(completion);
    }

    /// Writes for whoever writes to this socket.
    fn write(&mut self, fd: RawFd) {
        let Some(watch) = index(fd).and_then(|fd| self.watches.get_mut(fd)) else { return };
        if !watch.writable {
            return;
        }
        match watch.writing.take() {
            None => {}
            Some(Writing::Connect { user_data }) => {
                // SAFETY: whoever submitted the request keeps the socket until its completion.
                let result = socket::take_error(&unsafe { BorrowedFd::borrow_raw(fd) });
                self.complete(user_data, outcome(result.map(|()| 0)));
            }
            Some(Writing::Send { user_data, bytes, len, sent }) => {
                self.send_rest(fd, user_data, (bytes, len), sent);
            }
        }
    }

    fn send_rest(&mut self, fd: RawFd, user_data: u64, bytes: (*const u8, usize), sent: usize) {
        let (start, len) = bytes;
        let mut sent = sent;
        while sent < len {
            // SAFETY: `sent` is below the buffer's length.
            let rest = unsafe { start.add(sent) };
            // SAFETY: the driver owns the buffer until this send's completion.
            match unsafe { socket::send_now(fd, rest, len - sent) } {
                // Never for a stream; if ever, the owner sees a send that did nothing.
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let watch = &mut self.watches[fd as usize];
                    watch.writable = false;
                    watch.writing = Some(Writing::Send { user_data, bytes: start, len, sent });
                    return;
                }
                Err(error) if sent == 0 => {
                    self.complete(user_data, outcome(Err(error)));
                    return;
                }
                // The next attempt will tell what struck.
                Err(_) => break,
            }
        }
        self.complete(user_data, i32::try_from(sent).unwrap_or(i32::MAX));
    }

    /// The watch of a socket, which begins with its first request.
    fn watch_socket(&mut self, socket: &Socket) -> io::Result<&mut Watch> {
        let fd = index(socket.fd()).ok_or(io::ErrorKind::InvalidInput)?;
        if fd >= self.watches.len() {
            self.watches.resize_with(fd + 1, Watch::default);
        }
        if socket.begin_watch() {
            let edges = EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP
                | EpollFlags::EPOLLPRI
                | EpollFlags::EPOLLET;
            self.epoll.add(socket.os()?, EpollEvent::new(edges, fd as u64))?;
            self.watches[fd] = Watch { writable: true, ..Watch::default() };
        }
        Ok(&mut self.watches[fd])
    }

    fn complete(&mut self, user_data: u64, result: i32) {
        let completion =
            Completion { user_data, result, more: false, buffer: None, backlog: false };
        self.done.push_back(completion);
    }
}

impl Watch {
    fn is(&self, interest: Interest) -> bool {
        match interest {
            Interest::Readable => self.readable,
            Interest::Writable => self.writable,
            Interest::Hangup => self.hung_up,
        }
    }

    fn set(&mut self, interest: Interest, ready: bool) {
        match interest {
            Interest::Readable => self.readable = ready,
            Interest::Writable => self.writable = ready,
            Interest::Hangup => self.hung_up = ready,
        }
    }

    /// Forgets a request that waits here; whether there was one.
    fn forget(&mut self, wanted: u64) -> bool {
        let reading = matches!(self.reading, Some(Reading::Accept { user_data }
            | Reading::Receive { user_data, .. }) if user_data == wanted);
        let writing = matches!(self.writing, Some(Writing::Connect { user_data }
            | Writing::Send { user_data, .. }) if user_data == wanted);
        let mut polling = false;
        for slot in &mut self.polling {
            polling |= slot.take_if(|user_data| *user_data == wanted).is_some();
        }
        if reading {
            self.reading = None;
        }
        if writing {
            self.writing = None;
        }
        reading || writing || polling
    }
}

fn index(fd: RawFd) -> Option<usize> {
    usize::try_from(fd).ok()
}

/// A result as a completion tells it.
fn outcome(result: io::Result<i32>) -> i32 {
    result.unwrap_or_else(|error| -error.raw_os_error().unwrap_or(libc::EIO))
}
