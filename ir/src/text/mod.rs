//! Textual IR (`.agir`).
//!
//! ```text
//! graph @ffn (%x: f32[B,768]) where B in 1..=64 {
//!   %b = const f32[768] splat 0
//!   %0 = add %x, %b : f32[B,768] loc "/encoder/Add"
//!   %1 = softmax %0 {log=1} : f32[B,768]
//!   return %1 as "logits"
//! }
//! ```
//!
//! One operation a line, in order; values with a unique name are called by it, others by a number. Types are printed,
//! optional when parsed, and checked. `where` declares symbols; an extent needs it only for bounds, or for a source other
//! than the first input extent that is just the symbol (`M in 0..=9 from dim 1 of %x`). `shape@i` is element `i` of input
//! `shape`; an integer input whose elements all have symbols is known by them at compile time.
//! `guard` lines hold the conditions that no operator of the graph implies by itself.
//!
//! Constants of at most 16 elements are listed (`[1, 2.5, nan]`, or bit patterns as `0x7fc00001`); `splat v` repeats one;
//! `recipe op %c {..}` computes one from others. Larger ones are `blob "hash"`: their bytes travel in a [`Pool`],
//! without which [`parse()`] refuses them.
//!
//! Printing what was parsed from canonical text gives that text. Constants that nothing uses are not printed.

mod element;
mod lex;
mod parse;
mod print;
mod statement;
mod tensor;

pub use parse::parse_attrs;
pub use parse::{ParseError, Pool, parse, parse_all, parse_sample, parse_with};
pub(crate) use print::print_attrs;
pub use print::{pool, print};
pub use tensor::{parse_tensor, print_tensor};
