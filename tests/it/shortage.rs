//! A gateway that runs out of open files blames no endpoint, and goes on when it has some again.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::eventually;
use crate::support::load::{Caller, named, serving};
use crate::support::port::Port;
use crate::support::redis::Redis;

/// How many files the gateway may have open; it needs about 25 of its own.
const FILES: usize = 64;

/// A gateway that may open few files; killed when dropped.
struct Poor(Child);

impl Poor {
    fn start(redis: &Redis, port: &Port) -> Self {
        let script = format!("ulimit -n {FILES}; exec \"$@\"");
        let mut child = Command::new("sh")
            .args([
                "-c",
                &script,
                "sh",
                env!("CARGO_BIN_EXE_smartlink"),
                "serve",
            ])
            .args(["--admin", "off", "--threads", "1"])
            .args(["--listen", &port.address().to_string()])
            .args(["--redis", &redis.url()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let listens = lines.any(|line| line.is_ok_and(|line| line.contains("listening")));
        assert!(listens, "it never listened");
        // Read on, so that it never waits for us.
        std::thread::spawn(move || lines.count());
        Self(child)
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        let _over = self.0.kill();
        let _over = self.0.wait();
    }
}

#[test]
fn without_files_left_no_endpoint_is_blamed_and_all_goes_on_when_some_are_free() {
    let ((one, _), (two, _)) = (serving("one"), serving("two"));
    let redis = Redis::start();
    let url = one.url("/");
    redis.run(&format!("HSET smartlink:endpoints:a {url} base"));
    // Each has connections of its own.
    let others: Vec<String> = (0..FILES).map(|number| format!("b{number}")).collect();
    for other in &others {
        let url = two.url("/");
        redis.run(&format!("HSET smartlink:endpoints:{other} {url} base"));
    }
    redis.run("HSET smartlink:service:a health tcp health_interval 100ms");
    let port = Port::reserve();
    let poor = Poor::start(&redis, &port);
    let mut caller = Caller::connect(port.address()).expect("it accepts");
    eventually("it serves", || {
        (caller.ask(&named("a")).ok()?.status == 200).then_some(())
    });
    drop(caller);

    // The first to come takes the place it needs before the others have taken all of them.
    let mut caller = Caller::connect(port.address()).expect("it accepts");
    let crowd: Vec<_> = (0..FILES)
        .map(|_| Caller::connect(port.address()).expect("the queue has room"))
        .collect();
    let files = format!("/proc/{}/fd", poor.0.id());
    let open = || std::fs::read_dir(&files).expect("it runs").count();
    // A probe gives its file back now and then; each that is served keeps one.
    eventually("it has hardly a file left", || {
        (open() + 2 >= FILES).then_some(())
    });
    let mut asked = others.iter().map(|other| caller.ask(&named(other)));
    let refused = asked.find_map(|answer| answer.ok().filter(|answer| answer.status != 200));
    let refused = refused.expect("no file is left");
    assert_eq!((refused.status, refused.code()), (503, "overloaded"));
    assert!(refused.body.contains("open files"), "{}", refused.body);

    drop(crowd);
    eventually("it serves again", || {
        let last = others.last()?;
        (caller.ask(&named(last)).ok()?.status == 200).then_some(())
    });
    let events = redis.call(&["XRANGE", "smartlink:events", "-", "+"]);
    let events = events.texts();
    assert!(
        !events.iter().any(|text| text == "endpoint_down"),
        "{events:?}"
    );
}
