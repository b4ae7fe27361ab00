//! Bytes in a row: appended at the end, taken from the front, whole slices at a time.

/// The bytes.
#[derive(Debug, Default)]
pub(super) struct ByteQueue {
    bytes: Vec<u8>,
    start: usize,
}

impl ByteQueue {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `n` bytes, or all if there are fewer.
    pub(super) fn front(&self, n: usize) -> &[u8] {
        &self.bytes[self.start..self.start + n.min(self.len())]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops the first `n` bytes, or all if there are fewer.
    pub(super) fn drop_front(&mut self, n: usize) {
        self.start += n.min(self.len());
    }

    /// Keeps only the first `n` bytes.
    pub(super) fn truncate(&mut self, n: usize) {
        self.bytes.truncate(self.start + n);
    }

    /// Moves the first `n` bytes to the end of `to`.
    pub(super) fn move_to(&mut self, to: &mut Self, n: usize) {
        to.push(self.front(n));
        self.drop_front(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_in_which_they_went_in() {
        let mut queue = ByteQueue::default();
        queue.push(b"abcdef");
        queue.drop_front(4);
        queue.push(b"gh");
        assert_eq!((queue.front(3), queue.len()), (&b"efg"[..], 4));
        queue.truncate(3);
        let mut other = ByteQueue::default();
        queue.move_to(&mut other, 9);
        assert_eq!((queue.is_empty(), other.front(9)), (true, &b"efg"[..]));
    }
}
