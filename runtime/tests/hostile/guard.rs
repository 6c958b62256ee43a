//! Memory that tells when something outside of it is touched, and an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is allocated. Memory with the alignment of the runtime's buffers (arena, scratch, weights, tensors) ends
/// at an inaccessible page, but for the bytes that alignment leaves, which must keep a pattern.
struct Guarding;

#[global_allocator]
static ALLOCATOR: Guarding = Guarding;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The alignment of the runtime's buffers.
const ALIGN: usize = 64;
const CANARY: u8 = 0xa5;
#[cfg(unix)]
const PAGE: usize = 4096;

/// Bytes allocated at most at once while `work` ran, beyond those before it.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

// SAFETY: memory comes from the system's allocator, or from a mapping of its own of sufficient size and alignment.
unsafe impl GlobalAlloc for Guarding {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        #[cfg(unix)]
        if layout.align() == ALIGN {
            return mapped::alloc(layout.size());
        }
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        #[cfg(unix)]
        if layout.align() == ALIGN {
            // SAFETY: `alloc` gave this memory for this size.
            return unsafe { mapped::dealloc(ptr, layout.size()) };
        }
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[cfg(unix)]
mod mapped {
    use super::{ALIGN, CANARY, PAGE};

    /// Bytes before the memory, all accessible ones, and those of the mapping with its two guards.
    fn sizes(size: usize) -> (usize, usize, usize) {
        let rounded = size.next_multiple_of(ALIGN);
        let inner = rounded.next_multiple_of(PAGE);
        (inner - rounded, inner, inner + 2 * PAGE)
    }

    pub(super) fn alloc(size: usize) -> *mut u8 {
        let (before, inner, whole) = sizes(size);
        // SAFETY: a new mapping, of which the inner pages are made accessible and filled.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(std::ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0);
            if map == libc::MAP_FAILED {
                return std::ptr::null_mut();
            }
            let start = map.cast::<u8>().add(PAGE);
            if libc::mprotect(start.cast(), inner, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                libc::munmap(map, whole);
                return std::ptr::null_mut();
            }
            start.write_bytes(CANARY, before);
            start.add(before + size).write_bytes(CANARY, inner - before - size);
            start.add(before)
        }
    }

    /// # Safety
    /// `ptr` came from `alloc(size)`.
    pub(super) unsafe fn dealloc(ptr: *mut u8, size: usize) {
        let (before, inner, whole) = sizes(size);
        // SAFETY: the mapping is as `alloc` made it.
        unsafe {
            let start = ptr.sub(before);
            let intact = |from: usize, len: usize| (from..from + len).all(|i| *start.add(i) == CANARY);
            if !intact(0, before) || !intact(before + size, inner - before - size) {
                std::process::abort();
            }
            libc::munmap(start.sub(PAGE).cast(), whole);
        }
    }
}

/// Bytes that touch an inaccessible page at one end. `len` is a multiple of the element size.
#[cfg(unix)]
pub struct Guarded {
    map: memmap2::MmapMut,
    start: usize,
    len: usize,
}

#[cfg(unix)]
impl Guarded {
    pub fn new(len: usize, at_end: bool) -> Self {
        let inner = len.next_multiple_of(PAGE);
        let mut map = memmap2::MmapMut::map_anon(inner + 2 * PAGE).unwrap();
        for guard in [0, PAGE + inner] {
            // SAFETY: the page is inside this mapping, and nothing refers to it.
            let failed = unsafe { libc::mprotect(map.as_mut_ptr().add(guard).cast(), PAGE, libc::PROT_NONE) };
            assert_eq!(failed, 0);
        }
        Self { map, start: if at_end { PAGE + inner - len } else { PAGE }, len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the range lies between the guards and is initialised by the system.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(self.start), self.len) }
    }
}

/// Where pages cannot be protected, a plain buffer.
#[cfg(not(unix))]
pub struct Guarded(autoglm_runtime::memory::AlignedBuf);

#[cfg(not(unix))]
impl Guarded {
    pub fn new(len: usize, _: bool) -> Self {
        Self(autoglm_runtime::memory::AlignedBuf::zeroed(len).unwrap())
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
