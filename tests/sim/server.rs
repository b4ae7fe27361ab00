//! A server: how it answers, and when it is there at all.

use std::net::SocketAddr;
use std::time::Duration;

use ringlane_core::machine::sys::sim::{Net, SocketId, Wake};

use crate::client::again;
use crate::content::{self, Reading};
use crate::first_message::Form;

/// How a server treats a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Behaviour {
    /// Sends as many bytes as it gets, and ends when the client has ended.
    Echoes,
    /// Echoes, but reads so much at a time, with this pause.
    EchoesSlowly(u64, Duration),
    /// Reads everything and answers the end with so many bytes.
    Answers(u64),
    /// Sends so many bytes at once and ends; reads everything.
    Pours(u64),
    /// Resets the connection when it has got so many bytes.
    ResetsAfter(u64),
    /// When it has got so many bytes, says some and closes without reading more.
    ScoldsAfter(u64),
    /// Sends so many bytes as they are taken, and then resets the connection.
    PoursAndResets(u64),
    /// Accepts and does nothing more.
    Stares,
    /// Leaves connections in its queue.
    NeverAccepts,
    /// Is not there: connections are refused.
    Refuses,
    /// Is behind a wall: connections get no answer.
    Swallows,
}

/// What a server will do.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) behaviour: Behaviour,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    /// Sessions at once that the balancer may give it.
    pub(crate) max_connections: u32,
    /// Sends an urgent byte before the byte at this offset of each connection.
    pub(crate) urgent: Option<u64>,
    /// What its clients begin with.
    pub(crate) form: Form,
    /// Whether it offers TLS when it is asked.
    pub(crate) tls: bool,
    pub(crate) dies: Option<Duration>,
    pub(crate) returns: Option<Duration>,
}

impl Server {
    /// A server that is there all the time.
    pub(crate) fn that(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            weight: 1,
            backup: false,
            max_connections: u32::MAX,
            urgent: None,
            form: Form::Plain,
            tls: false,
            dies: None,
            returns: None,
        }
    }

    pub(crate) fn weighing(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    pub(crate) fn standing_by(mut self, backup: bool) -> Self {
        self.backup = backup;
        self
    }

    pub(crate) fn with_at_most(mut self, max_connections: u32) -> Self {
        self.max_connections = max_connections;
        self
    }

    pub(crate) fn urgent_at(mut self, offset: u64) -> Self {
        self.urgent = Some(offset);
        self
    }

    pub(crate) fn dying_at(mut self, dies: Duration) -> Self {
        self.dies = Some(dies);
        self
    }

    pub(crate) fn returning_at(mut self, returns: Duration) -> Self {
        self.returns = Some(returns);
        self
    }

    /// Whether it may refuse a connection or break one.
    pub(crate) fn is_mortal(&self) -> bool {
        self.dies.is_some()
    }
}

/// Bytes that a server says before it closes on who sends too much.
const SCOLDING: u64 = 500;

const DIE: u32 = 0;
const RETURN: u32 = 1;
const FIRST_CONNECTION: u32 = 2;

/// A server in the world.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) plan: Server,
    actor: u32,
    address: SocketAddr,
    listener: Option<SocketId>,
    pub(crate) connections: Vec<Connection>,
}

/// One connection of a server.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: SocketId,
    /// The number of its stream.
    pub(crate) id: u64,
    pub(crate) reading: Reading,
    pub(crate) sent: u64,
    urgent: Option<u64>,
    /// Questions for TLS that it has answered.
    answers: u32,
    pub(crate) finished: bool,
    pub(crate) at_end: bool,
    /// Ended by the death of its server.
    pub(crate) killed: bool,
    pub(crate) done: bool,
    resting: bool,
}

impl Machine {
    pub(crate) fn new(net: &Net, actor: u32, plan: Server, address: SocketAddr) -> Self {
        if let Some(dies) = plan.dies {
            net.alarm(actor, dies, DIE);
        }
        if let Some(returns) = plan.returns {
            net.alarm(actor, returns, RETURN);
        }
        net.silence(address, plan.behaviour == Behaviour::Swallows);
        let mut machine = Self { plan, actor, address, listener: None, connections: Vec::new() };
        machine.open(net);
        machine
    }

    fn open(&mut self, net: &Net) {
        if self.listener.is_none() && self.plan.behaviour != Behaviour::Refuses {
            self.listener = Some(net.listen(self.actor, self.address));
        }
    }

    pub(crate) fn wake(&mut self, net: &Net, wake: Wake) {
        match wake {
            Wake::Alarm(DIE) => self.die(net),
            Wake::Alarm(RETURN) => self.open(net),
            Wake::Alarm(token) => self.serve(net, (token - FIRST_CONNECTION) as usize, true),
            Wake::Socket(socket) if Some(socket) == self.listener => self.accept(net, socket),
            Wake::Socket(socket) => {
                let found = self.connections.iter().position(|c| c.socket == socket);
                if let Some(index) = found {
                    self.serve(net, index, false);
                }
            }
        }
    }

    fn die(&mut self, net: &Net) {
        if let Some(listener) = self.listener.take() {
            net.close(listener);
        }
        for connection in self.connections.iter_mut().filter(|c| !c.done) {
            (connection.done, connection.killed) = (true, true);
            if net.below(2) == 0 {
                net.reset(connection.socket);
            } else {
                net.close(connection.socket);
            }
        }
    }

    fn accept(&mut self, net: &Net, listener: SocketId) {
        while self.plan.behaviour != Behaviour::NeverAccepts
            && let Some(socket) = net.accept(self.actor, listener)
        {
            let index = self.connections.len();
            self.connections.push(Connection {
                socket,
                id: u64::from(self.actor) << 16 | index as u64 | 2 << 40,
                reading: Reading::of(self.plan.form),
                sent: 0,
                urgent: self.plan.urgent,
                answers: 0,
                finished: false,
                at_end: false,
                killed: false,
                done: false,
                resting: false,
            });
            self.serve(net, index, false);
        }
    }

    fn serve(&mut self, net: &Net, index: usize, alarmed: bool) {
        let connection = &mut self.connections[index];
        if connection.done {
            return;
        }
        match self.plan.behaviour {
            Behaviour::Stares => return,
            Behaviour::EchoesSlowly(bytes, pause) => {
                connection.resting &= !alarmed;
                if !connection.resting && connection.read(net, bytes) {
                    connection.resting = true;
                    net.alarm(self.actor, pause, FIRST_CONNECTION + index as u32);
                }
            }
            Behaviour::ScoldsAfter(bytes) => {
                while connection.reading.got < bytes
                    && connection.read(net, bytes - connection.reading.got)
                {}
                if connection.reading.got >= bytes {
                    while connection.sent < SCOLDING
                        && let words = content::bytes(connection.id, connection.sent, SCOLDING)
                        && let Ok(count) = net.write(connection.socket, &words)
                    {
                        connection.sent += count as u64;
                    }
                    net.reset(connection.socket);
                    connection.done = true;
                    return;
                }
            }
            Behaviour::PoursAndResets(bytes) => {
                while connection.sent < bytes
                    && let part =
                        content::bytes(connection.id, connection.sent, bytes - connection.sent)
                    && let Ok(count) = net.write(connection.socket, &part)
                {
                    connection.sent += count as u64;
                }
                if connection.sent >= bytes {
                    net.reset(connection.socket);
                    connection.done = true;
                    return;
                }
            }
            Behaviour::ResetsAfter(bytes) => {
                while connection.reading.got < bytes
                    && connection.read(net, bytes - connection.reading.got)
                {}
                if connection.reading.got >= bytes {
                    net.reset(connection.socket);
                    connection.done = true;
                    return;
                }
            }
            _ => while connection.read(net, 64 * 1024) {},
        }
        if connection.answer_questions(net, self.plan.tls) {
            let is_asked = self.plan.form == Form::Postgres && connection.reading.id().is_none();
            // Such servers wait for the first message, or for the end.
            if !is_asked || connection.at_end {
                connection.answer(net, self.plan.behaviour);
            }
        }
    }
}

impl Connection {
    /// Whether its server has not ended its stream, and the balancer has not closed it either.
    pub(crate) fn is_busy(&self, net: &Net) -> bool {
        let closed = |other| net.facts(other).closed.is_some();
        !self.done && !self.finished && !net.facts(self.socket).other.is_none_or(closed)
    }

    fn read(&mut self, net: &Net, max: u64) -> bool {
        if self.done || self.at_end {
            return false;
        }
        let reading = &mut self.reading;
        match net.read(self.socket, max as usize, |bytes| reading.take(bytes)) {
            Ok(0) => self.at_end = true,
            Ok(_) => return true,
            Err(errno) if errno == again() => {}
            Err(_) => self.leave(net),
        }
        false
    }

    /// Tells whether it offers TLS as often as it was asked; whether it could.
    fn answer_questions(&mut self, net: &Net, tls: bool) -> bool {
        while !self.done && self.answers < self.reading.questions {
            match net.write(self.socket, if tls { b"S" } else { b"N" }) {
                Ok(_) => self.answers += 1,
                Err(errno) if errno == again() => return false,
                Err(_) => self.leave(net),
            }
        }
        true
    }

    fn answer(&mut self, net: &Net, behaviour: Behaviour) {
        let (due, ends) = match behaviour {
            Behaviour::Answers(bytes) if self.at_end => (bytes, true),
            Behaviour::Answers(_) => (0, false),
            Behaviour::Pours(bytes) => (bytes, true),
            _ => (self.reading.got, self.at_end),
        };
        while !self.done && self.sent < due {
            if self.urgent == Some(self.sent) {
                match net.write_urgent(self.socket) {
                    Ok(()) => self.urgent = None,
                    Err(errno) if errno == again() => return,
                    Err(_) => return self.leave(net),
                }
            }
            let before_urgent = self.urgent.map_or(u64::MAX, |at| at.saturating_sub(self.sent));
            let left = (due - self.sent).min(before_urgent);
            match net.write(self.socket, &content::bytes(self.id, self.sent, left)) {
                Ok(count) => self.sent += count as u64,
                Err(errno) if errno == again() => return,
                Err(_) => self.leave(net),
            }
        }
        if !self.done && ends && !self.finished {
            net.finish(self.socket);
            self.finished = true;
        }
        if !self.done && self.finished && self.at_end {
            self.leave(net);
        }
    }

    fn leave(&mut self, net: &Net) {
        net.close(self.socket);
        self.done = true;
    }
}
