//! Every kernel of every instruction set that this machine has, against naive loops in f64, with all operands between
//! guard pages, whole and in parts.

#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

mod attention;
mod conv;
mod gather_matmul;
mod matmul;
mod recurrent;
mod refuse;
mod rows;
mod scattered;
mod sparse;
mod winograd;

use autoglm_runtime::cpu::kernels::{KernelError, Kernels, Part};
use autoglm_runtime::cpu::{Isa, SharedMut};
use std::ops::Deref;

/// Unit roundoff of f32.
pub(crate) const U: f64 = 5.97e-8;

/// Fills outputs; no kernel makes this NaN.
const CANARY: u32 = 0x7fc5_a5a5;

/// The kernels that can be tested here.
pub(crate) fn all_kernels() -> Vec<Kernels> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(|isa| Kernels::new(isa).unwrap()).collect()
}

/// A deterministic stream of numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// A number in `[-1, 1)`.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() & 0xff_ffff) as f32 / 8_388_608.0 - 1.0
    }

    pub(crate) fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

/// A buffer that touches an inaccessible page at one end, and has at most a page to the one at the other end.
#[cfg(unix)]
pub(crate) struct Guarded {
    map: memmap2::MmapMut,
    start: usize,
    len: usize,
}

#[cfg(unix)]
impl Guarded {
    pub(crate) fn new(data: &[f32], at_end: bool) -> Self {
        // SAFETY: a plain query.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let bytes = size_of_val(data);
        let inner = bytes.div_ceil(page) * page;
        let mut map = memmap2::MmapMut::map_anon(inner + 2 * page).unwrap();
        for guard in [0, page + inner] {
            // SAFETY: the page is inside this mapping, and nothing refers to it.
            let failed = unsafe { libc::mprotect(map.as_mut_ptr().add(guard).cast(), page, libc::PROT_NONE) };
            assert_eq!(failed, 0);
        }
        let start = if at_end { page + inner - bytes } else { page };
        // SAFETY: the range lies between the guards, and `start` is a multiple of 4.
        unsafe {
            std::ptr::copy_nonoverlapping(data.as_ptr(), map.as_mut_ptr().add(start).cast(), data.len())
        };
        Self { map, start, len: data.len() }
    }

    pub(crate) fn elements(&mut self) -> &mut [f32] {
        // SAFETY: the range lies between the guards, is aligned and initialised, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(self.start).cast(), self.len) }
    }
}

#[cfg(unix)]
impl Deref for Guarded {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: as for `elements`.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start).cast(), self.len) }
    }
}

/// Where pages cannot be protected, a plain buffer.
#[cfg(not(unix))]
pub(crate) struct Guarded(Vec<f32>);

#[cfg(not(unix))]
impl Guarded {
    pub(crate) fn new(data: &[f32], _at_end: bool) -> Self {
        Self(data.to_vec())
    }

    pub(crate) fn elements(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(not(unix))]
impl Deref for Guarded {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

/// Runs `kernel` whole and in parts; asserts that every element is written by exactly one part and that the results are
/// equal to the bit; returns them.
pub(crate) fn in_parts(
    len: usize,
    kernel: impl Fn(&SharedMut<f32>, Part) -> Result<(), KernelError>,
) -> Vec<f32> {
    let canaries = vec![f32::from_bits(CANARY); len];
    let mut whole: Option<Vec<f32>> = None;
    for count in [1, 2, 3, 7] {
        let mut merged = canaries.clone();
        for index in 0..count {
            let mut out = Guarded::new(&canaries, index % 2 == 0);
            kernel(&SharedMut::new(out.elements()), Part { index, count }).unwrap();
            for (i, (to, from)) in merged.iter_mut().zip(out.iter()).enumerate() {
                if from.to_bits() != CANARY {
                    assert_eq!(to.to_bits(), CANARY, "element {i} is written by two of {count} parts");
                    *to = *from;
                }
            }
        }
        let missing = merged.iter().position(|x| x.to_bits() == CANARY);
        assert_eq!(missing, None, "an element is written by none of {count} parts");
        match &whole {
            None => whole = Some(merged),
            Some(first) => {
                let same = first.iter().zip(&merged).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{count} parts give another result");
            }
        }
    }
    whole.unwrap()
}

/// Asserts that `got` is within `bound` of `want`.
#[track_caller]
pub(crate) fn close(got: f32, want: f64, bound: f64, what: &dyn Fn() -> String) {
    let off = (f64::from(got) - want).abs();
    assert!(off <= bound, "{}: got {got}, want {want}, off by {off:e}, allowed {bound:e}", what());
}
