//! A Redis Cluster, of one node: the same promises under a prefix with a hash tag.

use crate::support::control::{Plane, options_at};
use crate::support::eventually;
use crate::support::redis::Redis;

#[test]
fn a_cluster_is_followed_like_a_single_server() {
    let redis = Redis::start_node();
    let slots: Vec<String> = (0..16384).map(|slot: u32| slot.to_string()).collect();
    let mut words = vec!["CLUSTER", "ADDSLOTS"];
    words.extend(slots.iter().map(String::as_str));
    redis.call(&words);
    eventually("the cluster is one", || {
        let info = redis.run("CLUSTER INFO").texts().concat();
        info.contains("cluster_state:ok").then_some(())
    });
    redis.run("HSET {smartlink}:endpoints:a http://127.0.0.1:1/ base");
    let url = redis.url().replace("redis://", "redis-cluster://");
    let plane = Plane::start_with(options_at(&url, "{smartlink}:")).expect("it starts");
    plane.await_weights("a", "base 1");
    plane.await_proof();
    for base in 2..20 {
        redis.run(&format!("HSET {{smartlink}}:weights:a base {base}"));
        let wanted = format!("base {base}");
        plane.await_weights("a", &wanted);
    }
    redis.run("CLIENT KILL TYPE pubsub");
    redis.run("HSET {smartlink}:weights:a base 50");
    plane.await_weights("a", "base 50");
    redis.run("DEL {smartlink}:endpoints:a");
    eventually("it is gone", || plane.weights("a").is_empty().then_some(()));
}
