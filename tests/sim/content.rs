//! What is sent, so that every received byte tells where it belongs.
//!
//! A stream begins with its own number, or with a first message that holds it, and goes on with
//! bytes that follow from it, so a reader knows who speaks to it and whether a byte is the right
//! one, without keeping any. Next: `first_message`.

use std::sync::OnceLock;

use ringlane_core::prng::Prng;

use crate::first_message::{self, Form, Told};

/// Length of the table; a prime, so that streams differ at every offset.
const TABLE: usize = 65_521;

fn table() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut prng = Prng::new(1);
        let once: Vec<u8> = (0..TABLE).map(|_| prng.next_u64() as u8).collect();
        once.repeat(2)
    })
}

/// At most `max` bytes of stream `id` from `offset` on.
pub(crate) fn bytes(id: u64, offset: u64, max: u64) -> Vec<u8> {
    if let Some(part) = first_message::part(id, offset, max) {
        return part;
    }
    let start = (Prng::new(id).below(TABLE as u64) + offset) as usize % TABLE;
    table()[start..start + (max as usize).min(TABLE)].to_vec()
}

/// What has been read of a stream.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    form: Form,
    /// What came before the number of the stream was known.
    head: Vec<u8>,
    id: Option<u64>,
    /// Bytes so far.
    pub(crate) got: u64,
    /// The first offset at which a byte was wrong.
    pub(crate) wrong_at: Option<u64>,
    /// It is no stream, but an error of the balancer's.
    pub(crate) is_error: bool,
    /// Questions for TLS before it.
    pub(crate) questions: u32,
}

impl Reading {
    /// Nothing yet of a stream that begins so.
    pub(crate) fn of(form: Form) -> Self {
        Self { form, ..Self::default() }
    }

    /// The number of the stream, once it is known.
    pub(crate) fn id(&self) -> Option<u64> {
        self.id
    }

    /// What came before that.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, mut read: &[u8]) {
        while let Some(byte) = read.first() {
            let Some(id) = self.id.filter(|_| !self.is_error) else {
                self.take_first(*byte);
                read = &read[1..];
                continue;
            };
            let expected = bytes(id, self.got, read.len() as u64);
            let (now, rest) = read.split_at(expected.len());
            self.compare(now, &expected);
            self.got += now.len() as u64;
            read = rest;
        }
    }

    /// Takes a byte while the number is not known.
    fn take_first(&mut self, byte: u8) {
        self.got += 1;
        if self.is_error {
            return;
        }
        self.head.push(byte);
        match first_message::read(self.form, &self.head) {
            Told::Part => {}
            Told::Question => {
                (self.questions, self.got) = (self.questions + 1, 0);
                self.head.clear();
            }
            Told::Error => self.is_error = true,
            Told::Number(id) => {
                self.id = Some(id);
                let (head, got) = (std::mem::take(&mut self.head), self.got);
                self.got = 0;
                self.compare(&head, &bytes(id, 0, got));
                (self.head, self.got) = (head, got);
            }
        }
    }

    /// Compares what comes next with what should.
    fn compare(&mut self, read: &[u8], expected: &[u8]) {
        if read != expected && self.wrong_at.is_none() {
            let same = read.iter().zip(expected).take_while(|(a, b)| a == b).count();
            self.wrong_at = Some(self.got + same as u64);
        }
    }
}

#[test]
fn a_wrong_byte_is_found_at_its_place() {
    let mut reading = Reading::default();
    let mut sent = Vec::new();
    while sent.len() < 1000 {
        sent.extend(bytes(77, sent.len() as u64, 300));
    }
    reading.take(&sent[..500]);
    assert_eq!((reading.id(), reading.got, reading.wrong_at), (Some(77), 500, None));
    sent[600] ^= 1;
    reading.take(&sent[500..]);
    assert_eq!(reading.wrong_at, Some(600));
}

#[test]
fn a_first_message_tells_the_number_of_its_stream() {
    use crate::first_message::{Opening, QUESTION, Wants};
    for (tls, wants) in [true, false].into_iter().flat_map(|tls| Wants::ALL.map(|all| (tls, all))) {
        let opening = Opening { tls, asks: false, wants, brief: false, cut: None };
        let id = opening.number(1 << 32 | 300, tls);
        let mut reading = Reading::of(Form::Postgres);
        reading.take(&QUESTION);
        let mut sent = Vec::new();
        while sent.len() < 9000 {
            sent.extend(bytes(id, sent.len() as u64, 1000));
        }
        sent.chunks(7).for_each(|part| reading.take(part));
        assert_eq!((reading.questions, reading.id(), reading.wrong_at), (1, Some(id), None));
        assert_eq!(reading.got, sent.len() as u64);
        let mut cut = Reading::of(Form::Postgres);
        cut.take(&sent[1..]);
        assert!(cut.wrong_at.is_some(), "a byte is lost");
    }
}
