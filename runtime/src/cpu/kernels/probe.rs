//! The arithmetic peak of an instruction set: multiply-adds that stay in registers, without loads and stores.

use super::KernelError;
use super::simd::{Scalar, Simd};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};
use crate::cpu::Isa;
use std::hint::black_box;

/// Does `passes` rounds of independent f32 multiply-adds with the instructions of `isa`, and gives how many arithmetic
/// operations that were (a multiply-add counts 2). Whoever times it learns the peak rate of one core.
///
/// # Errors
/// [`KernelError::Unavailable`] if the machine lacks the instruction set.
pub fn multiply_adds(isa: Isa, passes: u32) -> Result<u64, KernelError> {
    if !isa.is_available() {
        return Err(KernelError::Unavailable(isa.name()));
    }
    match isa {
        // SAFETY: portable code runs everywhere.
        Isa::Scalar => Ok(unsafe { rounds::<Scalar, 6>(passes) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instruction set, as checked above.
        Isa::Avx2 => Ok(unsafe { avx2(passes) }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => Ok(unsafe { avx512(passes) }),
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => Err(KernelError::Unavailable(isa.name())),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(passes: u32) -> u64 {
    // SAFETY: the caller's promise is that of this function.
    unsafe { rounds::<Avx2, 12>(passes) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512(passes: u32) -> u64 {
    // SAFETY: the caller's promise is that of this function.
    unsafe { rounds::<Avx512, 12>(passes) }
}

/// `N` chains hide the latency of the arithmetic; with the two factors they fit into the registers.
///
/// # Safety
/// The machine has the instruction set of `S`.
#[inline(always)]
unsafe fn rounds<S: Simd, const N: usize>(passes: u32) -> u64 {
    // SAFETY: by the caller's promise; the store is of one vector, and no vector has more than 16 lanes.
    unsafe {
        let (x, y) = (S::splat(black_box(0.999)), S::splat(black_box(0.001)));
        let mut chains = [S::splat(black_box(0.5)); N];
        for _ in 0..passes {
            for chain in &mut chains {
                *chain = S::fma(*chain, x, y);
            }
        }
        let mut sum = chains[0];
        for chain in &chains[1..] {
            sum = S::add(sum, *chain);
        }
        let mut lanes = [0.0f32; 16];
        S::store(lanes.as_mut_ptr(), sum);
        black_box(lanes);
    }
    2 * (S::LANES * N) as u64 * u64::from(passes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_instruction_set_counts_its_work() {
        for (isa, lanes) in [(Isa::Scalar, 8 * 6), (Isa::Avx2, 8 * 12), (Isa::Avx512, 16 * 12)] {
            let done = multiply_adds(isa, 1000);
            let unavailable = Err(KernelError::Unavailable(isa.name()));
            assert_eq!(done, if isa.is_available() { Ok(2 * 1000 * lanes) } else { unavailable });
        }
    }
}
