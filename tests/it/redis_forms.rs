//! Redis as people run it: behind Sentinel, as a Cluster of several nodes, behind TLS.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::control::{Plane, options_at};
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::redis::{Connection, Redis, Reply, binary};
use crate::support::secure::Authority;

/// A Sentinel that watches one master, called `m`.
struct Sentinel {
    port: Port,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    fn start(master: &Redis) -> Self {
        let port = Port::reserve();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor m 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds m 500\nsentinel failover-timeout m 3000\n",
            port.number(),
            master.port(),
        );
        std::fs::write(&file, text).expect("a file");
        let child = Command::new(binary())
            .arg(&file)
            .arg("--sentinel")
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let sentinel = Self {
            port,
            child,
            _folder: folder,
        };
        eventually("the Sentinel knows the replica", || {
            let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", "m"])?;
            replicas.contains(&"slave".to_owned()).then_some(())
        });
        sentinel
    }

    fn ask(&self, words: &[&str]) -> Option<Vec<String>> {
        let mut connection = Connection::open(self.port.number()).ok()?;
        connection.try_call(words).ok().map(Reply::texts)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _over = self.child.kill();
        let _over = self.child.wait();
    }
}

/// Waits until this server follows its master and has what the master has.
fn await_replica(replica: &Redis) {
    eventually("the replica follows", || {
        let info = replica.run("INFO replication").texts().concat();
        info.contains("master_link_status:up").then_some(())
    });
}

/// Waits until this server is a master, which throws its callers out when it becomes one.
fn await_master(server: &Redis) {
    eventually("the replica is the master", || {
        let mut connection = Connection::open(server.port()).ok()?;
        let role = connection.try_call(&["ROLE"]).ok()?.texts();
        (role.first()? == "master").then_some(())
    });
}

#[test]
fn behind_sentinel_the_successor_of_a_dead_master_is_followed() {
    let mut master = Redis::start();
    let of = master.port().to_string();
    let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &of]);
    await_replica(&replica);
    let sentinel = Sentinel::start(&master);
    master.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let url = format!(
        "redis-sentinel://{}?sentinelServiceName=m",
        sentinel.port.address()
    );
    let plane = Plane::start_with(options_at(&url, "smartlink:")).expect("it starts");
    plane.await_weights("a", "base 1");
    plane.await_proof();
    master.run("HSET smartlink:weights:a base 2");
    plane.await_weights("a", "base 2");
    eventually("the replica has it", || {
        let hash = replica.hash("smartlink:weights:a");
        (hash.get("base")? == "2").then_some(())
    });

    master.kill();
    await_master(&replica);
    assert_eq!(plane.weights("a"), "base 2", "nothing is lost in between");
    replica.run("HSET smartlink:weights:a base 3");
    plane.await_weights("a", "base 3");
    plane.await_proof();
    for base in 4..10 {
        replica.run(&format!("HSET smartlink:weights:a base {base}"));
        plane.await_weights("a", &format!("base {base}"));
    }
}

/// The node that holds our keys, of those that know.
fn owner<'n>(nodes: &'n [&'n Redis]) -> &'n Redis {
    let holds = |node: &&&Redis| {
        let mut connection = node.connect();
        connection
            .try_call(&["HLEN", "{smartlink}:endpoints:a"])
            .is_ok()
    };
    nodes.iter().find(holds).expect("one of them")
}

fn await_state(node: &Redis, wanted: &str) {
    eventually("the cluster agrees", || {
        let info = node.run("CLUSTER INFO").texts().concat();
        info.contains(wanted).then_some(())
    });
}

#[test]
fn in_a_cluster_of_several_nodes_keys_are_followed_to_another_primary() {
    let nodes = [
        Redis::start_node(),
        Redis::start_node(),
        Redis::start_node(),
    ];
    for (node, slots) in nodes.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
        node.run(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
    }
    let [first, others @ ..] = &nodes;
    for other in others {
        first.run(&format!("CLUSTER MEET 127.0.0.1 {}", other.port()));
    }
    for node in &nodes {
        await_state(node, "cluster_state:ok");
        await_state(node, "cluster_known_nodes:3");
    }
    let all: Vec<&Redis> = nodes.iter().collect();
    let primary = owner(&all);
    let replica = Redis::start_node();
    replica.run(&format!("CLUSTER MEET 127.0.0.1 {}", first.port()));
    for node in nodes.iter().chain([&replica]) {
        await_state(node, "cluster_known_nodes:4");
    }
    let id = primary.run("CLUSTER MYID").texts().concat();
    eventually("the replica knows its primary", || {
        let mut connection = replica.connect();
        connection.try_call(&["CLUSTER", "REPLICATE", &id]).ok()
    });
    await_replica(&replica);
    primary.run("HSET {smartlink}:endpoints:a http://127.0.0.1:1/ base");

    // Whichever node it was told of, it finds the one that holds its keys.
    let told = others.last().expect("two of them");
    let url = told.url().replace("redis://", "redis-cluster://");
    let plane = Plane::start_with(options_at(&url, "{smartlink}:")).expect("it starts");
    plane.await_weights("a", "base 1");
    plane.await_proof();
    for base in 2..10 {
        primary.run(&format!("HSET {{smartlink}}:weights:a base {base}"));
        plane.await_weights("a", &format!("base {base}"));
    }

    replica.run("CLUSTER FAILOVER");
    await_master(&replica);
    for base in 10..14 {
        replica.run(&format!("HSET {{smartlink}}:weights:a base {base}"));
        plane.await_weights("a", &format!("base {base}"));
    }
    plane.await_proof();
    replica.run("HSET {smartlink}:weights:a base 20");
    plane.await_weights("a", "base 20");
}

/// `check` at that URL, trusting what this file names.
fn check(url: &str, trusted: &Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_smartlink"))
        .args(["check", "--redis", url])
        .env("SSL_CERT_FILE", trusted)
        .env_remove("SSL_CERT_DIR")
        .output()
        .expect("it runs")
}

#[test]
fn over_tls_a_known_redis_is_read_and_an_unknown_one_is_named() {
    let known = Authority::new();
    let unknown = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    };
    let (certificate, key) = known.pair("127.0.0.1");
    let (certificate, key) = (file("cert.pem", &certificate), file("key.pem", &key));
    let secure = Port::reserve();
    let number = secure.number().to_string();
    let redis = Redis::start_with(&[
        "--tls-port",
        &number,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        known.path(),
        "--tls-auth-clients",
        "no",
    ]);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    redis.run("HSET smartlink:weights:a base many");
    let url = format!("rediss://127.0.0.1:{number}");

    let read = check(&url, Path::new(known.path()));
    let said = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(said.contains("smartlink:weights:a"), "{read:?}");

    let refused = check(&url, Path::new(unknown.path()));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
