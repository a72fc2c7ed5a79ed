//! Whether requests were divided as the weights say: without that no comparison of versions means
//! anything.
//!
//! H0: each request goes to the candidate with probability w. Against it stand all other
//! probabilities, weighed by a Beta distribution around w (Lindon and Malek, *Anytime-valid
//! inference for multinomial count data*, 2022):
//!
//! ```text
//! E = B(100w + n_c, 100(1−w) + n_b) / (B(100w, 100(1−w)) · w^n_c · (1−w)^n_b)
//! ```
//!
//! It is the product over all shares. Like every such E it may be looked at at any time.

/// How much evidence says that the split does not match the weights.
pub const DOUBT: f64 = 10_000.0;

/// How firmly the alternatives stand around the share: as firmly as after so many requests.
const FIRMNESS: f64 = 100.0;

/// ln E that `candidate` of `candidate + base` requests are not what a share, above 0 and below 1,
/// comes to. The evidence of several shares is the sum.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn ln_e(share: f64, candidate: u64, base: u64) -> f64 {
    let (candidate, base) = (candidate as f64, base as f64);
    let (a, b) = (FIRMNESS * share, FIRMNESS * (1.0 - share));
    ln_beta(a + candidate, b + base)
        - ln_beta(a, b)
        - candidate * share.ln()
        - base * (-share).ln_1p()
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// ln Γ(x) for x > 0: Stirling's series (NIST DLMF 5.11.1) where it is exact to 1e-15, and the
/// recurrence Γ(x + 1) = x Γ(x) to get there.
fn ln_gamma(x: f64) -> f64 {
    /// From here on the first term left out is below 1e-17.
    const FAR: f64 = 20.0;
    let mut shift = 0.0;
    let mut x = x;
    while x < FAR {
        shift += x.ln();
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let terms = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
    ];
    let series = terms
        .iter()
        .rev()
        .fold(0.0, |sum, term| sum * square + term)
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_of_gamma_is_exact() {
        for (x, wanted) in [
            (0.1, 2.252_712_651_734_206),
            (0.5, 0.572_364_942_924_700_1),
            (1.0, 0.0),
            (2.0, 0.0),
            (10.5, 13.940_625_219_403_763),
            (100.0, 359.134_205_369_575_4),
            (1e6, 12_815_504.569_147_7),
        ] {
            let got = ln_gamma(x);
            assert!(
                (got - wanted).abs() <= 1e-12 * wanted.abs().max(1.0),
                "{x}: {got}"
            );
        }
    }

    #[test]
    fn nothing_seen_says_nothing() {
        for share in [0.001, 0.05, 0.5, 0.999] {
            assert!(ln_e(share, 0, 0).abs() < 1e-9);
        }
    }

    /// After how many requests, of which the candidate got `real` instead of `share`, the split is
    /// doubted.
    fn doubted_after(share: f64, real: f64) -> u64 {
        let doubted = |n: &u64| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counts are small"
            )]
            let candidate = (*n as f64 * real).round() as u64;
            ln_e(share, candidate, n - candidate) >= DOUBT.ln()
        };
        (1..100_000).find(doubted).unwrap()
    }

    #[test]
    fn a_wrong_split_is_seen_soon() {
        // Simulated with drawn requests: 1,320, 340 and 2,120.
        assert!((900..1_600).contains(&doubted_after(0.05, 0.025)));
        assert!((250..400).contains(&doubted_after(0.05, 0.0)));
        assert!((1_500..2_600).contains(&doubted_after(0.5, 0.45)));
    }

    #[test]
    fn an_exact_split_is_never_doubted() {
        for n in [100, 10_000, 1_000_000] {
            assert!(ln_e(0.05, n / 20, n - n / 20) < 0.1);
            assert!(ln_e(0.5, n / 2 + 2, n / 2 - 2) < 0.1);
        }
    }
}
