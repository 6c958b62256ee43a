//! Float types narrower than 32 bits: exact decoding, rounding half to even. Written without branches where the loops
//! of the executor are to be vectorised.

use crate::elem::ElemType;

/// Layout of a binary floating-point type of at most 16 bits.
#[derive(Clone, Copy)]
pub(super) struct Format {
    /// Stored bits of the significand.
    mantissa: u32,
    bias: u32,
    /// Bits below the sign.
    sign_shift: u32,
    /// Code of the largest finite number.
    max: u32,
    /// What a finite number above `max` becomes when saturating and when not.
    overflow: [u32; 2],
    /// What infinity becomes when not saturating and when saturating.
    infinity: [u32; 2],
    nan: u32,
    /// No negative zero: its code is the only NaN.
    unsigned_zero: bool,
}

pub(super) const F16: Format = Format {
    mantissa: 10,
    bias: 15,
    sign_shift: 15,
    max: 0x7BFF,
    overflow: [0x7C00; 2],
    infinity: [0x7C00; 2],
    nan: 0x7E00,
    unsigned_zero: false,
};
pub(super) const E4M3FN: Format = Format {
    mantissa: 3,
    bias: 7,
    sign_shift: 7,
    max: 0x7E,
    overflow: [0x7F, 0x7E],
    infinity: [0x7F, 0x7E],
    nan: 0x7F,
    unsigned_zero: false,
};
pub(super) const E4M3FNUZ: Format = Format {
    mantissa: 3,
    bias: 8,
    sign_shift: 7,
    max: 0x7F,
    overflow: [0x80, 0x7F],
    infinity: [0x80, 0x7F],
    nan: 0x80,
    unsigned_zero: true,
};
pub(super) const E5M2: Format = Format {
    mantissa: 2,
    bias: 15,
    sign_shift: 7,
    max: 0x7B,
    overflow: [0x7C, 0x7B],
    infinity: [0x7C, 0x7B],
    nan: 0x7F,
    unsigned_zero: false,
};
pub(super) const E5M2FNUZ: Format = Format {
    mantissa: 2,
    bias: 16,
    sign_shift: 7,
    max: 0x7F,
    overflow: [0x80, 0x7F],
    infinity: [0x80, 0x7F],
    nan: 0x80,
    unsigned_zero: true,
};
pub(super) const E2M1: Format = Format {
    mantissa: 1,
    bias: 1,
    sign_shift: 3,
    max: 7,
    overflow: [7; 2],
    infinity: [7; 2],
    nan: 8,
    unsigned_zero: false,
};

impl Format {
    /// The code nearest to `x`, ties to even.
    #[inline(always)]
    pub(super) fn encode(self, x: f32, saturate: bool) -> u32 {
        let bits = x.to_bits();
        let magnitude = bits & 0x7FFF_FFFF;
        let shift = 23 - self.mantissa;
        let normal = magnitude.wrapping_add((1 << (shift - 1)) - 1).wrapping_add((magnitude >> shift) & 1);
        let normal = (normal >> shift).wrapping_sub((127 - self.bias) << self.mantissa);
        // Adding a number whose last bit weighs as much as the smallest denormal rounds to a multiple of it.
        let magic = (127 + 1 - self.bias + shift) << 23;
        let denormal = (f32::from_bits(magnitude) + f32::from_bits(magic)).to_bits().wrapping_sub(magic);
        let code = if magnitude < (128 - self.bias) << 23 { denormal } else { normal };
        let code = if code > self.max { self.overflow[usize::from(saturate)] } else { code };
        let code = if magnitude == 0x7F80_0000 { self.infinity[usize::from(saturate)] } else { code };
        let is_nan = magnitude > 0x7F80_0000;
        let code = if is_nan { self.nan } else { code };
        let sign = (bits >> 31) << self.sign_shift;
        let drops_sign =
            (self.unsigned_zero && (code == 0 || code == self.nan)) || (self.mantissa == 1 && is_nan);
        if drops_sign { code } else { code | sign }
    }

    /// The number that a finite code stands for.
    #[inline(always)]
    const fn decode_finite(self, code: u32) -> f32 {
        let magnitude = code & ((1 << self.sign_shift) - 1);
        let sign = (code >> self.sign_shift & 1) << 31;
        let scale = f32::from_bits((127 + 127 - self.bias) << 23);
        let value = f32::from_bits(magnitude << (23 - self.mantissa)) * scale;
        f32::from_bits(value.to_bits() | sign)
    }

    const fn table(self) -> [f32; 256] {
        let mut table = [0.0; 256];
        let mut code = 0;
        while code < 256 {
            table[code as usize] = self.decode(code);
            code += 1;
        }
        table
    }

    const fn decode(self, code: u32) -> f32 {
        if self.mantissa == 1 {
            return self.decode_finite(code & 15);
        }
        let magnitude = code & 0x7F;
        let sign = (code >> 7) << 31;
        if self.unsigned_zero {
            return if code == self.nan { f32::NAN } else { self.decode_finite(code) };
        }
        if magnitude <= self.max {
            return self.decode_finite(code);
        }
        let special =
            if magnitude == self.infinity[0] && magnitude != self.nan { 0x7F80_0000 } else { 0x7FC0_0000 };
        f32::from_bits(special | sign)
    }
}

static TABLES: [[f32; 256]; 6] =
    [E4M3FN.table(), E4M3FNUZ.table(), E5M2.table(), E5M2FNUZ.table(), E2M1.table(), e8m0_table()];

const fn e8m0_table() -> [f32; 256] {
    let mut table = [f32::NAN; 256];
    let mut code = 1;
    table[0] = f32::from_bits(1 << 22);
    while code < 255 {
        table[code as usize] = f32::from_bits(code << 23);
        code += 1;
    }
    table
}

/// Values of the 256 codes of a one-byte float type.
#[inline(always)]
pub(super) fn byte_table(elem: ElemType) -> &'static [f32; 256] {
    match elem {
        ElemType::F8E4M3FN => &TABLES[0],
        ElemType::F8E4M3FNUZ => &TABLES[1],
        ElemType::F8E5M2 => &TABLES[2],
        ElemType::F8E5M2FNUZ => &TABLES[3],
        ElemType::F4E2M1 => &TABLES[4],
        _ => &TABLES[5],
    }
}

/// The power of two nearest to `|x|`, ties up; a NaN or an infinity is NaN. ONNX drops the sign.
#[inline(always)]
pub(super) fn encode_e8m0(x: f32, saturate: bool) -> u32 {
    let magnitude = x.to_bits() & 0x7FFF_FFFF;
    let normal = (magnitude + (1 << 22)) >> 23;
    // Halfway between 2^-127 and 2^-126.
    let code = if magnitude < 1 << 23 { u32::from(magnitude >= 0x60_0000) } else { normal };
    let code = if code > 254 { if saturate { 254 } else { 255 } } else { code };
    if magnitude >= 0x7F80_0000 { 255 } else { code }
}

/// f32 to f16 bits, ties to even; a NaN keeps its sign and the top of its payload.
#[inline(always)]
pub(super) fn encode_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let code = F16.encode(x, false);
    let payload = if bits & 0x7FFF_FFFF > 0x7F80_0000 { (bits >> 13) & 0x1FF } else { 0 };
    (code | payload) as u16
}

/// f16 bits to f32.
#[inline(always)]
pub(super) fn decode_f16(code: u16) -> f32 {
    let code = u32::from(code);
    let finite = F16.decode_finite(code).to_bits();
    let quiet = if code & 0x3FF != 0 { 1 << 22 } else { 0 };
    let special = 0x7F80_0000 | (code & 0x3FF) << 13 | (code >> 15) << 31 | quiet;
    f32::from_bits(if code & 0x7C00 == 0x7C00 { special } else { finite })
}

/// f32 to bf16 bits, ties to even; a NaN keeps its sign and the top of its payload.
#[inline(always)]
pub(super) fn encode_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF).wrapping_add((bits >> 16) & 1) >> 16;
    (if bits & 0x7FFF_FFFF > 0x7F80_0000 { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// bf16 bits to f32.
#[inline(always)]
pub(super) fn decode_bf16(code: u16) -> f32 {
    f32::from_bits(u32::from(code) << 16)
}
