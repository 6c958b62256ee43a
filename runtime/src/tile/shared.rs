//! Output bytes that several workers write at once.

/// A byte range that several workers write, each its own part of it.
#[derive(Clone, Copy, Debug)]
pub struct SharedBytes {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: the contract of `new` makes every use from another thread touch bytes that no other thread touches.
unsafe impl Send for SharedBytes {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// A range that may be handed to several workers.
    ///
    /// # Safety
    /// While any copy is in use, `ptr..ptr + len` must be initialised memory that may be written, no reference to it
    /// may be used, and users on different threads must write disjoint bytes and read only bytes that they wrote
    /// themselves.
    ///
    /// Ranges used at the same time may overlap only where none of them is written, or in place: they start at one
    /// address, and the plan reads one and writes the other through equal accesses to elements of one size, visits each
    /// element once, stores to it once, and loads nothing after the store.
    pub const unsafe fn new(ptr: *mut u8, len: usize) -> Self {
        Self { ptr, len }
    }

    /// First byte.
    pub const fn as_ptr(self) -> *mut u8 {
        self.ptr
    }

    /// Length in bytes.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}
