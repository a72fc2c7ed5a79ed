//! What `least_time` makes of servers that are slow, fail, freeze or recover, in simulated time.

use std::sync::atomic::Ordering::Relaxed;

use super::super::fixture::pool;
use super::super::simulation::{Load, Server, World};
use super::failing::Failing;
use super::{answered, begin, failed};
use crate::model::settings::Balance;

const LOADS: [Load; 5] = [
    Load::Open(20.0),
    Load::Open(200.0),
    Load::Closed(1),
    Load::Closed(16),
    Load::Closed(64),
];

fn steady(count: u32, ms: f64) -> Vec<Server> {
    (0..count).map(|_| Server::steady(ms)).collect()
}

#[test]
fn an_endpoint_that_fails_fast_gets_at_most_one_in_twenty() {
    for count in [2_u32, 3, 5] {
        for load in LOADS {
            for part in [1.0, 0.5] {
                for seed in 0..2 {
                    let mut servers = steady(count, 60.0);
                    servers[0] = Server::failing(part);
                    let mut world = World::new(servers, load, seed);
                    world.run(60.0);
                    let share = world.share(0);
                    println!("{count} {load:?} {part} {seed}: {share:.4}");
                    assert!(share <= 0.05);
                }
            }
        }
    }
}

#[test]
fn a_half_failing_endpoint_whose_good_answers_are_fast_gets_at_most_one_in_twenty() {
    for count in [2_u32, 3, 5] {
        for load in LOADS {
            for seed in 0..4 {
                let mut servers = steady(count, 60.0);
                servers[0] = Server {
                    ms: 1.0,
                    ..Server::failing(0.5)
                };
                let mut world = World::new(servers, load, seed);
                world.run(60.0);
                let share = world.share(0);
                println!("{count} {load:?} {seed}: {share:.4}");
                assert!(share <= 0.05);
            }
        }
    }
}

#[test]
fn an_endpoint_that_begins_to_fail_is_left_and_one_that_recovered_is_noticed() {
    for count in [2_u32, 3, 5] {
        for load in LOADS {
            for seed in 0..2 {
                let mut world = World::new(steady(count, 60.0), load, seed);
                world.run(10.0);
                world.servers[0].fails = 1.0;
                world.forget();
                world.run(20.0);
                let failing = world.share(0);
                world.servers[0].fails = 0.0;
                world.run(10.0);
                world.forget();
                world.run(10.0);
                let recovered = world.share(0);
                println!("{count} {load:?} {seed}: {failing:.4} {recovered:.4}");
                assert!(failing <= 0.05);
                assert!(recovered >= 0.5 / f64::from(count));
            }
        }
    }
}

#[test]
fn failures_that_all_endpoints_have_alike_divide_nobody() {
    for part in [0.02, 0.3] {
        for load in LOADS {
            let mut servers = vec![Server::noisy(60.0); 5];
            for server in &mut servers {
                server.fails = part;
            }
            let mut world = World::new(servers, load, 1);
            world.run(120.0);
            let shares: Vec<f64> = (0..5).map(|server| world.share(server)).collect();
            println!("{part} {load:?}: {shares:.3?}");
            assert!(shares.iter().all(|share| *share >= 0.1), "{shares:?}");
        }
    }
}

#[test]
fn of_five_equal_noisy_endpoints_none_gets_less_than_half_its_share() {
    for ms in [1.0, 10.0, 60.0] {
        for load in [
            Load::Closed(1),
            Load::Closed(5),
            Load::Closed(64),
            Load::Open(200.0),
        ] {
            for seed in 0..4 {
                let mut world = World::new(vec![Server::noisy(ms); 5], load, seed);
                while world.hits.iter().sum::<u64>() < 1500 {
                    world.run(0.01);
                }
                println!("{ms} {load:?} {seed}: {:?}", world.hits);
                assert!(world.hits.iter().all(|hits| *hits >= 150));
            }
        }
    }
}

#[test]
fn an_endpoint_eight_times_faster_takes_four_in_five_also_after_a_swap() {
    for ms in [5.0, 60.0] {
        for load in [Load::Closed(1), Load::Closed(16), Load::Open(20.0)] {
            for noisy in [false, true] {
                for seed in 0..2 {
                    let server = |ms| {
                        if noisy {
                            Server::noisy(ms)
                        } else {
                            Server::steady(ms)
                        }
                    };
                    let servers = vec![server(ms), server(8.0 * ms)];
                    let mut world = World::new(servers, load, seed);
                    world.run(1.0);
                    world.forget();
                    world.run(20.0);
                    let before = world.share(0);
                    world.servers.swap(0, 1);
                    world.run(3.0);
                    world.forget();
                    world.run(20.0);
                    let after = world.share(1);
                    println!("{ms} {load:?} {noisy} {seed}: {before:.3} {after:.3}");
                    assert!(before > 0.8 && after > 0.8);
                }
            }
        }
    }
}

#[test]
fn calls_of_seconds_are_balanced_too() {
    for load in [Load::Closed(1), Load::Closed(16)] {
        let servers = vec![Server::noisy(1_000.0), Server::noisy(8_000.0)];
        let mut world = World::new(servers, load, 1);
        world.run(60.0);
        world.forget();
        world.run(600.0);
        println!("{load:?}: {:.3}", world.share(0));
        assert!(world.share(0) > 0.8);
    }
}

#[test]
fn a_frozen_endpoint_loses_its_traffic_within_fractions_of_a_second() {
    for load in [Load::Open(5.0), Load::Open(200.0), Load::Closed(16)] {
        for seed in 0..4 {
            let mut world = World::new(vec![Server::noisy(20.0); 3], load, seed);
            world.run(10.0);
            world.servers[0].frozen = true;
            world.run(0.3);
            world.forget();
            world.run(20.0);
            println!("{load:?} {seed}: {:?}", world.hits);
            assert!(world.hits[0] <= 2, "{:?}", world.hits);
        }
    }
}

#[test]
fn a_frozen_endpoint_whose_clients_leave_is_tried_by_one_at_a_time_and_found_again() {
    let mut world = World::new(vec![Server::noisy(20.0); 3], Load::Open(100.0), 1);
    world.patience_ms = 1_000;
    world.run(10.0);
    world.servers[0].frozen = true;
    world.forget();
    world.run(30.0);
    println!("{:?}", world.hits);
    assert!(world.hits[0] <= 30, "{:?}", world.hits);
    world.servers[0].frozen = false;
    world.run(8.0);
    world.forget();
    world.run(10.0);
    println!("{:?}", world.hits);
    assert!(world.share(0) > 0.16, "{:?}", world.hits);
}

#[test]
fn how_soon_a_failure_is_forgotten_depends_on_how_fast_the_others_answer() {
    for (others_us, half_ms) in [(5_000, 2_000), (300_000, 3_000), (60_000_000, 5_000)] {
        let version = pool(&[1, 1, 1]);
        let frozen = &version.endpoints[0].live;
        for endpoint in &version.endpoints {
            begin(&endpoint.live, 1_000);
            answered(&endpoint.live, 1_000, others_us);
        }
        begin(frozen, 1_000);
        failed(&version, frozen, 60_001_000, 60_000_000);
        let failing = Failing::unpack(frozen.pace.penalty.load(Relaxed));
        let (now, later) = (failing.part(0, 60_001), failing.part(0, 60_001 + half_ms));
        assert!(
            (now - 2.0 * later).abs() < 0.01,
            "{others_us}: {now} {later}"
        );
    }
}

#[test]
fn a_cold_endpoint_draws_no_herd() {
    let mut servers = vec![Server::noisy(20.0); 4];
    servers[0].ms = 3_000.0;
    let mut world = World::new(servers.clone(), Load::Open(1_000.0), 1);
    world.run(3.0);
    println!("{:?}", world.hits);
    assert!(world.hits[0] <= 30, "{:?}", world.hits);
}

#[test]
fn least_time_beats_round_robin_on_mixed_speeds() {
    let speeds = [20.0, 30.0, 40.0, 160.0];
    let servers = || {
        speeds
            .map(|ms| Server {
                free_us: vec![0; 4],
                ..Server::noisy(ms)
            })
            .to_vec()
    };
    let figures = |balance| {
        let mut world = World::new(servers(), Load::Open(60.0), 7).balanced(balance);
        world.run(120.0);
        world.mean_and_p99()
    };
    let (mean, p99) = figures(Balance::LeastTime);
    let (mean_turns, p99_turns) = figures(Balance::RoundRobin);
    println!(
        "least_time {mean:.1} ms, p99 {p99:.1} ms; round_robin {mean_turns:.1} ms, p99 {p99_turns:.1} ms"
    );
    assert!(mean < mean_turns && p99 < p99_turns);
}
