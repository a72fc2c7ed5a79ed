//! Host names to addresses: literal addresses at once, names asked again every few seconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::proxy::worker::Worker;

/// How long an answer is used before the name is asked again.
const FRESH_MS: u64 = 5_000;
/// How long an old answer serves while the name cannot be resolved.
const STALE_MS: u64 = 3_600_000;
/// The most addresses used of one name, and the most names remembered.
const ADDRESSES_MAX: usize = 64;
const NAMES_MAX: usize = 10_000;

/// What this thread knows of names.
#[derive(Default)]
pub(in crate::proxy) struct Names {
    known: RefCell<HashMap<Box<str>, Known>>,
}

struct Known {
    addresses: Rc<[IpAddr]>,
    at: u64,
    turn: usize,
    asking: bool,
}

/// The address that a host is written as, where it is not a name.
fn literal(host: &str) -> Option<IpAddr> {
    let may_be = host.starts_with(|c: char| c.is_ascii_digit()) || host.contains(':');
    may_be.then(|| host.parse().ok()).flatten()
}

/// The addresses a name has now, as far as they are known. An old answer is asked for again in the
/// background.
pub(super) fn current(worker: &Rc<Worker>, host: &str) -> Option<Rc<[IpAddr]>> {
    let (addresses, stale) = worker.names.known(host, worker.now_ms())?;
    if stale {
        let (worker, host) = (Rc::clone(worker), host.to_owned());
        tokio::task::spawn_local(async move {
            // A failed look-up leaves the old answer in place.
            let _kept = ask(&worker, &host).await;
        });
    }
    Some(addresses)
}

/// The addresses of a host, in the order to try them: a different one first each time.
pub(super) async fn resolve(
    worker: &Rc<Worker>,
    host: &str,
    port: u16,
) -> io::Result<Vec<SocketAddr>> {
    if let Some(address) = literal(host) {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if current(worker, host).is_none() {
        ask(worker, host).await?;
    }
    let addresses = worker.names.turn(host);
    Ok(addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}

async fn ask(worker: &Worker, host: &str) -> io::Result<()> {
    let answer = tokio::net::lookup_host((host, 0)).await;
    let mut known = worker.names.known.borrow_mut();
    if let Some(known) = known.get_mut(host) {
        known.asking = false;
    }
    let mut addresses: Vec<IpAddr> = answer?
        .map(|address| address.ip())
        .take(ADDRESSES_MAX)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    if known.len() >= NAMES_MAX {
        known.clear();
    }
    let entry = Known {
        addresses: addresses.into(),
        at: worker.now_ms(),
        turn: 0,
        asking: false,
    };
    known.insert(host.into(), entry);
    Ok(())
}

impl Names {
    /// The known addresses, and whether it is time to ask again.
    fn known(&self, host: &str, now: u64) -> Option<(Rc<[IpAddr]>, bool)> {
        let mut all = self.known.borrow_mut();
        let known = all.get_mut(host)?;
        let age = now.saturating_sub(known.at);
        if age >= STALE_MS {
            return None;
        }
        let stale = age >= FRESH_MS && !known.asking;
        known.asking |= stale;
        Some((Rc::clone(&known.addresses), stale))
    }

    /// The known addresses, rotated by one each time.
    fn turn(&self, host: &str) -> Vec<IpAddr> {
        let mut all = self.known.borrow_mut();
        let Some(known) = all.get_mut(host) else {
            return Vec::new();
        };
        let mut addresses = known.addresses.to_vec();
        known.turn = (known.turn + 1) % addresses.len().max(1);
        addresses.rotate_left(known.turn);
        addresses
    }
}
