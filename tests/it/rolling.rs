//! Restarts of one endpoint after the other, each drained before: nobody notices.

use std::time::Duration;

use crate::support::crowd::{Crowd, Want, kinds};
use crate::support::eventually;
use crate::support::faulty::{Host, Manner};
use crate::support::redis::Redis;
use crate::support::scene::{Scene, well};
use crate::support::site::{Site, await_proof};

/// How often every endpoint is restarted.
const ROUNDS: usize = 20;
/// How long a process takes to start.
const STARTS: Duration = Duration::from_millis(10);
/// Pieces of a stream: it lasts longer than a restart does.
const BEATS: u32 = 6;

/// Waits until the gateway says that the endpoint drains and that nothing is in flight there.
#[track_caller]
fn await_drained(scene: &Scene, site: &Site, crowd: &Crowd, host: &Host) {
    let await_standing = |wanted: &dyn Fn(&str, u64) -> bool| {
        eventually("the endpoint drains", || {
            let (duty, in_flight) = scene.standing(site, host)?;
            wanted(&duty, in_flight).then_some(())
        });
    };
    await_standing(&|duty, _| duty == "drain");
    // What came before the change may still choose by what was written before it.
    crowd.await_turn();
    await_standing(&|duty, in_flight| duty == "drain" && in_flight == 0);
}

#[test]
fn twenty_rolling_restarts_of_three_drained_endpoints_fail_no_request_and_no_stream() {
    let redis = Redis::start();
    let prompt = well(5);
    let scene = Scene::prepare(&redis, "a", &[prompt; 3], "eject_time 500ms");
    let site = Site::start(&redis);
    await_proof(&redis);
    let stream = Want::Stream(BEATS);
    let wants = [
        Want::Named,
        Want::Post,
        Want::Get,
        Want::Named,
        stream,
        stream,
        stream,
    ];
    let crowd = scene.crowd(&site, &wants, Duration::from_millis(3));
    crowd.await_more(100);
    for _ in 0..ROUNDS {
        for host in &scene.pool.hosts {
            scene.write(&redis, host, "base drain");
            await_drained(&scene, &site, &crowd, host);
            host.set(Manner::Gone);
            std::thread::sleep(STARTS);
            host.set(prompt);
            scene.write(&redis, host, "base");
            host.await_hits(1);
        }
    }
    crowd.await_more(50);
    let asked = crowd.stop();
    println!("{} requests over {} restarts", asked.len(), 3 * ROUNDS);
    assert_eq!(kinds(&asked), "", "of {}", asked.len());
    let twice = asked
        .iter()
        .filter(|one| scene.pool.ledger.runs(one.id) > 1);
    assert_eq!(twice.count(), 0);
}
