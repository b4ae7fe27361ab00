//! Stories over the real `ringlane` binary, with real clients and servers, on loopback.
//!
//! Each test starts a balancer of its own with a configuration of its own, through `harness`. Not
//! here: what one module can show alone. Figures that are measured on the way are printed; see them
//! with `cargo test --test it -- --nocapture`. Read `harness` first, then `endings` as an example.

#![forbid(unsafe_code)]

mod harness;

mod access;
mod addresses;
mod affinity;
mod balance;
mod bandwidth;
mod bulk;
mod certificates;
mod checks;
mod clients;
mod configurations;
mod crowds;
mod databases;
mod demo;
mod drains;
mod endings;
mod events;
mod failover;
mod farewells;
mod first_steps;
mod greetings;
mod half_closed;
mod hostile;
mod last_words;
mod leavers;
mod limits;
mod live;
mod logins;
mod logs;
mod loops;
mod many_servers;
mod metrics;
mod mirror;
mod names;
mod newcomers;
mod orders;
mod outliers;
mod pauses;
mod postgres;
mod proxied;
mod queue;
mod refusals;
mod reloads;
mod restarts;
mod roles;
mod serving;
mod shares;
mod shortages;
mod sources;
mod transactions;
mod urgent;
mod writers;
