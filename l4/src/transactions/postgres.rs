//! Follows a PostgreSQL session in clear text by the lengths of its messages (protocol 3).
//!
//! Invariants: a session is reported idle only if that is certain: it is outside a transaction and
//! neither side waits for anything. Nothing is copied but the few bytes that must be read; the cost
//! is by the message, not by the byte.

/// Splits one direction into messages: type, length, body.
#[derive(Debug, Default)]
struct MessageSplitter {
    /// Type and length of the message that has begun, as far as they have come.
    head: [u8; 5],
    had: u8,
    /// Bytes of its body that have yet to come.
    left: u32,
}

impl MessageSplitter {
    /// Goes through bytes and tells what is in them.
    fn split(&mut self, mut bytes: &[u8], mut each: impl FnMut(MessagePart<'_>)) {
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
                each(MessagePart::Begin(kind));
            }
            let len = bytes.len().min(self.left as usize);
            let (part, rest) = bytes.split_at(len);
            self.left -= len as u32;
            bytes = rest;
            if len > 0 {
                each(MessagePart::Body(self.head[0], part));
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
enum MessagePart<'a> {
    /// Its type and length have come.
    Begin(u8),
    /// A part of its body.
    Body(u8, &'a [u8]),
}

/// Follows a session from its startup packet on, which it is not shown.
#[derive(Debug)]
pub struct Tracker {
    client: MessageSplitter,
    server: MessageSplitter,
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
            client: MessageSplitter::default(),
            server: MessageSplitter::default(),
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
            let MessagePart::Begin(kind) = part else { return };
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
            MessagePart::Begin(b'Z') => *open = open.saturating_sub(1),
            // A Sync that was sent before the server began to take a COPY is swallowed by it.
            MessagePart::Begin(b'G' | b'W') if *synced => {
                (*open, *synced) = (open.saturating_sub(1), false);
            }
            MessagePart::Body(b'Z', body) => *status = body[body.len() - 1],
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

    const LOGIN: [(char, u8, &[u8], bool); 4] = [
        ('s', b'R', b"\0\0\0\x05salt", false),
        ('c', b'p', b"md5\0", false),
        ('s', b'R', b"\0\0\0\0", false),
        ('s', b'Z', b"I", true),
    ];

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 4).to_be_bytes();
        [&[kind][..], &len, body].concat()
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
