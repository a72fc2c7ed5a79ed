//! What the gateway says about faults: events, and the hash of an endpoint's health.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::crowd::Want;
use crate::support::faulty::Manner;
use crate::support::redis::{Redis, Reply};
use crate::support::scene::{Scene, well};
use crate::support::site::{Site, await_proof};
use crate::support::{eventually, secs};

/// An entry of the stream of events.
#[derive(Debug)]
pub struct Event(BTreeMap<String, String>);

impl Event {
    fn new(texts: Vec<String>) -> Self {
        let mut texts = texts.into_iter();
        let mut fields = BTreeMap::new();
        while let (Some(field), Some(value)) = (texts.next(), texts.next()) {
            fields.insert(field, value);
        }
        Self(fields)
    }

    /// The value of a field, empty where it is absent.
    pub fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }
}

/// All events, oldest first.
pub fn events(redis: &Redis) -> Vec<Event> {
    let Reply::Many(entries) = redis.run("XRANGE smartlink:events - +") else {
        return Vec::new();
    };
    let fields = |entry: Reply| match entry {
        Reply::Many(parts) => parts.into_iter().nth(1).map_or(Vec::new(), Reply::texts),
        _ => Vec::new(),
    };
    entries.into_iter().map(fields).map(Event::new).collect()
}

/// Waits until an event of this kind is told of the first host.
#[track_caller]
fn await_event(redis: &Redis, scene: &Scene, kind: &str) -> Event {
    let url = scene.first().url();
    eventually(kind, || {
        let mut events = events(redis).into_iter();
        events.find(|event| event.get("kind") == kind && event.get("endpoint") == url)
    })
}

/// Waits until the health of the first host is told to be so.
#[track_caller]
fn await_health(redis: &Redis, scene: &Scene, state: &str) {
    let mut last = String::new();
    let end = Instant::now() + secs(20);
    loop {
        let health = redis.hash(&format!("smartlink:health:{}", scene.service));
        if let Some(json) = health.get(&scene.first().url()) {
            let said: Value = serde_json::from_str(json).expect("JSON");
            let of = |pointer| said.pointer(pointer).and_then(Value::as_str);
            if of("/state") == Some(state) && of("/gateways/here") == Some(state) {
                let since = said.pointer("/since_ms").and_then(Value::as_u64);
                assert!(since.is_some(), "{json}");
                return;
            }
            last.clone_from(json);
        }
        assert!(Instant::now() < end, "not {state}: {last}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_becomes_of_an_endpoint_is_told_with_its_cause_and_the_name_of_the_gateway() {
    let redis = Redis::start();
    // In turn, so that whoever serves again is asked again at once.
    let settings = "balance round_robin eject_time 300ms";
    let scene = Scene::prepare(&redis, "a", &[well(2); 2], settings);
    let site = Site::start(&redis);
    await_proof(&redis);
    let pause = Duration::from_millis(5);
    let crowd = scene.crowd(&site, &[Want::Named, Want::Get], pause);
    let (host, quick) = (scene.first(), Duration::from_millis(1));
    host.await_hits(3);
    host.set(Manner::Gone);
    let down = await_event(&redis, &scene, "endpoint_down");
    await_health(&redis, &scene, "down");
    host.set(well(2));
    let up = await_event(&redis, &scene, "endpoint_up");
    await_health(&redis, &scene, "up");
    host.set(Manner::Fails(quick));
    let ejected = await_event(&redis, &scene, "endpoint_ejected");
    await_health(&redis, &scene, "ejected");
    host.set(well(2));
    await_health(&redis, &scene, "up");
    scene.write(&redis, host, "base drain");
    await_health(&redis, &scene, "drain");
    for event in [&down, &up, &ejected] {
        assert_eq!(event.get("service"), "a", "{event:?}");
        assert_eq!(event.get("version"), "base", "{event:?}");
        assert_eq!(event.get("gateway"), "here", "{event:?}");
        assert!(event.get("at_ms").parse::<u64>().is_ok(), "{event:?}");
        println!("{} because {}", event.get("kind"), event.get("why"));
    }
    for event in [&down, &ejected] {
        assert!(!event.get("why").is_empty(), "{event:?}");
    }
    drop(crowd.stop());
}
