//! Instruction sets, and loops compiled once for each.

/// An instruction set that the executor's loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileIsa {
    /// What every processor of the architecture has.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl TileIsa {
    /// The best one that this processor has.
    pub fn detect() -> Self {
        if Self::Avx512.is_supported() {
            Self::Avx512
        } else if Self::Avx2.is_supported() {
            Self::Avx2
        } else {
            Self::Scalar
        }
    }

    /// Whether this processor has it.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

impl From<crate::cpu::features::Isa> for TileIsa {
    /// The loops that a session with these kernels runs: the AVX-512 loops need more of AVX-512 than the kernels do.
    fn from(isa: crate::cpu::features::Isa) -> Self {
        use crate::cpu::features::Isa;
        match isa {
            Isa::Scalar => Self::Scalar,
            Isa::Avx512 if Self::Avx512.is_supported() => Self::Avx512,
            Isa::Avx2 | Isa::Avx512 => Self::Avx2,
        }
    }
}

/// Defines `unsafe fn $name(isa, args)` that runs `$body`, an `#[inline(always)]` function, compiled for `isa`.
/// Calling it needs what `$body` needs, and a processor that supports `isa`.
macro_rules! for_each_isa {
    ($vis:vis unsafe fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:path) => {
        #[allow(clippy::too_many_arguments, reason = "an instruction set comes before the loop's own arguments")]
        $vis unsafe fn $name(isa: $crate::tile::TileIsa, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's promise.
                unsafe { $body($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            unsafe fn avx512($($arg: $type),*) $(-> $result)? {
                // SAFETY: the caller's promise.
                unsafe { $body($($arg),*) }
            }
            // SAFETY: the caller's promise, which includes the instruction set.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::tile::TileIsa::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::tile::TileIsa::Avx512 => avx512($($arg),*),
                    _ => $body($($arg),*),
                }
            }
        }
    };
}
pub(super) use for_each_isa;

/// `d[i] = $e` with `$x = a[i]`, over the first `$n` elements at two pointers. No slices: where a step runs in place,
/// `$d` and `$a` are one address, and an element is read before it is written.
macro_rules! map1 {
    ($n:expr, $d:expr => $dt:ty, $a:expr => $at:ty, $x:ident => $e:expr) => {{
        let (d, a) = ($d.cast::<$dt>(), $a.cast::<$at>());
        for i in 0..$n {
            let $x = a.add(i).read();
            d.add(i).write($e);
        }
    }};
}
pub(super) use map1;

/// `d[i] = $e` with `$x = a[i]` and `$y = b[i]`, over the first `$n` elements at three pointers; see [`map1`].
macro_rules! map2 {
    ($n:expr, $d:expr => $dt:ty, $a:expr, $b:expr => $at:ty, $x:ident, $y:ident => $e:expr) => {{
        let (d, a, b) = ($d.cast::<$dt>(), $a.cast::<$at>(), $b.cast::<$at>());
        for i in 0..$n {
            let ($x, $y) = (a.add(i).read(), b.add(i).read());
            d.add(i).write($e);
        }
    }};
}
pub(super) use map2;
