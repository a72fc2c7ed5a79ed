//! What the judge does in simulated rollouts: how often it is wrong, how soon it is right.
//!
//! Seeds are fixed, so a result is the same on every machine. Without optimisation the tests play
//! fewer rollouts and allow for more chance.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "simulated counts are small"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]

mod bake;
mod chance;
mod confounding;
mod grid;
mod injected;
mod rhythm;
mod rollout;

/// How many rollouts are played: of `many` only a few without optimisation.
fn runs(many: u64) -> u64 {
    if cfg!(debug_assertions) {
        many / 20
    } else {
        many
    }
}

/// The most that `runs` tries show of something that happens with `probability`, but for one time
/// in a thousand.
fn at_most(runs: u64, probability: f64) -> u64 {
    let mean = runs as f64 * probability;
    let spread = (mean * (1.0 - probability)).sqrt();
    // The half corrects for counts being whole, the one for their skew where few are expected.
    (mean + 3.1 * spread + 1.5).floor() as u64
}
