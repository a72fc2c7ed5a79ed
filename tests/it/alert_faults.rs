//! Alerts when things go wrong around them: a leader that is killed, receivers that hang, a
//! configuration that vanishes, a Redis that runs no scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use smartlink::stats::Outcome;

use crate::alerts::{alert, break_settings, mend_settings, plane};
use crate::support::control::{Plane, options};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::receiver::{Received, Receiver};
use crate::support::redis::Redis;
use crate::support::secure::Authority;

/// Waits until what is kept of incidents says this of each.
#[track_caller]
fn await_kept(redis: &Redis, wanted: &str) {
    eventually("it is kept", || {
        let mut incidents = redis.hash("smartlink:internal:alerts");
        incidents.retain(|_, incident| incident.starts_with('{'));
        let all = incidents.values().all(|it| it.contains(wanted));
        (all && !incidents.is_empty()).then_some(())
    });
}

#[test]
fn a_leader_that_is_killed_leaves_its_incidents_to_another() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    alert(&redis, &receiver, "on config_error");
    let mut gateways: BTreeMap<String, Process> = ["one", "two", "three"]
        .into_iter()
        .map(|name| (name.to_owned(), Process::start(&redis, name)))
        .collect();
    break_settings(&redis);
    let leader = |message: &Received| message.json()["gateway"].as_str().expect("text").to_owned();
    let first = leader(&receiver.await_nth(0));
    await_kept(&redis, "\"owed\":null");
    gateways.get_mut(&first).expect("one of them").kill();
    // The next one leads while it goes on, and dies before it is over.
    let second = eventually("another leads", || {
        let leader = redis.hash("smartlink:internal:alerts").remove("leader")?;
        let mut names = gateways.keys().filter(|name| **name != first);
        names.find(|name| leader.starts_with(*name)).cloned()
    });
    gateways.get_mut(&second).expect("one of them").kill();
    mend_settings(&redis);
    let over = receiver.await_nth(1);
    assert!(![first, second].contains(&leader(&over)), "{over:?}");
    await_kept(&redis, "\"owed\":null");
    assert_eq!(
        receiver.told(),
        ["firing config_error ner", "over config_error ner"]
    );
}

#[test]
fn slow_answers_are_an_incident_of_their_version() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    redis
        .run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    redis.run("HSET smartlink:weights:ner base 90 candidate 10");
    alert(
        &redis,
        &receiver,
        "on error_rate,latency latency_p99 200ms min_requests 30",
    );
    let plane = plane(&redis, "one");
    let message = eventually("it is told", || {
        let service = plane.table().services.get("ner").cloned()?;
        for (version, total_us) in service.versions.iter().zip([20_000, 900_000]) {
            let outcome = Outcome {
                status: 200,
                total_us,
                ..Outcome::default()
            };
            plane.control.counters[0].count_version(version, &outcome);
        }
        std::thread::sleep(Duration::from_millis(20));
        receiver.received().first().map(Received::json)
    });
    for (field, wanted) in [
        ("kind", "latency"),
        ("version", "candidate"),
        (
            "relief",
            "redis-cli HSET smartlink:weights:ner base 100 candidate 0",
        ),
    ] {
        assert_eq!(message[field], wanted, "{field}");
    }
    let (why, evidence) = (message["why"].as_str(), message["evidence"].as_str());
    assert!(why.is_some_and(|it| it.ends_with("the limit is 200ms")));
    assert!(evidence.is_some_and(|it| it.ends_with("took longer than 200ms")));
    receiver.await_nth(1);
    assert_eq!(receiver.told(), ["firing latency ner", "over latency ner"]);
}

#[test]
fn a_configuration_that_vanishes_takes_its_alerts_along_and_is_told_nevertheless() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    let write = || {
        redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
        alert(&redis, &receiver, "on config_vanished");
    };
    write();
    let planes = [plane(&redis, "one"), plane(&redis, "two")];
    eventually("both know the alert", || {
        let known = |it: &Plane| it.table().alerts.contains_key("ops");
        planes.iter().all(known).then_some(())
    });
    redis.run("FLUSHALL");
    let message = receiver.await_nth(0).json();
    for (field, wanted) in [
        ("kind", "config_vanished"),
        ("state", "firing"),
        ("service", ""),
        ("evidence", "1 services are served on"),
        ("relief", "smartlink forget-vanished --prefix smartlink:"),
    ] {
        assert_eq!(message[field], wanted, "{field}");
    }
    write();
    assert_eq!(receiver.await_nth(1).json()["state"], "over");
    await_kept(&redis, "\"owed\":null");
    assert_eq!(
        receiver.told(),
        ["firing config_vanished ", "over config_vanished "]
    );
}

#[test]
fn many_incidents_at_once_are_one_message() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    let _gateway = plane(&redis, "one");
    for n in 0..6 {
        redis.run(&format!("HSET smartlink:endpoints:s{n} http://h/ base"));
        redis.run(&format!("HSET smartlink:service:s{n} timeout soon"));
    }
    eventually("all mistakes are known", || {
        let mistakes = redis.hash("smartlink:errors");
        (mistakes.len() == 6).then_some(())
    });
    alert(&redis, &receiver, "on config_error");
    let message = receiver.await_nth(0).json();
    assert_eq!(message["count"], 6, "{message}");
    assert_eq!(message["service"], "", "{message}");
    assert_eq!(message["why"], "6 incidents of this kind at once");
    let evidence = message["evidence"].as_str().expect("text");
    for n in 0..6 {
        let line = format!("s{n}: smartlink:service:s{n} timeout: want a duration");
        assert!(evidence.contains(&line), "{line} in {evidence}");
    }
    await_kept(&redis, "\"owed\":null");
    assert_eq!(receiver.told(), ["firing config_error "]);
}

#[test]
fn a_receiver_that_never_answers_delays_nobody_and_is_asked_again() {
    let redis = Redis::start();
    let (hangs, well) = (Receiver::start(), Receiver::start());
    hangs.hang();
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    redis.run(&format!(
        "HSET smartlink:alert:hangs url {} window 3s on config_error",
        hangs.url()
    ));
    alert(&redis, &well, "on config_error");
    let _gateway = plane(&redis, "one");
    break_settings(&redis);
    hangs.await_nth(0);
    well.await_nth(0);
    mend_settings(&redis);
    assert_eq!(well.await_nth(1).json()["state"], "over");
    // The other one had not answered yet.
    assert_eq!(hangs.received().len(), 1);
    hangs.await_nth(1);
    let named = redis.hash("smartlink:errors");
    let named = named.get("smartlink:alert:hangs url").expect("it is named");
    assert!(
        named.starts_with("messages do not arrive: it does not answer within 15s"),
        "{named}"
    );
    assert_eq!(well.told().len(), 2);
}

#[test]
fn a_web_hook_behind_tls_must_be_who_it_says_it_is() {
    let redis = Redis::start();
    let authority = Authority::new();
    let secure = Receiver::start_tls(authority.vouch("localhost", &[]));
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    redis.run(&format!(
        "HSET smartlink:alert:ops url https://localhost:{}/hook on config_error",
        secure.address.port()
    ));
    break_settings(&redis);
    let mut stranger = Process::start(&redis, "stranger");
    let named = eventually("it is not trusted", || {
        let mut errors = redis.hash("smartlink:errors");
        errors.remove("smartlink:alert:ops url")
    });
    assert!(named.contains("invalid peer certificate"), "{named}");
    assert_eq!(secure.told(), [""; 0]);
    stranger.kill();
    let _friend = Process::start_with(&redis, "friend", |command| {
        command.env("SSL_CERT_FILE", authority.path())
    });
    let message = secure.await_nth(0).json();
    assert_eq!(message["gateway"], "friend");
    assert_eq!(secure.told(), ["firing config_error ner"]);
}

#[test]
fn where_redis_refuses_scripts_each_gateway_says_so_once() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    redis.run("ACL SETUSER gateway on >x ~* &* +@all");
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    alert(&redis, &receiver, "on config_error,redis_lost");
    let mut options = options(&redis);
    options.store.user = Some("gateway".to_owned());
    options.store.password = Some("x".to_owned());
    let plane = Plane::start_with(options).expect("it starts");
    plane.await_weights("ner", "base 1");
    redis.run("ACL SETUSER gateway -eval -evalsha");
    let message = receiver.await_nth(0).json();
    assert_eq!(message["kind"], "redis_lost");
    let why = message["why"].as_str().expect("text");
    assert!(
        why.contains("refuses") && why.contains("evalsha"),
        "{message}"
    );
    // Nothing is judged, and nothing stops.
    break_settings(&redis);
    redis.run("ACL SETUSER gateway +eval +evalsha");
    receiver.await_nth(2);
    let mut told = receiver.told();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "firing config_error ner",
            "firing redis_lost ",
            "over redis_lost "
        ]
    );
}
