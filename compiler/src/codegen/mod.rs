//! Code for targets.

pub mod cpu;
