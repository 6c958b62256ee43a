//! Graph passes.
#![forbid(unsafe_code)]
