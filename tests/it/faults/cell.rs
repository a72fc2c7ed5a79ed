//! One fault in one pool: brought about under load, mended, and what came of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::told;
use crate::support::crowd::{Asked, Want, kinds};
use crate::support::faulty::{Home, Host, Manner};
use crate::support::redis::Redis;
use crate::support::scene::Scene;
use crate::support::site::Site;
use crate::support::{eventually, secs};

/// How long a healthy host takes.
const PROMPT: Manner = Manner::Well(Duration::from_millis(5));
/// How long a fault lasts.
const LASTS: Duration = secs(2);
/// By then everybody knows about it: behind this, it costs hardly anything.
const KNOWN: Duration = secs(1);
/// What the clients of a cell ask for.
const WANTS: [Want; 8] = [
    Want::Named,
    Want::Post,
    Want::Get,
    Want::Named,
    Want::Post,
    Want::Get,
    Want::Named,
    Want::Post,
];

/// What happens to the first host of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Refuse,
    ResetIdle,
    ResetMidAnswer,
    Fail,
    FailHalf,
    Freeze,
    Blackhole,
    Slow,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Refuse,
        Self::ResetIdle,
        Self::ResetMidAnswer,
        Self::Fail,
        Self::FailHalf,
        Self::Freeze,
        Self::Blackhole,
        Self::Slow,
    ];

    fn begin(self, host: &Host) {
        match self {
            Self::Refuse => host.set(Manner::Gone),
            Self::ResetIdle => host.set(Manner::ResetsQuiet),
            Self::ResetMidAnswer => host.set(Manner::ResetsMidway),
            Self::Fail => host.set(Manner::Fails(Duration::from_millis(1))),
            Self::FailHalf => host.set(Manner::FailsHalf(Duration::from_millis(1))),
            Self::Freeze => host.freeze(),
            Self::Blackhole => host.set(Manner::Unreachable),
            Self::Slow => host.set(Manner::Well(secs(3))),
        }
    }

    fn end(self, host: &Host) {
        match self {
            Self::Freeze => host.thaw(),
            _ => host.set(PROMPT),
        }
    }

    /// The clock for the head of an answer: who never answers is noticed by it alone.
    fn timeout(self) -> &'static str {
        match self {
            Self::Freeze | Self::Blackhole => "1s",
            _ => "20s",
        }
    }
}

/// A pool that is about to have a fault.
pub struct Cell {
    fault: Fault,
    scene: Scene,
}

impl Cell {
    /// Starts the hosts, and writes the hashes of a service that they serve.
    pub fn prepare(redis: &Redis, hosts: usize, fault: Fault) -> Self {
        let home = if fault == Fault::Freeze {
            Home::FirstAway
        } else {
            Home::Here
        };
        let service = format!("{fault:?}{hosts}");
        let settings = format!(
            "connect_timeout 300ms health_timeout 300ms eject_time 500ms timeout {}",
            fault.timeout()
        );
        let manners = vec![PROMPT; hosts];
        let scene = Scene::prepare_at(home, redis, &service, &manners, &settings);
        Self { fault, scene }
    }

    /// Load, fault, recovery.
    pub fn run(self, site: &Site, redis: &Redis) -> Row {
        let (pool, first) = (&self.scene.pool, self.scene.first());
        let began = Instant::now();
        let crowd = self.scene.crowd(site, &WANTS, Duration::from_millis(20));
        eventually("every host is asked", || {
            let all = pool.hosts.iter().all(|host| host.hits() >= 3);
            (all && crowd.count() >= 50).then_some(())
        });
        let (from, from_ms) = (Instant::now(), wall_ms());
        self.fault.begin(first);
        std::thread::sleep(LASTS);
        let (to, to_ms) = (Instant::now(), wall_ms());
        self.fault.end(first);
        let returned = eventually("the host serves again", || {
            let asked = crowd.asked();
            let back = |one: &&Asked| one.begun >= to && one.by == Some(0) && one.failure.is_none();
            let back = asked.iter().find(back)?;
            Some(back.begun + back.took)
        });
        crowd.await_good(40);
        let asked = crowd.stop();
        let url = first.url();
        let ledger = Arc::clone(&pool.ledger);
        let hosts = pool.hosts.len();
        let late_hits = first.hits_since(from + KNOWN) - first.hits_since(to);
        let told = |kinds: &[&str], since_ms| {
            let at_ms = told(redis, &self.scene.service, &url, kinds, since_ms)?;
            Some(at_ms.saturating_sub(since_ms))
        };
        let row = Row {
            hosts,
            fault: self.fault,
            requests: asked.len(),
            early: within(&asked, began, from + KNOWN),
            late: within(&asked, from + KNOWN, to),
            after: within(&asked, returned, returned + secs(60)),
            late_hits,
            twice: 0,
            out_ms: told(&["endpoint_down", "endpoint_ejected"], from_ms),
            up_ms: told(&["endpoint_up"], to_ms),
            returned_ms: returned.duration_since(to).as_millis(),
        };
        // A host in a process of its own has told all when it is gone.
        drop(self.scene);
        let twice = asked.iter().filter(|one| ledger.runs(one.id) > 1).count();
        Row { twice, ..row }
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("not in our time")
}

/// When an event of one of these kinds was told of the endpoint, at or after that moment.
fn told(redis: &Redis, service: &str, url: &str, kinds: &[&str], since_ms: u64) -> Option<u64> {
    let events = told::events(redis);
    let of_it = events.iter().filter(|event| {
        event.get("service") == service
            && event.get("endpoint") == url
            && kinds.contains(&event.get("kind"))
    });
    let moments = of_it.filter_map(|event| event.get("at_ms").parse().ok());
    moments.filter(|at_ms| *at_ms >= since_ms).min()
}

/// The requests that were sent from one moment to another.
fn within(asked: &[Asked], from: Instant, to: Instant) -> Vec<Asked> {
    let sent = asked
        .iter()
        .filter(|one| one.begun >= from && one.begun < to);
    sent.cloned().collect()
}

fn failed(asked: &[Asked]) -> usize {
    asked.iter().filter(|one| one.failure.is_some()).count()
}

/// What came of one cell.
pub struct Row {
    hosts: usize,
    fault: Fault,
    requests: usize,
    /// Sent before the fault was known, and in the calm before it.
    early: Vec<Asked>,
    /// Sent while it was known and lasted.
    late: Vec<Asked>,
    /// Sent when the host was back.
    after: Vec<Asked>,
    /// What went to the faulty host while its fault was known and lasted.
    late_hits: usize,
    /// POSTs that more than one host took up, or one host twice.
    twice: usize,
    /// From the fault to the event that it was down or ejected.
    out_ms: Option<u64>,
    /// From the recovery to the event that it was up.
    up_ms: Option<u64>,
    /// From the recovery to its first good answer.
    returned_ms: u128,
}

impl Row {
    /// Failures are of requests sent in the calm and the first second, in the rest of the fault,
    /// and after the first good answer behind it; times are from the fault to the event that the
    /// host was out, from the recovery to the event that it was up, and to its first good answer.
    pub const HEADER: &str = "hosts fault          requests |  first second   then of  after \
        | hits then | twice | out ms  up ms  serves ms\n";

    /// What must hold of every cell, and does not.
    pub fn broken(&self) -> Vec<String> {
        let place = format!("{:?} of {}", self.fault, self.hosts);
        let mut broken = Vec::new();
        let mut at_most = |what: &str, seen: usize, most: usize| {
            if seen > most {
                broken.push(format!("{place}: {what} {seen}, at most {most}"));
            }
        };
        at_most("POSTs ran twice", self.twice, 0);
        at_most("failures after its return", failed(&self.after), 0);
        let share = self.late.len() / 20 + 2;
        let (early, late, hits) = match self.fault {
            // Nothing fails, it takes its time.
            Fault::Slow => (0, 0, share),
            // A request and a reset that cross each other.
            Fault::ResetIdle => (WANTS.len(), share, usize::MAX),
            // What was in flight when it died.
            Fault::Refuse => (WANTS.len(), 0, 0),
            // The same, and the row of failures that is needed to eject it.
            _ => (2 * WANTS.len() + 5, share, share),
        };
        if self.hosts > 1 {
            at_most("failures at first", failed(&self.early), early);
            at_most("failures later", failed(&self.late), late);
            at_most("hits later", self.late_hits, hits);
        } else if early == 0 {
            at_most("failures", failed(&self.early) + failed(&self.late), 0);
        }
        broken
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = format!("{:?}", self.fault);
        let number = |ms: Option<u64>| ms.map_or("-".to_owned(), |ms| ms.to_string());
        write!(
            f,
            "{:5} {fault:14} {:9} | {:13} {:6} {:4} {:6} | {:9} | {:5} | {:>6} {:>6} {:10}",
            self.hosts,
            self.requests,
            failed(&self.early),
            failed(&self.late),
            self.late.len(),
            failed(&self.after),
            self.late_hits,
            self.twice,
            number(self.out_ms),
            number(self.up_ms),
            self.returned_ms,
        )?;
        let all = self.early.iter().chain(&self.late).chain(&self.after);
        writeln!(f, "  {}", kinds(all))
    }
}
