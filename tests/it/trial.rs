//! Counters of a candidate on trial: which request counts where, as what, and only once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::load::{Caller, Load, get, named, serving};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof, options};
use crate::support::upstream::{Gate, Upstream};

/// Bounds that no request of these tests is near.
const FAR: &str = "10000000,20000000,30000000";

/// The counters by field, of the service `a` and its candidate.
struct Counters(BTreeMap<String, String>);

impl Counters {
    fn of(redis: &Redis) -> Self {
        Self(redis.hash("smartlink:trial:a:candidate"))
    }

    fn get(&self, field: &str) -> u64 {
        let text = self.0.get(field).map_or("0", String::as_str);
        text.parse().expect("plain decimal")
    }

    /// The sum over all shares of a version's count.
    fn sum(&self, version: &str, count: &str) -> u64 {
        let end = format!(".{version}.{count}");
        let fields = self.0.keys().filter(|field| field.ends_with(&end));
        fields.map(|field| self.get(field)).sum()
    }

    fn requests(&self) -> u64 {
        self.sum("base", "requests") + self.sum("candidate", "requests")
    }
}

/// Waits until so many requests are counted.
#[track_caller]
fn await_requests(redis: &Redis, wanted: u64) -> Counters {
    eventually(&format!("{wanted} requests are counted"), || {
        let counters = Counters::of(redis);
        (counters.requests() == wanted).then_some(counters)
    })
}

/// The service `a` with two versions, these weights and settings, on trial from now on.
fn prepare(redis: &Redis, urls: [&str; 2], weights: [u32; 2], settings: &str) {
    let [base, candidate] = urls;
    redis.call(&[
        "HSET",
        "smartlink:endpoints:a",
        base,
        "base",
        candidate,
        "candidate",
    ]);
    let [base, candidate] = weights;
    redis.run(&format!(
        "HSET smartlink:weights:a base {base} candidate {candidate}"
    ));
    redis.run(&format!(
        "HSET smartlink:service:a eject_5xx off {settings}"
    ));
    redis.run("HSET smartlink:route:r service a path /r/");
    redis.run(&format!(
        "HSET smartlink:pilot:a trial 1 candidate candidate slow_at_us {FAR} slow_candidate_at_us {FAR}"
    ));
}

fn start(redis: &Redis) -> Site {
    let site = Site::start(redis);
    await_proof(redis);
    site
}

/// Another gateway on the same Redis.
fn start_another(redis: &Redis) -> Site {
    let mut options = options(redis);
    "there".clone_into(&mut options.store.instance);
    "there".clone_into(&mut options.stats.instance);
    let site = Site::start_with(options);
    eventually("it has read everything", || {
        let hash = redis.hash("smartlink:gateway:there");
        (hash.get("watch")? == "notifications").then_some(())
    });
    site
}

/// Writes this, and waits until the gateway has another table.
#[track_caller]
fn change(redis: &Redis, site: &Site, line: &str) {
    let revision = || {
        let table = site.ask_admin("/api/v1/table");
        let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
        table.get("revision").and_then(serde_json::Value::as_u64)
    };
    let before = revision();
    redis.run(line);
    eventually("the change is in force", || {
        (revision() > before).then_some(())
    });
}

fn failing() -> Upstream {
    Upstream::answering("HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno")
}

#[test]
fn a_thousand_requests_of_two_gateways_count_where_the_split_put_them() {
    let redis = Redis::start();
    let ((base, base_hits), candidate) = (serving("base"), failing());
    prepare(&redis, [&base.url("/"), &candidate.url("/")], [950, 50], "");
    let sites = [start(&redis), start_another(&redis)];
    for site in &sites {
        let mut caller = Caller::connect(site.address).expect("it accepts");
        for _ in 0..500 {
            caller.ask(&named("a")).expect("an answer");
        }
    }
    let counters = await_requests(&redis, 1_000);
    let served = u64::try_from(base_hits.load(std::sync::atomic::Ordering::SeqCst)).expect("few");
    assert_eq!(counters.get("50.base.requests"), served);
    let failed = counters.get("50.candidate.requests");
    assert!(
        (46..=54).contains(&failed),
        "{failed} of 50, at most 2 off in each gateway"
    );
    assert_eq!(counters.get("50.candidate.bad"), failed);
    assert_eq!(counters.sum("base", "bad"), 0);
    for count in ["over_50", "over_90", "over_99", "first"] {
        assert_eq!(
            counters.sum("base", count) + counters.sum("candidate", count),
            0,
            "{count}"
        );
    }
    let life = redis.run("TTL smartlink:trial:a:candidate").number();
    assert!((604_000..=604_800).contains(&life), "{life}");
}

#[test]
fn every_request_is_filed_under_the_share_by_which_it_was_assigned() {
    let redis = Redis::start();
    let ((base, _), (candidate, _)) = (serving("base"), serving("candidate"));
    prepare(
        &redis,
        [&base.url("/"), &candidate.url("/")],
        [900, 100],
        "",
    );
    let site = start(&redis);
    let load = Load::start(
        site.address,
        vec![named("a"), get("/r/x"), named("a")],
        |answer| (answer.status == 200).then_some(()).ok_or(String::new()),
    );
    load.await_more(300);
    for weights in [
        "base 50 candidate 50",
        "base 1 candidate 3",
        "base 90 candidate 10",
    ] {
        redis.run(&format!("HSET smartlink:weights:a {weights}"));
        load.await_more(300);
    }
    let tally = load.expect_all_good();
    let counters = await_requests(&redis, u64::try_from(tally.requests).expect("few"));
    for (share, splits) in [(100, 2), (500, 1), (750, 1)] {
        let of = |version: &str| counters.get(&format!("{share}.{version}.requests"));
        let (base, candidate) = (of("base"), of("candidate"));
        let wanted = (base + candidate) * share;
        let off = (candidate * 1000).abs_diff(wanted);
        assert!(
            base > 0 && off <= splits * 2_000,
            "{share}: {base} and {candidate}"
        );
    }
    let shares: Vec<_> = counters
        .0
        .keys()
        .filter_map(|field| field.split_once('.'))
        .collect();
    assert!(
        shares
            .iter()
            .all(|(share, _)| ["100", "500", "750"].contains(share)),
        "{shares:?}"
    );
}

#[test]
fn requests_of_a_trial_that_end_in_the_next_are_not_counted() {
    let redis = Redis::start();
    let gate = Gate::default();
    let hanging = Upstream::start({
        let gate = gate.clone();
        move |connection| {
            while connection.read_request().is_some() {
                gate.pass();
                connection.send("HTTP/1.1 503 Oh\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let (base, _) = serving("base");
    prepare(&redis, [&base.url("/"), &hanging.url("/")], [1, 3], "");
    let site = start(&redis);
    let callers = (0..8).map(|_| {
        let mut caller = Caller::connect(site.address).expect("it accepts");
        caller.send(&named("a")).expect("it reads");
        caller
    });
    let mut callers: Vec<Caller> = callers.collect();
    eventually("the candidate is asked", || {
        (hanging.seen().len() >= 4).then_some(())
    });
    change(&redis, &site, "HSET smartlink:weights:a base 1 candidate 0");
    change(&redis, &site, "HSET smartlink:pilot:a trial 2");
    site.ask(&named("a"));
    eventually("the next trial counts", || {
        (Counters::of(&redis).get("trial") == 2).then_some(())
    });
    gate.open();
    let failed = callers
        .iter_mut()
        .map(|caller| caller.read().expect("an answer"));
    let failed = failed.filter(|answer| answer.status == 503).count();
    assert!((4..=8).contains(&failed), "{failed}");
    eventually("all are counted", || {
        let hash = redis.hash("smartlink:stats:a:candidate");
        (hash.get("status_503")? == &failed.to_string()).then_some(())
    });
    let counters = Counters::of(&redis);
    assert_eq!(counters.requests(), 1, "{:?}", counters.0);
    assert_eq!(counters.get("0.base.requests"), 1);
}

#[test]
fn an_answer_counts_under_the_share_by_which_its_version_was_chosen() {
    let redis = Redis::start();
    let gate = Gate::default();
    let hanging = Upstream::start({
        let gate = gate.clone();
        move |connection| {
            connection.read_request();
            gate.pass();
            connection.send("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let (base, _) = serving("base");
    prepare(&redis, [&base.url("/"), &hanging.url("/")], [0, 1], "");
    let site = start(&redis);
    let mut caller = Caller::connect(site.address).expect("it accepts");
    caller.send(&named("a")).expect("it reads");
    eventually("it is asked", || (hanging.seen().len() == 1).then_some(()));
    change(&redis, &site, "HSET smartlink:weights:a base 3 candidate 0");
    assert_eq!(site.ask(&named("a")).body, "base");
    gate.open();
    assert_eq!(caller.read().expect("an answer").status, 500);
    eventually("it is counted", || {
        let counters = Counters::of(&redis);
        let bad = counters.get("1000.candidate.bad");
        (bad == 1 && counters.get("0.base.requests") > 0).then_some(())
    });
    assert_eq!(Counters::of(&redis).sum("candidate", "requests"), 1);
}

#[test]
fn what_another_version_answers_counts_for_the_one_that_was_chosen() {
    let redis = Redis::start();
    let ((base, _), closed) = (serving("base"), Port::reserve());
    prepare(&redis, [&base.url("/"), &closed.url()], [1, 1], "");
    let site = start(&redis);
    for _ in 0..40 {
        assert_eq!(site.ask(&named("a")).body, "base");
    }
    let counters = await_requests(&redis, 40);
    let chosen = counters.get("500.candidate.requests");
    assert!((18..=22).contains(&chosen), "{chosen}");
    assert_eq!(counters.get("500.candidate.bad"), chosen);
    assert_eq!(counters.sum("base", "bad"), 0);
}

#[test]
fn a_repeat_that_the_same_version_answers_is_no_failure_of_it() {
    let redis = Redis::start();
    let ((base, _), (candidate, _), closed) =
        (serving("base"), serving("candidate"), Port::reserve());
    prepare(
        &redis,
        [&base.url("/"), &candidate.url("/")],
        [0, 1],
        "fall 1000",
    );
    redis.call(&["HSET", "smartlink:endpoints:a", &closed.url(), "candidate"]);
    let site = start(&redis);
    for _ in 0..10 {
        assert_eq!(site.ask(&named("a")).body, "candidate");
    }
    let counters = await_requests(&redis, 10);
    assert!(redis.hash("smartlink:stats:a:candidate")["retries"] != "0");
    assert_eq!(counters.get("1000.candidate.requests"), 10);
    assert_eq!(counters.sum("candidate", "bad"), 0);
}

#[test]
fn a_request_in_flight_is_slow_when_its_time_is_up_and_only_once() {
    let redis = Redis::start();
    let gate = Gate::default();
    let hanging = Upstream::start({
        let gate = gate.clone();
        move |connection| {
            while connection.read_request().is_some() {
                gate.pass();
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate");
            }
        }
    });
    let (base, _) = serving("base");
    prepare(&redis, [&base.url("/"), &hanging.url("/")], [0, 1], "");
    redis.run("HSET smartlink:pilot:a slow_candidate_at_us 10000,20000,60000");
    let site = start(&redis);
    let mut caller = Caller::connect(site.address).expect("it accepts");
    caller.send(&named("a")).expect("it reads");
    eventually("it is slow while it hangs", || {
        (Counters::of(&redis).get("1000.candidate.over_99") == 1).then_some(())
    });
    assert!(!gate.is_open());
    gate.open();
    assert_eq!(caller.read().expect("an answer").body, "late");
    // Another one tells that the first one's end is told.
    redis.run(&format!(
        "HSET smartlink:pilot:a slow_candidate_at_us {FAR}"
    ));
    eventually("the bounds are others", || {
        site.ask(&named("a"));
        let counters = Counters::of(&redis);
        (counters.requests() > counters.sum("candidate", "over_50")).then_some(())
    });
    let counters = Counters::of(&redis);
    let slow = counters.sum("candidate", "over_50");
    assert!(slow <= counters.requests());
    for count in ["over_90", "over_99"] {
        assert!(counters.sum("candidate", count) <= slow, "{count}");
    }
    assert_eq!(counters.sum("candidate", "bad"), 0);
}

#[test]
fn a_client_that_leaves_counts_as_slow_or_not_at_all() {
    let redis = Redis::start();
    let hanging = Upstream::start(|connection| {
        let request = connection.read_request();
        if request.is_some_and(|it| it.head.start.contains("/begun")) {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf");
        }
        connection.wait_for_close();
    });
    let (base, _) = serving("base");
    prepare(&redis, [&base.url("/"), &hanging.url("/")], [0, 1], "");
    let site = start(&redis);
    let left = |count: u64| {
        eventually("the client left", || {
            let hash = redis.hash("smartlink:stats:a:candidate");
            (hash.get("status_499")?.parse::<u64>().ok()? == count).then_some(())
        });
    };
    let ask = |path: &str| {
        let before = hanging.seen().len();
        let mut client = Client::connect(site.address);
        client.send(get(path));
        eventually("it is asked", || {
            (hanging.seen().len() > before).then_some(())
        });
        client
    };
    drop(ask("/r/fast"));
    left(1);
    let mut begun = ask("/r/begun");
    begun.read_until("half");
    drop(begun);
    left(2);
    let counters = await_requests(&redis, 1);
    assert_eq!(
        counters.sum("candidate", "bad") + counters.sum("candidate", "over_50"),
        0
    );
    redis.run("HSET smartlink:pilot:a slow_candidate_at_us 1000,100000,30000000");
    let slow = eventually("the bounds are others", || {
        let client = ask("/r/slow");
        std::thread::sleep(Duration::from_millis(100));
        let over = Counters::of(&redis).sum("candidate", "over_50");
        (over > 0).then_some((client, over))
    });
    eventually("the second bound is passed", || {
        (Counters::of(&redis).sum("candidate", "over_90") >= 1).then_some(())
    });
    drop(slow);
    eventually("all are over", || {
        let hash = redis.hash("smartlink:live:a");
        (hash.get("candidate.inflight")? == "0").then_some(())
    });
    let counters = Counters::of(&redis);
    assert_eq!(
        counters.requests(),
        1 + counters.sum("candidate", "over_50")
    );
    assert_eq!(
        counters.sum("candidate", "over_99") + counters.sum("candidate", "bad"),
        0
    );
}

#[test]
fn places_of_a_version_are_its_own_and_limits_of_the_service_nobodys() {
    let redis = Redis::start();
    let gate = Gate::default();
    let hanging = Upstream::start({
        let gate = gate.clone();
        move |connection| {
            while connection.read_request().is_some() {
                gate.pass();
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let (base, _) = serving("base");
    prepare(
        &redis,
        [&base.url("/"), &hanging.url("/")],
        [0, 1],
        "concurrency 2",
    );
    redis.call(&[
        "HSET",
        "smartlink:endpoints:a",
        &hanging.url("/"),
        "candidate max_conns=1",
    ]);
    let site = start(&redis);
    let mut held = Caller::connect(site.address).expect("it accepts");
    held.send(&named("a")).expect("it reads");
    eventually("it is asked", || (hanging.seen().len() == 1).then_some(()));
    assert_eq!(site.ask(&named("a")).code(), "overloaded");
    let counters = await_requests(&redis, 1);
    assert_eq!(counters.get("1000.candidate.bad"), 1);
    redis.run("HSET smartlink:service:a concurrency 1");
    // How many were refused for a place of the version, until one was for a slot of the service.
    let mut places = 1;
    eventually("the service is full", || {
        let answer = site.ask(&named("a"));
        let by_service = answer.body.contains("concurrency");
        places += u64::from(!by_service);
        by_service.then_some(())
    });
    gate.open();
    held.read().expect("an answer");
    let counters = await_requests(&redis, places + 1);
    assert_eq!(counters.sum("candidate", "bad"), places);
    eventually("all that was refused is counted in the statistics", || {
        let refused = redis.hash("smartlink:stats:a").remove("status_503");
        (refused? == (places + 1).to_string()).then_some(())
    });
    assert_eq!(Counters::of(&redis).requests(), places + 1);
}

#[test]
fn chosen_and_pinned_versions_are_not_the_splits() {
    let redis = Redis::start();
    let ((base, _), (candidate, _)) = (serving("base"), serving("candidate"));
    prepare(&redis, [&base.url("/"), &candidate.url("/")], [1, 1], "");
    redis.run("HSET smartlink:route:p service a path /p/ version candidate");
    let site = start(&redis);
    for _ in 0..10 {
        assert_eq!(site.ask(&get("/p/x")).body, "candidate");
    }
    for _ in 0..2 {
        site.ask(&get("/r/x"));
    }
    await_requests(&redis, 2);
    redis.run("DEL smartlink:pilot:a");
    eventually("the trial is over", || {
        let before = Counters::of(&redis).requests();
        for _ in 0..4 {
            site.ask(&get("/r/x"));
        }
        std::thread::sleep(Duration::from_millis(300));
        (Counters::of(&redis).requests() == before).then_some(())
    });
}

#[test]
fn a_caller_who_stays_counts_once_over_all_gateways() {
    const CALLERS: u64 = 60;
    let redis = Redis::start();
    let ((base, _), candidate) = (serving("base"), failing());
    let sticky = "sticky header:x-user";
    prepare(
        &redis,
        [&base.url("/"), &candidate.url("/")],
        [1, 1],
        sticky,
    );
    let sites = [start(&redis), start_another(&redis)];
    let mut asked = 0;
    for _ in 0..2 {
        for site in &sites {
            let mut caller = Caller::connect(site.address).expect("it accepts");
            for user in 0..CALLERS {
                let request = format!("GET /r/x HTTP/1.1\r\nhost: h\r\nx-user: {user}\r\n\r\n");
                caller.ask(request.as_bytes()).expect("an answer");
                asked += 1;
            }
            // Without a key the split decides, and there is no caller to count.
            caller.ask(&get("/r/x")).expect("an answer");
            asked += 1;
        }
    }
    let counters = await_requests(&redis, asked);
    let first = counters.sum("candidate", "first");
    assert_eq!(counters.sum("base", "first") + first, CALLERS);
    assert!((10..=50).contains(&first), "{first}");
    assert_eq!(counters.sum("candidate", "first_bad"), first);
    assert_eq!(counters.sum("base", "first_bad"), 0);
    let key = "smartlink:internal:trial-callers:a:candidate";
    assert_eq!(redis.run(&format!("SCARD {key}")).number(), 60);
    let life = redis.run(&format!("TTL {key}")).number();
    assert!(life > 604_800, "longer than what it guards: {life}");
    // A new trial meets everybody anew.
    redis.run("HSET smartlink:pilot:a trial 2");
    eventually("the next trial counts", || {
        let request = b"GET /r/x HTTP/1.1\r\nhost: h\r\nx-user: 1\r\n\r\n";
        for site in &sites {
            site.ask(request);
        }
        let counters = Counters::of(&redis);
        (counters.get("trial") == 2 && counters.requests() > 0).then_some(())
    });
    let counters = Counters::of(&redis);
    assert_eq!(
        counters.sum("base", "first") + counters.sum("candidate", "first"),
        1
    );
}

#[test]
fn a_trial_is_counted_once_whatever_happens_to_redis() {
    let mut redis = Redis::start();
    let ((base, _), (candidate, _)) = (serving("base"), serving("candidate"));
    prepare(&redis, [&base.url("/"), &candidate.url("/")], [3, 1], "");
    let site = start(&redis);
    let load = Load::start(site.address, vec![named("a"), get("/r/x")], |answer| {
        (answer.status == 200).then_some(()).ok_or(String::new())
    });
    for _ in 0..3 {
        redis.kill();
        load.await_turn();
        std::thread::sleep(Duration::from_millis(200));
        redis.restart();
        load.await_turn();
        std::thread::sleep(Duration::from_millis(300));
    }
    for frozen_ms in [50, 700, 300] {
        redis.freeze();
        load.await_turn();
        std::thread::sleep(Duration::from_millis(frozen_ms));
        redis.thaw();
        load.await_turn();
        // Its answers are lost; what it did stays.
        redis.run("CLIENT KILL TYPE normal");
        std::thread::sleep(Duration::from_millis(100));
    }
    let tally = load.expect_all_good();
    let served = u64::try_from(tally.requests).expect("few");
    await_requests(&redis, served);
    std::thread::sleep(Duration::from_millis(500));
    let counters = Counters::of(&redis);
    assert_eq!(counters.requests(), served);
    let off = (counters.get("250.candidate.requests") * 4).abs_diff(served);
    assert!(off <= 8, "{off} of {served}");
}

#[test]
fn callers_count_once_when_redis_loses_everything() {
    const CALLERS: u64 = 40;
    let mut redis = Redis::start();
    let ((base, _), (candidate, _)) = (serving("base"), serving("candidate"));
    let sticky = "sticky header:x-user";
    prepare(
        &redis,
        [&base.url("/"), &candidate.url("/")],
        [1, 1],
        sticky,
    );
    let site = start(&redis);
    let round = || {
        let mut caller = Caller::connect(site.address).expect("it accepts");
        for user in 0..CALLERS {
            let request = format!("GET /r/x HTTP/1.1\r\nhost: h\r\nx-user: {user}\r\n\r\n");
            assert_eq!(
                caller.ask(request.as_bytes()).expect("an answer").status,
                200
            );
        }
    };
    let mut asked = 0;
    for _ in 0..2 {
        round();
        asked += CALLERS;
        await_requests(&redis, asked);
        redis.kill();
        round();
        asked += CALLERS;
        redis.restart();
        await_requests(&redis, asked);
    }
    let counters = Counters::of(&redis);
    let first = counters.sum("base", "first") + counters.sum("candidate", "first");
    assert_eq!(first, CALLERS);
}

#[test]
fn a_trial_that_is_over_is_not_counted() {
    let redis = Redis::start();
    let ((base, _), (candidate, _)) = (serving("base"), serving("candidate"));
    prepare(&redis, [&base.url("/"), &candidate.url("/")], [1, 1], "");
    let site = start(&redis);
    let ask = |times| (0..times).for_each(|_| drop(site.ask(&named("a"))));
    ask(4);
    await_requests(&redis, 4);
    change(&redis, &site, "HSET smartlink:pilot:a state done");
    ask(10);
    change(&redis, &site, "HSET smartlink:pilot:a state running");
    ask(3);
    // Had the ten been counted, they would have been told before these three.
    await_requests(&redis, 7);
}

#[test]
fn what_the_pilot_says_to_people_changes_no_table() {
    let redis = Redis::start();
    let ((base, _), (candidate, _)) = (serving("base"), serving("candidate"));
    prepare(&redis, [&base.url("/"), &candidate.url("/")], [1, 1], "");
    let site = start(&redis);
    let revision = || redis.hash("smartlink:gateway:here").remove("revision");
    let before = eventually("it tells its revision", revision);
    for evidence in 0..20 {
        redis.run(&format!(
            "HSET smartlink:pilot:a evidence {evidence} state running"
        ));
    }
    // Marks the end: what came before was seen.
    redis.run("HSET smartlink:pilot:a trial first");
    eventually("the mistake is named", || {
        let errors = redis.hash("smartlink:errors");
        errors.contains_key("smartlink:pilot:a trial").then_some(())
    });
    for _ in 0..10 {
        site.ask(&named("a"));
    }
    let counters = await_requests(&redis, 10);
    assert_eq!(counters.get("trial"), 1, "the last good state");
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(revision().expect("it beats"), before);
}
