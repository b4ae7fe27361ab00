//! Anonymous memory straight from the kernel, which touches nothing until it is written.

use std::io;
use std::ptr::NonNull;

/// Anonymous memory, page-aligned, unmapped on drop.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// So many bytes, all zero.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start, len }).ok_or_else(|| {
            io::Error::other("the kernel mapped memory at address 0, which nothing can use")
        })
    }

    /// The byte at an offset, which must not lie behind the end.
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.len, "an offset inside of the mapping");
        // SAFETY: just checked.
        unsafe { self.start.add(offset) }
    }

    /// Gives the memory behind some whole pages back to the system; they read as zeros from now on.
    pub(super) fn discard(&self, offset: usize, len: usize) {
        assert!(offset <= self.len && len <= self.len - offset, "pages inside of the mapping");
        let start = self.at(offset).as_ptr().cast();
        // SAFETY: the pages lie inside of this private mapping, which stays mapped. A refusal
        // changes nothing.
        unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this, and nothing refers to it any more: what its owners
        // lend of it (buffers, rooms) holds them alive.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
