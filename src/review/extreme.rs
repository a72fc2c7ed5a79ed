//! Which pairs differ most: those that people are asked about beside the ones chosen at random.

use std::collections::VecDeque;

use super::choice::point;

/// So many pairs that differed are remembered, to say which are the most different.
const RECENT: usize = 500;
/// The most that are offered in an hour.
const HOURLY: u32 = 60;
/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// In how many paths the last pairs that differed did so.
#[derive(Clone, Debug, Default)]
pub struct Extremes {
    recent: VecDeque<usize>,
    hour: u64,
    offered: u32,
}

impl Extremes {
    /// Whether a pair that differs in so many paths is one of the `share` that differ most, among
    /// the last ones; of those that differ as much, a hash of `id` decides. At most so many an hour.
    ///
    /// Each pair that differs must be told once.
    pub fn takes(&mut self, id: &str, paths: usize, share: f64, now_ms: u64) -> bool {
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(paths);
        let count = |of: &dyn Fn(usize) -> bool| {
            let count = self.recent.iter().filter(|it| of(**it)).count();
            u32::try_from(count).map_or(f64::MAX, f64::from)
        };
        // Where it stands among them, the most different first: its place among equals is drawn.
        let above = count(&|it| it > paths);
        let place = above + point(&["extreme", id]) * count(&|it| it == paths);
        if place >= share * count(&|_| true) {
            return false;
        }
        let hour = now_ms / HOUR_MS;
        if hour != self.hour {
            (self.hour, self.offered) = (hour, 0);
        }
        let has_room = self.offered < HOURLY;
        self.offered += u32::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these pairs are taken, a share of 5 %, each in an hour of its own.
    fn taken(paths: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut extremes = Extremes::default();
        let taken = paths.enumerate().filter(|(n, paths)| {
            let hour = u64::try_from(*n).expect("few") * HOUR_MS;
            extremes.takes(&format!("r-{n}"), *paths, 0.05, hour)
        });
        taken.map(|(_, paths)| paths).collect()
    }

    #[test]
    fn the_most_different_are_taken_and_no_more_than_their_share() {
        // One in fifty differs everywhere, the others in one to ten paths.
        let mixed = (0..10_000).map(|n| if n % 50 == 7 { 100 } else { 1 + n * 7 % 10 });
        let taken_of_mixed = taken(mixed);
        let everywhere = taken_of_mixed.iter().filter(|paths| **paths == 100).count();
        assert_eq!(everywhere, 200, "all of them");
        assert!(
            (450..550).contains(&taken_of_mixed.len()),
            "{}",
            taken_of_mixed.len()
        );
        assert!(taken_of_mixed.iter().skip(20).all(|paths| *paths >= 10));
        // Where all are alike, a share of them is drawn.
        let alike = taken(std::iter::repeat_n(3, 10_000)).len();
        assert!((400..600).contains(&alike), "{alike}");
        // What was remarkable once is so no more when it is common.
        let rising = taken((0..10_000).map(|n| n / 1_000)).len();
        assert!((400..1_500).contains(&rising), "{rising}");
    }

    #[test]
    fn an_hour_has_a_bound() {
        let mut extremes = Extremes::default();
        let mut count = |now_ms| {
            let taken = (0..1_000).filter(|n| extremes.takes(&format!("{n}"), 1, 1.0, now_ms));
            taken.count()
        };
        assert_eq!(count(HOUR_MS), 60);
        assert_eq!(count(HOUR_MS + 1), 0);
        assert_eq!(count(2 * HOUR_MS), 60);
        assert!(!extremes.takes("r", 1, 0.0, 3 * HOUR_MS));
    }
}
