//! What shards share, in every order that their threads may meet: run by loom, built by `--cfg
//! loom`.
//!
//! A test here is a small play: two or three threads do what shards do, and loom repeats it for
//! every order of their accesses, stale reads included. A thread that would sleep for ever is
//! reported as a deadlock, which is how a missed wake-up shows. Two limits of the tool shape the
//! code that it checks: loom takes `SeqCst` accesses for `AcqRel`, so arguments rest on the order
//! of read-modify-writes of one word; and what it can't see inside of (queues, eventfds) is acted
//! out by [`Bell`] and by the queue in `mailbox`. Run: `cargo xtask test`, or the command in
//! docs/testing.md.

mod affinity;
mod clients;
mod gauges;
mod mailbox;
mod pace;
mod queue;
mod turns;

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};

/// Preemptions per run that are tried. Three find nearly all that any number would, in seconds.
const PREEMPTIONS: usize = 3;

/// Runs `play` in every order.
fn in_every_order(play: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(play);
}

/// An eventfd: a shard sleeps until it is rung, and it stays rung until then.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.heard.notify_one();
    }

    /// Sleeps until the bell has been rung, and resets it.
    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.heard.wait(rung).unwrap();
        }
        *rung = false;
    }
}
