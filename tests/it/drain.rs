//! A gateway that stops loses nothing, and its process ends as promised.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::load::{Answer, Caller, Closed, Load, get, named, serving};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::site::{Site, options};
use crate::support::upstream::{Gate, Upstream};
use crate::support::{eventually, secs};

/// For how long kept connections are answered.
const GRACE: Duration = secs(1);

fn is_ok(answer: &Answer) -> Result<(), String> {
    let ok = answer.status == 200 && answer.body == "one";
    ok.then_some(()).ok_or("not served".to_owned())
}

/// Steady load on kept connections, for as long as they are kept.
fn load(address: SocketAddr) -> Load {
    let requests = vec![named("a"), named("a"), get("/r/x"), get("/r/y")];
    let load = Load::start_with(address, requests, Closed::End, is_ok);
    load.await_more(200);
    load
}

/// A Redis that says: `a` is there, also by a route.
fn redis_with(upstream: &Upstream) -> Redis {
    let redis = Redis::start();
    redis.run(&format!(
        "HSET smartlink:endpoints:a {} base",
        upstream.url("/")
    ));
    redis.run("HSET smartlink:route:r service a path /r/");
    redis
}

/// An upstream whose answers wait at a gate after their beginning.
fn slow(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |connection| {
        while let Some(head) = connection.read_head() {
            connection.read_body(&head).expect("a body");
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegin");
            gate.pass();
            connection.send(" end");
        }
    })
}

/// A caller whose request is in flight.
fn in_flight(address: SocketAddr, request: &[u8], upstream: &Upstream) -> Caller {
    let before = upstream.connections();
    let mut caller = Caller::connect(address).expect("it accepts");
    caller.send(request).expect("it reads");
    eventually("it is in flight", || {
        (upstream.connections() > before).then_some(())
    });
    caller
}

#[test]
fn a_drain_under_load_loses_no_request() {
    for _ in 0..3 {
        let (one, _) = serving("one");
        let redis = redis_with(&one);
        let mut site = Site::start(&redis);
        let load = load(site.address);
        site.begin_drain();
        let tally = load.wait();
        assert_eq!(tally.failures, [""; 0], "of {}", tally.requests);
        site.await_end();
    }
}

#[test]
fn a_drain_loses_nobody_who_connects_meanwhile() {
    let closing = b"GET /r/x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_vec();
    for _ in 0..10 {
        let (one, _) = serving("one");
        let redis = redis_with(&one);
        let mut site = Site::start(&redis);
        let load = Load::start(site.address, vec![closing.clone(); 4], is_ok);
        load.await_more(100);
        site.begin_drain();
        let tally = load.wait();
        assert_eq!(tally.failures, [""; 0], "of {}", tally.requests);
        site.await_end();
    }
}

#[test]
fn what_is_in_flight_finishes_and_its_connection_ends() {
    let gate = Gate::default();
    let upstream = slow(&gate);
    let redis = redis_with(&upstream);
    let mut site = Site::start(&redis);
    let requests = [named("a"), get("/r/x")];
    let callers = requests.map(|request| in_flight(site.address, &request, &upstream));
    site.begin_drain();
    eventually("nobody is accepted", || {
        TcpStream::connect(site.address).is_err().then_some(())
    });
    // Past the second for which kept connections are answered.
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(!site.is_over());
    gate.open();
    for mut caller in callers {
        let answer = caller.read().expect("a whole answer");
        assert_eq!(answer.body, "begin end");
        assert!(caller.is_closed());
    }
    site.await_end();
}

#[test]
fn what_never_ends_is_cut_when_the_drain_timeout_is_over() {
    let gate = Gate::default();
    let upstream = slow(&gate);
    let redis = redis_with(&upstream);
    let mut options = options(&redis);
    options.proxy.drain_timeout = secs(1);
    let mut site = Site::start_with(options);
    let mut caller = in_flight(site.address, &get("/r/x"), &upstream);
    let begin = Instant::now();
    site.begin_drain();
    site.await_end();
    assert!(begin.elapsed() >= secs(1));
    assert!(caller.read().is_err(), "it is cut, not completed");
    gate.open();
}

#[test]
fn a_quiet_connection_is_answered_for_a_second_then_closed() {
    let (one, _) = serving("one");
    let redis = redis_with(&one);
    let mut site = Site::start(&redis);
    let mut callers: Vec<Caller> = (0..6)
        .map(|_| {
            let mut caller = Caller::connect(site.address).expect("it accepts");
            assert_eq!(caller.ask(&named("a")).expect("an answer").status, 200);
            caller
        })
        .collect();
    let mut quiet = callers.split_off(3);
    let begun = Instant::now();
    site.begin_drain();
    eventually("nobody is accepted", || {
        TcpStream::connect(site.address).is_err().then_some(())
    });
    for caller in &mut callers {
        let answer = caller.ask(&named("a"));
        if begun.elapsed() >= GRACE {
            // Too slow to be owed one: the machine has other things to do.
            continue;
        }
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(answer.closes());
        assert!(caller.is_closed());
    }
    assert!(quiet.iter_mut().all(Caller::is_closed));
    site.await_end();
}

/// The real binary, which says on standard error that it listens.
struct Process(Child);

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let listens = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening")));
        assert!(listens.is_some(), "it never listened");
        // Read on, so that it never waits for us.
        std::thread::spawn(move || lines.count());
        Self(child)
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(done.expect("kill runs").success());
    }

    /// Its exit code.
    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        let status = eventually("the process ends", || self.0.try_wait().expect("ours"));
        status.code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Over already where the test went well.
        let _over = self.0.kill();
        let _over = self.0.wait();
    }
}

/// `serve` on this port.
fn serve(redis: &Redis, port: &Port) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartlink"));
    command
        .args(["serve", "--admin", "off", "--threads", "2"])
        .args(["--listen", &port.address().to_string()])
        .args(["--redis", &redis.url()]);
    command
}

#[test]
fn sigterm_under_load_loses_no_request_and_ends_with_0() {
    let (one, _) = serving("one");
    let redis = redis_with(&one);
    for signal in ["TERM", "INT"] {
        let port = Port::reserve();
        let mut process = Process::start(serve(&redis, &port));
        let load = load(port.address());
        process.signal(signal);
        let tally = load.wait();
        assert_eq!(tally.failures, [""; 0], "of {}", tally.requests);
        assert_eq!(process.end(), Some(0));
    }
}

#[test]
fn sigterm_waits_for_what_is_in_flight() {
    let gate = Gate::default();
    let upstream = slow(&gate);
    let redis = redis_with(&upstream);
    let port = Port::reserve();
    let mut process = Process::start(serve(&redis, &port));
    let mut caller = in_flight(port.address(), &named("a"), &upstream);
    process.signal("TERM");
    eventually("nobody is accepted", || {
        TcpStream::connect(port.address()).is_err().then_some(())
    });
    gate.open();
    assert_eq!(caller.read().expect("a whole answer").body, "begin end");
    assert_eq!(process.end(), Some(0));
}

#[test]
fn a_second_gateway_on_the_same_port_is_a_failed_start() {
    let (one, _) = serving("one");
    let redis = redis_with(&one);
    let port = Port::reserve();
    let mut first = Process::start(serve(&redis, &port));
    let second = serve(&redis, &port).output().expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&port.address().to_string()), "{said}");
    let mut caller = Caller::connect(port.address()).expect("the first still accepts");
    assert_eq!(caller.ask(&named("a")).expect("an answer").body, "one");
    first.signal("TERM");
    assert_eq!(first.end(), Some(0));
}

/// The binary with this socket as its third descriptor, as systemd hands it over.
fn serve_on(socket: &TcpListener, redis: &Redis) -> Process {
    // The standard library hands over three descriptors only: the shell moves one of them up.
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    let socket = OwnedFd::from(socket.try_clone().expect("a copy"));
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_smartlink"), "serve"])
        .args(["--admin", "off", "--threads", "2", "--redis", &redis.url()])
        .stdin(Stdio::from(socket));
    Process::start(command)
}

#[test]
fn a_restart_behind_an_inherited_socket_refuses_nobody() {
    let (one, _) = serving("one");
    let redis = redis_with(&one);
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("bound");
    let mut first = serve_on(&socket, &redis);
    let closing = b"GET /r/x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_vec();
    let load = Load::start(address, vec![named("a"), get("/r/x"), closing], is_ok);
    load.await_more(100);
    for _ in 0..2 {
        let next = serve_on(&socket, &redis);
        load.await_more(20);
        first.signal("TERM");
        assert_eq!(first.end(), Some(0));
        first = next;
    }
    load.await_more(100);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0], "of {}", tally.requests);
    first.signal("TERM");
    assert_eq!(first.end(), Some(0));
}
