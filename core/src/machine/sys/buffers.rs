//! Receive buffers: one region per shard, a small part of it offered to the kernel at any time.
//!
//! The kernel takes offered buffers from a ring in order (`IORING_REGISTER_PBUF_RING`, Linux 5.19);
//! what comes back goes to the kernel again at once, or on a stack that is used hot end first.
//! Address space for the most that a shard may use is reserved at start; memory is used on first
//! touch. Invariants: a buffer is in exactly one of four places: offered, owned by a [`Buffer`],
//! on the free stack, or never used yet; the region outlives every `Buffer` (`Rc`) and, through
//! `driver`, every operation that the kernel may still fill one for.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::mapping::Mapping;
use super::setup::SetupError;
use crate::limits::{BUFFER_SIZE, BUFFERS_MAX, BUFFERS_OFFERED, SLACK_MIN};

/// The one group that receives draw from.
pub(super) const BUFFER_GROUP: u16 = 0;

/// The buffers of one shard.
pub(crate) struct BufferPool {
    region: Mapping,
    offer: Offer,
    offered: Cell<usize>,
    touched: Cell<usize>,
    max: usize,
    free: RefCell<Free>,
}

/// Buffers that nobody uses, the most recently used on top.
#[derive(Default)]
struct Free {
    ids: Vec<u16>,
    /// So many at the bottom have no memory behind them.
    cold: usize,
}

/// Where offered buffers wait.
enum Offer {
    /// In a ring that the kernel takes from.
    Shared { ring: Mapping, tail: Cell<u16> },
    /// On a stack that the driver takes from.
    Private(RefCell<Vec<u16>>),
}

/// A buffer with received bytes. Dropping it gives the buffer back.
pub struct Buffer {
    pool: Rc<BufferPool>,
    id: u16,
    // Sixteen bits each: operations and sessions hold buffers, so their size is worth something.
    start: u16,
    end: u16,
    more_behind: bool,
}

impl BufferPool {
    /// Reserves the region and offers the first buffers through `submitter`'s ring.
    pub(super) fn shared(submitter: &io_uring::Submitter<'_>) -> Result<Rc<Self>, SetupError> {
        let bytes = BUFFERS_OFFERED * size_of::<BufRingEntry>();
        let ring = Mapping::new(bytes).map_err(|e| SetupError::from_memory(&e, bytes))?;
        let entries = u16::try_from(BUFFERS_OFFERED).unwrap_or(u16::MAX);
        let address = ring.at(0).as_ptr() as u64;
        // SAFETY: the mapping is page-aligned, has room for that many entries, and lives until the
        // pool is dropped, which `Driver` does only after the ring has gone.
        unsafe { submitter.register_buf_ring_with_flags(address, entries, BUFFER_GROUP, 0) }
            .map_err(|error| SetupError::from_ring_setup(&error))?;
        Self::over(Offer::Shared { ring, tail: Cell::new(0) }, BUFFERS_MAX)
    }

    /// Reserves the region of up to `max` buffers for a driver that takes them itself.
    pub(super) fn private(max: usize) -> Result<Rc<Self>, SetupError> {
        Self::over(Offer::Private(RefCell::default()), max.min(BUFFERS_MAX))
    }

    fn over(offer: Offer, max: usize) -> Result<Rc<Self>, SetupError> {
        let bytes = max * BUFFER_SIZE;
        let pool = Self {
            region: Mapping::new(bytes).map_err(|e| SetupError::from_memory(&e, bytes))?,
            offer,
            offered: Cell::new(0),
            touched: Cell::new(0),
            max,
            free: RefCell::default(),
        };
        pool.refill();
        Ok(Rc::new(pool))
    }

    /// Takes an offered buffer in the kernel's stead, to fill it and then say so with `received`.
    pub(super) fn take(&self) -> Option<u16> {
        match &self.offer {
            Offer::Shared { .. } => None,
            Offer::Private(offered) => offered.borrow_mut().pop(),
        }
    }

    /// Puts back a taken buffer that was not filled.
    pub(super) fn untake(&self, id: u16) {
        if let Offer::Private(offered) = &self.offer {
            offered.borrow_mut().push(id);
        }
    }

    /// Takes over the buffer that a completion names, `len` bytes filled.
    pub(super) fn received(self: &Rc<Self>, id: u16, len: u32, more_behind: bool) -> Buffer {
        self.offered.set(self.offered.get() - 1);
        self.refill();
        let end = u16::try_from(len).unwrap_or(BUFFER_LEN).min(BUFFER_LEN);
        Buffer { pool: Rc::clone(self), id, start: 0, end, more_behind }
    }

    /// Whether the kernel has no buffer to receive into.
    pub(super) fn is_exhausted(&self) -> bool {
        self.offered.get() == 0
    }

    /// Buffers that are owned by a [`Buffer`] now.
    pub(crate) fn lent(&self) -> usize {
        self.touched.get() - self.offered.get() - self.free.borrow().ids.len()
    }

    /// Offers buffers until enough are offered, the most recently used first.
    fn refill(&self) {
        while self.offered.get() < BUFFERS_OFFERED {
            let Some(id) = self.free.borrow_mut().pop().or_else(|| self.touch()) else { return };
            self.offer(id);
        }
    }

    /// Whether memory worth giving back lies behind buffers that nobody uses.
    pub(super) fn has_slack(&self) -> bool {
        let free = self.free.borrow();
        free.ids.len() - free.cold >= SLACK_MIN
    }

    /// Gives the memory behind buffers that nobody uses back to the system. Offered ones keep
    /// theirs: the kernel may be filling them at this moment.
    pub(super) fn trim(&self) {
        let mut free = self.free.borrow_mut();
        free.ids.sort_unstable_by(|a, b| b.cmp(a));
        let follows = |id: &u16, below: &u16| *id == *below + 1;
        for run in free.ids.chunk_by(follows) {
            if let Some(lowest) = run.last() {
                self.region.discard(usize::from(*lowest) * BUFFER_SIZE, run.len() * BUFFER_SIZE);
            }
        }
        free.cold = free.ids.len();
    }

    /// A buffer that was never used, if one is left.
    fn touch(&self) -> Option<u16> {
        let id = self.touched.get();
        (id < self.max).then(|| self.touched.set(id + 1))?;
        u16::try_from(id).ok()
    }

    fn offer(&self, id: u16) {
        self.offered.set(self.offered.get() + 1);
        match &self.offer {
            Offer::Shared { ring, tail } => self.offer_to_kernel(ring, tail, id),
            Offer::Private(offered) => offered.borrow_mut().push(id),
        }
    }

    fn offer_to_kernel(&self, ring: &Mapping, tail: &Cell<u16>, id: u16) {
        let slot = usize::from(tail.get()) & (BUFFERS_OFFERED - 1);
        let entries = ring.at(0).cast::<BufRingEntry>();
        // SAFETY: `slot` is below the number of entries of the mapping.
        let entry = unsafe { entries.add(slot) };
        // SAFETY: as above; the kernel reads only entries below the tail, which is moved after the
        // entry is written, and nobody else in this process refers to it.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(self.address(id) as u64);
        entry.set_len(BUFFER_LEN.into());
        entry.set_bid(id);
        tail.set(tail.get().wrapping_add(1));
        // SAFETY: the ring's base is page-aligned and its first entry is in the mapping.
        let shared_tail = unsafe { BufRingEntry::tail(entries.as_ptr()) };
        // SAFETY: the tail lies inside the first entry; the kernel reads it with an acquire load.
        let shared_tail = unsafe { AtomicU16::from_ptr(shared_tail.cast_mut()) };
        shared_tail.store(tail.get(), Ordering::Release);
    }

    /// Where a buffer begins.
    pub(super) fn address(&self, id: u16) -> *mut u8 {
        self.region.at(usize::from(id) * BUFFER_SIZE).as_ptr()
    }
}

impl Free {
    fn pop(&mut self) -> Option<u16> {
        let id = self.ids.pop()?;
        self.cold = self.cold.min(self.ids.len());
        Some(id)
    }
}

impl Buffer {
    /// The received bytes that have not been consumed.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the kernel filled the bytes up to `end` and gave the buffer away; it is ours
        // until drop, and `start <= end <= BUFFER_SIZE`.
        unsafe { std::slice::from_raw_parts(self.address(), self.len()) }
    }

    /// Bytes that have not been consumed.
    pub fn len(&self) -> usize {
        usize::from(self.end - self.start)
    }

    /// Whether all bytes have been consumed.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether it was filled to its end and left bytes behind in the socket.
    pub fn has_backlog(&self) -> bool {
        self.more_behind && self.end == BUFFER_LEN
    }

    /// Drops the first `n` bytes, or all if there are fewer.
    pub fn consume(&mut self, n: usize) {
        let n = u16::try_from(n).unwrap_or(u16::MAX);
        self.start = self.start.saturating_add(n).min(self.end);
    }

    /// Where the unconsumed bytes begin.
    pub(super) fn address(&self) -> *const u8 {
        // SAFETY: `start` is at most BUFFER_SIZE.
        unsafe { self.pool.address(self.id).add(usize::from(self.start)) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.pool.offered.get() < BUFFERS_OFFERED {
            self.pool.offer(self.id);
        } else {
            self.pool.free.borrow_mut().ids.push(self.id);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({}, {} bytes)", self.id, self.len())
    }
}
const BUFFER_LEN: u16 = BUFFER_SIZE as u16;
const _: () = assert!(BUFFER_LEN as usize == BUFFER_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_behind_unused_buffers_goes_back_and_what_is_held_stays() {
        let pool = BufferPool::private(4 * BUFFERS_OFFERED).unwrap();
        let fill = || {
            let id = pool.take().unwrap();
            // SAFETY: the buffer was just taken, so its first byte is nobody else's.
            unsafe { pool.address(id).write(b'x') };
            pool.received(id, 1, false)
        };
        let held = fill();
        let burst: Vec<Buffer> = (0..2 * BUFFERS_OFFERED).map(|_| fill()).collect();
        assert!(!pool.has_slack(), "all of them are in use");
        let at: Vec<*mut u8> = burst.iter().map(|buffer| pool.address(buffer.id)).collect();
        drop(burst);
        assert!(pool.has_slack());
        pool.trim();
        assert!(!pool.has_slack());
        // SAFETY: the pool is alive, and nobody holds these buffers.
        let left = at.iter().filter(|at| unsafe { at.read() } == b'x').count();
        assert_eq!((held.bytes(), left), (&b"x"[..], 0));
        assert_eq!(pool.lent(), 1);
        // What was given back serves again.
        let again: Vec<Buffer> = (0..2 * BUFFERS_OFFERED).map(|_| fill()).collect();
        assert!(again.iter().all(|buffer| buffer.bytes() == b"x"));
    }
}
