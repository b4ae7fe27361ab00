//! A few worlds told in full: what a seed may meet, and how to write one down.

use std::time::Duration;

use ringlane_core::settings::{BalanceKind, Path};

use crate::client::{Client, Ending};
use crate::server::{Behaviour, Server};
use crate::world::{Order, World};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn passes(mut world: World) {
    world.printed = std::env::var_os("RINGLANE_SIM_TRACE").is_some();
    if let Err(failure) = world.run() {
        panic!("{failure}");
    }
}

#[test]
fn bulk_goes_both_ways_at_once_on_every_path() {
    for path in [Path::Auto, Path::Copy, Path::Splice] {
        let world = World::new(1)
            .by(path)
            .server(Server::that(Behaviour::Echoes))
            .client(Client::sending(2_000_000))
            .client(Client::sending(2_000_000).reading_slowly(20_000, secs(1) / 100));
        passes(world);
    }
}

#[test]
fn urgent_data_is_stepped_over_both_ways_on_every_path() {
    for path in [Path::Auto, Path::Copy, Path::Splice] {
        for last in [500_000, 999_999, 1_000_000] {
            let world = World::new(8)
                .by(path)
                .in_weather(|weather| weather.capacity = 256 * 1024)
                .server(Server::that(Behaviour::Echoes).urgent_at(400_000))
                .client(Client::sending(1_000_000).urgent_at(last))
                .client(Client::sending(1_000_000).in_chunks(100_000, secs(1)).urgent_at(1));
            passes(world);
        }
    }
}

/// Bytes that come while the process stands still are no silence, though it lasts longer than the
/// timeouts.
#[test]
fn sessions_survive_a_pause_of_the_process() {
    for (seed, path) in
        [Path::Auto, Path::Copy, Path::Splice].into_iter().cycle().take(30).enumerate()
    {
        let world = World::new(seed as u64)
            .by(path)
            .giving_up_after(secs(2), secs(2))
            .in_weather(|weather| (weather.lateness, weather.buffers) = (96, 6))
            .paused_at(secs(3), secs(20))
            .server(Server::that(Behaviour::Echoes));
        let client = |n| {
            // Each speaks once during the pause, and then waits for the answer.
            Client::sending(30_000)
                .in_chunks(3000, secs(1))
                .talking(true)
                .coming_after(secs(n) / 10)
        };
        passes((0..20).fold(world, |world, n| world.client(client(n))));
    }
}

/// A server that has got enough says why and resets the connection: what has arrived of that
/// reaches the client, however much that sends meanwhile.
#[test]
fn last_words_arrive_before_the_reset() {
    for (seed, path) in
        [Path::Auto, Path::Copy, Path::Splice].into_iter().cycle().take(60).enumerate()
    {
        let world = World::new(seed as u64)
            .by(path)
            .troubled()
            .in_weather(|weather| (weather.lateness, weather.fragments) = (64, 64))
            .server(Server::that(Behaviour::ScoldsAfter(5000)));
        passes((0..5).fold(world, |world, _| world.client(Client::sending(300_000))));
    }
}

/// A client that takes minutes for what was sent before the reset gets all of it.
#[test]
fn a_slow_client_gets_all_last_words() {
    for (seed, path) in [Path::Auto, Path::Copy, Path::Splice].into_iter().enumerate() {
        let world = World::new(seed as u64)
            .by(path)
            .troubled()
            .in_weather(|weather| weather.capacity = 8000)
            .server(Server::that(Behaviour::PoursAndResets(100_000)))
            .client(Client::sending(0).reading_slowly(1000, secs(2)));
        passes(world);
    }
}

#[test]
fn false_readiness_makes_nobody_spin() {
    for path in [Path::Auto, Path::Copy, Path::Splice] {
        let world = World::new(9)
            .by(path)
            .in_weather(|weather| weather.squeezes = 64)
            .server(Server::that(Behaviour::Echoes))
            .client(Client::sending(500_000));
        passes(world);
    }
}

#[test]
fn a_client_that_half_closes_gets_its_answer() {
    let world = World::new(2)
        .server(Server::that(Behaviour::Answers(500_000)))
        .client(Client::sending(100).in_chunks(10, secs(1)))
        .client(Client::sending(0));
    passes(world);
}

#[test]
fn buffers_run_dry_and_come_back() {
    let world = World::new(3)
        .in_weather(|weather| (weather.buffers, weather.capacity) = (2, 1000))
        .server(Server::that(Behaviour::EchoesSlowly(500, secs(1) / 100)));
    passes((0..10).fold(world, |world, _| world.client(Client::sending(20_000))));
}

#[test]
fn a_server_dies_and_another_takes_over() {
    let world = World::new(4)
        .troubled()
        .on_shards(2)
        .balanced(BalanceKind::LeastConn)
        .giving_up_after(secs(1), secs(5))
        .server(Server::that(Behaviour::Echoes).dying_at(secs(2)).returning_at(secs(4)))
        .server(Server::that(Behaviour::Echoes))
        .server(Server::that(Behaviour::Swallows));
    let client = |n| {
        Client::sending(1000).in_chunks(100, secs(1) / 4).coming_after(secs(n) / 5).talking(true)
    };
    passes((0..30).fold(world, |world, n| world.client(client(n))));
}

#[test]
fn descriptors_run_out_and_nobody_spins() {
    let world = World::new(5)
        .troubled()
        .giving_up_after(secs(1), secs(3))
        .in_weather(|weather| weather.descriptors = 9)
        .server(Server::that(Behaviour::Echoes));
    let client = Client::sending(1000).in_chunks(10, secs(1) / 50);
    let vanishing = client.clone().that(Ending::VanishesAfter(500));
    passes((0..20).fold(world.client(vanishing), |world, _| world.client(client.clone())));
}

#[test]
fn a_drain_lets_sessions_finish_and_a_stop_does_not() {
    for order in [Order::Drain(secs(60)), Order::Drain(secs(1)), Order::Stop] {
        let world = World::new(6)
            .troubled()
            .on_shards(3)
            .ordered_at(secs(2), order)
            .server(Server::that(Behaviour::Echoes));
        let client = |n| Client::sending(1000).in_chunks(100, secs(1)).coming_after(secs(n) / 4);
        passes((0..20).fold(world, |world, n| world.client(client(n))));
    }
}

#[test]
fn who_leaves_before_a_server_accepts_gives_its_place_to_the_next() {
    for leaver in [Client::sending(0), Client::sending(100).that(Ending::ResetsAfter(50))] {
        let mut world = World::new(8)
            .troubled()
            .with_at_most(1)
            .giving_up_after(secs(100), secs(100))
            .server(Server::that(Behaviour::Swallows));
        world = (0..20)
            .fold(world, |world, n| world.client(leaver.clone().coming_after(secs(1) * n / 10)));
        world.printed = std::env::var_os("RINGLANE_SIM_TRACE").is_some();
        let report = world.run().unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.lasted < secs(50), "all have gone after {:?}", report.lasted);
    }
}

#[test]
fn servers_move_and_vanish_and_no_session_notices() {
    for order in [Order::Move(0, 1), Order::Vanish(0)] {
        let world = World::new(7)
            .on_shards(3)
            .balanced(BalanceKind::LeastConn)
            .ordered_at(secs(2), order)
            .server(Server::that(Behaviour::Echoes))
            .server(Server::that(Behaviour::Echoes));
        let client = |n| Client::sending(1000).in_chunks(100, secs(1)).coming_after(secs(n) / 4);
        passes((0..20).fold(world, |world, n| world.client(client(n))));
    }
}

#[test]
fn sessions_that_wait_are_served_in_order_on_every_shard() {
    for seed in 0..10 {
        let world = World::new(seed)
            .on_shards(3)
            .queueing(100, None)
            .server(Server::that(Behaviour::Echoes).with_at_most(2));
        let client = |n| {
            Client::sending(100).in_chunks(50, secs(1)).coming_after(secs(n) / 10).talking(true)
        };
        passes((0..30).fold(world, |world, n| world.client(client(n))));
    }
}
