//! One incident: from the first sign to the message that it is over.
//!
//! It is pending until it held for a while or came back often, then it fires and one message is
//! owed. It is over when nothing was seen of it for a while. Where it comes again soon after, it is
//! over only after a much longer while: what flaps is told three times, not a thousand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often it must turn bad to be told although it never stays so.
const FLAPS: u64 = 3;

/// The most gateways whose counts are kept apart.
const GATEWAYS_MAX: usize = 64;

/// How long things take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For how long it must hold before it is told.
    pub pending_ms: u64,
    /// For how long nothing must be seen of it until it is over.
    pub quiet_ms: u64,
    /// How often it is told again while it goes on; also the quiet that ends one that flaps.
    pub repeat_ms: u64,
    /// Whether turning bad often is as good as being bad for long.
    pub flaps: bool,
    /// Whether its end is news, too.
    pub ends: bool,
}

/// How it is at one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Whether the condition holds now.
    pub bad: bool,
    /// How often it happened since the last look, as each gateway saw it.
    pub happened: BTreeMap<String, u64>,
    /// What there is to say; kept from the look before where there is nothing.
    pub facts: Option<Facts>,
}

/// What there is to say about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version, where it is about one.
    #[serde(default)]
    pub version: String,
    /// The endpoint, where it is about one.
    #[serde(default)]
    pub endpoint: String,
    /// What is wrong, in a sentence.
    pub why: String,
    /// The numbers behind it, with their units.
    #[serde(default)]
    pub evidence: String,
    /// The line that relieves it.
    #[serde(default)]
    pub relief: String,
    /// Since when, where somebody knows better than the first look.
    #[serde(default)]
    pub since_ms: Option<u64>,
}

/// What a message says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// It goes on.
    Firing,
    /// It is over.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Pending,
    Firing,
    Over,
}

/// What becomes of an incident after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Forgotten,
}

/// One incident; kept in Redis as JSON, so that another gateway can go on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    phase: Phase,
    /// Since when it is wrong, in Unix milliseconds.
    pub since_ms: u64,
    /// Since when it holds without a break.
    bad_since_ms: Option<u64>,
    last_seen_ms: u64,
    /// When it was over, this time or the time before.
    #[serde(default)]
    over_ms: u64,
    /// When the last message about it was decided on.
    #[serde(default)]
    told_ms: u64,
    /// Whether anybody knows of it.
    #[serde(default)]
    announced: bool,
    /// Whether it came again soon after it was over.
    #[serde(default)]
    again: bool,
    owed: Option<Tell>,
    #[serde(default)]
    counts: BTreeMap<String, u64>,
    /// What there is to say.
    pub facts: Facts,
}

impl Incident {
    /// One that was seen for the first time.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            phase: Phase::Pending,
            since_ms: now_ms,
            bad_since_ms: None,
            last_seen_ms: now_ms,
            over_ms: 0,
            told_ms: 0,
            announced: false,
            again: false,
            owed: None,
            counts: BTreeMap::new(),
            facts: Facts::default(),
        }
    }

    /// Whether it goes on and is worth a message.
    #[must_use]
    pub fn is_firing(&self) -> bool {
        self.phase == Phase::Firing
    }

    /// Whether it waits for its end, or for what is to be seen of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Over
    }

    /// The message that is owed.
    #[must_use]
    pub fn owed(&self) -> Option<Tell> {
        self.owed
    }

    /// When it was over; now where it is not.
    #[must_use]
    pub fn end_ms(&self, now_ms: u64) -> u64 {
        match self.phase {
            Phase::Over => self.over_ms,
            Phase::Pending | Phase::Firing => now_ms,
        }
    }

    /// How often it happened, as the gateway saw it that saw most of it; at least once.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().copied().max().unwrap_or(0).max(1)
    }

    /// Takes in what was seen at one look.
    pub(super) fn look(&mut self, now_ms: u64, seen: &Seen, rules: Rules) -> Fate {
        let stirs = seen.bad || !seen.happened.is_empty();
        if self.phase == Phase::Over {
            if !stirs {
                let forgotten = now_ms.saturating_sub(self.over_ms) >= rules.repeat_ms;
                return if forgotten && self.owed.is_none() {
                    Fate::Forgotten
                } else {
                    Fate::Kept
                };
            }
            self.reopen(now_ms);
        }
        self.note(now_ms, seen, stirs);
        match self.phase {
            Phase::Pending => self.wait(now_ms, rules),
            Phase::Firing | Phase::Over => {
                self.go_on(now_ms, seen.bad, rules);
                Fate::Kept
            }
        }
    }

    fn note(&mut self, now_ms: u64, seen: &Seen, stirs: bool) {
        for (gateway, times) in &seen.happened {
            if self.counts.len() < GATEWAYS_MAX || self.counts.contains_key(gateway) {
                *self.counts.entry(gateway.clone()).or_default() += times;
            }
        }
        if let Some(facts) = &seen.facts {
            let since_ms = facts.since_ms.unwrap_or(now_ms);
            if self.phase == Phase::Pending && since_ms < self.since_ms {
                self.since_ms = since_ms.max(self.over_ms);
            }
            self.facts = facts.clone();
        }
        if seen.bad {
            self.bad_since_ms.get_or_insert(now_ms);
        } else {
            self.bad_since_ms = None;
        }
        if stirs {
            self.last_seen_ms = now_ms;
        }
    }

    fn wait(&mut self, now_ms: u64, rules: Rules) -> Fate {
        let held = |since: u64| now_ms.saturating_sub(since) >= rules.pending_ms;
        let flaps = rules.flaps && self.count() >= FLAPS;
        if self.bad_since_ms.is_some_and(held) || flaps {
            self.phase = Phase::Firing;
            self.tell(now_ms, Tell::Firing);
        } else if now_ms.saturating_sub(self.last_seen_ms) >= rules.quiet_ms {
            if !self.again {
                return Fate::Forgotten;
            }
            self.phase = Phase::Over;
        }
        Fate::Kept
    }

    fn go_on(&mut self, now_ms: u64, bad: bool, rules: Rules) {
        let quiet_ms = if self.again && rules.ends {
            rules.quiet_ms.max(rules.repeat_ms)
        } else {
            rules.quiet_ms
        };
        if now_ms.saturating_sub(self.last_seen_ms) >= quiet_ms {
            self.phase = Phase::Over;
            self.over_ms = now_ms;
            if rules.ends {
                self.tell(now_ms, Tell::Over);
            }
        } else if bad && rules.ends && now_ms.saturating_sub(self.told_ms) >= rules.repeat_ms {
            self.tell(now_ms, Tell::Firing);
        }
    }

    fn tell(&mut self, now_ms: u64, what: Tell) {
        self.told_ms = now_ms;
        self.owed = Some(what);
    }

    /// It comes again soon after it was over.
    fn reopen(&mut self, now_ms: u64) {
        self.last_seen_ms = now_ms;
        self.bad_since_ms = None;
        self.again = true;
        if self.owed == Some(Tell::Over) {
            // Nobody heard that it was over: it never was.
            self.phase = Phase::Firing;
            self.owed = (!self.announced).then_some(Tell::Firing);
        } else {
            self.phase = Phase::Pending;
            self.since_ms = now_ms;
            self.announced = false;
            self.counts.clear();
        }
    }

    /// The receiver took that message, or is not asked again to take it.
    pub(super) fn told(&mut self, what: Tell) {
        self.announced |= what == Tell::Firing;
        if self.owed == Some(what) {
            self.owed = None;
        }
    }

    /// Whether what matters for messages is the same in both.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        (self.phase, self.owed, self.announced, self.told_ms)
            == (other.phase, other.owed, other.announced, other.told_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        pending_ms: 2_000,
        quiet_ms: 10_000,
        repeat_ms: 600_000,
        flaps: true,
        ends: true,
    };

    fn bad(gateways: &[&str]) -> Seen {
        Seen {
            bad: true,
            happened: gateways.iter().map(|it| ((*it).to_owned(), 1)).collect(),
            facts: None,
        }
    }

    /// Looks each second at what `seen` says of it; the seconds at which messages were told.
    fn run(seconds: u64, rules: Rules, seen: impl Fn(u64) -> Seen) -> Vec<(u64, Tell)> {
        let mut told = Vec::new();
        let mut incident: Option<Incident> = None;
        for second in 0..seconds {
            let (now_ms, seen) = (second * 1000, seen(second));
            if incident.is_none() && (seen.bad || !seen.happened.is_empty()) {
                incident = Some(Incident::new(now_ms));
            }
            let Some(it) = &mut incident else { continue };
            if it.look(now_ms, &seen, rules) == Fate::Forgotten {
                incident = None;
                continue;
            }
            if let Some(what) = it.owed() {
                told.push((second, what));
                it.told(what);
            }
        }
        told
    }

    #[test]
    fn one_incident_is_one_message_and_one_when_it_is_over() {
        let told = run(100, RULES, |s| {
            if (10..40).contains(&s) {
                bad(&[])
            } else {
                Seen::default()
            }
        });
        assert_eq!(told, [(12, Tell::Firing), (49, Tell::Over)]);
    }

    #[test]
    fn what_is_over_at_once_is_not_told() {
        let told = run(100, RULES, |s| {
            if s == 5 { bad(&["a"]) } else { Seen::default() }
        });
        assert_eq!(told, []);
    }

    #[test]
    fn what_goes_on_is_told_again_slowly() {
        let told = run(1300, RULES, |_| bad(&[]));
        let firing = Tell::Firing;
        assert_eq!(told, [(2, firing), (602, firing), (1202, firing)]);
    }

    #[test]
    fn a_thousand_flaps_are_three_messages_at_most_whatever_their_pace() {
        // Within the time after which it would be told again.
        for pace in [1, 2, 3, 7, 11, 13, 29, 61] {
            let told = run(600, RULES, |s| Seen {
                bad: s % pace == 0,
                happened: [("a".to_owned(), 1000 / (600 / pace) + 1)]
                    .into_iter()
                    .filter(|_| s % pace == 0)
                    .collect(),
                facts: None,
            });
            assert!(told.len() <= 3, "{pace}: {told:?}");
            assert!(!told.is_empty(), "{pace}");
        }
    }

    #[test]
    fn gateways_that_see_the_same_count_it_once() {
        let mut incident = Incident::new(0);
        for second in 0..5 {
            incident.look(second * 1000, &bad(&["a", "b", "c"]), RULES);
        }
        assert_eq!(incident.count(), 5);
    }

    #[test]
    fn what_comes_back_before_its_end_was_told_never_ended() {
        let mut incident = Incident::new(0);
        incident.look(0, &bad(&[]), RULES);
        incident.look(2_000, &bad(&[]), RULES);
        incident.told(Tell::Firing);
        incident.look(12_000, &Seen::default(), RULES);
        assert_eq!(incident.owed(), Some(Tell::Over));
        incident.look(13_000, &bad(&[]), RULES);
        assert_eq!((incident.owed(), incident.since_ms), (None, 0));
        assert!(incident.is_firing());
    }

    #[test]
    fn an_end_is_told_also_where_the_beginning_never_arrived() {
        let mut incident = Incident::new(0);
        for second in 0..3 {
            incident.look(second * 1000, &bad(&[]), RULES);
        }
        assert_eq!(incident.owed(), Some(Tell::Firing));
        incident.look(60_000, &Seen::default(), RULES);
        assert_eq!(incident.owed(), Some(Tell::Over));
    }

    #[test]
    fn news_without_an_end_is_told_once_each() {
        let rules = Rules {
            pending_ms: 0,
            flaps: false,
            ends: false,
            ..RULES
        };
        let told = run(200, rules, |s| {
            if s % 50 == 0 {
                bad(&["a"])
            } else {
                Seen::default()
            }
        });
        let firing = Tell::Firing;
        assert_eq!(
            told,
            [(0, firing), (50, firing), (100, firing), (150, firing)]
        );
    }
}
