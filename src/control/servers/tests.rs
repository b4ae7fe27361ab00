//! Servers without shards: the tests play the shards' part.

use ringlane_core::limits::MAILBOX_MESSAGES;
use ringlane_core::settings::{Backend as Group, Server};
use ringlane_health::{OnChange, Role, Rules};

use super::*;

/// One backend with this number of servers, whose writing sessions are fenced, on so many shards.
fn servers(count: u32, shards: usize) -> Servers {
    let server = |number: u32| Server {
        name: format!("s{number}"),
        backend: BackendId(0),
        address: Some(Address::Inet(([10, 0, 0, 1], number as u16 + 1).into())),
        weight: 1,
        backup: false,
        max_connections: u32::MAX,
        ..Server::default()
    };
    let snapshot = Snapshot {
        generation: 1,
        max_connections: 1,
        log_sessions: false,
        frontends: Vec::new(),
        backends: vec![Group { name: "db".to_owned(), server_count: count, ..Group::default() }],
        servers: (0..count).map(server).collect(),
    };
    let rules = Rules { on_role_change: OnChange::Fence, fall: 1, ..Rules::default() };
    let watch = Watch { rules, ..Watch::default() };
    let snapshot = Arc::new(snapshot);
    let gauges = Arc::new(Gauges::new(&snapshot, shards, Instant::now()));
    let mailboxes = (0..shards).map(|_| Mailbox::new().unwrap()).collect();
    Servers::new(snapshot, gauges, mailboxes, &[watch])
}

impl Servers {
    fn role(&self, id: u32, role: Role) {
        let seen = Seen { role: Some(role), ..Seen::default() };
        self.observe(ServerId(id), Ok(seen), None);
    }

    /// Those that take sessions that want the primary.
    fn primaries(&self) -> Vec<u32> {
        let is_open = |id: &u32| {
            self.gauges.server(ServerId(*id)).eligibility().is_open_for(RoleWanted::Primary)
        };
        (0..self.snapshot.servers.len() as u32).filter(is_open).collect()
    }

    /// The orders to end sessions that a shard takes out of its mailbox now.
    fn take_endings(&self, shard: usize) -> Vec<(u32, RoleWanted)> {
        let messages = std::iter::from_fn(|| self.mailboxes[shard].take());
        let endings = messages.filter_map(|message| match message {
            Message::EndSessions { server, role, .. } => {
                let tags = &self.gauges.tags().servers;
                let id = (0..).zip(tags).find(|(_, tag)| **tag == server)?.0;
                Some((id, role))
            }
            _ => None,
        });
        endings.collect()
    }

    /// A shard takes its orders and carries them out.
    fn apply_orders(&self, shard: usize) -> Vec<(u32, RoleWanted)> {
        let taken = self.take_endings(shard);
        self.apply(shard, taken.len());
        taken
    }

    /// A shard has applied this number of orders.
    fn apply(&self, shard: usize, orders: usize) {
        (0..orders).for_each(|_| self.gauges.common.acknowledge(shard));
    }

    /// Puts something else into a mailbox until it is full.
    fn fill(&self, shard: usize) {
        while self.mailboxes[shard].post(Message::GateOpened).is_ok() {}
    }
}

/// What a promotion of the second server ends: writing sessions of the first, reading ones of the
/// second.
const PROMOTED: [(u32, RoleWanted); 2] = [(1, RoleWanted::Replica), (0, RoleWanted::Primary)];

/// The first server is primary, and nothing is under way.
fn with_primary(count: u32, shards: usize) -> Servers {
    let servers = servers(count, shards);
    servers.role(0, Role::Primary);
    (1..count).for_each(|id| servers.role(id, Role::Replica));
    (0..shards).for_each(|shard| drop(servers.apply_orders(shard)));
    assert!(servers.deliver_now(Instant::now()));
    assert_eq!(servers.primaries(), [0]);
    servers
}

#[test]
fn a_new_primary_opens_when_every_shard_has_ended_the_sessions_of_the_old() {
    let servers = with_primary(2, 2);
    servers.observe(ServerId(0), Err("gone".to_owned()), None);
    servers.role(1, Role::Primary);
    assert_eq!(servers.primaries(), [0_u32; 0]);
    let now = Instant::now();
    assert!(!servers.deliver_now(now));
    assert_eq!(servers.apply_orders(0), PROMOTED);
    assert!(!servers.deliver_now(now));
    assert_eq!(servers.primaries(), [0_u32; 0], "the second shard has not");
    assert_eq!(servers.take_endings(1), PROMOTED);
    assert!(!servers.deliver_now(now), "taken and not yet carried out");
    servers.apply(1, PROMOTED.len());
    assert!(servers.deliver_now(now));
    assert_eq!(servers.primaries(), [1]);
}

#[test]
fn a_shard_that_is_held_up_keeps_the_new_primary_closed_for_a_moment_at_most() {
    let servers = with_primary(2, 1);
    servers.fill(0);
    servers.observe(ServerId(0), Err("gone".to_owned()), None);
    servers.role(1, Role::Primary);
    let now = Instant::now();
    assert!(!servers.deliver_now(now) && servers.primaries().is_empty(), "it has yet to be sent");
    assert!(!servers.deliver_now(now + FENCE_MAX));
    assert_eq!(servers.primaries(), [1]);
    assert!(servers.take_endings(0).is_empty());
    servers.deliver_now(now + FENCE_MAX);
    assert_eq!(servers.take_endings(0), PROMOTED, "once, when there is room");
    assert!(servers.deliver_now(now + FENCE_MAX));
}

#[test]
fn changes_that_come_while_sessions_are_fenced_do_not_open_the_primary() {
    let servers = with_primary(3, 2);
    servers.role(0, Role::Replica);
    servers.role(1, Role::Primary);
    // A check, an order, and another primary, before the shards have had their turn.
    servers.role(2, Role::Replica);
    servers.set_weight(ServerId(1), Some(5), "uid 7");
    servers.set_admin(ServerId(2), Admin::Drain, "uid 7");
    assert_eq!(servers.primaries(), [0_u32; 0]);
    let first = [0, 1].map(|shard| servers.take_endings(shard).len());
    servers.role(1, Role::Replica);
    servers.role(0, Role::Primary);
    (0..2).for_each(|shard| servers.apply(shard, first[shard]));
    let now = Instant::now();
    assert!(!servers.deliver_now(now), "what came first is carried out, the rest is not");
    assert_eq!(servers.primaries(), [0_u32; 0]);
    (0..2).for_each(|shard| drop(servers.apply_orders(shard)));
    assert!(servers.deliver_now(now));
    assert_eq!(servers.primaries(), [0]);
}

#[test]
fn a_server_that_moved_takes_nothing_before_all_shards_know_where_it_is() {
    let servers = servers(2, 2);
    let found = |port| {
        let address = ([10, 0, 0, 2], port).into();
        Some(Found { address, weight: None, backup: false })
    };
    let is_open = || servers.gauges.server(ServerId(0)).eligibility().is_open_for(RoleWanted::Any);
    servers.set_address(ServerId(0), found(1), "resolved");
    assert!(is_open(), "both were told at once");
    servers.fill(1);
    servers.set_address(ServerId(0), found(2), "resolved");
    servers.set_address(ServerId(0), found(3), "resolved");
    assert!(!is_open() && !servers.deliver_now(Instant::now()));
    let mut last = None;
    for _ in 0..=MAILBOX_MESSAGES {
        last = servers.mailboxes[1].take().or(last);
    }
    assert!(servers.deliver_now(Instant::now()) && is_open());
    let message = servers.mailboxes[1].take();
    let Some(Message::Moved { server, address: Some(address) }) = message else {
        panic!("{message:?} after {last:?}");
    };
    assert_eq!(server, servers.gauges.server_tag(ServerId(0)));
    assert_eq!(address.to_string(), "10.0.0.2:3");
    assert!(servers.mailboxes[1].take().is_none(), "the address between was never sent");
}
