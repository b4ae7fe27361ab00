//! Room for futures that end soon, apart from the heap that long-lived state is on.
//!
//! A session opens with more state than it keeps. On the heap the two kinds would lie between each
//! other: after a burst of openings every page of it holds a few bytes that stay and the holes of
//! what has gone, and none goes back to the system. Here short-lived futures share chunks by size,
//! and a chunk goes back whole when the last future in it has ended.
//!
//! Not an allocator for everything: few sizes, one thread, and whatever does not fit is on the
//! heap. Invariants: a room is owned by exactly one [`Brief`] or is free; a chunk is unmapped only
//! when all its rooms are free; no borrow is held while a future is dropped, since it may own
//! others.

use std::alloc::Layout;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::mapping::Mapping;
use crate::limits::{ROOM_CHUNK, ROOM_SIZES};

/// Rooms are a multiple of this, which is a cache line.
const STEP: usize = 64;

/// The rooms of one shard.
#[derive(Default)]
pub(crate) struct Rooms(RefCell<Vec<Class>>);

/// Chunks with rooms of one size.
struct Class {
    size: usize,
    /// Those that were given back leave their place to later ones.
    chunks: Vec<Option<Chunk>>,
    /// No chunk before this one has a free room.
    first_free: usize,
    /// The chunk of which all rooms are free, if there is one: it is kept for the next future.
    unused: Option<usize>,
}

struct Chunk {
    memory: Mapping,
    /// Rooms that were given back.
    free: Vec<u16>,
    /// Rooms that have been used at some time: memory behind them was never touched.
    touched: u16,
}

/// Where a room is.
struct Room {
    class: usize,
    chunk: usize,
    room: u16,
}

/// A future in a room of its own, which it gives back when it is dropped.
pub struct Brief<F>(Home<F>);

enum Home<F> {
    Room {
        future: NonNull<F>,
        place: Room,
        rooms: Rc<Rooms>,
    },
    /// There was no room for it.
    Heap(Pin<Box<F>>),
}

impl Rooms {
    /// Gives a future a room, or a place on the heap.
    pub(crate) fn house<F>(self: &Rc<Self>, future: F) -> Brief<F> {
        let Some((place, memory)) = self.take(Layout::new::<F>()) else {
            return Brief(Home::Heap(Box::pin(future)));
        };
        let room = memory.cast::<F>();
        // SAFETY: the room is as large as the layout of `F` demands, aligned to `STEP` at least,
        // and belongs to nobody else.
        unsafe { room.write(future) };
        Brief(Home::Room { future: room, place, rooms: Rc::clone(self) })
    }

    /// A free room for such a value, if rooms are for values like it and there is memory.
    fn take(&self, layout: Layout) -> Option<(Room, NonNull<u8>)> {
        let size = layout.size().next_multiple_of(STEP);
        if layout.align() > STEP || size == 0 || size > ROOM_CHUNK {
            return None;
        }
        let mut classes = self.0.borrow_mut();
        let class = match classes.iter().position(|class| class.size == size) {
            Some(class) => class,
            None if classes.len() == ROOM_SIZES => return None,
            None => {
                classes.push(Class { size, chunks: Vec::new(), first_free: 0, unused: None });
                classes.len() - 1
            }
        };
        let (chunk, room, memory) = classes[class].take()?;
        Some((Room { class, chunk, room }, memory))
    }

    fn give_back(&self, place: &Room) {
        self.0.borrow_mut()[place.class].give_back(place.chunk, place.room);
    }

    /// Bytes of all chunks.
    #[cfg(test)]
    fn mapped(&self) -> usize {
        let classes = self.0.borrow();
        classes.iter().flat_map(|class| class.chunks.iter().flatten()).count() * ROOM_CHUNK
    }
}

impl Class {
    /// A room in the first chunk that has one, so that later chunks empty.
    fn take(&mut self) -> Option<(usize, u16, NonNull<u8>)> {
        let rooms = self.rooms_per_chunk();
        let has_room = |chunk: &Option<Chunk>| chunk.as_ref().is_some_and(|c| c.has_room(rooms));
        let found = self.chunks.iter().skip(self.first_free).position(has_room);
        let index = match found {
            Some(after) => self.first_free + after,
            None => self.add_chunk()?,
        };
        // A chunk that was given back left its place before this one: it is filled only when all
        // others are full.
        self.first_free = index;
        let chunk = self.chunks.get_mut(index)?.as_mut()?;
        let room = chunk.free.pop().unwrap_or_else(|| {
            chunk.touched += 1;
            chunk.touched - 1
        });
        if self.unused == Some(index) {
            self.unused = None;
        }
        Some((index, room, chunk.memory.at(usize::from(room) * self.size)))
    }

    fn add_chunk(&mut self) -> Option<usize> {
        let memory = Mapping::new(ROOM_CHUNK).ok()?;
        let chunk = Some(Chunk { memory, free: Vec::new(), touched: 0 });
        match self.chunks.iter().position(Option::is_none) {
            Some(gap) => {
                self.chunks[gap] = chunk;
                Some(gap)
            }
            None => {
                self.chunks.push(chunk);
                Some(self.chunks.len() - 1)
            }
        }
    }

    fn give_back(&mut self, index: usize, room: u16) {
        let Some(chunk) = self.chunks.get_mut(index).and_then(Option::as_mut) else { return };
        chunk.free.push(room);
        self.first_free = self.first_free.min(index);
        if chunk.free.len() < usize::from(chunk.touched) {
            return;
        }
        // One is kept, the first one: a level that moves around the edge of a chunk must not map
        // and unmap with every future.
        match self.unused {
            Some(kept) if kept < index => self.chunks[index] = None,
            Some(later) => {
                self.chunks[later] = None;
                self.unused = Some(index);
            }
            None => self.unused = Some(index),
        }
        while self.chunks.last().is_some_and(Option::is_none) {
            self.chunks.pop();
        }
    }

    fn rooms_per_chunk(&self) -> usize {
        ROOM_CHUNK / self.size
    }
}

impl Chunk {
    fn has_room(&self, rooms: usize) -> bool {
        !self.free.is_empty() || usize::from(self.touched) < rooms
    }
}

impl<F: Future> Future for Brief<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match &mut self.get_mut().0 {
            Home::Heap(future) => future.as_mut().poll(cx),
            Home::Room { future, .. } => {
                // SAFETY: the room holds the future until this is dropped, and only this refers to
                // it.
                let future = unsafe { future.as_mut() };
                // SAFETY: it never leaves its room, and is dropped there.
                unsafe { Pin::new_unchecked(future) }.poll(cx)
            }
        }
    }
}

impl<F> Drop for Brief<F> {
    fn drop(&mut self) {
        if let Home::Room { future, place, rooms, .. } = &self.0 {
            // SAFETY: the future was written by `house`, is dropped only here, and its room is
            // given back only after that.
            unsafe { future.drop_in_place() };
            rooms.give_back(place);
        }
    }
}

impl<F> fmt::Debug for Brief<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_housed = matches!(self.0, Home::Room { .. });
        f.write_str(if is_housed { "Brief(in a room)" } else { "Brief(on the heap)" })
    }
}

const _: () = assert!(ROOM_CHUNK / STEP <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;

    /// A future of some size that knows whether it is still itself.
    struct Marked<const SIZE: usize> {
        mark: [u64; SIZE],
        dropped: Rc<RefCell<Vec<u64>>>,
    }

    impl<const SIZE: usize> Future for Marked<SIZE> {
        type Output = u64;

        fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<u64> {
            assert!(self.mark.iter().all(|word| *word == self.mark[0]), "overwritten");
            Poll::Ready(self.mark[0])
        }
    }

    impl<const SIZE: usize> Drop for Marked<SIZE> {
        fn drop(&mut self) {
            self.dropped.borrow_mut().push(self.mark[0]);
        }
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn marked<const SIZE: usize>(
        rooms: &Rc<Rooms>,
        mark: u64,
        dropped: &Rc<RefCell<Vec<u64>>>,
    ) -> Brief<Marked<SIZE>> {
        rooms.house(Marked { mark: [mark; SIZE], dropped: Rc::clone(dropped) })
    }

    #[test]
    fn a_burst_gives_its_memory_back() {
        let (rooms, dropped) = (Rc::new(Rooms::default()), Rc::default());
        let mut burst: Vec<_> = (0..5000).map(|n| marked::<200>(&rooms, n, &dropped)).collect();
        assert!(rooms.mapped() >= 5000 * 200 * 8);
        burst.iter_mut().zip(0..).for_each(|(future, n)| assert_eq!(poll(future), Some(n)));
        // In the order in which they came, as openings end.
        burst.drain(..).for_each(drop);
        assert_eq!(rooms.mapped(), ROOM_CHUNK, "one chunk is kept for the next");
        assert_eq!(dropped.borrow().len(), 5000);
    }

    #[test]
    fn a_level_at_the_edge_of_a_chunk_keeps_its_chunks() {
        let (rooms, dropped) = (Rc::new(Rooms::default()), Rc::default());
        let full = ROOM_CHUNK / marked_size::<200>();
        let _held: Vec<_> = (0..full as u64).map(|n| marked::<200>(&rooms, n, &dropped)).collect();
        for n in 0..3 {
            drop(marked::<200>(&rooms, n, &dropped));
            assert_eq!(rooms.mapped(), 2 * ROOM_CHUNK);
        }
    }

    fn marked_size<const SIZE: usize>() -> usize {
        size_of::<Marked<SIZE>>().next_multiple_of(STEP)
    }

    #[test]
    fn what_is_too_large_or_of_too_many_sizes_is_on_the_heap() {
        let (rooms, dropped) = (Rc::new(Rooms::default()), Rc::default());
        let mut large = marked::<{ ROOM_CHUNK / 8 }>(&rooms, 1, &dropped);
        assert!(format!("{large:?}").contains("heap") && poll(&mut large) == Some(1));
        assert_eq!(rooms.mapped(), 0);
        let sizes = (
            marked::<8>(&rooms, 2, &dropped),
            marked::<16>(&rooms, 3, &dropped),
            marked::<24>(&rooms, 4, &dropped),
            marked::<32>(&rooms, 5, &dropped),
            marked::<40>(&rooms, 6, &dropped),
            marked::<48>(&rooms, 7, &dropped),
            marked::<56>(&rooms, 8, &dropped),
            marked::<64>(&rooms, 9, &dropped),
        );
        assert!(rooms.mapped() == ROOM_SIZES * ROOM_CHUNK, "as many sizes as there are above");
        let mut one_more = marked::<72>(&rooms, 10, &dropped);
        assert!(format!("{one_more:?}").contains("heap") && poll(&mut one_more) == Some(10));
        drop((large, sizes, one_more));
        assert_eq!(*dropped.borrow(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_future_may_own_others_of_its_size() {
        let rooms = Rc::new(Rooms::default());
        let inner = rooms.house([0u8; 100]);
        let outer = rooms.house((inner, [0u8; 40]));
        drop(outer);
        assert_eq!(rooms.0.borrow()[0].unused, Some(0));
    }

    proptest! {
        #[test]
        fn rooms_are_never_shared(steps in prop::collection::vec((any::<bool>(), any::<u16>()), 1..400)) {
            let (rooms, dropped) = (Rc::new(Rooms::default()), Rc::default());
            let mut held = Vec::new();
            for (n, (is_new, pick)) in (0u64..).zip(steps) {
                if is_new || held.is_empty() {
                    held.push((n, marked::<1000>(&rooms, n, &dropped)));
                } else {
                    let (mark, mut future) = held.swap_remove(usize::from(pick) % held.len());
                    prop_assert_eq!(poll(&mut future), Some(mark));
                }
            }
            let chunks = rooms.mapped() / ROOM_CHUNK;
            for (mark, future) in &mut held {
                prop_assert_eq!(poll(future), Some(*mark));
            }
            drop(held);
            prop_assert!(chunks <= 400 / 8 + 2 && rooms.mapped() <= ROOM_CHUNK);
        }
    }
}
