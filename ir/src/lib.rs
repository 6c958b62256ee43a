//! Intermediate representation.
#![forbid(unsafe_code)]
