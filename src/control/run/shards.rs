//! The threads of the shards: starts them together, sends them messages, waits for each to end.
//!
//! Not here: what a shard does (`ringlane_shard::run`). Invariant: no shard outlives this; dropping
//! it stops the shards that still run and waits for them.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringlane_core::machine::sys::SetupError;
use ringlane_shard::{Installation, Mailbox, Message, Setup, Thread};
use tokio::sync::mpsc;

use super::publish;
use crate::carriers;
use crate::control::running::Running;
use crate::control::start::StartError;
use crate::control::thread;
use crate::control::traffic::threads::Threads;

/// Pause before a message is offered again to a shard whose mailbox is full.
const MAILBOX_RETRY: Duration = Duration::from_millis(5);

/// The running shards.
#[derive(Debug)]
pub(in crate::control) struct Shards {
    mailboxes: Arc<[Mailbox]>,
    /// `None` for a shard that has ended.
    threads: Vec<Option<JoinHandle<io::Result<()>>>>,
    ended: mpsc::UnboundedReceiver<usize>,
}

/// How a shard has ended.
#[derive(Debug)]
pub(in crate::control) enum End {
    /// It returned, as it does after a drain or a stop.
    Returned,
    /// Its ring failed.
    Failed(io::Error),
    /// It panicked.
    Panicked,
}

impl Shards {
    /// Starts one thread per shard and waits until all are up.
    pub(in crate::control) fn start(
        running: &Running,
        installations: Vec<Installation>,
        pipes: usize,
    ) -> Result<Self, StartError> {
        let traffic = &running.traffic;
        let (tell_end, ended) = mpsc::unbounded_channel();
        let mut shards =
            Self { mailboxes: Arc::clone(&running.mailboxes), threads: Vec::new(), ended };
        let mut starts = Vec::new();
        for (index, installation) in installations.into_iter().enumerate() {
            let (started, start) = std_mpsc::channel();
            let setup = Setup {
                index,
                installation,
                mailboxes: Arc::clone(&running.mailboxes),
                counters: Arc::clone(&traffic.shard_counters[index]),
                carrier: carriers::all(pipes),
                // Nothing here needs to be unpredictable, only different.
                seed: RandomState::new().hash_one(index),
            };
            let thread = Thread { driver: running.driver, cpu: traffic.cpus[index], started };
            let thread = spawn(
                Arc::clone(&running.threads),
                setup,
                thread,
                TellEnd { index, to: tell_end.clone() },
            )
            .map_err(StartError::system("a thread for a shard"))?;
            shards.threads.push(Some(thread));
            starts.push(start);
        }
        for (index, start) in starts.iter().enumerate() {
            wait_until_up(index, start)?;
        }
        Ok(shards)
    }

    /// Whether every shard has ended.
    pub(in crate::control) fn all_ended(&self) -> bool {
        self.threads.iter().all(Option::is_none)
    }

    /// Waits for the next shard to end. Pending for ever when all have ended.
    pub(in crate::control) async fn next_ended(&mut self) -> (usize, End) {
        let Some(index) = self.ended.recv().await else { return std::future::pending().await };
        // The thread has nothing left to do but to return: this takes no time.
        let end = match self.threads[index].take().map(JoinHandle::join) {
            Some(Ok(Ok(()))) | None => End::Returned,
            Some(Ok(Err(error))) => End::Failed(error),
            Some(Err(_)) => End::Panicked,
        };
        (index, end)
    }

    /// Sends every shard a message. Needs the control thread's runtime around it.
    pub(in crate::control) fn tell_all(&self, message: impl Fn() -> Message) {
        publish::tell(&self.mailboxes, message);
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for (index, thread) in self.threads.iter().enumerate() {
            let Some(thread) = thread else { continue };
            while self.mailboxes[index].post(Message::Stop).is_err() && !thread.is_finished() {
                std::thread::sleep(MAILBOX_RETRY);
            }
        }
        for thread in self.threads.drain(..).flatten() {
            // The result is of no use any more, and a shard that panicked has printed its message.
            let _ = thread.join();
        }
    }
}

fn spawn(
    threads: Arc<Threads>,
    setup: Setup,
    shard_thread: Thread,
    tell_end: TellEnd,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let name = format!("shard-{}", setup.index);
    thread::spawn(&name, move || {
        let _tell_end = tell_end;
        threads.register(Some(setup.index));
        ringlane_shard::run(setup, shard_thread)
    })
}

/// Waits until a shard reports whether it came up.
fn wait_until_up(
    index: usize,
    start: &std_mpsc::Receiver<Result<(), SetupError>>,
) -> Result<(), StartError> {
    match start.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StartError::Shard { index, error }),
        Err(std_mpsc::RecvError) => Err(StartError::ShardGone(index)),
    }
}

/// Reports to the control thread that a shard has ended, however it did.
struct TellEnd {
    index: usize,
    to: mpsc::UnboundedSender<usize>,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        // Fails when the receiver is gone, which is no loss.
        let _ = self.to.send(self.index);
    }
}
