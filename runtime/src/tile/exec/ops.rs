//! Scalar forms of the operations that are not one Rust operator.

macro_rules! float_ops {
    ($t:ident) => {
        pub(in crate::tile::exec) mod $t {
            /// -1, 1, or the zero or NaN itself.
            #[inline(always)]
            pub(in crate::tile::exec) fn sign(x: $t) -> $t {
                let unit = (1.0 as $t).copysign(x);
                if x == 0.0 || x.is_nan() { x } else { unit }
            }

            /// The larger; NaN wins; +0 is above -0.
            #[inline(always)]
            pub(in crate::tile::exec) fn max(x: $t, y: $t) -> $t {
                let larger = if x > y { x } else { y };
                let equal = $t::from_bits(x.to_bits() & y.to_bits());
                let result = if x == y { equal } else { larger };
                if x.is_nan() || y.is_nan() { $t::NAN } else { result }
            }

            /// The smaller; NaN wins; +0 is above -0.
            #[inline(always)]
            pub(in crate::tile::exec) fn min(x: $t, y: $t) -> $t {
                let smaller = if x < y { x } else { y };
                let equal = $t::from_bits(x.to_bits() | y.to_bits());
                let result = if x == y { equal } else { smaller };
                if x.is_nan() || y.is_nan() { $t::NAN } else { result }
            }

            #[inline(always)]
            pub(in crate::tile::exec) fn floor_mod(x: $t, y: $t) -> $t {
                let r = x % y;
                let wrapped = if (r < 0.0) != (y < 0.0) { r + y } else { r };
                if r == 0.0 { (0.0 as $t).copysign(y) } else { wrapped }
            }
        }
    };
}
float_ops!(f32);
float_ops!(f64);

macro_rules! int_ops {
    ($t:ident, $floor_mod:item, $pow:item) => {
        pub(in crate::tile::exec) mod $t {
            #[inline(always)]
            pub(in crate::tile::exec) fn div(x: $t, y: $t) -> $t {
                if y == 0 { 0 } else { x.wrapping_div(y) }
            }

            #[inline(always)]
            pub(in crate::tile::exec) fn trunc_mod(x: $t, y: $t) -> $t {
                if y == 0 { 0 } else { x.wrapping_rem(y) }
            }

            #[inline(always)]
            pub(in crate::tile::exec) fn shl(x: $t, y: $t) -> $t {
                let shifted = x.wrapping_shl(y as u32);
                if (y as u64) < 64 { shifted } else { 0 }
            }

            /// What is left after shifting by 64 or more is the sign.
            #[inline(always)]
            pub(in crate::tile::exec) fn shr(x: $t, y: $t) -> $t {
                (x >> (y as u64).min(63)) >> u32::from((y as u64) > 63)
            }

            #[inline(always)]
            $floor_mod

            $pow

            fn pow_natural(mut x: $t, mut y: u64) -> $t {
                let mut result: $t = 1;
                while y > 0 {
                    if y & 1 == 1 {
                        result = result.wrapping_mul(x);
                    }
                    x = x.wrapping_mul(x);
                    y >>= 1;
                }
                result
            }
        }
    };
}
int_ops!(
    i64,
    pub(in crate::tile::exec) fn floor_mod(x: i64, y: i64) -> i64 {
        let r = trunc_mod(x, y);
        if r != 0 && (r < 0) != (y < 0) { r.wrapping_add(y) } else { r }
    },
    pub(in crate::tile::exec) fn pow(x: i64, y: i64) -> i64 {
        match (y >= 0, x) {
            (true, _) => pow_natural(x, y as u64),
            (false, 1) => 1,
            (false, -1) => 1 - 2 * (y & 1),
            (false, _) => 0,
        }
    }
);
int_ops!(
    u64,
    pub(in crate::tile::exec) fn floor_mod(x: u64, y: u64) -> u64 {
        trunc_mod(x, y)
    },
    pub(in crate::tile::exec) fn pow(x: u64, y: u64) -> u64 {
        pow_natural(x, y)
    }
);
