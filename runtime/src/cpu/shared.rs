//! An output buffer that several threads write at once, each its own elements.

use std::marker::PhantomData;
use std::ops::Range;

/// Exclusive access to a buffer, divisible among threads.
///
/// A handle can be sent to another thread but not used by two at once (it is not `Sync`). Several handles to one
/// buffer exist only through [`Self::share`] and [`Self::from_raw_parts`], whose callers promise that concurrent
/// users write disjoint elements. Kernel entries keep that promise when they run with the same arguments, the same
/// part count and different part indices.
pub struct SharedMut<'a, T> {
    ptr: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a handle owns exclusive access to its elements, as `&mut [T]` does, or shares it by a promise that
// concurrent users touch disjoint elements.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// The only handle to `data`.
    pub fn new(data: &'a mut [T]) -> Self {
        Self { ptr: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    /// A handle to `len` elements from `ptr`.
    ///
    /// # Safety
    /// `ptr` is aligned and valid for reads and writes of `len` initialised elements for `'a`, during which everyone
    /// else who uses those elements at the same time touches only elements that users of this handle do not.
    pub unsafe fn from_raw_parts(ptr: *mut T, len: usize) -> Self {
        Self { ptr, len, life: PhantomData }
    }

    /// Another handle to the same elements.
    ///
    /// # Safety
    /// Two handles that are in use at the same time touch disjoint elements.
    pub unsafe fn share(&self) -> Self {
        Self { ptr: self.ptr, len: self.len, life: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element.
    pub fn as_ptr(&self) -> *mut T {
        self.ptr
    }

    /// The elements of `range`, or `None` if it is not inside the buffer.
    ///
    /// # Safety
    /// While the slice lives nobody else touches its elements.
    #[allow(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    pub unsafe fn slice(&self, range: Range<usize>) -> Option<&mut [T]> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: the range is inside the buffer, which is valid for 'a; exclusive by the caller's promise.
        Some(unsafe { std::slice::from_raw_parts_mut(self.ptr.add(range.start), range.end - range.start) })
    }
}

#[cfg(test)]
mod tests {
    use super::SharedMut;

    #[test]
    fn slices_are_checked() {
        let mut data = [1, 2, 3];
        let shared = SharedMut::new(&mut data);
        assert_eq!(shared.len(), 3);
        // SAFETY: one slice at a time.
        unsafe {
            assert_eq!(shared.slice(1..3), Some(&mut [2, 3][..]));
            assert_eq!(shared.slice(3..3), Some(&mut [][..]));
            assert_eq!(shared.slice(2..4), None);
            #[allow(clippy::reversed_empty_ranges, reason = "that is the case under test")]
            let reversed = shared.slice(2..1);
            assert_eq!(reversed, None);
        }
    }
}
