//! In turn: the default until live response times are weighed.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The next of the candidates in turn; all threads take turns together.
pub fn pick<T, I: Iterator<Item = T>>(
    rotor: &AtomicUsize,
    candidates: impl Fn() -> I,
) -> Option<T> {
    match candidates().count() {
        0 => None,
        1 => candidates().next(),
        count => candidates().nth(rotor.fetch_add(1, Ordering::Relaxed) % count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_the_same() {
        let rotor = AtomicUsize::new(usize::MAX - 4);
        let mut hits = [0; 3];
        for _ in 0..9 {
            hits[pick(&rotor, || 0..3).expect("three candidates")] += 1;
        }
        assert!(hits.iter().all(|hits| (2..=4).contains(hits)), "{hits:?}");
        assert_eq!(pick(&rotor, || 7..8), Some(7));
        assert_eq!(pick(&rotor, || 0..0), None);
    }
}
