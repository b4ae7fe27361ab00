//! What is sent, so that every received byte tells where it belongs.
//!
//! A stream begins with its own number and goes on with bytes that follow from it, so a reader
//! knows who speaks to it and whether a byte is the right one, without keeping any.

use std::sync::OnceLock;

use ringlane_core::prng::Prng;

/// Bytes of the number at the beginning.
const HEAD: u64 = 8;

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
    if offset < HEAD {
        let head = id.to_le_bytes();
        let end = HEAD.min(offset + max);
        return head[offset as usize..end as usize].to_vec();
    }
    let start = (Prng::new(id).below(TABLE as u64) + offset) as usize % TABLE;
    table()[start..start + (max as usize).min(TABLE)].to_vec()
}

/// What has been read of a stream.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    head: [u8; HEAD as usize],
    /// Bytes so far.
    pub(crate) got: u64,
    /// The first offset at which a byte was wrong.
    pub(crate) wrong_at: Option<u64>,
}

impl Reading {
    /// The number of the stream, once it is known.
    pub(crate) fn id(&self) -> Option<u64> {
        (self.got >= HEAD).then(|| u64::from_le_bytes(self.head))
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, mut read: &[u8]) {
        while !read.is_empty() {
            if self.got < HEAD {
                self.head[self.got as usize] = read[0];
                (self.got, read) = (self.got + 1, &read[1..]);
                continue;
            }
            let expected = bytes(u64::from_le_bytes(self.head), self.got, read.len() as u64);
            let (now, rest) = read.split_at(expected.len());
            if now != expected && self.wrong_at.is_none() {
                let same = now.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                self.wrong_at = Some(self.got + same as u64);
            }
            self.got += now.len() as u64;
            read = rest;
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
