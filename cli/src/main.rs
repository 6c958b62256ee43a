//! The `autoglm` command.
#![forbid(unsafe_code)]

fn main() {}
