//! Who may be chosen, whichever balancer chooses.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proptest::prelude::*;

use super::fixture::{ask, hits, load, pool, pool_of, position, settings, turn};
use super::{Ask, Picked, pick};
use crate::model::endpoint::Duty;
use crate::model::live::{Health, State};
use crate::model::settings::{Balance, KeySource};

fn balancers() -> [Balance; 6] {
    [
        Balance::LeastTime,
        Balance::RoundRobin,
        Balance::Weighted,
        Balance::LeastConn,
        Balance::Random,
        Balance::Hash(KeySource::Ip),
    ]
}

#[test]
fn a_backup_serves_only_while_no_active_endpoint_is_up() {
    for balance in balancers() {
        let version = pool_of(&[1, 1, 1], |spec| {
            if spec.url.ends_with("3/") {
                spec.duty = Duty::Backup;
            }
        });
        let settings = settings(balance);
        assert_eq!(hits(&version, &settings, 50)[2], 0);
        turn(&version, 0, State::Ejected);
        turn(&version, 1, State::Down);
        assert_eq!(hits(&version, &settings, 50), [0, 0, 50]);
    }
}

#[test]
fn drain_and_weight_0_take_no_requests_even_where_they_are_all_there_is() {
    for balance in balancers() {
        let settings = settings(balance);
        let drained = pool_of(&[1, 0], |spec| {
            if spec.weight == 1 {
                spec.duty = Duty::Drain;
            }
        });
        assert!(matches!(pick(&drained, &ask(&settings, 0)), Picked::Nobody));
        assert!(matches!(
            pick(&pool(&[]), &ask(&settings, 0)),
            Picked::Nobody
        ));
    }
}

#[test]
fn the_ejected_serve_when_nobody_is_up_and_the_down_never_do() {
    for balance in balancers() {
        let (version, settings) = (pool(&[1, 1, 1]), settings(balance));
        turn(&version, 0, State::Ejected);
        turn(&version, 1, State::Ejected);
        assert_eq!(hits(&version, &settings, 20), [0, 0, 20]);
        turn(&version, 2, State::Down);
        let hits = hits(&version, &settings, 40);
        assert!(hits[0] > 0 && hits[1] > 0 && hits[2] == 0, "{hits:?}");
        turn(&version, 0, State::Down);
        turn(&version, 1, State::Down);
        assert!(matches!(pick(&version, &ask(&settings, 0)), Picked::Nobody));
    }
}

#[test]
fn nobody_is_tried_twice_and_nobody_is_asked_above_max_conns() {
    for balance in balancers() {
        let settings = settings(balance);
        let version = pool_of(&[1, 1, 1], |spec| spec.max_conns = Some(2));
        let tried = Ask {
            tried: &[1, 3],
            ..ask(&settings, 5)
        };
        assert_eq!(position(&version, &tried), 1);
        load(&version, &[2, 2, 1]);
        assert_eq!(position(&version, &ask(&settings, 5)), 2);
        assert!(matches!(pick(&version, &tried), Picked::Full));
        load(&version, &[2, 2, 2]);
        assert!(matches!(pick(&version, &ask(&settings, 5)), Picked::Full));
        let all = Ask {
            tried: &[1, 2, 3],
            ..tried
        };
        assert!(matches!(pick(&version, &all), Picked::Nobody));
    }
}

#[test]
fn weights_are_shares_also_where_all_are_idle() {
    for balance in balancers() {
        if balance == Balance::RoundRobin {
            continue;
        }
        let hits = hits(&pool(&[6, 3, 1]), &settings(balance), 20_000);
        for (hits, share) in hits.iter().zip([12_000_u64, 6_000, 2_000]) {
            assert!(hits.abs_diff(share) <= 300, "{hits} for {share}");
        }
    }
}

#[test]
fn an_endpoint_that_came_up_grows_into_its_share() {
    for balance in [Balance::Weighted, Balance::Random, Balance::LeastTime] {
        let mut settings = settings(balance);
        settings.slow_start = Some(Duration::from_secs(10));
        for (up_for_ms, share) in [(0, 0.0909), (5_000, 0.3548), (10_000, 0.5), (60_000, 0.5)] {
            let version = pool(&[1, 1]);
            let condition = &version.endpoints[0].live.condition;
            let health = Health {
                state: State::Up,
                since_ms: 1_000,
            };
            assert!(condition.turn(condition.health(), health));
            let mut hits = [0.0; 2];
            for n in 0..10_000 {
                let ask = Ask {
                    now_us: (1_000 + up_for_ms) * 1_000,
                    ..ask(&settings, crate::model::hash::mix(n))
                };
                hits[position(&version, &ask)] += 1.0;
            }
            let got: f64 = hits[0] / 10_000.0;
            assert!((got - share).abs() < 0.02, "{got} for {share}");
        }
    }
}

#[test]
fn of_a_large_pool_the_better_of_two_is_taken() {
    for balance in [Balance::LeastTime, Balance::LeastConn] {
        let (version, settings) = (pool(&[1; 100]), settings(balance));
        for endpoint in &version.endpoints {
            let inflight = u32::try_from(endpoint.pool % 10).expect("small");
            endpoint.live.inflight.store(inflight, Relaxed);
        }
        let hits = hits(&version, &settings, 20_000);
        let with = |inflight| -> u64 { hits.iter().skip(inflight).step_by(10).sum() };
        // The chance that neither of two is better: 19 in 100 for the idle tenth, 1 for the busiest.
        assert!(with(9) > 3_500 && with(8) < 300, "{} {}", with(9), with(8));
    }
}

#[test]
fn of_a_large_pool_with_one_up_that_one_is_found() {
    for balance in balancers() {
        let (version, settings) = (pool(&[1; 100]), settings(balance));
        for position in 0..100 {
            if position != 63 {
                turn(&version, position, State::Down);
            }
        }
        assert_eq!(hits(&version, &settings, 20)[63], 20);
    }
}

/// Duty, state, weight, `max_conns`, requests in flight, whether it was tried.
type Facts = (u8, u8, u32, Option<u32>, u32, bool);

fn facts() -> impl Strategy<Value = Vec<Facts>> {
    let one = (
        0..3_u8,
        0..3_u8,
        0..3_u32,
        prop::option::of(1..3_u32),
        0..3_u32,
        prop::bool::weighted(0.2),
    );
    prop::collection::vec(one, 0..24)
}

proptest! {
    #[test]
    fn who_is_picked_is_the_best_there_is(facts in facts(), balancer in 0..6_usize, random: u64) {
        let weights: Vec<_> = facts.iter().map(|facts| facts.2).collect();
        let mut each = facts.iter();
        let version = pool_of(&weights, |spec| {
            let facts = each.next().expect("one for each");
            spec.duty = [Duty::Active, Duty::Backup, Duty::Drain][usize::from(facts.0)];
            spec.max_conns = facts.3;
        });
        let mut tried = Vec::new();
        for (position, facts) in facts.iter().enumerate() {
            let endpoint = &version.endpoints[position];
            turn(&version, position, [State::Up, State::Down, State::Ejected][usize::from(facts.1)]);
            endpoint.live.inflight.store(facts.4, Relaxed);
            if facts.5 {
                tried.push(endpoint.pool);
            }
        }
        let somebody_up = facts.iter().any(|facts| facts.0 < 2 && facts.1 == 0 && facts.2 > 0);
        // Ejected endpoints rank behind all that are up, and only where none is.
        let rank = |facts: &Facts| match (facts.0, facts.1) {
            _ if facts.2 == 0 || facts.5 => None,
            (duty @ 0..2, 0) => Some(duty),
            (duty @ 0..2, 2) if !somebody_up => Some(2 + duty),
            _ => None,
        };
        let best = facts.iter().filter_map(rank).min();
        let has_room = |facts: &&Facts| facts.3.is_none_or(|most| facts.4 < most);
        let room = facts.iter().filter(has_room).any(|facts| rank(facts) == best && best.is_some());
        let settings = settings(balancers()[balancer].clone());
        let ask = Ask { tried: &tried, key: Some(random), ..ask(&settings, random) };
        match pick(&version, &ask) {
            Picked::Endpoint(endpoint) => {
                let picked = &facts[usize::try_from(endpoint.pool).expect("small") - 1];
                prop_assert_eq!(rank(picked), best);
                prop_assert!(best.is_some() && has_room(&picked));
            }
            Picked::Full => prop_assert!(best.is_some() && !room),
            Picked::Nobody => prop_assert!(best.is_none()),
        }
    }
}
