//! Memory: aligned buffers, the placement of temporaries in one arena, and the addresses that steps see.

use crate::error::RunError;
use crate::program::ValueId;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

/// Alignment of buffers and of everything in the arena, in bytes: a cache line and the widest vector.
pub const ALIGN: usize = 64;

/// A zeroed heap buffer whose address is a multiple of [`ALIGN`].
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the buffer owns its bytes exclusively, like a `Vec<u8>`.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Result<Self, RunError> {
        if len == 0 {
            return Ok(Self::default());
        }
        let fail = || RunError::OutOfMemory(len as u64);
        let layout = Layout::from_size_align(len, ALIGN).map_err(|_| fail())?;
        // SAFETY: the layout's size is not zero.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(fail)?;
        Ok(Self { ptr, len })
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Result<Self, RunError> {
        let mut buf = Self::zeroed(bytes.len())?;
        buf.copy_from_slice(bytes);
        Ok(buf)
    }

    /// The address of the first byte, for access by several workers through [`Memory`].
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl Default for AlignedBuf {
    fn default() -> Self {
        #[repr(align(64))]
        struct Aligned;
        Self { ptr: NonNull::<Aligned>::dangling().cast(), len: 0 }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let (true, Ok(layout)) = (self.len > 0, Layout::from_size_align(self.len, ALIGN)) {
            // SAFETY: `zeroed` allocated these bytes with this layout.
            unsafe { dealloc(self.ptr.as_ptr(), layout) }
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes at `ptr` belong to this buffer (none if it is empty).
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        match Self::copy_of(self) {
            Ok(copy) => copy,
            Err(_) => std::alloc::handle_alloc_error(Layout::new::<u8>()),
        }
    }
}

impl PartialEq for AlignedBuf {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// What a value's address is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Region {
    /// The caller's input buffer with this index.
    Input(u32),
    /// The caller's output buffer with this index.
    Output(u32),
    /// The weights section.
    Const,
    /// The session's arena.
    Arena,
}

/// Where the bytes of a value are in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What `offset` counts from.
    pub region: Region,
    /// First byte.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
}

/// The base addresses of one run. Kept by the session so that a run allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    pub(crate) inputs: Vec<(*const u8, usize)>,
    pub(crate) outputs: Vec<(*mut u8, usize)>,
    pub(crate) consts: (*const u8, usize),
    pub(crate) arena: (*mut u8, usize),
}

// SAFETY: the addresses are only followed by `Memory`, whose constructor states who may do so.
unsafe impl Send for Bases {}
// SAFETY: as above.
unsafe impl Sync for Bases {}

/// The bytes of every value during one run, shared by all workers.
///
/// It hands out addresses; the step that follows them is responsible for staying inside its values (it checked its
/// footprint when it was resolved) and for workers writing disjoint parts. Steps run one after the other.
pub struct Memory<'a> {
    places: &'a [Place],
    bases: &'a Bases,
    borrows: PhantomData<&'a mut [u8]>,
}

impl<'a> Memory<'a> {
    /// Memory over these buffers.
    ///
    /// # Safety
    /// For `'a`, each base must be valid for its length in bytes (outputs and arena also for writes, and by nobody
    /// else), and initialised.
    pub(crate) unsafe fn new(places: &'a [Place], bases: &'a Bases) -> Self {
        Self { places, bases, borrows: PhantomData }
    }

    /// Address and length of a value to read. Values without bytes have a valid address and length 0.
    pub fn src(&self, value: ValueId) -> Result<(*const u8, usize), RunError> {
        let place = self.place(value)?;
        let base = match place.region {
            Region::Input(i) => self.bases.inputs.get(i as usize).copied(),
            Region::Output(i) => self.bases.outputs.get(i as usize).map(|b| (b.0.cast_const(), b.1)),
            Region::Const => Some(self.bases.consts),
            Region::Arena => Some((self.bases.arena.0.cast_const(), self.bases.arena.1)),
        };
        let (ptr, len) = base.ok_or_else(|| unbound(value))?;
        check(place, len, value)?;
        // SAFETY: `check` keeps the range within the base, which is valid for `len` bytes.
        Ok((unsafe { ptr.add(place.offset) }, place.len))
    }

    /// Address and length of a value to write.
    pub fn dst(&self, value: ValueId) -> Result<(*mut u8, usize), RunError> {
        let place = self.place(value)?;
        let base = match place.region {
            Region::Output(i) => self.bases.outputs.get(i as usize).copied(),
            Region::Arena => Some(self.bases.arena),
            Region::Input(_) | Region::Const => None,
        };
        let (ptr, len) = base.ok_or_else(|| unbound(value))?;
        check(place, len, value)?;
        // SAFETY: `check` keeps the range within the base, which is valid for `len` bytes.
        Ok((unsafe { ptr.add(place.offset) }, place.len))
    }

    /// The bytes of a value to read.
    ///
    /// # Safety
    /// While the slice lives no worker may write the value's bytes: it is not an output of the running step, nor
    /// placed over one.
    pub unsafe fn bytes(&self, value: ValueId) -> Result<&[u8], RunError> {
        let (ptr, len) = self.src(value)?;
        // SAFETY: `src` gives a valid, initialised range; the caller excludes writers.
        Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
    }

    /// A range of the bytes of a value to write.
    ///
    /// # Safety
    /// While the slice lives nobody else may read or write these bytes.
    #[allow(clippy::mut_from_ref, reason = "exclusive by the caller's promise")]
    pub unsafe fn bytes_mut(&self, value: ValueId, range: Range<usize>) -> Result<&mut [u8], RunError> {
        let (ptr, len) = self.dst(value)?;
        if range.start > range.end || range.end > len {
            return Err(RunError::Shape(format!("bytes {range:?} of value {value}, which has {len}")));
        }
        // SAFETY: `dst` gives a valid, initialised range, of which this is a part; the caller excludes others.
        Ok(unsafe { std::slice::from_raw_parts_mut(ptr.add(range.start), range.len()) })
    }

    fn place(&self, value: ValueId) -> Result<Place, RunError> {
        self.places.get(value as usize).copied().ok_or_else(|| unbound(value))
    }
}

fn unbound(value: ValueId) -> RunError {
    RunError::Shape(format!("value {value} has no such memory"))
}

fn check(place: Place, len: usize, value: ValueId) -> Result<(), RunError> {
    match place.offset.checked_add(place.len) {
        Some(end) if end <= len => Ok(()),
        _ => Err(RunError::Shape(format!(
            "value {value} at {} with {} bytes exceeds its buffer of {len}",
            place.offset, place.len
        ))),
    }
}
