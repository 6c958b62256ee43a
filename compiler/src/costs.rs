//! The cost table of the reference machine.
//!
//! It is that of one named machine, whatever the compile runs on, so that equal models give equal engines. A compile goes by
//! it unless [`autoglm_passes::Options::costs`] says otherwise.

use autoglm_passes::egraph::CostTable;
use std::sync::{Arc, LazyLock};

/// What the kernels of the reference instruction set take, as `examples/measure_costs` wrote it.
static REFERENCE: LazyLock<Result<Arc<CostTable>, String>> =
    LazyLock::new(|| CostTable::parse(include_str!("../costs/x86_64-avx2.txt")).map(Arc::new));

/// The table of the reference machine: x86-64 with AVX2.
///
/// # Errors
/// The table that the program was built with is damaged.
pub fn reference() -> Result<Arc<CostTable>, String> {
    REFERENCE.clone()
}
