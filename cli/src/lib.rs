//! The `autoglm` command as a library, so that its parts can be tested without starting processes.
#![forbid(unsafe_code)]

pub mod error;
pub mod files;
pub mod peak;
pub mod spec;
pub mod stats;
pub mod tensor;
pub mod worker;
