//! The table of operators, one family a file.

use crate::op::OpDef;

/// Every operator. A new one is a `static` in its family's file and a row here.
pub static OPS: &[&OpDef] = &[];
