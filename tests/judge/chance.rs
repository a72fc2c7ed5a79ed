//! Random numbers from a seed.

use smartlink::model::hash::mix;

/// A stream of random numbers.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x6A75_6467_6500))
    }

    /// A number.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number in [0, 1).
    pub(crate) fn part(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `n` happen, each with this probability.
    pub(crate) fn of(&mut self, n: u64, probability: f64) -> u64 {
        if probability > 0.5 {
            return n - self.of(n, 1.0 - probability);
        }
        if probability <= 0.0 || n == 0 {
            return 0;
        }
        let mean = n as f64 * probability;
        if mean > 40.0 {
            let spread = (mean * (1.0 - probability)).sqrt();
            return (mean + spread * self.normal()).round().clamp(0.0, n as f64) as u64;
        }
        // From one that happens to the next: the gaps are geometric.
        let scale = (-probability).ln_1p();
        let (mut at, mut happened) = (0.0, 0);
        loop {
            at += ((1.0 - self.part()).ln() / scale).floor() + 1.0;
            if at > n as f64 {
                return happened;
            }
            happened += 1;
        }
    }

    /// A normal number (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.part()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.part()).cos()
    }
}
