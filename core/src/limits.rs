//! Every bound of the data path, in one place where they can be summed.
//!
//! Not here: bounds that an operator sets (`max_connections`, timeouts), which live in the
//! snapshot. At each bound the behaviour is named beside it, and counted where it can happen.

use std::time::Duration;

/// Bytes in one receive buffer.
pub const BUFFER_SIZE: usize = 16 * 1024;

/// Receive buffers that a shard keeps offered to the kernel at any time. A power of two, as the
/// ring's layout demands. More would spread small messages over more cache lines for nothing.
pub const BUFFERS_OFFERED: usize = 128;

/// Receive buffers that a shard may have in all: offered, filled and not yet sent, or free. Address
/// space is reserved at start and memory is used on first touch only. At the bound a receive waits
/// until a buffer comes back (`ringlane_shard_buffers_exhausted_total`).
pub const BUFFERS_MAX: usize = 32 * 1024;

/// A shard that has been silent for so long gives the memory behind unused receive buffers back.
pub const SILENCE: Duration = Duration::from_secs(1);

/// Unused receive buffers with memory behind them that such a shard must have: fewer are not worth
/// a wake-up.
pub const SLACK_MIN: usize = 32;

/// Bytes that one armed receive may deliver before it must be armed again, where the kernel knows
/// such a limit (Linux 6.17). It is what a stalled reader can hold per direction.
pub const RECEIVE_WINDOW: usize = 64 * 1024;

/// Completions that a receive may have waiting before it is cancelled (and armed again later), so
/// that many tiny packets towards a stalled reader can't hold more buffers than large ones.
pub const RECEIVE_QUEUE: usize = RECEIVE_WINDOW / BUFFER_SIZE;

/// Entries in a shard's submission queue. When it is full the queue is submitted at once.
pub const SUBMISSION_ENTRIES: u32 = 1024;

/// Entries in a shard's completion queue. Beyond it the kernel keeps a list of its own
/// (`IORING_FEAT_NODROP`), so nothing is lost.
pub const COMPLETION_ENTRIES: u32 = 8 * 1024;

/// Task runs between two visits to the kernel. What is left runs in the next turn.
pub const TASKS_PER_TURN: usize = 1024;

/// Visits to the kernel that bring something and are made before timers that are due fire. Above it
/// they fire; a relay then looks at its sockets itself before it gives a side up.
pub const VISITS_BEFORE_TIMERS: u32 = 64;

/// How long a relay waits for bytes that lie in a socket when their side is to be given up for its
/// silence. Behind a side that takes nothing they may lie for ever, so it is once per silence.
pub const LAST_LOOK: Duration = Duration::from_secs(1);

/// How long the other side may take nothing of what a side had sent before its connection broke,
/// and then acknowledge nothing of it. At the bound the rest is lost with the reset.
pub const LAST_WORDS: Duration = Duration::from_secs(10);

/// Messages waiting in one shard's mailbox. A full one refuses: a shard then keeps the connection
/// that it wanted to hand over, and control tries again.
pub const MAILBOX_MESSAGES: usize = 4096;

/// Finished sessions waiting for the access log, per shard. A full queue drops the record and
/// counts it (`ringlane_log_records_dropped_total`).
pub const LOG_RECORDS: usize = 16 * 1024;

/// Bytes asked for in a splice pipe; the kernel may give less to an unprivileged process.
pub const PIPE_SIZE: usize = 1024 * 1024;

/// Idle pipes that a shard keeps for the next bulk direction; more are closed.
pub const PIPES_IDLE: usize = 64;

/// Pipes that a shard may have in use. At the bound a direction goes on copying.
pub const PIPES_MAX: usize = 1024;

/// Bytes spliced for one direction before other sessions get their turn.
pub const SPLICE_BUDGET: usize = 4 * 1024 * 1024;

/// How long a loop pauses that was told "ready" and could not move a byte, before it waits and
/// tries again (`ringlane_shard_false_readiness_total`).
pub const READINESS_PAUSE: Duration = Duration::from_millis(10);

/// Submissions in a row that may leave a full submission queue as it is; then the request fails.
pub const SUBMISSIONS_FRUITLESS: u32 = 10_000;

/// Copies of sessions that a shard makes at once for mirrors. Sessions beyond it are not copied,
/// and counted (`ringlane_mirror_failed_total`).
pub const MIRRORS_MAX: usize = 256;

/// Bytes of one session that wait for its mirror. At the bound its copy ends.
pub const MIRROR_BYTES: usize = 512 * 1024;

/// Bytes of all sessions of a shard that wait for mirrors. At the bound the copy ends that would
/// have got more.
pub const MIRROR_BYTES_ALL: usize = 32 * 1024 * 1024;

/// Source ports that a connection to a server tries where they are drawn here; then it has failed.
/// With nine tenths of them taken, one in thirty fails.
pub const SOURCE_PORT_TRIES: u32 = 32;

/// Bytes that rooms for short-lived futures are mapped in at once. One chunk of each size is kept
/// when nothing is in it.
pub const ROOM_CHUNK: usize = 64 * 1024;

/// Sizes that there are rooms of. Futures of further sizes are on the heap.
pub const ROOM_SIZES: usize = 8;

/// Shards in one process.
pub const SHARDS_MAX: usize = 256;

const _: () = assert!(BUFFERS_OFFERED.is_power_of_two() && BUFFERS_MAX.is_power_of_two());
const _: () = assert!(BUFFERS_OFFERED <= BUFFERS_MAX);
const _: () = assert!(BUFFERS_MAX <= 32 * 1024, "a buffer ring holds at most 2^15 entries");
const _: () = assert!(RECEIVE_QUEUE >= 2, "one in flight and one ready keeps a stream moving");
