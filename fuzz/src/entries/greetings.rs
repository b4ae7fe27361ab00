//! What clients say first, and what sessions say later: any bytes, in any pieces.

use std::fmt::Debug;

use ringlane_core::parsed::Parsed;
use ringlane_core::settings::{ProxyDetails, SendProxy};
use ringlane_l4::first_message::{self, GREETING_MAX, client_hello};
use ringlane_l4::transactions::{Tracker, mysql, postgres, redis};
use ringlane_shard::proxy::header as proxy;

use super::Input;

/// Pieces in which one input is given at most.
const PIECES: usize = 40;

/// Any bytes as the first message of a TLS client.
pub fn client_hello(bytes: &[u8]) {
    grows(bytes, client_hello::read);
    if let Parsed::Whole(hello) = client_hello::read(bytes) {
        let is_of_a_name =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        assert!(hello.server_name.iter().all(|name| name.bytes().all(is_of_a_name)));
    }
    assert!(bytes.len() < GREETING_MAX || client_hello::read(bytes) != Parsed::Part);
}

/// Any bytes as the first message of a PostgreSQL client, and as the two sides of its session.
pub fn postgres(bytes: &[u8]) {
    grows(bytes, first_message::postgres::first);
    if let Parsed::Whole((first_message::postgres::First::Cancel(key), len)) =
        first_message::postgres::first(bytes)
    {
        assert_eq!(key.cancel_request(), bytes[..len]);
    }
    follow(bytes, || Tracker::Postgres(postgres::Tracker::default()));
}

/// Any bytes as a PROXY header: what it said can be said again.
pub fn proxy(bytes: &[u8]) {
    grows(bytes, proxy::read);
    assert!(bytes.len() < proxy::HEADER_MAX || proxy::read(bytes) != Parsed::Part);
    let Parsed::Whole((len, said)) = proxy::read(bytes) else { return };
    assert!(len <= bytes.len());
    let Some(said) = said else { return };
    let send = SendProxy::V2(ProxyDetails::default());
    let again = proxy::write(send, Some(said.ends), said.tlvs.clone());
    assert_eq!(proxy::read(&again), Parsed::Whole((again.len(), Some(said.clone()))));
    let line = proxy::write(SendProxy::V1, Some(said.ends), Vec::new());
    let without = proxy::Proxied { tlvs: Vec::new(), ..said };
    assert_eq!(proxy::read(&line), Parsed::Whole((line.len(), Some(without))));
}

/// Any bytes as the two sides of a session with MySQL.
pub fn mysql(bytes: &[u8]) {
    follow(bytes, || Tracker::Mysql(mysql::Tracker::default()));
}

/// Any bytes as the two sides of a session with Redis.
pub fn redis(bytes: &[u8]) {
    follow(bytes, || Tracker::Redis(redis::Tracker::default()));
}

/// Whatever the pieces in which a session is said, the same is known of it.
fn follow(bytes: &[u8], start: impl Fn() -> Tracker) {
    let mut input = Input(bytes);
    let (mut whole, mut split) = (start(), start());
    while !input.is_over() {
        let (from_client, len, piece) =
            (input.byte() % 2 == 0, input.below(64), input.below(8) + 1);
        let (said, rest) = input.0.split_at(len.min(input.0.len()));
        input.0 = rest;
        let tell = |tracker: &mut Tracker, bytes: &[u8]| {
            if from_client { tracker.client(bytes) } else { tracker.server(bytes) }
        };
        let was_opaque = whole.is_opaque();
        tell(&mut whole, said);
        said.chunks(piece).for_each(|part| tell(&mut split, part));
        assert_eq!(whole.is_idle(), split.is_idle());
        assert_eq!(whole.is_opaque(), split.is_opaque());
        assert!(whole.is_opaque() || !was_opaque, "opaque is for good");
        assert!(!(whole.is_idle() && whole.is_opaque()));
        if let (Tracker::Postgres(whole), Tracker::Postgres(split)) = (&whole, &split) {
            assert_eq!(whole.is_between_messages(), split.is_between_messages());
        }
    }
}

/// With more bytes a greeting gets further, and what it has become stays.
fn grows<T: Debug + PartialEq>(bytes: &[u8], read: impl Fn(&[u8]) -> Parsed<T>) {
    let mut last = Parsed::Part;
    for len in (0..=bytes.len()).step_by((bytes.len() / PIECES).max(1)).chain([bytes.len()]) {
        let now = read(&bytes[..len]);
        assert!(last == Parsed::Part || last == now, "{last:?}, then {now:?}");
        last = now;
    }
}
