//! The live view of `smartlink top`: what was read in Redis becomes facts, facts a judgement, and
//! both a screen of text.
//!
//! Invariant: no clock and no terminal here. The time is that of the last reading, the screen a
//! buffer, a key a value.

pub mod board;
pub mod draw;
pub mod facts;
pub mod text;
pub mod trouble;

mod head;
mod press;
mod rows;
#[cfg(test)]
mod tests;

pub use board::{Board, Reading, Sighting, Wanted};
pub use press::{Press, Step};
