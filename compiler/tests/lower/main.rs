//! The lowering against the reference interpreter, and the steps that it takes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod concat;
mod contraction;
mod elementwise;
mod harness;
mod random;
mod recurrent;
mod views;
