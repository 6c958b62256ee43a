//! Runs of elements between memory and lanes.
//!
//! `n` elements of type `elem`, `stride` elements apart from the one at the memory pointer on, may be accessed there,
//! at any alignment; the lane pointer holds `n` aligned elements of the lane type and overlaps none of them.

use super::isa::for_each_isa;
use crate::elem::ElemType;
use crate::tile::narrow::{self, E2M1, E4M3FN, E4M3FNUZ, E5M2, E5M2FNUZ, Format};

macro_rules! load_as {
    ($src:expr, $stride:expr, $dst:expr, $n:expr, $raw:ty => $lane:ty, $x:ident => $value:expr) => {{
        let d = std::slice::from_raw_parts_mut($dst.cast::<$lane>(), $n);
        let s = $src.cast::<[u8; size_of::<$raw>()]>();
        match $stride {
            1 => {
                for (d, s) in d.iter_mut().zip(std::slice::from_raw_parts(s, $n)) {
                    let $x = <$raw>::from_ne_bytes(*s);
                    *d = $value;
                }
            }
            0 => {
                let $x = <$raw>::from_ne_bytes(*s);
                d.fill($value);
            }
            stride => {
                for (i, d) in d.iter_mut().enumerate() {
                    let $x = <$raw>::from_ne_bytes(*s.offset(i as isize * stride));
                    *d = $value;
                }
            }
        }
    }};
}

#[inline(always)]
unsafe fn load_body(elem: ElemType, src: *const u8, stride: isize, dst: *mut u8, n: usize) {
    use ElemType::*;
    // SAFETY: the contract of this module.
    unsafe {
        match elem {
            F32 => load_as!(src, stride, dst, n, u32 => u32, x => x),
            F64 | I64 | U64 => load_as!(src, stride, dst, n, u64 => u64, x => x),
            F16 => load_as!(src, stride, dst, n, u16 => f32, x => narrow::decode_f16(x)),
            BF16 => load_as!(src, stride, dst, n, u16 => f32, x => narrow::decode_bf16(x)),
            I32 => load_as!(src, stride, dst, n, i32 => i64, x => i64::from(x)),
            I16 => load_as!(src, stride, dst, n, i16 => i64, x => i64::from(x)),
            I8 => load_as!(src, stride, dst, n, i8 => i64, x => i64::from(x)),
            U32 => load_as!(src, stride, dst, n, u32 => u64, x => u64::from(x)),
            U16 => load_as!(src, stride, dst, n, u16 => u64, x => u64::from(x)),
            U8 => load_as!(src, stride, dst, n, u8 => u64, x => u64::from(x)),
            Bool => load_as!(src, stride, dst, n, u8 => i64, x => i64::from(x != 0)),
            I4 => load_as!(src, stride, dst, n, i8 => i64, x => i64::from(x << 4 >> 4)),
            I2 => load_as!(src, stride, dst, n, i8 => i64, x => i64::from(x << 6 >> 6)),
            U4 => load_as!(src, stride, dst, n, u8 => u64, x => u64::from(x & 15)),
            U2 => load_as!(src, stride, dst, n, u8 => u64, x => u64::from(x & 3)),
            F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1 => {
                let table = narrow::byte_table(elem);
                load_as!(src, stride, dst, n, u8 => f32, x => table[usize::from(x)]);
            }
        }
    }
}

macro_rules! store_as {
    ($dst:expr, $stride:expr, $src:expr, $n:expr, $lane:ty => $raw:ty, $x:ident => $value:expr) => {{
        let s = std::slice::from_raw_parts($src.cast::<$lane>(), $n);
        let d = $dst.cast::<[u8; size_of::<$raw>()]>();
        if $stride == 1 {
            for (d, &$x) in std::slice::from_raw_parts_mut(d, $n).iter_mut().zip(s) {
                *d = <$raw>::to_ne_bytes($value);
            }
        } else {
            for (i, &$x) in s.iter().enumerate() {
                *d.offset(i as isize * $stride) = <$raw>::to_ne_bytes($value);
            }
        }
    }};
}

#[inline(always)]
unsafe fn store_body(elem: ElemType, dst: *mut u8, stride: isize, src: *const u8, n: usize) {
    use ElemType::*;
    // SAFETY: the contract of this module.
    unsafe {
        match elem {
            F32 => store_as!(dst, stride, src, n, u32 => u32, x => x),
            F64 | I64 | U64 => store_as!(dst, stride, src, n, u64 => u64, x => x),
            F16 => store_as!(dst, stride, src, n, f32 => u16, x => narrow::encode_f16(x)),
            BF16 => store_as!(dst, stride, src, n, f32 => u16, x => narrow::encode_bf16(x)),
            I32 | U32 => store_as!(dst, stride, src, n, u64 => u32, x => x as u32),
            I16 | U16 => store_as!(dst, stride, src, n, u64 => u16, x => x as u16),
            I8 | U8 => store_as!(dst, stride, src, n, u64 => u8, x => x as u8),
            Bool => store_as!(dst, stride, src, n, u64 => u8, x => u8::from(x != 0)),
            I4 => store_as!(dst, stride, src, n, i64 => i8, x => (x as i8) << 4 >> 4),
            I2 => store_as!(dst, stride, src, n, i64 => i8, x => (x as i8) << 6 >> 6),
            U4 => store_as!(dst, stride, src, n, u64 => u8, x => x as u8 & 15),
            U2 => store_as!(dst, stride, src, n, u64 => u8, x => x as u8 & 3),
            F8E4M3FN => {
                store_as!(dst, stride, src, n, f32 => u8, x => Format::encode(E4M3FN, x, false) as u8)
            }
            F8E4M3FNUZ => {
                store_as!(dst, stride, src, n, f32 => u8, x => Format::encode(E4M3FNUZ, x, false) as u8)
            }
            F8E5M2 => store_as!(dst, stride, src, n, f32 => u8, x => Format::encode(E5M2, x, false) as u8),
            F8E5M2FNUZ => {
                store_as!(dst, stride, src, n, f32 => u8, x => Format::encode(E5M2FNUZ, x, false) as u8)
            }
            F4E2M1 => store_as!(dst, stride, src, n, f32 => u8, x => Format::encode(E2M1, x, false) as u8),
            F8E8M0 => store_as!(dst, stride, src, n, f32 => u8, x => narrow::encode_e8m0(x, false) as u8),
        }
    }
}

for_each_isa! {
    pub(super) unsafe fn load(elem: ElemType, src: *const u8, stride: isize, dst: *mut u8, n: usize) = load_body
}
for_each_isa! {
    pub(super) unsafe fn store(elem: ElemType, dst: *mut u8, stride: isize, src: *const u8, n: usize) = store_body
}
