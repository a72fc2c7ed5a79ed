//! Connections kept between requests, per thread: nobody locks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

use super::http1::Http1;
use super::http2;
use crate::model::hash::NumberHasher;

/// How long a connection is kept unused. Shorter than the 5 s after which common upstream servers
/// (uvicorn, Node.js) close theirs, so that a request and such a close rarely cross.
const KEEP_MS: u64 = 4_000;
/// The same for requests that must not be sent twice: shorter than any usual server's patience.
const RECENT_MS: u64 = 1_500;
/// A connection unused for longer than this gets the chance to notice its end before it is lent.
const DOUBT_MS: u64 = 1;
/// The most connections kept for one endpoint by one thread.
const KEPT_MAX: usize = 1_024;

/// Which kept connections will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Patience {
    /// Any: what is lost by a close that crosses the request may be sent again.
    Kept,
    /// Only one used a moment ago, which nobody closes now.
    Recent,
    /// None: a new one.
    Fresh,
}

/// All connections this thread keeps, by the endpoints' pool numbers.
#[derive(Default)]
pub(in crate::proxy) struct Pools {
    singles: RefCell<HashMap<u64, Vec<Kept>, NumberHasher>>,
    shared: RefCell<HashMap<u64, http2::Sender, NumberHasher>>,
}

struct Kept {
    conn: Box<Http1>,
    since: u64,
}

impl Pools {
    /// Keeps a connection for the next request to the same endpoint.
    pub(super) fn keep(&self, pool: u64, conn: Box<Http1>, now: u64) {
        let mut singles = self.singles.borrow_mut();
        let kept = singles.entry(pool).or_default();
        if kept.len() < KEPT_MAX {
            kept.push(Kept { conn, since: now });
        }
    }

    /// The connection used last, if one is alive and leads to one of `addresses`, where the host
    /// is a name.
    pub(super) async fn take(
        &self,
        pool: u64,
        now: u64,
        patience: Patience,
        addresses: Option<&[IpAddr]>,
    ) -> Option<Box<Http1>> {
        let longest = match patience {
            Patience::Kept => KEEP_MS,
            Patience::Recent => RECENT_MS,
            Patience::Fresh => return None,
        };
        loop {
            let recent = |kept: &mut Kept| now.saturating_sub(kept.since) < longest;
            let Kept { mut conn, since } =
                self.singles.borrow_mut().get_mut(&pool)?.pop_if(recent)?;
            if now.saturating_sub(since) > DOUBT_MS {
                // Lets the runtime take notice of a close that already arrived.
                tokio::task::yield_now().await;
            }
            let leads_there = addresses.is_none_or(|all| all.contains(&conn.address));
            if leads_there && conn.is_quiet() {
                return Some(conn);
            }
        }
    }

    pub(super) fn shared(&self, pool: u64) -> Option<http2::Sender> {
        let sender = self.shared.borrow().get(&pool).cloned()?;
        (!sender.is_closed()).then_some(sender)
    }

    pub(super) fn keep_shared(&self, pool: u64, sender: http2::Sender) {
        self.shared.borrow_mut().insert(pool, sender);
    }

    /// Closes what was unused too long or was closed by the other side; called by the sweep.
    pub(in crate::proxy) fn sweep(&self, now: u64) {
        self.singles.borrow_mut().retain(|_, kept| {
            kept.retain_mut(|kept| {
                now.saturating_sub(kept.since) < KEEP_MS && kept.conn.is_quiet()
            });
            !kept.is_empty()
        });
        self.shared
            .borrow_mut()
            .retain(|_, sender| !sender.is_closed());
    }
}
