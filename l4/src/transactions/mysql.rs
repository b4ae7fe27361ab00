//! MySQL and MariaDB, beside their sessions ("Client/Server Protocol" of MySQL, "Clientserver
//! protocol" of MariaDB).
//!
//! [`Tracker`] follows a session in clear text from the server's first byte: which response is
//! awaited, where it ends, and what the server's status flags said then. Not a client or a server
//! of MySQL, and no way to route by user: the server speaks first, and the client's answer, with
//! its user, depends on the challenge in what the server said. A balancer that made up the
//! challenge could not prove the password to the server afterwards.
//!
//! Invariants: it says idle only if it is certain. After an error of a statement the flags are
//! unknown until the next statement succeeds; what it doesn't know (TLS, compression, commands of
//! neither product) makes it opaque for good; who reads the binary log is never idle. It keeps the
//! first bytes of a packet and no more. Next: `redis`.

/// Bytes kept of a packet: an `OK` packet to its status flags, with numbers of any length.
const KEPT: usize = 21;

/// The length of a packet that the next one continues.
const CONTINUED: u32 = 0xff_ff_ff;

/// Commands that may be sent ahead of their responses; with more the session becomes opaque.
const AHEAD_MAX: usize = 8;

const CLIENT_COMPRESS: u32 = 1 << 5;
const CLIENT_PROTOCOL_41: u32 = 1 << 9;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_DEPRECATE_EOF: u32 = 1 << 24;
const CLIENT_OPTIONAL_RESULTSET_METADATA: u32 = 1 << 25;
const CLIENT_ZSTD_COMPRESSION: u32 = 1 << 26;

/// With any of these the session can't be followed.
const UNFOLLOWED: u32 =
    CLIENT_COMPRESS | CLIENT_SSL | CLIENT_OPTIONAL_RESULTSET_METADATA | CLIENT_ZSTD_COMPRESSION;

const IN_TRANSACTION: u16 = 1 << 0;
const MORE_RESULTS: u16 = 1 << 3;
const CURSOR_EXISTS: u16 = 1 << 6;
const LAST_ROW_SENT: u16 = 1 << 7;

/// The first byte of a server's greeting: the version of the protocol.
const VERSION: u8 = 10;

/// Bytes of an `EOF` packet; an `OK` packet in its place has at least two more.
const EOF_LEN: u8 = 5;

const OK: u8 = 0x00;
const LOCAL_INFILE: u8 = 0xfb;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;

const QUIT: u8 = 0x01;
const QUERY: u8 = 0x03;
const FIELD_LIST: u8 = 0x04;
const PROCESS_INFO: u8 = 0x0a;
const CHANGE_USER: u8 = 0x11;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const SEND_LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const RESET_STATEMENT: u8 = 0x1a;
const FETCH: u8 = 0x1c;
const RESET_CONNECTION: u8 = 0x1f;
const BULK_EXECUTE: u8 = 0xfa;

/// One direction, split into packets. A packet of 16 MiB and those that continue it are one.
#[derive(Debug, Default)]
struct PacketSplitter {
    /// Length (three bytes, little-endian) and sequence number, as far as they have come.
    head: [u8; 4],
    had: u8,
    /// Bytes of the body that have yet to come.
    left: u32,
    body: Body,
}

/// The first bytes of a packet's body.
#[derive(Clone, Copy, Debug, Default)]
struct Body {
    bytes: [u8; KEPT],
    len: u8,
    /// The first packet's sequence number: zero begins an exchange.
    sequence: u8,
    /// Whether more than one packet made it.
    is_long: bool,
}

impl PacketSplitter {
    /// Takes bytes up to the end of a packet: that packet, if it ended, and what follows.
    fn split<'a>(&mut self, mut bytes: &'a [u8]) -> (Option<Body>, &'a [u8]) {
        while !bytes.is_empty() {
            if usize::from(self.had) < self.head.len() {
                self.head[usize::from(self.had)] = bytes[0];
                self.had += 1;
                bytes = &bytes[1..];
                if usize::from(self.had) < self.head.len() {
                    continue;
                }
                self.left = self.len();
                if !self.body.is_long {
                    self.body.sequence = self.head[3];
                }
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.left as usize));
            self.left -= part.len() as u32;
            bytes = rest;
            let room = self.body.bytes.iter_mut().skip(usize::from(self.body.len));
            self.body.len += room.zip(part).map(|(to, from)| *to = *from).count() as u8;
            if self.left > 0 {
                continue;
            }
            self.had = 0;
            if self.len() == CONTINUED {
                self.body.is_long = true;
            } else {
                return (Some(std::mem::take(&mut self.body)), bytes);
            }
        }
        (None, bytes)
    }

    /// The length of the packet that has begun.
    fn len(&self) -> u32 {
        let [low, middle, high, _] = self.head;
        u32::from_le_bytes([low, middle, high, 0])
    }

    /// Whether no packet has begun and not ended.
    fn is_between(&self) -> bool {
        self.had == 0 && !self.body.is_long
    }
}

impl Body {
    fn kept(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn kind(&self) -> Option<u8> {
        self.kept().first().copied()
    }

    /// `N` bytes from the `at`th on.
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.kept().get(at..at + N)?.try_into().ok()
    }

    /// The status flags of an `OK` or `EOF` packet.
    fn status(&self) -> Option<u16> {
        if self.kind() == Some(EOF) && self.len == EOF_LEN {
            return self.array(3).map(u16::from_le_bytes);
        }
        // After two numbers: rows that were changed, and the last id that was given.
        let mut at = 1;
        for _ in 0..2 {
            at += match *self.kept().get(at)? {
                0..=0xfa => 1,
                0xfc => 3,
                0xfd => 4,
                0xfe => 9,
                _ => return None,
            };
        }
        self.array(at).map(u16::from_le_bytes)
    }
}

/// What is awaited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The server's greeting.
    Hello,
    /// The client's answer.
    Response,
    /// The outcome of a login; packets go both ways.
    Login,
    /// A command.
    Ready,
    /// The first packet of a result.
    Result,
    /// Descriptions of columns, and the `EOF` behind them.
    Columns,
    /// Rows, and what ends them.
    Rows,
    /// The client's file, which an empty packet ends.
    File,
    /// One packet.
    Single,
    /// The first packet of a response to `PREPARE`.
    Prepared,
    /// So many packets that describe a statement.
    Descriptions(u32),
    /// Never a command again.
    Endless,
    /// It can't be told.
    Opaque,
}

impl Phase {
    /// What is awaited after a command; `None` if the server does not answer it.
    fn after(command: u8) -> Option<Self> {
        Some(match command {
            QUIT | SEND_LONG_DATA | CLOSE => return None,
            QUERY | PROCESS_INFO | EXECUTE | BULK_EXECUTE => Self::Result,
            FIELD_LIST | FETCH => Self::Rows,
            CHANGE_USER => Self::Login,
            PREPARE => Self::Prepared,
            // Choosing, making and dropping databases; refresh, shutdown, statistics; kill, debug,
            // ping; register a replica; reset a statement, set an option, reset the connection.
            0x02 | 0x05..=0x09 | 0x0c..=0x0e | 0x15 | 0x1b => Self::Single,
            RESET_STATEMENT | RESET_CONNECTION => Self::Single,
            // Dumps of the binary log and of tables; clones and replication groups.
            0x12 | 0x13 | 0x1e | 0x20 | 0x21 => Self::Endless,
            _ => Self::Opaque,
        })
    }
}

/// A statement whose rows are read bit by bit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cursor {
    None,
    Of(u32),
    /// Of statements that are not known.
    Some,
}

/// Follows a session from the server's greeting on.
#[derive(Debug)]
pub struct Tracker {
    client: PacketSplitter,
    server: PacketSplitter,
    phase: Phase,
    /// The command that is being answered.
    command: u8,
    /// Those that were sent ahead, the first one first.
    ahead: [u8; AHEAD_MAX],
    sent_ahead: u8,
    /// Whether no `EOF` stands between columns and rows.
    without_eof: bool,
    /// Whether the last that is known is that no transaction is open.
    is_outside: bool,
    /// The last statement that was executed, and the one that has a cursor.
    executed: u32,
    cursor: Cursor,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            client: PacketSplitter::default(),
            server: PacketSplitter::default(),
            phase: Phase::Hello,
            command: 0,
            ahead: [0; AHEAD_MAX],
            sent_ahead: 0,
            without_eof: false,
            is_outside: false,
            executed: 0,
            cursor: Cursor::None,
        }
    }
}

impl Tracker {
    /// Bytes of the client, which will reach the server.
    pub fn client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_lost() {
            let (packet, rest) = self.client.split(bytes);
            if let Some(packet) = packet {
                self.asked(&packet);
            }
            bytes = rest;
        }
    }

    /// Bytes of the server.
    pub fn server(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_lost() {
            let (packet, rest) = self.server.split(bytes);
            if let Some(packet) = packet {
                self.told(&packet);
            }
            bytes = rest;
        }
    }

    /// Whether the session is outside a transaction, and nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Ready
            && self.is_outside
            && self.cursor == Cursor::None
            && self.client.is_between()
            && self.server.is_between()
    }

    /// Whether the session can't be followed any more.
    pub fn is_opaque(&self) -> bool {
        self.phase == Phase::Opaque
    }

    fn is_lost(&self) -> bool {
        matches!(self.phase, Phase::Endless | Phase::Opaque)
    }

    /// A packet of the client is whole.
    fn asked(&mut self, packet: &Body) {
        match self.phase {
            Phase::Hello => self.phase = Phase::Opaque,
            Phase::Response => {
                // Clients answer with what both sides are capable of.
                let used = packet.array(0).map_or(0, u32::from_le_bytes);
                let can_follow = used & CLIENT_PROTOCOL_41 != 0 && used & UNFOLLOWED == 0;
                self.without_eof = used & CLIENT_DEPRECATE_EOF != 0;
                self.phase = if can_follow { Phase::Login } else { Phase::Opaque };
            }
            Phase::File if packet.kind().is_none() => self.phase = Phase::Result,
            Phase::File => {}
            Phase::Login if packet.sequence != 0 => {}
            _ => match packet.kind() {
                Some(command) if packet.sequence == 0 => self.command(command, packet),
                _ => self.phase = Phase::Opaque,
            },
        }
    }

    fn command(&mut self, command: u8, packet: &Body) {
        let statement = packet.array(1).map_or(0, u32::from_le_bytes);
        match command {
            EXECUTE | BULK_EXECUTE | CLOSE | RESET_STATEMENT => {
                if self.cursor == Cursor::Of(statement) {
                    self.cursor = Cursor::None;
                }
                if command != CLOSE {
                    self.executed = statement;
                }
            }
            RESET_CONNECTION | CHANGE_USER => self.cursor = Cursor::None,
            // A statement is about to be executed.
            SEND_LONG_DATA => self.is_outside = false,
            _ => {}
        }
        let Some(phase) = Phase::after(command) else { return };
        if self.phase == Phase::Ready {
            (self.command, self.phase) = (command, phase);
        } else if let Some(slot) = self.ahead.get_mut(usize::from(self.sent_ahead)) {
            *slot = command;
            self.sent_ahead += 1;
        } else {
            self.phase = Phase::Opaque;
        }
    }

    /// A packet of the server is whole.
    fn told(&mut self, packet: &Body) {
        let Some(kind) = packet.kind() else {
            self.phase = Phase::Opaque;
            return;
        };
        if kind == ERR && !packet.is_long {
            return self.failed(packet);
        }
        let ends = kind == EOF && !packet.is_long;
        match self.phase {
            Phase::Hello if kind == VERSION => self.phase = Phase::Response,
            Phase::Login if kind == OK => self.finished(packet),
            Phase::Login => {}
            Phase::Result => match kind {
                OK | EOF => self.finished(packet),
                LOCAL_INFILE => self.phase = Phase::File,
                _ if self.without_eof => self.phase = Phase::Rows,
                _ => self.phase = Phase::Columns,
            },
            Phase::Columns if ends => match packet.status() {
                // Without rows: they are fetched.
                Some(status) if status & CURSOR_EXISTS != 0 => self.finished(packet),
                Some(_) if packet.len == EOF_LEN => self.phase = Phase::Rows,
                _ => self.phase = Phase::Opaque,
            },
            Phase::Rows if ends => self.finished(packet),
            Phase::Columns | Phase::Rows => {}
            Phase::Single if kind == OK || ends => self.finished(packet),
            Phase::Single => self.next(),
            Phase::Prepared if kind == OK => self.prepared(packet),
            Phase::Descriptions(_) if ends && self.without_eof => self.phase = Phase::Opaque,
            Phase::Descriptions(1) => self.next(),
            Phase::Descriptions(left) => self.phase = Phase::Descriptions(left - 1),
            _ => self.phase = Phase::Opaque,
        }
    }

    /// A statement is prepared; its parameters and columns are described.
    fn prepared(&mut self, packet: &Body) {
        let number = |at| packet.array(at).map_or(0, u16::from_le_bytes);
        let ends = u32::from(!self.without_eof);
        let blocks = [number(5), number(7)].into_iter().filter(|len| *len > 0);
        match blocks.map(|len| u32::from(len) + ends).sum() {
            0 => self.next(),
            packets => self.phase = Phase::Descriptions(packets),
        }
    }

    /// A result has ended with a packet that has status flags.
    fn finished(&mut self, packet: &Body) {
        let is_eof = packet.kind() == Some(EOF);
        let Some(status) =
            packet.status().filter(|_| !is_eof || (packet.len == EOF_LEN) != self.without_eof)
        else {
            self.phase = Phase::Opaque;
            return;
        };
        self.is_outside = status & IN_TRANSACTION == 0;
        if status & CURSOR_EXISTS != 0 && self.command == EXECUTE {
            let ahead = &self.ahead[..usize::from(self.sent_ahead)];
            let is_known = self.cursor == Cursor::None && !ahead.contains(&EXECUTE);
            self.cursor = if is_known { Cursor::Of(self.executed) } else { Cursor::Some };
        }
        let was_fetched = status & LAST_ROW_SENT != 0 && self.command == FETCH;
        if was_fetched && self.cursor != Cursor::Some {
            self.cursor = Cursor::None;
        }
        if status & MORE_RESULTS != 0 {
            self.phase = Phase::Result;
        } else {
            self.next();
        }
    }

    /// A command has failed, which leaves open what became of its transaction.
    fn failed(&mut self, packet: &Body) {
        match self.phase {
            // The server says farewell, or is not understood.
            Phase::Hello | Phase::Response | Phase::Login | Phase::Ready | Phase::File => {
                self.phase = Phase::Opaque;
            }
            // MariaDB: no error, but progress of a statement.
            _ if packet.array(1) == Some([0xff; 2]) => {}
            _ => {
                self.is_outside = false;
                self.next();
            }
        }
    }

    /// The command that was sent next is awaited.
    fn next(&mut self) {
        self.phase = Phase::Ready;
        if self.sent_ahead > 0 {
            self.command = self.ahead[0];
            self.ahead.copy_within(1.., 0);
            self.sent_ahead -= 1;
            self.phase = Phase::after(self.command).unwrap_or(Phase::Opaque);
        }
    }
}

// Whole sessions are played in `recorded`; here is what those did not hold.
#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
        let [low, middle, high, _] = (body.len() as u32).to_le_bytes();
        [&[low, middle, high, sequence][..], body].concat()
    }

    /// A session after its login, with `EOF` packets.
    fn session() -> Tracker {
        let mut tracker = Tracker::default();
        tracker.server(&packet(0, b"\x0a5.5.5-10.11\0"));
        tracker.client(&packet(1, &[0, 2, 0, 0, 0, 0]));
        tracker.server(&packet(2, b"\xfecaching_sha2_password\0salt"));
        tracker.client(&packet(3, b"proof"));
        tracker.server(&packet(4, b"\x01\x03"));
        assert!(!tracker.is_idle());
        tracker.server(&packet(5, &[OK, 0, 0, 2, 0, 0, 0]));
        assert!(tracker.is_idle());
        tracker
    }

    fn asked(command: &[u8]) -> Tracker {
        let mut tracker = session();
        tracker.client(&packet(0, command));
        assert!(!tracker.is_idle());
        tracker
    }

    const EOF_PACKET: &[u8] = &[EOF, 0, 0, 2, 0];

    #[test]
    fn a_row_of_16_mib_may_begin_like_an_end() {
        let mut tracker = asked(b"\x03select");
        for (sequence, body) in [(1, &[1][..]), (2, b"\x03def"), (3, EOF_PACKET)] {
            tracker.server(&packet(sequence, body));
        }
        let mut row = vec![0; CONTINUED as usize];
        row[0] = EOF;
        tracker.server(&packet(4, &row));
        assert!(!tracker.is_idle());
        // What continues it may look like one, too.
        tracker.server(&packet(5, EOF_PACKET));
        assert!(!tracker.is_idle() && !tracker.is_opaque());
        tracker.server(&packet(6, EOF_PACKET));
        assert!(tracker.is_idle());
    }

    #[test]
    fn a_long_file_is_no_command() {
        let mut tracker = asked(b"\x03load data");
        tracker.server(&packet(1, b"\xfbname"));
        for sequence in 2..600 {
            tracker.client(&packet(sequence as u8, b"\x01\x03\x12"));
        }
        tracker.client(&packet(88, b""));
        assert!(!tracker.is_idle());
        tracker.server(&packet(89, &[OK, 0xfc, 1, 1, 0, 2, 0, 0, 0]));
        assert!(tracker.is_idle());
    }

    #[test]
    fn progress_is_no_end_and_an_error_leaves_the_transaction_unknown() {
        let mut tracker = asked(b"\x03alter");
        tracker.server(&packet(1, b"\xff\xff\xff\x01\x01\x02\0\0\0"));
        assert!(!tracker.is_idle());
        tracker.server(&packet(2, b"\xff\x28\x04#42000no"));
        assert!(!tracker.is_idle() && !tracker.is_opaque());
        tracker.client(&packet(0, b"\x0e"));
        tracker.server(&packet(1, &[OK, 0, 0, 2, 0, 0, 0]));
        assert!(tracker.is_idle());
    }

    #[test]
    fn who_reads_the_binary_log_is_busy_for_good() {
        let mut tracker = asked(b"\x12\0\0\0\0");
        tracker.server(&packet(1, EOF_PACKET));
        assert!(!tracker.is_idle() && !tracker.is_opaque());
    }

    #[test]
    fn what_is_not_known_is_opaque() {
        for command in [&b"\xfe"[..], b"\x7f", b""] {
            assert!(asked(command).is_opaque(), "{command:?}");
        }
        let mut ahead = asked(b"\x0e");
        for _ in 0..AHEAD_MAX {
            ahead.client(&packet(0, b"\x0e"));
        }
        assert!(!ahead.is_opaque());
        ahead.client(&packet(0, b"\x0e"));
        assert!(ahead.is_opaque());
        // The server says something unasked: a farewell.
        let mut farewell = session();
        farewell.server(&packet(0, b"\xff\xbf\x0f"));
        assert!(farewell.is_opaque());
        for used in [CLIENT_SSL, CLIENT_COMPRESS, CLIENT_ZSTD_COMPRESSION] {
            let mut tracker = Tracker::default();
            tracker.server(&packet(0, b"\x0a8.4.0\0"));
            tracker.client(&packet(1, &(CLIENT_PROTOCOL_41 | used).to_le_bytes()));
            assert!(tracker.is_opaque());
        }
    }
}
