//! Engines with symbolic extents: one engine runs every shape that it was compiled for as the reference interpreter does,
//! and says what is wrong with a shape that it was not.

#![allow(clippy::unwrap_used, reason = "a helper of the tests may panic as they do")]

mod baseline;
mod common;
mod declared;
mod empty;
mod experts;
mod networks;
mod recurrent;
mod refused;
