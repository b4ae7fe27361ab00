//! The access log: one thread that turns finished sessions into lines.
//!
//! Shards push fixed-size records into bounded queues and never wait; this thread sweeps the
//! queues, formats, and writes to stderr, a file or a syslog socket. Not here: the shape of a line
//! (`line`), destinations (`log::sink`). Invariants: a destination that fails costs records, which
//! are counted and reported, and nothing else; a record that was queued before `stop` is written,
//! unless the destination fails.

mod line;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use ringlane_core::counters::{Reason, SessionRecord};

use crate::config;
use crate::control::log;
use crate::control::log::sink::{Lost, RecordsLost, Sink};
use crate::control::log::{Level, Notice};
use crate::control::running::Snapshots;
use line::Shape;

/// Time between two sweeps. The queues have no wake-up, so that a push costs a shard nothing; they
/// hold some hundred times what a shard finishes in this time.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);
/// Facility local0 and severity info of syslog.
const SYSLOG_PRIORITY: u8 = 16 * 8 + 6;
/// Bytes of lines that are written at once.
const BATCH: usize = 64 * 1024;
/// Time between two reports about a failing destination.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How long `stop` waits for a destination that takes nothing.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The running thread. Dropping it without [`AccessLogThread::stop`] ends the thread unawaited.
#[derive(Debug)]
pub struct AccessLogThread {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    alive: Receiver<()>,
}

#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    reopen: AtomicBool,
}

/// An access log whose destination is open, and that no thread writes to yet.
#[derive(Debug)]
pub(in crate::control) struct Opened {
    shape: Shape,
    log_empty: bool,
    sink: Sink,
}

/// Opens the destination.
///
/// # Errors
/// When it can't be opened, with its name.
pub(in crate::control) fn open(configured: &config::AccessLog) -> io::Result<Opened> {
    Ok(Opened {
        shape: Shape { format: configured.format, fields: configured.fields.clone() },
        log_empty: configured.log_empty,
        sink: Sink::open(&configured.destination)?,
    })
}

impl Opened {
    /// Starts the thread that writes the records of these queues.
    ///
    /// # Errors
    /// When the thread can't be made.
    pub(in crate::control) fn start(
        self,
        snapshots: Arc<Snapshots>,
        lost: RecordsLost,
        queues: Vec<Arc<ArrayQueue<SessionRecord>>>,
    ) -> io::Result<AccessLogThread> {
        let Self { shape, log_empty, sink } = self;
        let orders = Arc::new(Orders::default());
        let (living, alive) = mpsc::channel();
        let writer = Writer {
            snapshots,
            lost,
            shape,
            log_empty,
            queues,
            orders: Arc::clone(&orders),
            batch: Vec::with_capacity(BATCH + BATCH / 8),
            sink,
            losses: LossReport::default(),
        };
        let thread = crate::control::thread::spawn("access-log", move || {
            let _living = living;
            writer.run();
        })?;
        Ok(AccessLogThread { orders, thread: Some(thread), alive })
    }
}

impl AccessLogThread {
    /// Opens a log file anew before the next line is written, for log rotation.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes what is queued and ends the thread; gives up on a destination that takes nothing.
    pub fn stop(mut self) {
        self.orders.stop.store(true, Ordering::Release);
        self.wake();
        if self.alive.recv_timeout(STOP_MAX) == Err(RecvTimeoutError::Timeout) {
            log::error(format_args!(
                "access log: the destination has accepted nothing for {} s; queued records are lost",
                STOP_MAX.as_secs()
            ));
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by its hook; there is nothing to add.
            let _ = thread.join();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for AccessLogThread {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Release);
        self.wake();
    }
}

/// What the thread owns.
struct Writer {
    snapshots: Arc<Snapshots>,
    lost: RecordsLost,
    shape: Shape,
    log_empty: bool,
    queues: Vec<Arc<ArrayQueue<SessionRecord>>>,
    orders: Arc<Orders>,
    batch: Vec<u8>,
    sink: Sink,
    losses: LossReport,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Read before the sweep: what was queued before the order is swept.
            let stop = self.orders.stop.load(Ordering::Acquire);
            if self.orders.reopen.swap(false, Ordering::AcqRel) {
                match self.sink.reopen() {
                    Ok(Some(path)) => {
                        log::info(format_args!("access log: reopened {}", path.display()))
                    }
                    Ok(None) => log::info(format_args!(
                        "access log: nothing to reopen, the destination is not a file"
                    )),
                    Err(error) => log::error(format_args!(
                        "access log: cannot reopen {error}; still writing to the old file"
                    )),
                }
            }
            self.sweep();
            self.losses.write(Instant::now(), stop);
            if stop {
                return;
            }
            thread::park_timeout(SWEEP_INTERVAL);
        }
    }

    /// Writes everything that is queued now, and no more than the queues can hold.
    fn sweep(&mut self) {
        let snapshots = self.snapshots.all();
        for index in 0..self.queues.len() {
            for _ in 0..self.queues[index].capacity() {
                let Some(record) = self.queues[index].pop() else { break };
                if record.reason == Some(Reason::Empty) && !self.log_empty {
                    continue;
                }
                let of = snapshots.iter().find(|one| one.generation == record.generation);
                let snapshot = of.or_else(|| snapshots.last());
                if let Some(snapshot) = snapshot {
                    self.shape.append(&mut self.batch, &record, snapshot);
                }
                if self.batch.len() >= BATCH {
                    self.flush();
                }
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        if let Err(lost) = self.sink.write(SYSLOG_PRIORITY, &self.batch) {
            self.lost.add(lost.records);
            self.losses.add(lost);
        }
        self.batch.clear();
    }
}

/// Losses that have not been reported yet.
#[derive(Debug, Default)]
struct LossReport {
    records: u64,
    last: Option<io::Error>,
    reported_at: Option<Instant>,
}

impl LossReport {
    fn add(&mut self, lost: Lost) {
        self.records += lost.records;
        self.last = Some(lost.error);
    }

    /// Reports what was lost, if anything, unless the last report is recent; `last_chance`
    /// overrides that.
    fn write(&mut self, now: Instant, last_chance: bool) {
        let Some(error) = &self.last else { return };
        let recent = self.reported_at.is_some_and(|at| now < at + REPORT_INTERVAL);
        if recent && !last_chance {
            return;
        }
        let text = format!("access log: {} records lost: {error}", self.records);
        log::write(&Notice::new(Level::Error, "access_log_lost", text).count(self.records));
        *self = Self { records: 0, last: None, reported_at: Some(now) };
    }
}
