//! Figures, printed and not judged: how fresh and how exact counts are, and what they cost.
//!
//! `cargo test --release --test it measures:: -- --ignored --nocapture --test-threads 1`

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "figures of a measurement"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use smartlink::stats::histogram;
use smartlink::stats::live::Fine;

use crate::support::eventually;
use crate::support::load::{Caller, Load, named, serving};
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};

fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    let wanted = (share * last as f64).round();
    (0..=last)
        .find(|at| *at as f64 >= wanted)
        .map_or(0.0, |at| sorted[at])
}

fn line(what: &str, unit: &str, mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let [half, most, all] = [0.5, 0.99, 1.0].map(|share| at(&values, share));
    format!("{what}: p50 {half:.1} {unit}, p99 {most:.1} {unit}, most {all:.1} {unit}")
}

#[test]
#[ignore = "prints figures"]
fn from_a_request_to_its_key() {
    let redis = Redis::start();
    let (one, _) = serving("one");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let site = Site::start(&redis);
    await_proof(&redis);
    let mut caller = Caller::connect(site.address).expect("it accepts");
    let mut asking = redis.connect();
    let mut took = Vec::new();
    for n in 1..=200_u64 {
        // Not in step with the flush.
        std::thread::sleep(Duration::from_millis(n * 37 % 100));
        caller.ask(&named("a")).expect("an answer");
        let answered = Instant::now();
        eventually("it is counted", || {
            let told = asking
                .call(&["HMGET", "smartlink:stats:a:base", "requests"])
                .texts();
            (told == [n.to_string()]).then_some(())
        });
        took.push(answered.elapsed().as_secs_f64() * 1000.0);
    }
    println!("{}", line("request to stats key", "ms", took));
}

#[test]
#[ignore = "prints figures"]
fn quantiles_of_known_distributions() {
    // A fixed sequence of numbers in [0, 1) that fills it evenly.
    let even = |n: u32| (f64::from(n) * 0.618_033_988_749_895).fract();
    let shapes: [(&str, &dyn Fn(f64) -> f64); 7] = [
        ("constant", &|_| 50_000.0),
        ("within 1 %", &|u| 50_000.0 * (1.0 + 0.01 * u)),
        ("within 4 %", &|u| 50_000.0 * (1.0 + 0.04 * u)),
        ("even, 10 to 100 ms", &|u| 10_000.0 + 90_000.0 * u),
        ("exponential", &|u| -20_000.0 * (1.0 - u).ln()),
        ("two humps", &|u| {
            if u < 0.9 {
                5_000.0 + 500.0 * u
            } else {
                200_000.0 * u
            }
        }),
        ("heavy tail", &|u| 2_000.0 / (1.0 - u).powf(0.7)),
    ];
    for (name, shape) in shapes {
        let mut worst = [0.0_f64; 3];
        // Wherever it lies among the bounds.
        for shift in 0..32_u32 {
            let scale = (f64::from(shift) / 32.0 / 16.0).exp2();
            let mut times: Vec<f64> = (0..20_000)
                .map(|n| (shape(even(n)) * scale).round())
                .collect();
            let fine = fine(&times);
            times.sort_by(f64::total_cmp);
            for (worst, share) in worst.iter_mut().zip([0.5, 0.9, 0.99]) {
                let told = fine.quantile_us(share).expect("requests");
                *worst = worst.max((told / at(&times, share) - 1.0).abs() * 100.0);
            }
        }
        let [half, most, all] = worst;
        println!("{name}: p50 {half:.2} %, p90 {most:.2} %, p99 {all:.2} % off at most");
    }
}

/// These times as they come back from Redis.
fn fine(times: &[f64]) -> Fine {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for time in times {
        let bound = histogram::bound(histogram::bucket(*time as u64));
        *counts
            .entry(bound.expect("below all").to_string())
            .or_default() += 1;
    }
    let counts = counts.into_iter();
    let fields: Vec<(String, String)> = counts.map(|(it, n)| (it, n.to_string())).collect();
    Fine::parse(fields.iter().map(|(field, count)| (&**field, &**count)))
}

#[test]
#[ignore = "prints figures"]
fn what_counting_costs_redis() {
    const SECONDS: f64 = 8.0;
    let redis = Redis::start();
    let (one, _) = serving("one");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let site = Site::start(&redis);
    await_proof(&redis);
    let load = Load::start(site.address, vec![named("a"); 8], |_| Ok(()));
    load.await_more(1000);
    let look = || {
        let info = redis.run("INFO all").texts().concat();
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
        };
        let of = |name| field(name).unwrap_or_default();
        let scripts = info.lines().find_map(|line| {
            let rest = line.strip_prefix("cmdstat_evalsha:calls=")?;
            rest.split(',').next()?.parse::<f64>().ok()
        });
        let cpu = of("used_cpu_user:") + of("used_cpu_sys:");
        [
            of("total_commands_processed:"),
            scripts.unwrap_or_default(),
            cpu,
            load.asked() as f64,
        ]
    };
    let before = look();
    std::thread::sleep(Duration::from_secs_f64(SECONDS));
    let after = look();
    let [commands, scripts, cpu, requests] =
        [0, 1, 2, 3].map(|at| (after[at] - before[at]) / SECONDS);
    println!(
        "{requests:.0} requests/s: {scripts:.1} scripts/s, {commands:.0} commands/s with those in \
         scripts, {:.1} % of a core",
        cpu * 100.0
    );
    load.stop();
}
