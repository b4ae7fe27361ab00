//! Reading lengths and what they announce from a slice.

/// What has not been read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of `len` bytes, at most four.
    pub(super) fn number(&mut self, len: usize) -> Option<usize> {
        let bytes = self.take(len)?;
        Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// What a length of `len` bytes announces.
    pub(super) fn vector(&mut self, len: usize) -> Option<Self> {
        let len = self.number(len)?;
        self.take(len).map(Self)
    }

    /// A text and the zero that ends it.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }
}
