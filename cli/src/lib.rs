//! The `autoglm` command as a library, so that its parts can be tested without starting processes.
#![forbid(unsafe_code)]

pub mod args;
pub mod backend;
pub mod calib;
pub mod cmd;
pub mod codes;
pub mod compare;
pub mod error;
pub mod feed;
pub mod files;
pub mod linked;
pub mod peak;
pub mod report;
pub mod shell;
pub mod spec;
pub mod stats;
pub mod tensor;
pub mod worker;
