//! The life sign, and what it proves: that Redis is there, that nobody flushed, that
//! notifications arrive. Where they do not, everything is read every two seconds instead.

use std::time::Duration;

use tokio::time::Instant;

use super::{BEAT, Watcher, chain, now_ms, seed};
use crate::control::status::Watch;
use crate::store::{Flags, Pulse};
use crate::telemetry;

/// A life sign whose own event does not come back within this time means deaf.
const DEAF: Duration = Duration::from_secs(2);
/// While polling, how often it is tried to get notifications after all.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// How often it is said that another gateway has our name.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// How long a full reading waits for the subscription to be in force.
const SUBSCRIBE: Duration = Duration::from_secs(1);

/// How long fewer gateways must be told of until that is believed: four life signs.
const FEWER: Duration = Duration::from_secs(2);

/// What is known about the connection.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that come and go independently"
)]
#[derive(Debug, Default)]
pub(super) struct State {
    /// Subscribed.
    pub(super) hearing: bool,
    /// The notification flags must be looked at.
    pub(super) flags_wanted: bool,
    /// A life sign is to be given now.
    pub(super) beat_wanted: bool,
    /// Since when commands can be sent.
    asking: Option<Instant>,
    /// Why we were not let subscribe, or set flags.
    refused: Option<String>,
    /// The oldest life sign whose event has not come back.
    unproven: Option<Instant>,
    /// How we watch; `None` before anything was proven.
    watch: Option<Watch>,
    /// Full turns of asking again without a proof.
    deaf_turns: u32,
    tried: Option<Instant>,
    /// Since when Redis is away (Unix milliseconds), and why.
    lost: Option<(u64, String)>,
    /// Whether our hash was written on this connection's life.
    beaten: bool,
    beat_refused: bool,
    read_refused: bool,
    /// The last order to forget that was seen; `None` before we looked.
    forget: Option<String>,
    started_ms: u64,
    /// When the last life sign was given.
    given: Option<Instant>,
    /// When it was last said that another gateway has our name.
    name_held: Option<Instant>,
    /// Since when fewer gateways are told of than are believed.
    fewer: Option<Instant>,
}

impl Watcher {
    /// The subscription is in force, for the first time or again.
    pub(super) fn hearing(&mut self) {
        self.pulse.hearing = true;
        self.pulse.refused = None;
        self.pulse.unproven = None;
        self.pulse.flags_wanted = true;
        self.pulse.beat_wanted = true;
        self.full = true;
    }

    /// Commands can be sent, for the first time or again.
    pub(super) fn asking(&mut self) {
        self.pulse.asking = Some(Instant::now());
        self.pulse.unproven = None;
        self.pulse.flags_wanted = true;
        self.pulse.beat_wanted = true;
        self.errors_unsure = true;
        self.shared.status.doubt();
        self.full = true;
    }

    pub(super) fn refused(&mut self, why: String) {
        self.pulse.hearing = false;
        self.pulse.refused = Some(why);
    }

    /// Our own event came back.
    pub(super) fn proven(&mut self) {
        self.pulse.unproven = None;
        self.pulse.deaf_turns = 0;
        self.shared.status.set_proof_ms(now_ms());
        if self.pulse.watch != Some(Watch::Notifications) {
            // What happened until now may have been missed.
            self.full |= self.pulse.watch == Some(Watch::Polling);
            self.set_watch(Watch::Notifications, "own life sign was heard");
        }
    }

    fn set_watch(&mut self, watch: Watch, why: &str) {
        self.pulse.watch = Some(watch);
        self.shared.status.set_watch(watch);
        telemetry::watch_mode(&watch.to_string(), why);
    }

    /// Whether changes are noticed by reading everything.
    pub(super) fn is_polling(&self) -> bool {
        self.pulse.watch == Some(Watch::Polling)
    }

    /// Subscribe first, then read: unless there is no hope to subscribe.
    pub(super) fn may_read_all(&self) -> bool {
        let waited = self.pulse.asking.is_some_and(|at| at.elapsed() > SUBSCRIBE);
        (self.pulse.hearing || self.pulse.refused.is_some() || waited) && self.sweep.may_read()
    }

    /// Sees to the flags without which Redis does not notify.
    pub(super) async fn ask_notifications(&mut self) {
        match self.store.ask_notifications().await {
            Ok(Flags::Stood) => self.pulse.flags_wanted = false,
            Ok(Flags::Added) => {
                self.pulse.flags_wanted = false;
                // What happened before was not notified.
                self.full = true;
                self.pulse.beat_wanted = true;
            }
            Ok(Flags::Refused(why)) => {
                self.pulse.flags_wanted = false;
                self.pulse.refused = Some(why);
            }
            Err(error) => tracing::debug!(error = chain(&error), "flags unknown"),
        }
    }

    /// Gives a life sign and draws the conclusions.
    pub(super) async fn beat(&mut self) {
        self.pulse.beat_wanted = false;
        self.pulse.given = Some(Instant::now());
        if !self.store.is_connected() {
            return;
        }
        let fields = self.life_sign();
        match self.store.beat(&fields).await {
            Ok(pulse) => self.beaten(&pulse),
            Err(error) if error.is_refused() => {
                if !std::mem::replace(&mut self.pulse.beat_refused, true) {
                    telemetry::redis_refuses("gateway hash", &chain(&error));
                }
                self.pulse.unproven.get_or_insert_with(Instant::now);
            }
            Err(error) => self.lost(&chain(&error)),
        }
        self.check_deaf();
    }

    /// Between two steps of a long reading: gives a life sign where one is due, and takes events in.
    /// Without that our hash would expire meanwhile, which looks like a flush, and events be lost;
    /// both mean that everything is read again, for ever.
    pub(super) async fn breathe(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.hear(event);
        }
        if self.pulse.given.is_some_and(|at| at.elapsed() >= BEAT) {
            self.beat().await;
        }
    }

    fn life_sign(&mut self) -> Vec<(&'static str, String)> {
        if self.pulse.started_ms == 0 {
            self.pulse.started_ms = now_ms();
        }
        let table = self.shared.table.load_full();
        let status = &self.shared.status;
        vec![
            ("address", self.options.address.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("started_ms", self.pulse.started_ms.to_string()),
            ("revision", table.revision.to_string()),
            ("digest", table.digest.to_string()),
            ("watch", status.watch().to_string()),
            ("watch_proof_ms", status.proof_ms().to_string()),
            ("read_ms", self.proof.read_ms().to_string()),
        ]
    }

    fn beaten(&mut self, pulse: &Pulse) {
        self.pulse.beat_refused = false;
        self.count_fleet(pulse.fleet);
        if self.pulse.beaten && !pulse.was_there {
            // Flushed, swapped, restarted empty, or we were away for long.
            self.full = true;
            self.errors_unsure = true;
            self.shared.status.doubt();
        }
        self.check_name(pulse.writer_started_ms.as_deref());
        self.pulse.beaten = true;
        self.hear_wish(pulse.now_ms, pulse.wish_ms);
        self.pulse.unproven.get_or_insert_with(Instant::now);
        let order = pulse.forget.clone().unwrap_or_default();
        let last = self.pulse.forget.replace(order.clone());
        // An order from before our time was not meant for what we hold, and one that went away
        // with a flush is none.
        if !order.is_empty() && last.is_some_and(|last| last != order) {
            let applied = self.config.forget_vanished(seed());
            self.take(applied);
        }
    }

    /// Two gateways of one name that did not see each other start, because Redis was away: each
    /// finds what the other wrote. The first life sign finds what an earlier run left.
    fn check_name(&mut self, writer: Option<&str>) {
        let ours = self.pulse.started_ms.to_string();
        let other = self.pulse.beaten && writer.is_some_and(|writer| writer != ours);
        let said = self.pulse.name_held.map(|at| at.elapsed());
        if other && said.is_none_or(|ago| ago >= SAY_AGAIN) {
            self.pulse.name_held = Some(Instant::now());
            telemetry::name_held(&self.options.instance);
        }
    }

    /// More gateways are believed at once, fewer only after a while: a flush forgets them all, and
    /// those that live say so again.
    fn count_fleet(&mut self, fleet: u32) {
        let quotas = &self.shared.quotas;
        let fewer = (fleet < quotas.fleet()).then(Instant::now);
        let since = fewer.map(|now| self.pulse.fewer.unwrap_or(now));
        self.pulse.fewer = since;
        if since.is_none_or(|since| since.elapsed() >= FEWER) {
            quotas.set_fleet(fleet);
        }
    }

    /// Where the proof is missing for too long: asks, subscribes and reads everything again.
    fn check_deaf(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.hear(event);
        }
        let silent = self.pulse.unproven.is_some_and(|at| at.elapsed() > DEAF);
        if !silent || self.pulse.lost.is_some() {
            return;
        }
        let no_hope = self.pulse.refused.is_some() || self.pulse.deaf_turns > 0;
        if no_hope && !self.is_polling() {
            let why = self.pulse.refused.clone();
            let why = why.unwrap_or_else(|| "own life sign was not heard".to_owned());
            self.set_watch(Watch::Polling, &why);
        }
        let tried = self.pulse.tried.map(|at| at.elapsed());
        if self.is_polling() && tried.is_some_and(|ago| ago < TRY_AGAIN) {
            return;
        }
        self.pulse.tried = Some(Instant::now());
        self.pulse.deaf_turns += 1;
        self.pulse.unproven = None;
        self.pulse.hearing = false;
        self.pulse.flags_wanted = true;
        self.full = true;
        self.events.reconnect();
    }

    /// Redis does not answer.
    pub(super) fn lost(&mut self, why: &str) {
        self.pulse.unproven = None;
        self.shared.status.set_connected(false);
        if self.pulse.lost.is_none() {
            telemetry::redis_lost(why);
            self.pulse.lost = Some((now_ms(), why.to_owned()));
        }
        self.full = true;
    }

    /// Redis answers, and everything was read.
    pub(super) fn regained(&mut self) {
        self.shared.status.set_connected(true);
        self.pulse.read_refused = false;
        let Some((at_ms, why)) = self.pulse.lost.take() else {
            return;
        };
        telemetry::redis_back();
        let mut note = self.note("redis_lost");
        let over = now_ms().saturating_sub(at_ms);
        note.push(("why", format!("away for {over} ms: {why}")));
        self.shared.outbox.note(note);
    }

    /// Redis is there and does not let us read.
    pub(super) fn refused_to_read(&mut self, why: &str) {
        if !std::mem::replace(&mut self.pulse.read_refused, true) {
            telemetry::redis_refuses("configuration", why);
        }
    }
}
