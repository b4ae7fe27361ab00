//! One table of affinities under several shards.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::in_every_order;
use crate::balance::affinity::Table;
use crate::settings::{Affinity, HashKey};

/// A table of one set.
fn table() -> Arc<Table> {
    let ttl = Duration::from_secs(30);
    Arc::new(Table::new(Affinity { key: HashKey::ClientIp, ttl, size: 1 }, &[]))
}

/// A shard meets a client and would choose `server` for it; the one that the client gets.
fn meet(table: &Table, key: u64, server: usize) -> usize {
    let found = table.find(key, 0, |_| true);
    found.unwrap_or_else(|| table.assign(key, server, 0, |_| true).server)
}

#[test]
fn a_client_that_two_shards_meet_at_once_gets_one_server() {
    in_every_order(|| {
        let table = table();
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || meet(&table, 7, 1))
        };
        let own = meet(&table, 7, 2);
        let others = other.join().unwrap();
        assert_eq!(own, others);
        assert_eq!(table.find(7, 0, |_| true), Some(own));
        assert_eq!(table.entries(0).count(), 1);
    });
}

#[test]
fn clients_that_share_a_set_never_get_each_others_server() {
    in_every_order(|| {
        let table = table();
        let others = [8, 9].map(|key| {
            let table = Arc::clone(&table);
            thread::spawn(move || meet(&table, key, key as usize))
        });
        let own = meet(&table, 7, 7);
        let others = others.map(|other| other.join().unwrap());
        assert_eq!((own, others), (7, [8, 9]));
        for key in [7, 8, 9] {
            let found = table.find(key, 0, |_| true);
            assert!(found.is_none_or(|server| server == key as usize), "{found:?} of {key}");
        }
    });
}

#[test]
fn a_client_that_is_renewed_is_not_lost() {
    in_every_order(|| {
        let table = table();
        table.assign(7, 1, 0, |_| true);
        let others = [1000, 2000].map(|now| {
            let table = Arc::clone(&table);
            thread::spawn(move || table.find(7, now, |_| true))
        });
        assert_eq!(table.find(7, 3000, |_| true), Some(1));
        for other in others {
            assert_eq!(other.join().unwrap(), Some(1));
        }
    });
}
