//! Hostile models: whatever a file holds, reading, importing, compiling, loading and running end in a result or in an
//! error that blames the file, within bounded memory.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(unreachable_pub, reason = "modules of a test")]

#[path = "../../../runtime/tests/common/isolate.rs"]
mod isolate;
mod models;
mod pipeline;
mod structured;
mod towers;
