//! The table of clients under several shards.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::in_every_order;
use crate::settings::{ClientLimits, ClientRate, Refusal};
use crate::shared::clients::{Entry, Table};

const NOW: Duration = Duration::ZERO;

/// A table of one set.
fn table(max_connections: u32, rate: Option<ClientRate>) -> Arc<Table> {
    let (allow, refusal) = (Vec::new(), Refusal::Reset);
    Arc::new(Table::new(&ClientLimits { max_connections, rate, burst: 1, allow, size: 1, refusal }))
}

fn is_counted(entry: Entry) -> bool {
    matches!(entry, Entry::Counted(_))
}

fn leave(table: &Table, entry: Entry) {
    if let Entry::Counted(permit) = entry {
        table.leave(permit);
    }
}

#[test]
fn a_new_client_that_two_shards_meet_at_once_has_one_limit() {
    in_every_order(|| {
        let table = table(1, None);
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.enter(7, NOW))
        };
        let own = table.enter(7, NOW);
        let others = other.join().unwrap();
        let entries = [own, others];
        let counted = entries.into_iter().filter(|entry| is_counted(*entry)).count();
        // One that would have to wait for the other shard, which stands still, is not counted.
        let is_unknown = entries.contains(&Entry::Unknown);
        assert!(counted == 1 || counted == 0 && is_unknown, "{entries:?}");
        assert!(counted == 1 || !entries.contains(&Entry::TooMany), "{entries:?}");
        assert_eq!(table.clients(NOW), counted);
        entries.into_iter().for_each(|entry| leave(&table, entry));
        assert_eq!(table.clients(NOW), 0);
    });
}

#[test]
fn permits_are_given_back_exactly() {
    in_every_order(|| {
        let table = table(2, None);
        let first = table.enter(7, NOW);
        let visit = |table: &Table| {
            let entry = table.enter(7, NOW);
            assert_ne!(entry, Entry::Unknown);
            leave(table, entry);
        };
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || visit(&table))
        };
        visit(&table);
        other.join().unwrap();
        let second = table.enter(7, NOW);
        assert!(is_counted(first) && is_counted(second), "{first:?}, {second:?}");
        assert_eq!(table.enter(7, NOW), Entry::TooMany);
        [first, second].into_iter().for_each(|entry| leave(&table, entry));
        assert_eq!(table.clients(NOW), 0);
    });
}

#[test]
fn arrivals_on_two_shards_are_paid_for_once_each() {
    in_every_order(|| {
        let table = table(u32::MAX, Some(ClientRate { per_100_seconds: 100 }));
        leave(&table, table.enter(7, NOW));
        // The first is paid for after a second, and so is one more.
        let later = Duration::from_secs(1);
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.enter(7, later))
        };
        let entries = [table.enter(7, later), other.join().unwrap()];
        assert!(entries.contains(&Entry::TooFast), "{entries:?}");
        assert!(entries.into_iter().any(is_counted), "{entries:?}");
    });
}

/// The only free entry, that of a client that has just left, is taken over by another one while it
/// returns.
#[test]
fn a_client_is_never_counted_in_the_entry_of_another_one() {
    in_every_order(|| {
        let table = table(1, None);
        let residents = [9, 10].map(|client| table.enter(client, NOW));
        leave(&table, table.enter(7, NOW));
        let other = {
            let table = Arc::clone(&table);
            thread::spawn(move || table.enter(8, NOW))
        };
        let entries = [table.enter(7, NOW), other.join().unwrap()];
        // There is room for one of them; the other one is not counted, but welcome.
        assert!(!entries.contains(&Entry::TooMany), "{entries:?}");
        let again = [7, 8].map(|client| table.enter(client, NOW));
        for (entry, again) in entries.into_iter().zip(again) {
            assert!(!is_counted(entry) || again == Entry::TooMany, "{entries:?}, {again:?}");
        }
        residents.into_iter().for_each(|resident| leave(&table, resident));
    });
}
