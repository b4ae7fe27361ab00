//! A client: when it comes, what it sends, how it reads, and how it goes.

use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::machine::sys::sim::{Connecting, Net, SocketId, Wake};

use crate::content::{self, Reading};
use crate::first_message::{self, Opening, QUESTION};

/// How a client goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// It ends its stream, reads to the end, and closes.
    Polite,
    /// It resets the connection when it has sent so much.
    ResetsAfter(u64),
    /// It says nothing and hears nothing any more when it has sent so much.
    VanishesAfter(u64),
    /// It closes as soon as it has sent everything, whatever comes back.
    ClosesUnread,
}

/// What a client will do.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) comes: Duration,
    /// Bytes in all.
    pub(crate) sends: u64,
    /// Bytes at once, and the pause after them.
    pub(crate) chunk: u64,
    pub(crate) pause: Duration,
    /// Sends the next chunk only when as much has come back.
    pub(crate) talks: bool,
    /// Reads at most so much at a time, with this pause.
    pub(crate) reads_slowly: Option<(u64, Duration)>,
    /// Sends an urgent byte before the byte at this offset.
    pub(crate) urgent: Option<u64>,
    /// What it sends first, where frontends read that.
    pub(crate) opening: Option<Opening>,
    pub(crate) ending: Ending,
}

impl Client {
    /// A client that comes at once, sends `sends` bytes, and reads what comes.
    pub(crate) fn sending(sends: u64) -> Self {
        Self {
            comes: Duration::ZERO,
            sends,
            chunk: 16 * 1024,
            pause: Duration::ZERO,
            talks: false,
            reads_slowly: None,
            urgent: None,
            opening: None,
            ending: Ending::Polite,
        }
    }

    pub(crate) fn coming_after(mut self, comes: Duration) -> Self {
        self.comes = comes;
        self
    }

    pub(crate) fn in_chunks(mut self, chunk: u64, pause: Duration) -> Self {
        (self.chunk, self.pause) = (chunk, pause);
        self
    }

    pub(crate) fn talking(mut self, talks: bool) -> Self {
        self.talks = talks;
        self
    }

    pub(crate) fn reading_slowly(mut self, bytes: u64, pause: Duration) -> Self {
        self.reads_slowly = Some((bytes, pause));
        self
    }

    pub(crate) fn urgent_at(mut self, offset: u64) -> Self {
        self.urgent = Some(offset);
        self
    }

    pub(crate) fn that(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}

const COME: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// A client's question for TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Question {
    /// To be sent from this byte on.
    Unasked(usize),
    Asked,
    /// Or there is none.
    Answered,
}

/// A client in the world.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) plan: Client,
    /// The number of its stream, and its own.
    pub(crate) id: u64,
    /// Bytes of its first message.
    pub(crate) opening: u64,
    /// Bytes that it sends behind it.
    behind_opening: u64,
    /// Its question for TLS, before all else.
    question: Question,
    actor: u32,
    own: SocketAddr,
    frontend: SocketAddr,
    pub(crate) socket: Option<SocketId>,
    connected: bool,
    pub(crate) sent: u64,
    pub(crate) reading: Reading,
    pub(crate) finished: bool,
    pub(crate) ended: bool,
    /// Its connection was refused or broken by the other side.
    pub(crate) failed: bool,
    /// It can send nothing more, and reads what has come.
    muted: bool,
    pausing: bool,
    resting: bool,
    at_end: bool,
    pub(crate) done: bool,
}

impl Visitor {
    pub(crate) fn new(
        net: &Net,
        actor: u32,
        plan: Client,
        own: SocketAddr,
        frontend: SocketAddr,
    ) -> Self {
        net.alarm(actor, plan.comes, COME);
        let asks = plan.opening.is_some_and(|opening| opening.asks);
        let mut visitor = Self {
            behind_opening: plan.sends,
            plan,
            id: u64::from(actor) | 1 << 32,
            opening: 0,
            question: if asks { Question::Unasked(0) } else { Question::Answered },
            actor,
            own,
            frontend,
            socket: None,
            connected: false,
            sent: 0,
            reading: Reading::default(),
            finished: false,
            ended: false,
            failed: false,
            muted: false,
            pausing: false,
            resting: false,
            at_end: false,
            done: false,
        };
        if let Some(opening) = visitor.plan.opening {
            visitor.open(opening, opening.tls);
        }
        visitor
    }

    /// Begins its stream with this, in TLS or in clear text.
    fn open(&mut self, opening: Opening, tls: bool) {
        self.id = opening.number(self.id, tls);
        self.opening = first_message::opening(self.id).len() as u64;
        self.plan.sends = match opening.cut {
            Some(cut) => cut.min(self.opening - 1),
            None => self.opening + self.behind_opening,
        };
    }

    /// Whether it knows whether to go on with TLS.
    pub(crate) fn is_answered(&self) -> bool {
        self.question == Question::Answered
    }

    pub(crate) fn wake(&mut self, net: &Net, wake: Wake) {
        if self.done {
            return;
        }
        let Some(socket) = self.socket else {
            self.socket = Some(net.connect(self.actor, self.own, self.frontend));
            return;
        };
        if !self.connected {
            match net.progress(socket) {
                Connecting::Pending => return,
                Connecting::Failed => return self.give_up(net, socket),
                Connecting::Done => self.connected = true,
            }
        }
        self.resting &= wake != Wake::Alarm(READ);
        match self.plan.reads_slowly {
            Some((bytes, pause)) => {
                if !self.resting && self.read(net, socket, bytes) {
                    self.resting = true;
                    net.alarm(self.actor, pause, READ);
                }
            }
            None => while self.read(net, socket, 64 * 1024) {},
        }
        if wake == Wake::Alarm(WRITE) {
            self.pausing = false;
        }
        while !self.done && self.write(net, socket) {}
        if !self.done && (self.finished || self.muted) && self.at_end {
            self.leave(net, socket);
        }
    }

    fn leave(&mut self, net: &Net, socket: SocketId) {
        net.close(socket);
        self.done = true;
    }

    fn give_up(&mut self, net: &Net, socket: SocketId) {
        self.failed = true;
        self.leave(net, socket);
    }

    /// Reads once; whether there may be more.
    fn read(&mut self, net: &Net, socket: SocketId, max: u64) -> bool {
        if self.done || self.at_end {
            return false;
        }
        let reading = &mut self.reading;
        if self.question == Question::Asked && reading.got == 0 {
            return self.read_answer(net, socket);
        }
        match net.read(socket, max as usize, |bytes| reading.take(bytes)) {
            Ok(0) => (self.at_end, self.ended) = (true, true),
            Ok(_) => return true,
            Err(errno) if errno == again() => {}
            Err(_) => self.give_up(net, socket),
        }
        false
    }

    /// Reads the answer to its question; whether there may be more.
    fn read_answer(&mut self, net: &Net, socket: SocketId) -> bool {
        let mut answer = 0;
        match net.read(socket, 1, |bytes| answer = bytes.first().copied().unwrap_or_default()) {
            Ok(0) => self.at_end = true,
            Ok(_) if [b'S', b'N'].contains(&answer) => {
                self.question = Question::Answered;
                let opening = self.plan.opening.expect("it asked");
                self.open(opening, answer == b'S');
                return true;
            }
            Ok(_) => {
                self.reading.take(&[answer]);
                return true;
            }
            Err(errno) if errno == again() => {}
            Err(_) => self.give_up(net, socket),
        }
        false
    }

    /// Asks for TLS, if it is to; whether it may send its stream.
    fn ask(&mut self, net: &Net, socket: SocketId) -> bool {
        while !self.done
            && let Question::Unasked(from) = self.question
        {
            match net.write(socket, &QUESTION[from..]) {
                Ok(count) if from + count == QUESTION.len() => self.question = Question::Asked,
                Ok(count) => self.question = Question::Unasked(from + count),
                Err(errno) if errno == again() => break,
                Err(_) => self.give_up(net, socket),
            }
        }
        if !self.done && !self.finished && !self.is_answered() && self.at_end {
            // Nobody will answer any more.
            net.finish(socket);
            self.finished = true;
        }
        self.is_answered()
    }

    /// Writes once; whether more can be.
    fn write(&mut self, net: &Net, socket: SocketId) -> bool {
        let limit = match self.plan.ending {
            Ending::ResetsAfter(bytes) | Ending::VanishesAfter(bytes) => bytes,
            Ending::Polite | Ending::ClosesUnread => self.plan.sends,
        };
        if self.pausing || self.finished || self.muted || !self.ask(net, socket) {
            return false;
        }
        if self.plan.urgent == Some(self.sent) {
            match net.write_urgent(socket) {
                Ok(()) => self.plan.urgent = None,
                Err(errno) if errno == again() => return false,
                Err(_) => {
                    self.muted = true;
                    return false;
                }
            }
        }
        if self.sent >= limit {
            match self.plan.ending {
                Ending::ResetsAfter(_) => net.reset(socket),
                Ending::VanishesAfter(_) => {}
                Ending::ClosesUnread => net.close(socket),
                Ending::Polite => net.finish(socket),
            }
            self.finished = true;
            self.done = self.plan.ending != Ending::Polite;
            return false;
        }
        let into_chunk = self.sent % self.plan.chunk;
        let talks = self.plan.talks && self.sent >= self.opening;
        if talks && into_chunk == 0 && self.reading.got < self.sent {
            if self.at_end {
                // Nobody will answer any more.
                net.finish(socket);
                self.finished = true;
            }
            return false;
        }
        let before_urgent = self.plan.urgent.map_or(u64::MAX, |at| at.saturating_sub(self.sent));
        let left = (self.plan.chunk - into_chunk).min(limit - self.sent).min(before_urgent);
        match net.write(socket, &content::bytes(self.id, self.sent, left)) {
            Ok(count) => self.sent += count as u64,
            Err(errno) if errno == again() => return false,
            Err(_) => {
                self.muted = true;
                return false;
            }
        }
        if self.sent.is_multiple_of(self.plan.chunk) && !self.plan.pause.is_zero() {
            self.pausing = true;
            net.alarm(self.actor, self.plan.pause, WRITE);
        }
        true
    }
}

/// "Not now", as the network says it.
pub(crate) fn again() -> i32 {
    nix::errno::Errno::EAGAIN as i32
}
