//! What clients send before a server is chosen, and what must be true of it.
//!
//! A stream's number tells what it begins with: nothing, a ClientHello, or a startup packet of
//! PostgreSQL, each naming what its session wants. So whoever reads the stream knows every byte of
//! it, and `verdict` knows which backend must have served it. PostgreSQL's clients may ask for TLS
//! before; question and answer are no part of a stream. Not here: sessions in clear text that
//! orders end, whose clients read an error in between. Next: `content`, `verdict`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ringlane_core::counters::{Cause, Close, Phase, Reason, SessionRecord};
use ringlane_core::ids::BackendId;
use ringlane_core::machine::sys::sim::Facts;
use ringlane_core::prng::Prng;
use ringlane_core::settings::{NamePattern, Protocol, Route, Snapshot, Unrouted};

use crate::client::Visitor;
use crate::server::{Behaviour, Machine};
use crate::verdict::{SLACK, micros};
use crate::world::{Run, World};

/// PostgreSQL's question for TLS.
pub(crate) const QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A TLS alert: `unrecognized_name`, fatal.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Bytes of the number at the beginning of a plain stream.
const NUMBER: usize = 8;

/// Where a number is in a ClientHello: behind headers of record and message, and the version.
const IN_HELLO: usize = 5 + 4 + 2;

/// The first parameter of a startup packet, whose value is a number in hexadecimal digits.
const PARAMETER: &[u8] = b"application_name\0";
const IN_STARTUP: usize = 8 + PARAMETER.len();

/// Where a stream's number has what it begins with, what it wants, and whether it says it in few
/// bytes.
const KIND: u32 = 48;
const WANTS: u32 = 50;
const BRIEF: u32 = 52;

/// What may come first in the streams that a server reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Form {
    /// The stream's number.
    #[default]
    Plain,
    /// A ClientHello.
    Tls,
    /// Whatever PostgreSQL's clients begin with.
    Postgres,
}

/// What a client's session wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wants {
    First,
    Second,
    /// It does not say.
    Nothing,
    /// What nobody knows.
    Unknown,
}

impl Wants {
    pub(crate) const ALL: [Self; 4] = [Self::First, Self::Second, Self::Nothing, Self::Unknown];

    fn name(self) -> Option<&'static str> {
        match self {
            Self::First => Some("a.first.test"),
            Self::Second => Some("second.test"),
            Self::Nothing => None,
            Self::Unknown => Some("unknown.test"),
        }
    }
}

/// How a client begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Opening {
    /// With TLS, if it is not to ask for that.
    pub(crate) tls: bool,
    /// Asks for TLS, and goes on as the answer says.
    pub(crate) asks: bool,
    pub(crate) wants: Wants,
    /// In so few bytes that every network takes them at once.
    pub(crate) brief: bool,
    /// Sends only so much of it.
    pub(crate) cut: Option<u64>,
}

impl Opening {
    /// The number of a stream that begins so.
    pub(crate) fn number(self, id: u64, tls: bool) -> u64 {
        let plain = id & ((1 << KIND) - 1);
        let kind = if tls { 1 } else { 2 };
        plain | kind << KIND | (self.wants as u64) << WANTS | u64::from(self.brief) << BRIEF
    }
}

/// How a world's frontend chooses by first messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstMessages {
    pub(crate) form: Form,
    /// Whether servers offer TLS, where they are asked.
    pub(crate) tls: bool,
    /// Whether sessions are routed by SNI; else by user.
    pub(crate) by_name: bool,
    /// The first server of the second backend.
    pub(crate) split: Option<usize>,
    pub(crate) no_sni: Unrouted,
    pub(crate) unmatched: Unrouted,
}

fn kind(id: u64) -> u64 {
    id >> KIND & 3
}

/// What the stream of this number begins with.
pub(crate) fn opening(id: u64) -> Vec<u8> {
    let wants = Wants::ALL[(id >> WANTS & 3) as usize];
    match kind(id) {
        0 => id.to_le_bytes().to_vec(),
        1 => client_hello(id, wants),
        _ => startup(id, wants),
    }
}

thread_local! {
    /// Those that were made before: they are asked for with each piece of a stream.
    static OPENINGS: RefCell<BTreeMap<u64, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

/// At most `max` bytes from there on of what the stream begins with; `None` behind it.
pub(crate) fn part(id: u64, offset: u64, max: u64) -> Option<Vec<u8>> {
    if kind(id) == 0 && offset >= NUMBER as u64 {
        return None;
    }
    OPENINGS.with_borrow_mut(|openings| {
        let whole = openings.entry(id).or_insert_with(|| opening(id));
        let rest = whole.get(offset as usize..).filter(|rest| !rest.is_empty())?;
        Some(rest[..rest.len().min(max as usize)].to_vec())
    })
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// A ClientHello, in one record or two.
fn client_hello(id: u64, wants: Wants) -> Vec<u8> {
    let mut chance = Prng::new(id);
    let mut extensions = Vec::new();
    // Padding, as clients with large keys have it.
    let padding = if id >> BRIEF & 1 == 1 { chance.below(200) } else { chance.below(6000) };
    extensions.extend([0, 21]);
    extensions.extend(vector(&vec![0; padding as usize]));
    if let Some(name) = wants.name() {
        let list = vector(&[&[0][..], &vector(name.as_bytes())].concat());
        extensions.extend([0, 0]);
        extensions.extend(vector(&list));
    }
    let mut body = vec![3, 3];
    body.extend(id.to_le_bytes());
    body.extend([7; 32 - NUMBER]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(vector(&extensions));
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    let first = if chance.below(2) == 0 { message.len() } else { 40 };
    let record = |part: &[u8]| [&[22, 3, 1][..], &vector(part)].concat();
    let rest = &message[first..];
    let rest = if rest.is_empty() { Vec::new() } else { record(rest) };
    [record(&message[..first]), rest].concat()
}

/// A startup packet of protocol 3.0.
fn startup(id: u64, wants: Wants) -> Vec<u8> {
    let user = wants.name().unwrap_or("nobody");
    let mut body = vec![0, 3, 0, 0];
    body.extend(PARAMETER);
    body.extend(format!("{id:016x}\0user\0{user}\0\0").as_bytes());
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// What the first bytes of a stream tell.
pub(crate) enum Told {
    /// Too little.
    Part,
    /// A question for TLS, and nothing of the stream.
    Question,
    /// An error of PostgreSQL's form, instead of a stream.
    Error,
    /// Its number.
    Number(u64),
}

pub(crate) fn read(form: Form, head: &[u8]) -> Told {
    let number = |at: usize| {
        let bytes = head.get(at..at + NUMBER)?;
        Some(u64::from_le_bytes(bytes.try_into().expect("8 bytes")))
    };
    let is_hello = head.first() == Some(&22);
    let number = match form {
        // No server's number has this byte there: an error says so in a field of its severity.
        Form::Plain if head.len() == NUMBER && (head[0], head[5]) == (b'E', b'S') => {
            return Told::Error;
        }
        Form::Plain => number(0),
        Form::Postgres if head == QUESTION => return Told::Question,
        Form::Postgres if !is_hello => head.get(IN_STARTUP..IN_STARTUP + 2 * NUMBER).map(|text| {
            let text = std::str::from_utf8(text).unwrap_or_default();
            u64::from_str_radix(text, 16).unwrap_or_default()
        }),
        Form::Tls | Form::Postgres => number(IN_HELLO),
    };
    number.map_or(Told::Part, Told::Number)
}

/// Whether what a client has read is an error of the balancer's, or the beginning of one.
fn is_error(client: &Visitor) -> bool {
    let (reading, head) = (&client.reading, client.reading.head());
    let begins = ALERT.starts_with(head) || head.first() == Some(&b'E');
    reading.is_error || reading.id().is_none() && begins
}

impl FirstMessages {
    /// The routes of the only frontend, and the second backend if there is one.
    pub(crate) fn configure(self, snapshot: &mut Snapshot) {
        let second = BackendId(u32::from(self.split.is_some()));
        if let Some(split) = self.split {
            snapshot.servers[split..].iter_mut().for_each(|server| server.backend = second);
        }
        let frontend = &mut snapshot.frontends[0];
        frontend.protocol = match self.form {
            Form::Plain => Protocol::Any,
            Form::Tls => Protocol::Tls,
            Form::Postgres => Protocol::Postgres,
        };
        (frontend.no_sni, frontend.unmatched) = (self.no_sni, self.unmatched);
        let role = frontend.role;
        let route = |name: &str, pattern: NamePattern, backend: BackendId| {
            let (mut sni, mut user) = (vec![pattern], vec![name.to_owned()]);
            if self.by_name {
                user.clear()
            } else {
                sni.clear()
            }
            Route { sni, user, backend, role, ..Route::default() }
        };
        let exact = NamePattern::Exact("second.test".into());
        frontend.routes = vec![
            route("second.test", exact, second),
            route("a.first.test", NamePattern::Below("first.test".into()), BackendId(0)),
        ];
    }

    /// The servers of each backend: the first one and how many.
    pub(crate) fn parts(self, servers: usize) -> Vec<(usize, usize)> {
        match self.split {
            Some(split) => vec![(0, split), (split, servers - split)],
            None => vec![(0, servers)],
        }
    }

    /// Whether a client's session goes anywhere, and whether to the second backend.
    fn route(self, client: &Visitor) -> Option<bool> {
        let (id, asked) = (client.id, client.plan.opening.is_some_and(|opening| opening.asks));
        if asked && kind(id) == 1 && !self.by_name {
            // It was its server that went on with TLS, and nobody reads that.
            return Some(false);
        }
        let wants = Wants::ALL[(id >> WANTS & 3) as usize];
        let by_name = kind(id) == 1;
        let is_named = wants.name().is_some() || !by_name;
        let matches = by_name == self.by_name && matches!(wants, Wants::First | Wants::Second);
        let policy = if is_named { self.unmatched } else { self.no_sni };
        let is_second = wants == Wants::Second && self.split.is_some();
        match policy {
            _ if matches => Some(is_second),
            Unrouted::Backend => Some(false),
            Unrouted::Reject => None,
        }
    }
}

/// Whether a client has sent all of its first message.
fn is_whole(client: &Visitor) -> bool {
    client.is_answered() && client.sent >= client.opening
}

/// Bytes that a client got from a server.
pub(crate) fn served_bytes(client: &Visitor) -> u64 {
    let is_served = client.plan.opening.is_none() || !is_error(client);
    if is_served { client.reading.got } else { 0 }
}

/// What each session must see: the backend that its first message names, or an error.
pub(crate) fn check(
    run: &Run,
    client: &Visitor,
    facts: &Facts,
    server: Option<&Machine>,
    record: &SessionRecord,
) -> Result<(), String> {
    let Some(first) = run.world.first.filter(|_| is_whole(client)) else { return Ok(()) };
    match (first.route(client), server) {
        (Some(is_second), Some(server)) => {
            let index = run.servers.iter().position(|each| std::ptr::eq(each, server));
            let is_behind = first.split.is_some_and(|split| index >= Some(split));
            if is_behind != is_second {
                return Err(format!("served by {index:?}, which is not of its backend"));
            }
        }
        (None, Some(_)) => return Err("served, though no route fits it".into()),
        (None, None) if client.ended => {
            let is_told = client.reading.is_error || client.reading.head() == ALERT;
            let is_rejected = record.reason == Some(Reason::Unrouted);
            // It is told once, if there is memory to do so; and if it sent more than was read, a
            // reset may overtake that.
            let was_reset = facts.other.is_some_and(|other| run.net.facts(other).sent_reset);
            let may_fail = run.world.weather.squeezes > 0 || was_reset;
            if is_rejected && !is_told && !may_fail {
                return Err("rejected and not told so".into());
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether a session may have ended so before its first message was passed on.
pub(crate) fn explains(run: &Run, client: &Visitor, facts: &Facts, record: &SessionRecord) -> bool {
    let Some(first) = run.world.first else { return false };
    let asks = client.plan.opening.is_some_and(|opening| opening.asks) || first.by_name;
    let asks = asks && first.form == Form::Postgres;
    let any = |is_it: fn(&Behaviour) -> bool| {
        asks && run.world.servers.iter().any(|server| is_it(&server.behaviour))
    };
    match (record.close.cause, record.close.phase) {
        (Cause::Client, Phase::Request) => facts.sent_reset || client.finished && !is_whole(client),
        (Cause::ClientTimeout, Phase::Request) => {
            micros(record.duration_us) >= run.world.timeout.greeting
        }
        (Cause::Refused, Phase::Request) => {
            record.reason == Some(Reason::Unrouted) && first.route(client).is_none()
        }
        (Cause::Server, Phase::Connect) => any(|it| matches!(it, Behaviour::ResetsAfter(_))),
        (Cause::ServerTimeout, Phase::Connect) => any(|it| *it == Behaviour::Stares),
        _ => false,
    }
}

/// For how long a session may read a first message and ask a server for TLS, besides connecting.
pub(crate) fn check_time(world: &World, record: &SessionRecord) -> Result<(), String> {
    let took = micros(record.duration_us);
    let most = time(world) + SLACK;
    if record.close.phase == Phase::Request && world.first.is_some() && took > most {
        return Err(format!("waited {took:?} for a first message, at most {most:?}"));
    }
    Ok(())
}

/// How much longer than others a session may take until it is connected.
pub(crate) fn time(world: &World) -> std::time::Duration {
    match world.first.map(|first| first.form) {
        None | Some(Form::Plain) => std::time::Duration::ZERO,
        Some(Form::Tls) => world.timeout.greeting,
        // It connects to the server that is asked first.
        Some(Form::Postgres) => world.timeout.greeting + world.timeout.connect * 8,
    }
}

/// Whether the session ended before its server had the first message.
pub(crate) fn is_not_passed_on(world: &World, record: &SessionRecord) -> bool {
    world.first.is_some() && record.bytes_in == 0 && record.close == Close::data(Cause::Server)
}
