//! What a product costs when zeros of its weight are left out.

use autoglm_ir::sparsity::{PANEL, Zeros};

/// Rows at most for which a product is bound by the bytes of its weight.
const FEW_ROWS: f64 = 4.0;
/// Share of the rows of panels up to which it pays to leave out the others.
const USEFUL: f64 = 0.75;
/// What it takes to find a row through its code, as a share of the arithmetic.
const INDIRECTION: f64 = 1.15;

/// Share of a dense product's time that a product of so many rows takes.
pub(super) fn time_share(zeros: &Zeros, rows: f64) -> f64 {
    if rows <= FEW_ROWS {
        stored_share(zeros)
    } else if zeros.rows <= USEFUL {
        zeros.rows * INDIRECTION
    } else {
        1.0
    }
}

/// Share of a dense weight's bytes that are stored.
pub(super) fn stored_share(zeros: &Zeros) -> f64 {
    if zeros.rows <= USEFUL {
        // Values, and at most four bits for each row of a panel.
        zeros.rows * (1.0 + 1.0 / (8 * PANEL) as f64)
    } else if zeros.two_four {
        // Half of the values, and two bits for each of them.
        0.5 * (1.0 + 1.0 / 16.0)
    } else {
        1.0
    }
}
