//! Which endpoint is chosen, over real sockets: by its speed, its failures and what is said of it.
//!
//! Run with `--nocapture` to see the figures.

use std::time::{Duration, Instant};

use crate::support::crowd::{Asked, Crowd, Want, kinds};
use crate::support::eventually;
use crate::support::faulty::Manner;
use crate::support::redis::Redis;
use crate::support::scene::{Scene, well};
use crate::support::site::{Site, await_proof};

/// Between an answer and the next request of a client.
const PAUSE: Duration = Duration::from_millis(2);

fn start(redis: &Redis) -> Site {
    let site = Site::start(redis);
    await_proof(redis);
    site
}

/// What part of the requests each host answered, from the n-th that ended on.
fn shares(asked: &[Asked], from: usize, hosts: usize) -> Vec<f64> {
    let since: Vec<_> = asked.iter().skip(from).filter_map(|one| one.by).collect();
    let of = |host| since.iter().filter(|by| **by == host).count();
    (0..hosts)
        .map(|host| float(of(host)) / float(since.len()))
        .collect()
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("not so many"))
}

#[test]
fn a_host_that_fails_fast_gets_at_most_a_twentieth() {
    let quick = Duration::from_millis(1);
    let faults = [
        ("default", Manner::Fails(quick), ""),
        ("never-ejected", Manner::Fails(quick), "eject_5xx off"),
        ("half", Manner::FailsHalf(quick), ""),
        (
            "half-never-ejected",
            Manner::FailsHalf(quick),
            "eject_5xx off",
        ),
    ];
    let redis = Redis::start();
    let mut scenes = Vec::new();
    for hosts in [2, 3, 5] {
        for (name, fault, settings) in faults {
            let mut manners = vec![well(60); hosts];
            manners[0] = fault;
            let service = format!("{name}-{hosts}");
            scenes.push(Scene::prepare(&redis, &service, &manners, settings));
        }
    }
    let site = start(&redis);
    let send = |scene: &Scene| scene.crowd(&site, &[Want::Named; 12], PAUSE);
    let crowds: Vec<Crowd> = scenes.iter().map(send).collect();
    for crowd in &crowds {
        eventually("there is enough to count", || {
            (crowd.count() >= 800).then_some(())
        });
    }
    let mut broken = Vec::new();
    for (scene, crowd) in scenes.iter().zip(crowds) {
        let asked = crowd.stop();
        let hits = scene.first().hits();
        let line = format!("{}: {hits} of {} requests", scene.service, asked.len());
        println!("{line}");
        if hits * 20 > asked.len() {
            broken.push(line);
        }
    }
    assert_eq!(broken, [""; 0]);
}

#[test]
fn five_identical_hosts_get_half_their_share_at_least() {
    let redis = Redis::start();
    let scene = Scene::prepare(&redis, "a", &[well(10); 5], "");
    let site = start(&redis);
    let crowd = scene.crowd(&site, &[Want::Named; 10], PAUSE);
    crowd.await_more(2_000);
    let asked = crowd.stop();
    let shares = shares(&asked, 0, 5);
    println!("{shares:.3?}");
    assert_eq!(kinds(&asked), "");
    assert!(shares.iter().all(|share| *share >= 0.1), "{shares:?}");
}

#[test]
fn a_host_eight_times_faster_gets_four_fifths_and_a_swap_turns_the_picture() {
    let redis = Redis::start();
    let scene = Scene::prepare(&redis, "a", &[well(10), well(80)], "");
    let site = start(&redis);
    let crowd = scene.crowd(&site, &[Want::Named; 8], PAUSE);
    crowd.await_more(200);
    let before = crowd.count();
    crowd.await_more(800);
    let seen = shares(&crowd.asked(), before, 2);
    println!("{seen:.3?}");
    assert!(seen[0] > 0.8, "{seen:?}");
    let [fast, slow] = &scene.pool.hosts[..] else {
        panic!("two hosts");
    };
    let swapped = Instant::now();
    fast.set(well(80));
    slow.set(well(10));
    eventually("the picture turns", || {
        let from = crowd.count();
        crowd.await_more(100);
        let now = shares(&crowd.asked(), from, 2);
        (now[1] > 0.8).then_some(())
    });
    println!("turned after {:?}", swapped.elapsed());
    assert_eq!(kinds(&crowd.stop()), "");
}

/// Mean and 99th percentile, in milliseconds.
fn figures(asked: &[Asked]) -> (f64, f64) {
    let mut times: Vec<f64> = asked
        .iter()
        .map(|one| one.took.as_secs_f64() * 1e3)
        .collect();
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / float(times.len());
    let p99 = times.get(times.len() * 99 / 100);
    (mean, *p99.expect("some"))
}

#[test]
fn least_time_answers_sooner_than_round_robin_where_speeds_are_mixed() {
    let redis = Redis::start();
    let manners: Vec<Manner> = [5, 10, 20, 40, 80, 160].map(well).to_vec();
    let scenes = ["least_time", "round_robin", "least_conn", "random"]
        .map(|balance| Scene::prepare(&redis, balance, &manners, &format!("balance {balance}")));
    let site = start(&redis);
    let send = |scene: &Scene| scene.crowd(&site, &[Want::Named; 8], PAUSE);
    let crowds: Vec<Crowd> = scenes.iter().map(send).collect();
    for crowd in &crowds {
        eventually("there is enough to count", || {
            (crowd.count() >= 600).then_some(())
        });
    }
    let figures: Vec<(f64, f64)> = crowds
        .into_iter()
        .zip(&scenes)
        .map(|(crowd, scene)| {
            let asked = crowd.stop();
            assert_eq!(kinds(&asked), "");
            let (mean, p99) = figures(&asked);
            let (name, count) = (&scene.service, asked.len());
            println!("{name:12} mean {mean:6.1} ms, p99 {p99:6.1} ms of {count}");
            (mean, p99)
        })
        .collect();
    assert!(figures[0].0 < figures[1].0, "{figures:?}");
}

#[test]
fn what_is_said_of_an_endpoint_is_obeyed_at_once_and_costs_no_request() {
    let redis = Redis::start();
    let scene = Scene::prepare(&redis, "a", &[well(5); 3], "");
    let site = start(&redis);
    let crowd = scene.crowd(
        &site,
        &[Want::Named, Want::Get, Want::Post, Want::Named],
        PAUSE,
    );
    let host = scene.first();
    for words in ["base drain", "base off", "base weight=0", "base backup"] {
        host.await_hits(5);
        scene.write(&redis, host, words);
        crowd.await_silence(host);
        scene.write(&redis, host, "base");
    }
    host.await_hits(5);
    // A backup serves when it is the last that is left.
    scene.write(&redis, host, "base backup");
    crowd.await_silence(host);
    for other in scene.pool.hosts.iter().skip(1) {
        scene.write(&redis, other, "base off");
    }
    host.await_hits(50);
    for other in scene.pool.hosts.iter().skip(1) {
        scene.write(&redis, other, "base");
    }
    crowd.await_silence(host);
    let asked = crowd.stop();
    assert_eq!(kinds(&asked), "", "of {}", asked.len());
}

#[test]
fn max_conns_bounds_what_is_in_flight_on_an_endpoint_also_when_changed_live() {
    let redis = Redis::start();
    let scene = Scene::prepare(&redis, "a", &[well(20); 2], "balance round_robin");
    let site = start(&redis);
    let crowd = scene.crowd(&site, &[Want::Named; 8], Duration::ZERO);
    let host = scene.first();
    for most in [1, 3] {
        scene.write(&redis, host, &format!("base max_conns={most}"));
        eventually("the bound is in force", || {
            host.take_peak();
            crowd.await_more(100);
            (host.take_peak() == most).then_some(())
        });
        crowd.await_more(300);
        assert_eq!(host.take_peak(), most);
    }
    scene.write(&redis, host, "base");
    eventually("the bound is gone", || {
        crowd.await_more(20);
        (host.take_peak() > 3).then_some(())
    });
    assert_eq!(kinds(&crowd.stop()), "");
}

#[test]
fn weights_of_endpoints_are_shares_and_change_live() {
    let redis = Redis::start();
    let scene = Scene::prepare(&redis, "a", &[well(3); 3], "balance weighted");
    let site = start(&redis);
    let crowd = scene.crowd(&site, &[Want::Named; 4], PAUSE);
    for (words, share) in [("base weight=6", 0.75), ("base", 1.0 / 3.0)] {
        scene.write(&redis, scene.first(), words);
        eventually("the share is as written", || {
            let from = crowd.count();
            crowd.await_more(200);
            let seen = shares(&crowd.asked(), from, 3);
            ((seen[0] - share).abs() < 0.05).then_some(())
        });
    }
    assert_eq!(kinds(&crowd.stop()), "");
}
