//! What a product costs when zeros of its weight are left out.

use autoglm_ir::sparsity::{PANEL, Pattern, Zeros};

/// Rows at most for which a product is bound by the bytes of its weight.
const FEW_ROWS: f64 = 4.0;
/// What it takes to find a row through its code, as a share of the arithmetic.
const INDIRECTION: f64 = 1.15;

/// Share of a dense product's time that a product of so many rows takes.
pub(super) fn time_share(zeros: &Zeros, rows: f64) -> f64 {
    match zeros.pattern() {
        _ if rows <= FEW_ROWS => stored_share(zeros),
        Some(Pattern::Panels(..)) => zeros.rows * INDIRECTION,
        Some(Pattern::Columns) | None => 1.0,
    }
}

/// Share of a dense weight's bytes that are stored.
pub(super) fn stored_share(zeros: &Zeros) -> f64 {
    match zeros.pattern() {
        // Values, and at most four bits for each row of a panel.
        Some(Pattern::Panels(..)) => zeros.rows * (1.0 + 1.0 / (8 * PANEL) as f64),
        // Half of the values, and two bits for each of them.
        Some(Pattern::Columns) => 0.5 * (1.0 + 1.0 / 16.0),
        None => 1.0,
    }
}
