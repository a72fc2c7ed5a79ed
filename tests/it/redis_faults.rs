//! Whatever happens to Redis, no request fails or waits, and the configuration is exact again.

use crate::support::load::{Load, get, named, serving};
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};
use crate::support::upstream::Upstream;
use crate::support::{eventually, secs};

/// A gateway under load, its Redis, and where the two versions are.
struct Scene {
    load: Load,
    site: Site,
    redis: Redis,
    one: Upstream,
    two: Upstream,
}

fn configure(redis: &Redis, one: &Upstream, two: &Upstream) {
    let (one, two) = (one.url("/"), two.url("/"));
    redis.run(&format!(
        "HSET smartlink:endpoints:a {one} base {two} candidate"
    ));
    redis.run("HSET smartlink:route:r service a path /r/");
}

impl Scene {
    fn start() -> Self {
        let redis = Redis::start();
        let (one, _) = serving("one");
        let (two, _) = serving("two");
        configure(&redis, &one, &two);
        let site = Site::start(&redis);
        await_proof(&redis);
        let requests = vec![named("a"), named("a"), get("/r/x")];
        let load = Load::start(site.address, requests, |answer| {
            let known = ["one", "two"].contains(&answer.body.as_str());
            let served = answer.status == 200 && known;
            served.then_some(()).ok_or("not served".to_owned())
        });
        load.await_more(100);
        Self {
            load,
            site,
            redis,
            one,
            two,
        }
    }

    /// Writes the whole configuration again.
    fn configure(&self) {
        configure(&self.redis, &self.one, &self.two);
    }

    /// All traffic of `a` goes there after this change, and a new service appears.
    #[track_caller]
    fn follows(&self, version: &str, text: &str) {
        let other = if version == "base" {
            "candidate"
        } else {
            "base"
        };
        let two = self.two.url("/");
        self.redis
            .run(&format!("HSET smartlink:weights:a {version} 1 {other} 0"));
        self.redis.run(&format!(
            "HSET smartlink:endpoints:{version}-new {two} base"
        ));
        self.site
            .await_answer(&named("a"), |answer| answer.body == text);
        let new = named(&format!("{version}-new"));
        self.site.await_answer(&new, |answer| answer.body == "two");
    }

    /// Both directions are followed, and no request suffered.
    #[track_caller]
    fn ends_well(self) {
        self.follows("candidate", "two");
        self.follows("base", "one");
        self.load.await_more(100);
        self.load.expect_all_good();
    }

    /// The event stream names this kind.
    #[track_caller]
    fn says(&self, kind: &str) {
        eventually(kind, || {
            let events = self.redis.run("XRANGE smartlink:events - +").texts();
            events.iter().any(|text| text == kind).then_some(())
        });
    }
}

#[test]
fn a_killed_redis_that_comes_back_empty_changes_nothing_until_it_is_told() {
    let mut scene = Scene::start();
    scene.redis.kill();
    scene.load.await_turn();
    // Long enough to be noticed.
    std::thread::sleep(secs(1));
    scene.load.await_turn();
    scene.redis.restart();
    scene.says("config_vanished");
    let served = |answer: &crate::support::load::Answer| answer.status == 200;
    scene.site.await_answer(&named("a"), served);
    // What is written now is obeyed on top of what vanished.
    let two = scene.two.url("/");
    scene
        .redis
        .run(&format!("HSET smartlink:endpoints:b {two} base"));
    scene.site.await_answer(&named("b"), served);
    scene.site.await_answer(&get("/r/x"), served);
    scene.configure();
    let Scene {
        load, site, redis, ..
    } = scene;
    load.await_more(100);
    load.expect_all_good();
    redis.run("DEL smartlink:route:r smartlink:endpoints:a");
    site.await_answer(&get("/r/x"), |answer| answer.code() == "no_route");
    site.await_answer(&named("a"), |answer| answer.code() == "no_such_service");
}

#[test]
fn what_vanished_is_served_until_it_is_forgotten() {
    let scene = Scene::start();
    scene.redis.run("FLUSHALL");
    scene.says("config_vanished");
    let (two, url) = (scene.two.url("/"), scene.redis.url());
    scene
        .redis
        .run(&format!("HSET smartlink:endpoints:b {two} base"));
    scene
        .site
        .await_answer(&named("b"), |answer| answer.body == "two");
    scene.load.await_more(100);
    let Scene { load, site, .. } = scene;
    load.expect_all_good();
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_smartlink"))
        .args(["forget-vanished", "--redis", &url])
        .status();
    assert!(done.expect("it runs").success());
    site.await_answer(&named("a"), |answer| answer.code() == "no_such_service");
    site.await_answer(&named("b"), |answer| answer.body == "two");
}

#[test]
fn a_frozen_redis_delays_nobody() {
    let scene = Scene::start();
    scene.redis.freeze();
    scene.load.await_turn();
    // Long enough to be noticed.
    std::thread::sleep(secs(3));
    scene.load.await_turn();
    scene.redis.thaw();
    scene.ends_well();
}

#[test]
fn a_killed_subscription_costs_nothing() {
    let scene = Scene::start();
    for version in ["candidate", "base"] {
        scene.redis.run("CLIENT KILL TYPE pubsub");
        scene.follows(version, if version == "base" { "one" } else { "two" });
    }
    scene.ends_well();
}

#[test]
fn silenced_notifications_are_noticed() {
    let scene = Scene::start();
    scene
        .redis
        .call(&["CONFIG", "SET", "notify-keyspace-events", ""]);
    scene.ends_well();
}

#[test]
fn a_flush_is_survived_and_what_is_written_after_it_counts() {
    for line in ["FLUSHALL", "FLUSHDB"] {
        let scene = Scene::start();
        scene.redis.run(line);
        scene.says("config_vanished");
        scene.configure();
        scene.ends_well();
    }
}

#[test]
fn a_swapped_database_is_taken_over() {
    let scene = Scene::start();
    let (one, two) = (scene.one.url("/"), scene.two.url("/"));
    let mut other = scene.redis.connect();
    other.run("SELECT 1");
    other.run(&format!(
        "HSET smartlink:endpoints:a {one} base {two} candidate"
    ));
    other.run("HSET smartlink:weights:a candidate 1");
    other.run("HSET smartlink:route:r service a path /r/");
    scene.redis.run("SWAPDB 0 1");
    scene
        .site
        .await_answer(&named("a"), |answer| answer.body == "two");
    scene.ends_well();
}

#[test]
fn a_restart_without_redis_serves_from_the_snapshot() {
    let mut redis = Redis::start();
    let (one, _) = serving("one");
    let url = one.url("/");
    redis.run(&format!("HSET smartlink:endpoints:a {url} base"));
    redis.run("HSET smartlink:route:r service a path /r/");
    let file = redis.folder().join("snapshot");
    let site = Site::start_with_snapshot(&redis, file.clone());
    site.await_answer(&named("a"), |answer| answer.body == "one");
    drop(site);
    redis.kill();
    let site = Site::start_with_snapshot(&redis, file);
    for request in [named("a"), get("/r/x")] {
        assert_eq!(site.ask(&request).body, "one");
    }
    let requests = vec![named("a"), get("/r/x")];
    let load = Load::start(site.address, requests, |answer| {
        (answer.body == "one").then_some(()).ok_or(String::new())
    });
    load.await_more(100);
    redis.restart();
    redis.run(&format!("HSET smartlink:endpoints:b {url} base"));
    site.await_answer(&named("b"), |answer| answer.body == "one");
    load.expect_all_good();
}

#[test]
fn with_neither_redis_nor_snapshot_it_answers_starting_until_redis_comes() {
    let mut redis = Redis::start();
    redis.kill();
    let (one, _) = serving("one");
    let site = Site::start(&redis);
    for request in [named("a"), get("/r/x")] {
        let answer = site.ask(&request);
        assert_eq!((answer.status, answer.code()), (503, "starting"));
        assert_ne!(answer.header("retry-after"), "");
    }
    redis.restart();
    let url = one.url("/");
    redis.run(&format!("HSET smartlink:endpoints:a {url} base"));
    site.await_answer(&named("a"), |answer| answer.body == "one");
    let strange = site.ask(&named("nobody"));
    assert_eq!((strange.status, strange.code()), (400, "no_such_service"));
}
