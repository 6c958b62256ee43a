//! What a product costs when zeros of its weight are left out.

use autoglm_ir::sparsity::{Pattern, Zeros};

/// Rows at most for which a product is bound by the bytes of its weight.
const FEW_ROWS: f64 = 4.0;
/// What it takes to find a row through its code, as a share of the arithmetic.
const INDIRECTION: f64 = 1.15;
/// What it takes to expand elements at any place, for a block of rows.
const EXPANSION: f64 = 1.1;

/// Share of a dense product's time that a product of so many rows takes.
pub(super) fn time_share(zeros: &Zeros, rows: f64) -> f64 {
    match zeros.pattern() {
        _ if rows <= FEW_ROWS => zeros.stored(),
        Some(Pattern::Panels(..)) => zeros.rows * INDIRECTION,
        Some(Pattern::Scattered) => EXPANSION,
        Some(Pattern::Columns) | None => 1.0,
    }
}
