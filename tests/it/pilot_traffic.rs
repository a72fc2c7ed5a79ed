//! The pilot with gateways that count and users that ask: what becomes of candidates that are good,
//! bad, break at the end, or go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::support::eventually;
use crate::support::load::{Caller, named, serving};
use crate::support::pilot::{Pilot, Rollout};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};
use crate::support::upstream::Upstream;

/// A rollout in a few seconds.
const QUICK: &str = "shadow_first off steps 10,50 step_min_time 100ms step_min_requests 50";

/// A candidate that fails while it is told to.
fn candidate() -> (Upstream, Arc<AtomicBool>) {
    let fails: Arc<AtomicBool> = Arc::default();
    let now = Arc::clone(&fails);
    let upstream = Upstream::start(move |connection| {
        while let Some(head) = connection.read_head() {
            if connection.read_body(&head).is_none() {
                break;
            }
            connection.send(if now.load(Ordering::SeqCst) {
                "HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            });
        }
    });
    (upstream, fails)
}

/// Users that ask all the time, until dropped.
struct Users {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Users {
    fn of(site: &Site) -> Self {
        let (stop, asked, failed): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) =
            Default::default();
        let user = |_| {
            let (stop, asked, failed) =
                (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&failed));
            let address = site.address;
            std::thread::spawn(move || {
                let mut caller = Caller::connect(address).expect("it accepts");
                while !stop.load(Ordering::SeqCst) {
                    let answer = caller.ask(&named("ner")).expect("an answer");
                    asked.fetch_add(1, Ordering::SeqCst);
                    failed.fetch_add(u64::from(answer.status != 200), Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            })
        };
        let threads = (0..3).map(user).collect();
        Self {
            stop,
            asked,
            failed,
            threads,
        }
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// Waits until so many more were answered.
    #[track_caller]
    fn await_more(&self, more: u64) {
        let wanted = self.asked.load(Ordering::SeqCst) + more;
        eventually("users are answered", || {
            (self.asked.load(Ordering::SeqCst) >= wanted).then_some(())
        });
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // A test that fails already must not hide why.
            let _ended = thread.join();
        }
    }
}

/// A gateway with a service of two versions.
fn stage(redis: &Redis, base: &Upstream, candidate: &str) -> Site {
    redis.call(&[
        "HSET",
        "smartlink:endpoints:ner",
        &base.url("/b"),
        "base",
        candidate,
        "candidate",
    ]);
    redis.run("HSET smartlink:service:ner eject_5xx off");
    let site = Site::start(redis);
    await_proof(redis);
    site
}

fn begin<'r>(redis: &'r Redis, fields: &str) -> Rollout<'r> {
    let rollout = Rollout::of(redis, "ner");
    rollout.set(&format!("candidate candidate {fields}"));
    rollout
}

#[test]
fn users_see_a_good_candidate_become_base() {
    let redis = Redis::start();
    let ((base, _), (other, _)) = (serving("base"), candidate());
    let site = stage(&redis, &base, &other.url("/c"));
    let users = Users::of(&site);
    // So that there is a base to measure slowness by.
    users.await_more(550);
    let rollout = begin(
        &redis,
        &format!("{QUICK} bake 300ms on_finish promote max_latency_ratio 100"),
    );
    let _pilot = Pilot::start(&redis);
    rollout.await_state("done");
    assert_eq!(users.failed(), 0);
    assert_eq!(
        redis.hash("smartlink:endpoints:ner")[&other.url("/c")],
        "base"
    );
    assert!(redis.hash("smartlink:weights:ner").is_empty());
    let slow: Vec<u64> = (rollout.field("slow_at_us").split(','))
        .map(|bound| bound.parse().expect("a number"))
        .collect();
    assert!(slow.len() == 3 && slow.is_sorted(), "{slow:?}");
    // Slowness was counted by those bounds.
    let counts = redis.hash("smartlink:trial:ner:candidate");
    assert!(
        counts.keys().any(|field| field.ends_with(".over_50")),
        "{counts:?}"
    );
}

#[test]
fn a_candidate_that_fails_users_goes_back_and_nobody_meets_it_again() {
    let redis = Redis::start();
    let ((base, _), (other, fails)) = (serving("base"), candidate());
    let site = stage(&redis, &base, &other.url("/c"));
    let users = Users::of(&site);
    let rollout = begin(&redis, QUICK);
    fails.store(true, Ordering::SeqCst);
    let _pilot = Pilot::start(&redis);
    rollout.await_state("rolled_back");
    assert!(
        rollout
            .field("reason")
            .contains("it fails users more often")
    );
    eventually("the gateway has heard", || {
        let before = users.failed();
        users.await_more(100);
        (users.failed() == before).then_some(())
    });
    let failed = users.failed();
    users.await_more(200);
    assert_eq!(users.failed(), failed);
}

#[test]
fn a_candidate_that_breaks_under_everything_goes_back() {
    let redis = Redis::start();
    let ((base, _), (other, fails)) = (serving("base"), candidate());
    let site = stage(&redis, &base, &other.url("/c"));
    let users = Users::of(&site);
    let rollout = begin(&redis, &format!("{QUICK} bake 10m"));
    let _pilot = Pilot::start(&redis);
    rollout.await_state("bake");
    assert_eq!(users.failed(), 0);
    fails.store(true, Ordering::SeqCst);
    rollout.await_state("rolled_back");
    assert_eq!(rollout.candidate(), 0);
    assert!(rollout.field("reason").contains("before it had everything"));
}

#[test]
fn a_candidate_that_goes_away_costs_no_user_anything_and_is_taken_back() {
    let redis = Redis::start();
    let (base, _) = serving("base");
    // Nobody listens there, which the gateway finds out by itself.
    let nowhere = Port::reserve();
    let site = stage(&redis, &base, &format!("http://{}/c", nowhere.address()));
    redis.run("HSET smartlink:weights:ner base 750 candidate 250");
    let rollout = begin(&redis, "shadow_first off steps 25,50 step_min_time 10m");
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    let users = Users::of(&site);
    rollout.await_state("rolled_back");
    assert_eq!(rollout.candidate(), 0);
    assert_eq!(users.failed(), 0);
}
