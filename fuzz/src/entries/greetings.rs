//! What clients say first, and what sessions say later: any bytes, in any pieces.

use std::fmt::Debug;

use ringlane_l4::greeting::{GREETING_MAX, Progress, client_hello, postgres};

use super::Input;

/// Pieces in which one input is given at most.
const PIECES: usize = 40;

/// Any bytes as the first message of a TLS client.
pub fn client_hello(bytes: &[u8]) {
    grows(bytes, client_hello::read);
    if let Progress::Done(hello) = client_hello::read(bytes) {
        let is_of_a_name =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        assert!(hello.server_name.iter().all(|name| name.bytes().all(is_of_a_name)));
    }
    assert!(bytes.len() < GREETING_MAX || client_hello::read(bytes) != Progress::More);
}

/// Any bytes as the first message of a PostgreSQL client, and as the two sides of its session.
pub fn postgres(bytes: &[u8]) {
    grows(bytes, postgres::first);
    if let Progress::Done((postgres::First::Cancel(key), len)) = postgres::first(bytes) {
        assert_eq!(key.cancel_request(), bytes[..len]);
    }
    let mut input = Input(bytes);
    let (mut whole, mut split) = (postgres::Tracker::default(), postgres::Tracker::default());
    while !input.is_over() {
        let (from_client, len, piece) =
            (input.byte() % 2 == 0, input.below(64), input.below(8) + 1);
        let (said, rest) = input.0.split_at(len.min(input.0.len()));
        input.0 = rest;
        let tell = |tracker: &mut postgres::Tracker, bytes: &[u8]| {
            if from_client { tracker.client(bytes) } else { tracker.server(bytes) }
        };
        tell(&mut whole, said);
        said.chunks(piece).for_each(|part| tell(&mut split, part));
        assert_eq!(whole.is_idle(), split.is_idle());
        assert_eq!(whole.is_between_messages(), split.is_between_messages());
    }
}

/// With more bytes a greeting gets further, and what it has become stays.
fn grows<T: Debug + PartialEq>(bytes: &[u8], read: impl Fn(&[u8]) -> Progress<T>) {
    let mut last = Progress::More;
    for len in (0..=bytes.len()).step_by((bytes.len() / PIECES).max(1)).chain([bytes.len()]) {
        let now = read(&bytes[..len]);
        assert!(last == Progress::More || last == now, "{last:?}, then {now:?}");
        last = now;
    }
}
