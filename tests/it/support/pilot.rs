//! Pilots as processes, and the counts of a trial as a gateway would write them.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use super::eventually;
use super::redis::{Connection, Redis};

/// A pilot in a process of its own, killed when dropped.
pub struct Pilot(Child);

impl Pilot {
    /// A pilot of all rollouts that looks often.
    pub fn start(redis: &Redis) -> Self {
        Self::start_at(&redis.url())
    }

    /// The same, as a user whom the URL names.
    pub fn start_at(url: &str) -> Self {
        Self::start_with(url, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(url: &str, arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_smartlink"))
            .args(["pilot", "--tick", "20ms", "--log", "error", "--redis", url])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }

    /// Ends it without a chance to say goodbye.
    pub fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }

    /// Freezes it.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Asks it to end; whether it ended well.
    pub fn end(mut self) -> bool {
        self.signal("TERM");
        self.0.wait().expect("it ends").success()
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(done.expect("kill runs").success());
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        // Some tests killed it already.
        let _over = self.0.kill();
        let _over = self.0.wait();
    }
}

/// A rollout of a service, as people and programs see it in Redis.
pub struct Rollout<'r> {
    redis: &'r Redis,
    connection: std::cell::RefCell<Connection>,
    service: String,
}

impl<'r> Rollout<'r> {
    /// Endpoints of both versions, and the hash of the rollout with these fields.
    pub fn begin(redis: &'r Redis, service: &str, fields: &str) -> Self {
        redis.run(&format!(
            "HSET smartlink:endpoints:{service} http://127.0.0.1:1/{service} base http://127.0.0.1:2/{service} candidate"
        ));
        let rollout = Self::of(redis, service);
        rollout.set(&format!("candidate candidate {fields}"));
        rollout
    }

    /// The rollout of a service whose hashes stand there.
    pub fn of(redis: &'r Redis, service: &str) -> Self {
        Self {
            redis,
            connection: redis.connect().into(),
            service: service.to_owned(),
        }
    }

    /// Writes fields of the rollout's hash, as a person does.
    pub fn set(&self, fields: &str) {
        self.run(&format!("HSET smartlink:rollout:{} {fields}", self.service));
    }

    /// Writes weights, as somebody else does.
    pub fn weigh(&self, weights: &str) {
        self.run(&format!(
            "HSET smartlink:weights:{} {weights}",
            self.service
        ));
    }

    fn run(&self, line: &str) -> super::redis::Reply {
        self.connection.borrow_mut().run(line)
    }

    /// A field of the pilot's hash; empty where there is none.
    pub fn field(&self, name: &str) -> String {
        let line = format!("HGET smartlink:pilot:{} {name}", self.service);
        self.run(&line).texts().pop().unwrap_or_default()
    }

    /// The weights above 0.
    pub fn weights(&self) -> BTreeMap<String, u64> {
        let texts = self.run(&format!("HGETALL smartlink:weights:{}", self.service));
        let texts = texts.texts();
        let pairs = texts.chunks_exact(2);
        let pairs =
            pairs.filter_map(|pair| Some((pair.first()?.clone(), pair.last()?.parse().ok()?)));
        pairs.filter(|(_, weight)| *weight > 0).collect()
    }

    /// The candidate's weight.
    pub fn candidate(&self) -> u64 {
        self.weights().get("candidate").copied().unwrap_or_default()
    }

    /// Waits until the pilot says this state.
    #[track_caller]
    pub fn await_state(&self, state: &str) {
        let what = format!("{} is {state}", self.service);
        let mut last = String::new();
        eventually(&what, || {
            let now = self.field("state");
            if now != last {
                last.clone_from(&now);
            }
            (now == state).then_some(())
        });
    }

    /// Counts so many requests as gateways would that serve the weights which stand there: of both,
    /// of which so many of the candidate's are bad.
    pub fn count(&self, requests: u64, candidate_bad: u64) {
        let (trial, candidate) = (self.field("trial"), self.candidate());
        if trial.is_empty() {
            return;
        }
        let key = format!("smartlink:trial:{}:candidate", self.service);
        let standing = self.run(&format!("HGET {key} trial")).texts().pop();
        if standing.as_deref() != Some(&trial) {
            self.run(&format!("DEL {key}"));
            self.run(&format!("HSET {key} trial {trial}"));
        }
        let served = requests * candidate / 1000;
        // As a gateway does: who sees one version's counts without the other's sees a split that is
        // wrong.
        self.run("MULTI");
        for (version, all, bad) in [
            ("candidate", served, candidate_bad.min(served)),
            ("base", requests - served, 0),
        ] {
            self.run(&format!(
                "HINCRBY {key} {candidate}.{version}.requests {all}"
            ));
            self.run(&format!("HINCRBY {key} {candidate}.{version}.bad {bad}"));
        }
        self.run("EXEC");
    }

    /// The audit entries, the oldest first.
    pub fn audit(&self) -> Vec<BTreeMap<String, String>> {
        let stream = format!("smartlink:audit:{}", self.service);
        let super::redis::Reply::Many(entries) = self.redis.call(&["XRANGE", &stream, "-", "+"])
        else {
            panic!("no stream");
        };
        let entry = |entry: super::redis::Reply| {
            let texts = entry.texts();
            let pairs = texts.get(1..).expect("an id").chunks_exact(2);
            let pair = |pair: &[String]| Some((pair.first()?.clone(), pair.last()?.clone()));
            pairs.filter_map(pair).collect()
        };
        entries.into_iter().map(entry).collect()
    }
}
