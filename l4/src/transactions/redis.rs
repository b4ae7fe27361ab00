//! Redis, beside its sessions (RESP2 and RESP3, "Redis serialization protocol specification").
//!
//! [`Tracker`] counts commands and replies of a session in clear text. It is idle when every
//! command has its reply and no transaction is open (`MULTI`, or `WATCH` before it). Not a client
//! or a server of Redis: arguments are skipped by their lengths, only the first two are looked at.
//! Invariants: it says idle only if it is certain, and keeps no more than one word; who subscribes,
//! monitors or replicates is never idle, as is the server's to speak then; where replies cannot be
//! counted (TLS, `CLIENT REPLY`, quoted inline commands) it is opaque for good. Next: `mysql`.

/// Bytes kept of a command's first two words; all that matter are shorter.
const WORD_MAX: usize = 16;

/// Digits of the longest number that is read.
const DIGITS_MAX: u8 = 18;

/// In place of how many digits there were: the number has ended, and its line all but.
const ENDED: u8 = DIGITS_MAX + 1;

/// After these the server speaks unasked, or answers more than once.
const UNCOUNTED: [&[u8]; 10] = [
    b"subscribe",
    b"psubscribe",
    b"ssubscribe",
    b"unsubscribe",
    b"punsubscribe",
    b"sunsubscribe",
    b"monitor",
    b"sync",
    b"psync",
    b"replconf",
];

/// What changes what is known of a session.
const STATEFUL: [&[u8]; 7] =
    [b"multi", b"watch", b"unwatch", b"exec", b"discard", b"reset", b"client"];

/// Where a value of the protocol stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ValueStep {
    /// Before its type.
    #[default]
    Kind,
    /// In the number after its type; whether it is negative.
    Number { negative: bool, digits: u8 },
    /// In a text that ends with its line.
    Line,
    /// In the bytes that its number announced, or the end of line behind them.
    Body,
}

/// Something of a value.
enum ValuePart<'a> {
    /// A type and its number; texts have none.
    Begin(u8, Option<u32>),
    /// Bytes of a text.
    Text(&'a [u8]),
    /// Whole, with all that is in it; it began with this type.
    End(u8),
}

/// Splits one direction into values.
#[derive(Debug, Default)]
struct ValueSplitter {
    step: ValueStep,
    /// The type of the outermost value and of the one that is being read.
    outer: u8,
    kind: u8,
    /// Its number so far; then bytes of its body that have yet to come.
    number: u64,
    /// Values that have yet to end before the outermost one has.
    open: u64,
}

impl ValueSplitter {
    /// Goes through bytes and tells what is in them; `None` if they are something else.
    fn split(&mut self, mut bytes: &[u8], mut each: impl FnMut(ValuePart<'_>)) -> Option<()> {
        while let Some((&first, rest)) = bytes.split_first() {
            match self.step {
                ValueStep::Kind => {
                    self.begin(first);
                    bytes = rest;
                    if self.step == ValueStep::Line {
                        each(ValuePart::Begin(first, None));
                        if first.is_ascii_alphabetic() {
                            each(ValuePart::Text(&[first]));
                        }
                    }
                }
                ValueStep::Number { negative, digits } => {
                    bytes = rest;
                    self.number(first, negative, digits, &mut each)?;
                }
                ValueStep::Line => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    each(ValuePart::Text(text));
                    bytes = rest.get(1..).unwrap_or_default();
                    if end.is_some() {
                        self.end(&mut each);
                    }
                }
                ValueStep::Body => {
                    let len = bytes.len().min(usize::try_from(self.number).unwrap_or(usize::MAX));
                    let (body, rest) = bytes.split_at(len);
                    // The end of line is no part of the text.
                    let text = len.min(usize::try_from(self.number.saturating_sub(2)).ok()?);
                    if text > 0 {
                        each(ValuePart::Text(&body[..text]));
                    }
                    self.number -= len as u64;
                    bytes = rest;
                    if self.number == 0 {
                        self.end(&mut each);
                    }
                }
            }
        }
        Some(())
    }

    fn begin(&mut self, kind: u8) {
        if self.open == 0 {
            (self.outer, self.open) = (kind, 1);
        }
        self.kind = kind;
        self.number = 0;
        self.step = match kind {
            b'*' | b'%' | b'~' | b'>' | b'$' | b'!' | b'=' => {
                ValueStep::Number { negative: false, digits: 0 }
            }
            _ => ValueStep::Line,
        };
    }

    /// One byte of a number or of the end of its line.
    fn number(
        &mut self,
        byte: u8,
        negative: bool,
        digits: u8,
        each: &mut impl FnMut(ValuePart<'_>),
    ) -> Option<()> {
        match byte {
            b'-' if digits == 0 && !negative => {
                self.step = ValueStep::Number { negative: true, digits };
            }
            b'0'..=b'9' if digits < DIGITS_MAX => {
                self.number = self.number * 10 + u64::from(byte - b'0');
                self.step = ValueStep::Number { negative, digits: digits + 1 };
            }
            b'\r' if (1..ENDED).contains(&digits) => {
                self.step = ValueStep::Number { negative, digits: ENDED };
            }
            b'\n' if digits == ENDED => {
                // A negative length is that of nothing.
                let number = if negative { 0 } else { u32::try_from(self.number).ok()? };
                each(ValuePart::Begin(self.kind, Some(number)));
                match self.kind {
                    b'$' | b'!' | b'=' if !negative => {
                        self.number = u64::from(number) + 2;
                        self.step = ValueStep::Body;
                        return Some(());
                    }
                    b'%' => self.open = self.open.checked_add(2 * u64::from(number))?,
                    b'*' | b'~' | b'>' => self.open = self.open.checked_add(u64::from(number))?,
                    _ => {}
                }
                self.end(each);
            }
            _ => return None,
        }
        Some(())
    }

    /// A value has ended, apart from those in it.
    fn end(&mut self, each: &mut impl FnMut(ValuePart<'_>)) {
        self.step = ValueStep::Kind;
        self.open -= 1;
        if self.open == 0 {
            each(ValuePart::End(self.outer));
        }
    }

    /// Whether no value has begun and not ended.
    fn is_between(&self) -> bool {
        self.open == 0
    }
}

/// The first two words of a command.
#[derive(Debug, Default)]
struct Command {
    words: [u8; WORD_MAX],
    had: u8,
    /// Where the second word begins.
    second: u8,
    /// Arguments that it has, by its own account, and the one that is being read.
    arguments: u32,
    argument: u32,
    /// Whether it came as a line of text.
    inline: bool,
}

impl Command {
    fn text(&mut self, text: &[u8]) {
        if self.argument <= 2 {
            let room = self.words.iter_mut().skip(usize::from(self.had));
            self.had += room.zip(text).map(|(to, from)| *to = *from).count() as u8;
        }
    }

    /// The first words in lower case, as far as they are kept.
    fn words(&self) -> ([u8; WORD_MAX], usize) {
        let mut words = self.words;
        words.make_ascii_lowercase();
        if !self.inline {
            return (words, usize::from(self.second.min(self.had)));
        }
        let is_of_a_name = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'.';
        let len = words[..usize::from(self.had)].iter().take_while(is_of_a_name).count();
        (words, len)
    }
}

/// Follows a session from its first byte on.
#[derive(Debug, Default)]
pub struct Tracker {
    client: ValueSplitter,
    server: ValueSplitter,
    command: Command,
    /// Commands that have no reply yet.
    open: u32,
    /// Whether a transaction is open.
    in_transaction: bool,
    /// Whether keys are watched for one.
    watches: bool,
    /// Whether the server speaks unasked.
    uncounted: bool,
    opaque: bool,
}

impl Tracker {
    /// Bytes of the client, which will reach the server.
    pub fn client(&mut self, bytes: &[u8]) {
        if self.opaque || self.uncounted {
            return;
        }
        let mut client = std::mem::take(&mut self.client);
        let outcome = client.split(bytes, |part| self.asked(part));
        self.client = client;
        self.opaque |= outcome.is_none() && !self.uncounted;
    }

    /// Bytes of the server.
    pub fn server(&mut self, bytes: &[u8]) {
        if self.opaque || self.uncounted {
            return;
        }
        let Self { server, open, opaque, .. } = self;
        let outcome = server.split(bytes, |part| match part {
            // What was not asked for.
            ValuePart::End(b'>') => {}
            ValuePart::End(_) => match open.checked_sub(1) {
                Some(left) => *open = left,
                None => *opaque = true,
            },
            ValuePart::Begin(kind, _) => *opaque |= !b"*%~>$!=+-:_,#(".contains(&kind),
            ValuePart::Text(_) => {}
        });
        *opaque |= outcome.is_none();
    }

    fn asked(&mut self, part: ValuePart<'_>) {
        if self.opaque || self.uncounted {
            return;
        }
        let command = &mut self.command;
        match part {
            ValuePart::Begin(b'*', Some(arguments)) if command.arguments == 0 => {
                *command = Command { arguments, ..Command::default() };
            }
            ValuePart::Begin(b'$', Some(_)) if command.arguments > 0 => {
                command.argument += 1;
                if command.argument == 2 {
                    command.second = command.had;
                }
            }
            ValuePart::Begin(letter, None)
                if command.arguments == 0 && letter.is_ascii_alphabetic() =>
            {
                *command = Command { inline: true, arguments: 1, ..Command::default() };
            }
            ValuePart::Begin(..) => self.opaque = true,
            ValuePart::Text(text) => command.text(text),
            ValuePart::End(_) => self.asked_all(),
        }
    }

    /// A command is whole.
    fn asked_all(&mut self) {
        let mut command = std::mem::take(&mut self.command);
        if command.arguments == 0 {
            // Servers pass over a command without words.
            return;
        }
        if command.argument == 1 {
            command.second = command.had;
        }
        self.open = self.open.saturating_add(1);
        let (words, first) = command.words();
        let (name, second) = words[..usize::from(command.had)].split_at(first);
        let is_plain = words.get(first).is_none_or(|end| b" \r\0".contains(end));
        match name {
            _ if UNCOUNTED.contains(&name) => self.uncounted = true,
            // A line may be quoted in many ways; people type these, and no driver does.
            _ if command.inline => self.opaque |= !is_plain || STATEFUL.contains(&name),
            b"multi" => self.in_transaction = true,
            b"watch" => self.watches = true,
            b"unwatch" => self.watches = false,
            // With more arguments they are errors, and end nothing.
            b"exec" | b"discard" | b"reset" if command.arguments == 1 => {
                (self.in_transaction, self.watches) = (false, false);
            }
            b"client" => self.opaque |= second == b"reply",
            _ => {}
        }
    }

    /// Whether every command has its reply, and no transaction is open.
    pub fn is_idle(&self) -> bool {
        !(self.opaque || self.uncounted || self.in_transaction || self.watches)
            && self.open == 0
            && self.client.is_between()
            && self.server.is_between()
    }

    /// Whether the session can't be followed any more.
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }
}

// Whole sessions are played in `recorded`; here is what those did not hold.
#[cfg(test)]
mod tests {
    use super::*;

    fn after(client: &[u8], server: &[u8]) -> Tracker {
        let mut tracker = Tracker::default();
        tracker.client(client);
        tracker.server(server);
        tracker
    }

    #[test]
    fn replies_of_every_type_are_one_each() {
        for reply in [
            &b"+OK\r\n"[..],
            b"-ERR no\r\n",
            b":-1\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"$0\r\n\r\n",
            b"$4\r\n\r\n+\n\r\n",
            b"*2\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n",
            b"%1\r\n+a\r\n~2\r\n#t\r\n_\r\n",
            b",1.5\r\n",
            b"(12345678901234567890123\r\n",
            b"=5\r\ntxt:x\r\n",
            b"!3\r\nERR\r\n",
            b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n",
        ] {
            let ask = b"*1\r\n$4\r\nPING\r\n";
            let (last, before) = reply.split_last().unwrap();
            let mut tracker = after(ask, before);
            assert!(!tracker.is_idle() && !tracker.is_opaque(), "{reply:?}");
            tracker.server(&[*last]);
            assert!(tracker.is_idle(), "{reply:?}");
            tracker.server(b"+OK\r\n");
            assert!(tracker.is_opaque(), "nobody asked for another one");
        }
    }

    #[test]
    fn what_cannot_be_counted_is_opaque() {
        for ask in [
            &b"\x16\x03\x01"[..],
            b"\"multi\"\r\n",
            b"mul\"ti\"\r\n",
            b" multi\r\n",
            b"multi\r\n",
            b"client reply off\r\n",
            b"*3\r\n$6\r\nclient\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n",
            b"*1\r\n+PING\r\n",
            b"*2\r\n*1\r\n",
            b"*1\n$4\r\nPING\r\n",
            b"*1\r2\n",
            b"*?\r\n",
            b"*1\r\n$99999999999\r\n",
            b"*1\r\n$9999999999999999999999\r\n",
        ] {
            assert!(after(ask, b"").is_opaque(), "{ask:?}");
        }
        for reply in [&b"|1\r\n"[..], b"HTTP/1.1", b"*?\r\n", b"$99999999999\r\n"] {
            assert!(after(b"PING\r\n", reply).is_opaque(), "{reply:?}");
        }
    }

    #[test]
    fn who_is_spoken_to_unasked_is_busy_for_good() {
        for name in ["SUBSCRIBE", "pSubscribe", "MONITOR", "PSYNC", "UNSUBSCRIBE"] {
            let ask = format!("*1\r\n${}\r\n{name}\r\n", name.len());
            let tracker = after(ask.as_bytes(), b"+OK\r\n+OK\r\nHTTP");
            assert!(!tracker.is_idle() && !tracker.is_opaque(), "{name}");
        }
    }

    #[test]
    fn only_whole_words_count() {
        let ok = b"+OK\r\n";
        for ask in [
            &b"*1\r\n$6\r\nmultis\r\n"[..],
            b"*1\r\n$3\r\nmul\r\n",
            b"*2\r\n$3\r\nmul\r\n$2\r\nti\r\n",
            b"*2\r\n$6\r\nclient\r\n$8\r\nreplying\r\n",
            b"*1\r\n$20\r\nsubscribesubscribe12\r\n",
            b"*2\r\n$3\r\nget\r\n$20\r\nsubscribesubscribe12\r\n",
        ] {
            assert!(after(ask, ok).is_idle(), "{ask:?}");
        }
        // An argument too many, and a name with a blank in it: errors both.
        for end in [&b"*2\r\n$4\r\nEXEC\r\n$1\r\nx\r\n"[..], b"*1\r\n$6\r\nEXEC x\r\n"] {
            let ask = [b"*1\r\n$5\r\nMULTI\r\n", end].concat();
            assert!(!after(&ask, b"+OK\r\n-ERR\r\n").is_idle(), "{end:?}");
        }
    }
}
