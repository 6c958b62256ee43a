//! The stable code of each kind of problem that the importer reports.

/// An operator that is not supported.
pub const OPERATOR: &str = "E0130";
/// A value that must be known at compile time is not.
pub const NOT_CONSTANT: &str = "E0131";
/// A feature of a supported operator that is not supported.
pub const FEATURE: &str = "E0160";
/// A graph input without rank, or of a kind that is not a tensor of numbers.
pub const INPUT: &str = "E0161";
/// A node has too few inputs or outputs, or an input that does not exist.
pub const NODE: &str = "E0162";
/// The shapes or element types do not fit the operator.
pub const SHAPE: &str = "E0163";
/// An attribute or a constant input has a value that the operator does not allow.
pub const VALUE: &str = "E0164";
/// A `--dim` bound that is empty or names no symbol.
pub const BOUND: &str = "E0165";

/// Warning: a declared shape contradicts the inferred one.
pub const W_DECLARED: &str = "W0160";
/// Warning: a declared extent that only the inputs can confirm.
pub const W_UNPROVEN: &str = "W0162";
/// Warning: an operator set newer than the importer knows.
pub const W_OPSET: &str = "W0161";
