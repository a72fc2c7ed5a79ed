//! What comes of a shadow record that was compared: which are compared, the names of all counters,
//! examples, the picture that a report prints, pairs for people and what they say of them.
//!
//! Invariant: every counter adds up, so that those of many workers are the same as those of one.

mod choice;
mod count;
mod example;
mod export;
mod extreme;
mod heard;
mod pair;
mod picture;
mod print;
mod rubric;
mod shown;
mod skip;
mod verdict;

pub use choice::{asks_base_again, asks_candidate_first, has_base_left, is_offered};
pub use count::{Marked, Times, counts, marks, scored};
pub use example::{Example, Told};
pub use export::{Format, Line, export};
pub use extreme::Extremes;
pub use heard::Heard;
pub use pair::{Choice, Chosen, Pair, Reviews, SCORER, agreement, reviews};
pub use picture::{Agreement, Books, Latency, PathRow, Picture, lost};
pub use print::lines;
pub use rubric::{Winner, question, winner};
pub use shown::{Fold, Shown, agreement_lines, agreements};
pub use skip::{Mode, Skip, skip};
pub use verdict::{Finding, Findings, Proven, is_unscored, scorings};
