//! PostgreSQL, before and beside its sessions (protocol 3, chapters "Message Flow" and "Formats").
//!
//! [`first`] reads what a client says first: a request for encryption, a cancel, or a startup with
//! user and database. [`Tracker`] follows a session in clear text by the lengths of its messages:
//! it knows when the session is outside a transaction and waits for nothing. Invariants: the tracker says idle only if it is certain; it
//! copies nothing but the few bytes that it must read, and costs by the message, not by the byte.

use std::ops::RangeInclusive;

use ringlane_core::counters::{Cause, Close, Phase, Reason};
use ringlane_core::settings::RoleWanted;

use super::Progress;
use super::client_hello::HANDSHAKE;
use super::reader::Reader;

/// Bytes of the longest startup packet, as in the server.
const STARTUP_MAX: usize = 10_000;

/// The answer to [`First::Gss`]: not offered. The client goes on in clear text or asks for TLS.
pub const NOT_OFFERED: &[u8] = b"N";

/// The answer to [`First::Ssl`]: go on with TLS.
pub const OFFERED: &[u8] = b"S";

/// The request for TLS, as a client sends it.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

const CANCEL: usize = 80_877_102;
const SSL: usize = 80_877_103;
const GSS: usize = 80_877_104;

/// What a client says first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum First {
    /// It asks for TLS ([`SSL_REQUEST`]) and waits for the answer.
    Ssl,
    /// It asks for encryption by GSSAPI, in 8 bytes, and waits for the answer.
    Gss,
    /// It begins with TLS at once (PostgreSQL 17).
    Tls,
    /// It wants a query cancelled, and says nothing else.
    Cancel(Key),
    /// It wants a session.
    Startup {
        /// The user's name.
        user: String,
        /// The database's name; the user's if it names none.
        database: String,
    },
}

/// By what a query is cancelled: the server process and its secret.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Bytes of the shortest and of the longest: the process and a secret of 4 (protocol 3.0) to 256
    /// bytes (3.2).
    const LENGTHS: RangeInclusive<usize> = 8..=260;

    /// A key of these bytes, process first; `None` if it can be none.
    fn new(bytes: &[u8]) -> Option<Self> {
        Self::LENGTHS.contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// The packet that cancels by it.
    pub fn cancel_request(&self) -> Vec<u8> {
        let len = 8 + self.0.len();
        let mut packet = Vec::with_capacity(len);
        packet.extend((len as u32).to_be_bytes());
        packet.extend((CANCEL as u32).to_be_bytes());
        packet.extend(&self.0);
        packet
    }
}

/// Reads the first message from what a client has sent, and how long it is. TLS has its own parser.
pub fn first(bytes: &[u8]) -> Progress<(First, usize)> {
    if bytes.first() == Some(&HANDSHAKE) {
        return Progress::Done((First::Tls, 0));
    }
    let mut reader = Reader(bytes);
    let Some(len) = reader.number(4) else { return Progress::More };
    if !(8..=STARTUP_MAX).contains(&len) {
        return Progress::Not;
    }
    let Some(code) = reader.number(4) else { return Progress::More };
    let is_session = code >> 16 == 3;
    match (code, len) {
        (SSL, 8) => return Progress::Done((First::Ssl, len)),
        (GSS, 8) => return Progress::Done((First::Gss, len)),
        (CANCEL, _) if Key::LENGTHS.contains(&(len - 8)) => {}
        _ if is_session => {}
        _ => return Progress::Not,
    }
    let Some(body) = reader.take(len - 8) else { return Progress::More };
    let first = if is_session { startup(Reader(body)) } else { Key::new(body).map(First::Cancel) };
    first.map_or(Progress::Not, |first| Progress::Done((first, len)))
}

fn startup(mut parameters: Reader<'_>) -> Option<First> {
    let (mut user, mut database) = (None, None);
    loop {
        let name = parameters.text()?;
        if name.is_empty() {
            break;
        }
        let value = parameters.text()?;
        match name {
            b"user" => user = Some(value),
            b"database" => database = Some(value),
            _ => {}
        }
    }
    let user = user.filter(|user| !user.is_empty())?;
    let database = database.filter(|database| !database.is_empty()).unwrap_or(user);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(First::Startup { user: text(user), database: text(database) })
}

/// The message that ends a session with an error that clients know how to take (`ErrorResponse`).
pub fn error(code: &str, message: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)] {
        fields.push(field);
        fields.extend(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let mut packet = vec![b'E'];
    packet.extend((fields.len() as u32 + 4).to_be_bytes());
    packet.extend(fields);
    packet
}

/// What a client reads when its session is ended, after the words of the server itself.
pub fn farewell(why: Reason) -> String {
    let what = match why {
        Reason::Drained => "its server is drained by an operator",
        Reason::Maintenance => "its server is put into maintenance by an operator",
        Reason::Stopped => "the load balancer is stopping",
        Reason::Down => "its server is down",
        Reason::Conflict => "more than one server claims to be the primary",
        Reason::Lag => "its server lags too far behind the primary",
        Reason::Demoted => "its server is no longer the primary",
        Reason::Promoted => "its server is no longer a replica",
        // No other reason ends a session that lives.
        _ => "its server has changed",
    };
    format!("terminating connection: {what}")
}

/// What a client reads when no server was found for its session; nothing if it, or an order, ended it.
pub fn unavailable(close: Close, reason: Option<Reason>, role: RoleWanted) -> Option<&'static str> {
    let is_one_open = reason != Some(Reason::NoServer);
    Some(match (close.cause, close.phase, role) {
        (Cause::Refused, Phase::Queue, _) => {
            "all servers are at their limit of connections, and too many clients wait already"
        }
        (Cause::ServerTimeout, Phase::Queue, _) => {
            "no server had room for another connection in time"
        }
        (Cause::Server, _, RoleWanted::Primary) if !is_one_open => {
            "no primary server is available at the moment"
        }
        (Cause::Server, _, RoleWanted::Replica) if !is_one_open => {
            "no replica server is available at the moment"
        }
        (Cause::Server, _, _) if !is_one_open => "no server is available at the moment",
        (Cause::Server, _, _) => "no server accepts connections at the moment",
        (Cause::ServerTimeout, _, _) => "no server answered in time",
        (Cause::Resource, _, _) => "the load balancer has run out of resources",
        _ => return None,
    })
}

/// Splits one direction into messages: type, length, body.
#[derive(Debug, Default)]
struct Splitter {
    /// Type and length of the message that has begun, as far as they have come.
    head: [u8; 5],
    had: u8,
    /// Bytes of its body that have yet to come.
    left: u32,
}

impl Splitter {
    /// Goes through bytes and tells what is in them.
    fn split(&mut self, mut bytes: &[u8], mut each: impl FnMut(Part<'_>)) {
        while !bytes.is_empty() {
            if usize::from(self.had) < self.head.len() {
                self.head[usize::from(self.had)] = bytes[0];
                self.had += 1;
                bytes = &bytes[1..];
                if usize::from(self.had) < self.head.len() {
                    continue;
                }
                let [kind, len @ ..] = self.head;
                // A length counts itself; one that does not is treated as empty.
                self.left = u32::from_be_bytes(len).saturating_sub(4);
                each(Part::Begin(kind));
            }
            let len = bytes.len().min(self.left as usize);
            let (part, rest) = bytes.split_at(len);
            self.left -= len as u32;
            bytes = rest;
            if len > 0 {
                each(Part::Body(self.head[0], part));
            }
            if self.left == 0 {
                self.had = 0;
            }
        }
    }

    /// Whether no message has begun and not ended.
    fn is_between(&self) -> bool {
        self.had == 0
    }
}

/// Something of a message of this type.
enum Part<'a> {
    /// Its type and length have come.
    Begin(u8),
    /// A part of its body.
    Body(u8, &'a [u8]),
}

/// Follows a session from its startup packet on, which it is not shown.
#[derive(Debug)]
pub struct Tracker {
    client: Splitter,
    server: Splitter,
    /// Requests that the server has yet to end with `ReadyForQuery`; the startup is one.
    open: u32,
    /// Whether the last of them was a `Sync`, which a `COPY` swallows.
    synced: bool,
    /// Whether requests have come that wait for a `Sync`.
    unsynced: bool,
    /// What the last `ReadyForQuery` said; `I` is outside a transaction.
    status: u8,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            client: Splitter::default(),
            server: Splitter::default(),
            open: 1,
            synced: false,
            unsynced: false,
            status: 0,
        }
    }
}

impl Tracker {
    /// Bytes of the client, which will reach the server.
    pub fn client(&mut self, bytes: &[u8]) {
        let Self { client, open, synced, unsynced, status, .. } = self;
        client.split(bytes, |part| {
            let Part::Begin(kind) = part else { return };
            match kind {
                // Before the first ReadyForQuery only a password is said.
                b'p' | b'X' | b'd' | b'c' | b'f' => {}
                b'Q' | b'F' | b'S' => {
                    *open = open.saturating_add(1);
                    (*synced, *unsynced) = (kind == b'S', false);
                }
                _ => *unsynced = true,
            }
            if *status == b'I' && kind != b'X' {
                *status = b'?';
            }
        });
    }

    /// Bytes of the server.
    pub fn server(&mut self, bytes: &[u8]) {
        let Self { server, open, synced, status, .. } = self;
        server.split(bytes, |part| match part {
            Part::Begin(b'Z') => *open = open.saturating_sub(1),
            // A Sync that was sent before the server began to take a COPY is swallowed by it.
            Part::Begin(b'G' | b'W') if *synced => {
                (*open, *synced) = (open.saturating_sub(1), false);
            }
            Part::Body(b'Z', body) => *status = body[body.len() - 1],
            _ => {}
        });
    }

    /// Whether the session is outside a transaction, and nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.status == b'I'
            && self.open == 0
            && !self.unsynced
            && self.client.is_between()
            && self.server.is_between()
    }

    /// Whether a message of ours could stand here, towards the client.
    pub fn is_between_messages(&self) -> bool {
        self.server.is_between() && self.status != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 4).to_be_bytes();
        [&[kind][..], &len, body].concat()
    }

    fn startup_packet(parameters: &[u8]) -> Vec<u8> {
        let len = (parameters.len() as u32 + 8).to_be_bytes();
        [&len[..], &[0, 3, 0, 0], parameters].concat()
    }

    #[test]
    fn the_first_message_is_read_in_any_pieces() {
        let packet = startup_packet(b"user\0app\0application_name\0x\0database\0shop\0\0");
        for len in 0..packet.len() {
            assert_eq!(first(&packet[..len]), Progress::More);
        }
        let wanted = First::Startup { user: "app".to_owned(), database: "shop".to_owned() };
        assert_eq!(first(&packet), Progress::Done((wanted, packet.len())));
        let short = startup_packet(b"user\0app\0\0");
        let wanted = First::Startup { user: "app".to_owned(), database: "app".to_owned() };
        assert_eq!(first(&short), Progress::Done((wanted, short.len())));
        assert_eq!(first(&SSL_REQUEST), Progress::Done((First::Ssl, 8)));
        assert_eq!(first(&[0, 0, 0, 8, 4, 210, 22, 48]), Progress::Done((First::Gss, 8)));
        assert_eq!(first(&[22, 3]), Progress::Done((First::Tls, 0)));
    }

    #[test]
    fn a_cancel_is_written_as_it_was_read() {
        for secret in [4, 32, 256] {
            let key = Key((0..4 + secret).map(|n| n as u8).collect());
            let packet = key.cancel_request();
            assert_eq!(first(&packet[..packet.len() - 1]), Progress::More);
            assert_eq!(first(&packet), Progress::Done((First::Cancel(key), packet.len())));
        }
        let none = [&[0, 0, 0, 15, 4, 210, 22, 46][..], &[0; 7]].concat();
        assert_eq!(first(&none), Progress::Not);
    }

    #[test]
    fn nothing_else_is_waited_for() {
        for bytes in
            [&b"GET / HTTP/1.1"[..], &[0, 0, 0, 7], &[0, 0, 0x27, 0x11], &[0, 0, 0, 9, 0, 2, 0, 0]]
        {
            assert_eq!(first(bytes), Progress::Not, "{bytes:?}");
        }
        for parameters in [&b"\0"[..], b"user\0\0\0", b"user\0app\0", b"database\0d\0\0", b"user"] {
            assert_eq!(first(&startup_packet(parameters)), Progress::Not, "{parameters:?}");
        }
    }

    #[test]
    fn an_error_is_what_clients_take() {
        let packet = error("57P01", "gone");
        assert_eq!(packet, message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgone\0\0"));
    }

    /// A play of `c` (client) and `s` (server) messages; after each whether the session is idle.
    fn play(lines: &[(char, u8, &[u8], bool)]) {
        // In whole messages, and byte by byte.
        for piece in [1, 1000] {
            let mut tracker = Tracker::default();
            for (number, (side, kind, body, idle)) in lines.iter().enumerate() {
                for bytes in message(*kind, body).chunks(piece) {
                    match side {
                        'c' => tracker.client(bytes),
                        _ => tracker.server(bytes),
                    }
                }
                assert_eq!(tracker.is_idle(), *idle, "after line {number} in {piece}s");
            }
        }
    }

    const LOGIN: [(char, u8, &[u8], bool); 4] = [
        ('s', b'R', b"\0\0\0\x05salt", false),
        ('c', b'p', b"md5\0", false),
        ('s', b'R', b"\0\0\0\0", false),
        ('s', b'Z', b"I", true),
    ];

    #[test]
    fn a_session_is_idle_outside_transactions_only() {
        let rest: [(char, u8, &[u8], bool); 11] = [
            ('c', b'Q', b"begin\0", false),
            ('s', b'C', b"BEGIN\0", false),
            ('s', b'Z', b"T", false),
            ('c', b'Q', b"commit\0", false),
            ('s', b'C', b"COMMIT\0", false),
            ('s', b'Z', b"I", true),
            // A query's answer may look like one that is idle.
            ('c', b'Q', b"select\0", false),
            ('s', b'D', b"Z\0\0\0\x05I", false),
            ('s', b'Z', b"I", true),
            ('s', b'S', b"a\0b\0", true),
            ('c', b'X', b"", true),
        ];
        play(&[&LOGIN[..], &rest].concat());
    }

    #[test]
    fn requests_that_wait_for_a_sync_and_pipelines_are_seen() {
        let rest: [(char, u8, &[u8], bool); 9] = [
            ('c', b'P', b"\0select\0\0\0", false),
            ('c', b'S', b"", false),
            ('c', b'Q', b"select\0", false),
            ('s', b'1', b"", false),
            ('s', b'Z', b"I", false),
            ('s', b'Z', b"I", true),
            ('c', b'B', b"", false),
            ('s', b'2', b"", false),
            ('s', b'Z', b"I", false),
        ];
        play(&[&LOGIN[..], &rest].concat());
    }

    #[test]
    fn a_copy_is_busy_and_swallows_the_sync_before_it() {
        let simple: [(char, u8, &[u8], bool); 6] = [
            ('c', b'Q', b"copy\0", false),
            ('s', b'G', b"\0\0\0", false),
            ('c', b'd', b"1\n", false),
            ('c', b'c', b"", false),
            ('s', b'C', b"COPY 1\0", false),
            ('s', b'Z', b"I", true),
        ];
        let extended: [(char, u8, &[u8], bool); 8] = [
            ('c', b'E', b"\0\0\0\0\0", false),
            ('c', b'S', b"", false),
            ('s', b'G', b"\0\0\0", false),
            ('c', b'd', b"1\n", false),
            ('c', b'c', b"", false),
            ('c', b'S', b"", false),
            ('s', b'C', b"COPY 1\0", false),
            ('s', b'Z', b"I", true),
        ];
        play(&[&LOGIN[..], &simple, &extended].concat());
    }
}
