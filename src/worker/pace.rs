//! The most calls in a second.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::model::settings::Rate;

/// Gives each call its turn, at equal distances.
#[derive(Debug)]
pub(super) struct Pace {
    distance: Duration,
    next: Cell<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        let distance = rate.map_or(Duration::ZERO, |rate| {
            let count = u32::try_from(rate.count.max(1)).unwrap_or(u32::MAX);
            rate.per / count
        });
        Self {
            distance,
            next: Cell::new(Instant::now()),
        }
    }

    /// Waits for our turn.
    pub(super) async fn turn(&self) {
        sleep_until(self.next_turn(Instant::now())).await;
    }

    /// When it is the turn of one who asks now.
    fn next_turn(&self, now: Instant) -> Instant {
        let turn = self.next.get().max(now);
        self.next.set(turn + self.distance);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_calls_than_allowed() {
        let pace = Pace::new(Some(Rate {
            count: 10,
            per: Duration::from_secs(1),
        }));
        let now = Instant::now() + Duration::from_secs(1);
        let turns = |now: Instant| (0..=20).map(|_| pace.next_turn(now)).last();
        assert_eq!(turns(now), Some(now + Duration::from_secs(2)));
        // Nobody saves turns for later.
        let later = now + Duration::from_mins(1);
        assert_eq!(turns(later), Some(later + Duration::from_secs(2)));
    }
}
