//! Hostile engines with right hashes: whatever their fields hold, loading, planning and running end in a result or an
//! error, within the declared memory and work, and touch nothing outside their values.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(unreachable_pub, reason = "modules of a test")]

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod crafted;
mod engines;
mod guard;
mod tokens;
