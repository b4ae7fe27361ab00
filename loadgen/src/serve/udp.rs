//! Datagrams: an echo, a sink, or a source.
//!
//! The echo returns every datagram. The sink counts those of each flow and says on [`Word::Ask`]
//! what arrived. The source sends to whoever orders, at the rate of the order; it falls silent
//! when the order is not renewed, so that nobody is flooded for longer than that. Flows are
//! bounded; while all places are taken, new ones are ignored.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::Role;
use crate::clock::{Readiness, Timer, nanos};
use crate::flow::{Flow, HEADER, Header, Word};
use crate::load::DATAGRAM_BUFFER;
use crate::schedule::{Arrivals, Open, Schedule};

/// Flows that are remembered at once.
const FLOWS: usize = 4096;

/// What a flow may be silent before its place may be given away; also how long an order holds.
const SILENCE: Duration = Duration::from_secs(3);

/// Datagrams that are taken before others get their turn.
const AT_ONCE: usize = 64;

/// The most that a source sends, in datagrams a second.
const RATE_MOST: u64 = 10_000_000;

/// Opens the socket of one thread.
pub(super) fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_recv_buffer_size(DATAGRAM_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// One flow.
struct Entry {
    heard: Cell<Instant>,
    to: Cell<SocketAddr>,
    /// What arrived at a sink.
    arrived: RefCell<Flow>,
    /// What a source has sent.
    sent: Cell<u64>,
    stopped: Cell<bool>,
}

struct Server {
    socket: UdpSocket,
    readiness: Readiness,
    begin: Instant,
    flows: RefCell<HashMap<u64, Rc<Entry>>>,
}

/// Serves for ever.
pub(super) async fn serve(role: Role, socket: UdpSocket) -> Result<(), String> {
    let cannot = |error| format!("cannot serve datagrams: {error}");
    let readiness = Readiness::of(&socket).map_err(cannot)?;
    let flows = RefCell::default();
    let server = Rc::new(Server { socket, readiness, begin: Instant::now(), flows });
    let mut buffer = vec![0; 65_536];
    loop {
        server.readiness.readable().await.map_err(cannot)?;
        for _ in 0..AT_ONCE {
            match server.socket.recv_from(&mut buffer) {
                Ok((size, from)) => server.answer(role, &buffer[..size], from).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The kernel's word about an answer that nobody wanted.
                Err(_) => {}
            }
        }
    }
}

impl Server {
    async fn answer(self: &Rc<Self>, role: Role, datagram: &[u8], from: SocketAddr) {
        if role == Role::Echo {
            return self.send(datagram, from).await;
        }
        let Some(header) = Header::read(datagram) else { return };
        let Some(entry) = self.entry(header.flow & Word::FLOW, from) else { return };
        entry.heard.set(Instant::now());
        entry.to.set(from);
        match (role, Word::of(header.flow)) {
            (Role::Sink, Word::Data) => {
                let now = nanos(self.begin, Instant::now());
                entry.arrived.borrow_mut().arrived(header, datagram.len(), now);
            }
            (Role::Sink, Word::Ask) => {
                let report = entry.arrived.borrow().encode();
                self.report(header, &report, from).await;
            }
            (Role::Source, Word::Order) => self.order(header, &entry),
            (Role::Source, Word::Stop) => {
                entry.stopped.set(true);
                self.report(header, &Flow::of(entry.sent.get()).encode(), from).await;
            }
            _ => {}
        }
    }

    /// The flow's place; a new one if there is room.
    fn entry(&self, flow: u64, from: SocketAddr) -> Option<Rc<Entry>> {
        let mut flows = self.flows.borrow_mut();
        if let Some(entry) = flows.get(&flow) {
            return Some(Rc::clone(entry));
        }
        if flows.len() >= FLOWS {
            flows.retain(|_, entry| entry.heard.get().elapsed() < SILENCE);
        }
        if flows.len() >= FLOWS {
            return None;
        }
        let entry = Rc::new(Entry {
            heard: Cell::new(Instant::now()),
            to: Cell::new(from),
            arrived: RefCell::default(),
            sent: Cell::new(0),
            stopped: Cell::new(true),
        });
        flows.insert(flow, Rc::clone(&entry));
        Some(entry)
    }

    /// Begins to send, unless it does already.
    fn order(self: &Rc<Self>, header: Header, entry: &Rc<Entry>) {
        let orderly = (1..=RATE_MOST * 1000).contains(&header.sequence)
            && (HEADER as u64..=65_000).contains(&header.sent_ns);
        if orderly && entry.stopped.replace(false) {
            let (server, entry) = (Rc::clone(self), Rc::clone(entry));
            // Ends by itself; the entry says how far it got.
            drop(monoio::spawn(async move {
                // Without a timer nothing is sent, which the other side sees.
                let _ = server.send_all(header, &entry).await;
                entry.stopped.set(true);
            }));
        }
    }

    async fn send_all(&self, order: Header, entry: &Entry) -> io::Result<()> {
        let (timer, begin) = (Timer::new()?, Instant::now());
        let rate = order.sequence as f64 / 1000.0;
        let open = Open { rate, arrivals: Arrivals::Constant, seed: 0 };
        let mut datagram = vec![b's'; order.sent_ns as usize];
        for at in Schedule::new(open, 0, 1) {
            let moment = begin + Duration::from_nanos(at);
            while Instant::now() < moment && !entry.stopped.get() {
                timer.until(moment.min(Instant::now() + SILENCE / 30)).await?;
            }
            if entry.stopped.get() || entry.heard.get().elapsed() > SILENCE {
                return Ok(());
            }
            let sent_ns = nanos(self.begin, Instant::now());
            let (flow, sequence) = (order.flow & Word::FLOW, entry.sent.get());
            Header { flow, sequence, sent_ns }.write(&mut datagram);
            entry.sent.set(sequence + 1);
            self.send(&datagram, entry.to.get()).await;
        }
        Ok(())
    }

    async fn report(&self, header: Header, report: &[u8], to: SocketAddr) {
        let mut datagram = vec![0; HEADER];
        Header { flow: Word::Report.with(header.flow), ..header }.write(&mut datagram);
        datagram.extend(report);
        self.send(&datagram, to).await;
    }

    /// Sends; what the kernel refuses is lost, as datagrams are.
    async fn send(&self, datagram: &[u8], to: SocketAddr) {
        while let Err(error) = self.socket.send_to(datagram, to) {
            let full = error.kind() == io::ErrorKind::WouldBlock;
            if !full || self.readiness.writable().await.is_err() {
                return;
            }
        }
    }
}
