//! Every Redis key is built and parsed here and nowhere else.

#[cfg(test)]
mod tests;

use super::decode::nearest;
use super::name::Name;

/// One configuration object: a hash that people or algorithms write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// `defaults`: settings of every service that does not say otherwise.
    Defaults,
    /// `endpoints:<svc>`.
    Endpoints(Name),
    /// `weights:<svc>`.
    Weights(Name),
    /// `service:<svc>`: settings.
    Service(Name),
    /// `route:<id>`.
    Route(Name),
    /// `token:<hex SHA-256>`.
    Token(Box<str>),
    /// `issuer:<id>`.
    Issuer(Name),
    /// `shadow:<svc>`.
    Shadow(Name),
    /// `rollout:<svc>`.
    Rollout(Name),
    /// `pilot:<svc>`: written by the pilot, read by gateways.
    Pilot(Name),
    /// `alert:<id>`.
    Alert(Name),
}

impl Object {
    /// Whether people or programs that steer write it: what changes in it can be taken back. What a
    /// pilot writes is its own.
    #[must_use]
    pub fn is_by_people(&self) -> bool {
        !matches!(self, Self::Pilot(_))
    }
}

/// What a key below our prefix turns out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A configuration object.
    Object(Object),
    /// A configuration kind with a name that breaks the form, or a slip of the pen for such a kind.
    BadName,
    /// Not configuration: written by gateways, or none of ours.
    Other,
}

/// The kinds of configuration whose keys carry a name after a colon.
pub const NAMED_KINDS: [&str; 10] = [
    "endpoints",
    "weights",
    "service",
    "route",
    "token",
    "issuer",
    "shadow",
    "rollout",
    "pilot",
    "alert",
];

/// What gateways, pilots, workers and people who label write below the prefix.
const WRITTEN: [&str; 19] = [
    "errors",
    "events",
    "history",
    "gateway",
    "health",
    "stats",
    "hist",
    "live",
    "trial",
    "audit",
    "label",
    "labels",
    "shadow-stream",
    "shadow-counts",
    "shadow-results",
    "shadow-offsets",
    "shadow-diffs",
    "shadow-dead",
    "internal",
];

/// The kind of configuration that somebody meant who wrote `kind`, which is none. Its first letter is
/// taken to be right: so the keys of others below the prefix, of whom there may be many, cost little.
fn meant(kind: &str) -> Option<&'static str> {
    if WRITTEN.contains(&kind) {
        return None;
    }
    let kind = kind.to_ascii_lowercase();
    let known = NAMED_KINDS.into_iter().chain(["defaults"]);
    nearest(&kind, known.filter(|it| it.get(..1) == kind.get(..1)))
}

fn slip_or_other(kind: &str) -> Parsed {
    match meant(kind) {
        Some(_) => Parsed::BadName,
        None => Parsed::Other,
    }
}

/// Builds and parses keys under one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Box<str>,
}

impl Keys {
    /// Keys below `prefix`, which includes its closing colon.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// The prefix itself.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the prefix holds a hash tag, which keeps all keys in one Cluster slot.
    #[must_use]
    pub fn has_hash_tag(&self) -> bool {
        let open = self.prefix.find('{');
        open.is_some_and(|open| {
            self.prefix
                .get(open + 1..)
                .and_then(|rest| rest.find('}'))
                .is_some_and(|len| len > 0)
        })
    }

    /// The key of a configuration object.
    #[must_use]
    pub fn object(&self, object: &Object) -> String {
        let p = &self.prefix;
        match object {
            Object::Defaults => format!("{p}defaults"),
            Object::Endpoints(name) => format!("{p}endpoints:{name}"),
            Object::Weights(name) => format!("{p}weights:{name}"),
            Object::Service(name) => format!("{p}service:{name}"),
            Object::Route(name) => format!("{p}route:{name}"),
            Object::Token(hash) => format!("{p}token:{hash}"),
            Object::Issuer(name) => format!("{p}issuer:{name}"),
            Object::Shadow(name) => format!("{p}shadow:{name}"),
            Object::Rollout(name) => format!("{p}rollout:{name}"),
            Object::Pilot(name) => format!("{p}pilot:{name}"),
            Object::Alert(name) => format!("{p}alert:{name}"),
        }
    }

    /// The key as errors, events and logs may name it: the hash of a token is cut to its first 8
    /// digits.
    #[must_use]
    pub fn shown(&self, object: &Object) -> String {
        match object {
            Object::Token(hash) => format!("{}token:{}…", self.prefix, first_digits(hash)),
            _ => self.object(object),
        }
    }

    /// What `key` is; keys outside the prefix are `Other`.
    #[must_use]
    pub fn parse(&self, key: &str) -> Parsed {
        let Some(rest) = key.strip_prefix(&*self.prefix) else {
            return Parsed::Other;
        };
        if rest == "defaults" {
            return Parsed::Object(Object::Defaults);
        }
        let Some((kind, name)) = rest.split_once(':') else {
            return slip_or_other(rest);
        };
        if !NAMED_KINDS.contains(&kind) {
            return slip_or_other(kind);
        }
        if kind == "token" {
            let valid =
                name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            return if valid {
                Parsed::Object(Object::Token(name.into()))
            } else {
                Parsed::BadName
            };
        }
        let Some(name) = Name::parse(name) else {
            return Parsed::BadName;
        };
        Parsed::Object(match kind {
            "endpoints" => Object::Endpoints(name),
            "weights" => Object::Weights(name),
            "service" => Object::Service(name),
            "route" => Object::Route(name),
            "issuer" => Object::Issuer(name),
            "shadow" => Object::Shadow(name),
            "rollout" => Object::Rollout(name),
            "pilot" => Object::Pilot(name),
            _ => Object::Alert(name),
        })
    }

    /// The kind that was meant by a key of none, and the key's own kind.
    #[must_use]
    pub fn meant<'k>(&self, key: &'k str) -> Option<(&'static str, &'k str)> {
        let rest = key.strip_prefix(&*self.prefix)?;
        let Some((kind, _)) = rest.split_once(':') else {
            return Some((meant(rest)?, rest));
        };
        let is_known = NAMED_KINDS.contains(&kind);
        Some((meant(kind).filter(|_| !is_known)?, kind))
    }

    /// Glob patterns that together match every configuration key, for `SCAN` and `PSUBSCRIBE`.
    #[must_use]
    pub fn patterns(&self) -> Vec<String> {
        let prefix = escape_glob(&self.prefix);
        let mut patterns = vec![format!("{prefix}defaults")];
        patterns.extend(NAMED_KINDS.iter().map(|kind| format!("{prefix}{kind}:*")));
        patterns
    }

    /// A glob pattern that matches every key below the prefix, for `SCAN`.
    #[must_use]
    pub fn pattern_of_all(&self) -> String {
        self.pattern("*")
    }

    /// A glob pattern of keys below the prefix; `rest` is a pattern itself.
    #[must_use]
    pub fn pattern(&self, rest: &str) -> String {
        format!("{}{rest}", escape_glob(&self.prefix))
    }

    /// The gateway of whose hash this is the key.
    #[must_use]
    pub fn parse_gateway<'k>(&self, key: &'k str) -> Option<&'k str> {
        let rest = key.strip_prefix(&*self.prefix)?;
        rest.strip_prefix("gateway:")
    }

    /// The service of whose endpoints, health or live numbers this is the key.
    #[must_use]
    pub fn parse_service(&self, key: &str) -> Option<Name> {
        let rest = key.strip_prefix(&*self.prefix)?;
        let kinds = ["endpoints:", "health:", "live:"];
        kinds
            .iter()
            .find_map(|kind| Name::parse(rest.strip_prefix(kind)?))
    }

    /// The hash of config errors.
    #[must_use]
    pub fn errors(&self) -> String {
        format!("{}errors", self.prefix)
    }

    /// The stream of events.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}events", self.prefix)
    }

    /// The stream of changes of the configuration.
    #[must_use]
    pub fn history(&self) -> String {
        format!("{}history", self.prefix)
    }

    /// What of an object the history was last told.
    #[must_use]
    pub fn recorded(&self, object: &Object) -> String {
        let key = self.object(object);
        let rest = key.strip_prefix(&*self.prefix).unwrap_or(&key);
        self.internal(&format!("recorded:{rest}"))
    }

    /// The gateways, each by its last life sign: the members are the keys of their hashes.
    #[must_use]
    pub fn fleet(&self) -> String {
        self.internal("fleet")
    }

    /// The moment for which somebody waits: what stood then is to be in force.
    #[must_use]
    pub fn awaited(&self) -> String {
        self.internal("awaited")
    }

    /// The stream of a service's shadow records.
    #[must_use]
    pub fn shadow_stream(&self, service: &Name) -> String {
        format!("{}shadow-stream:{service}", self.prefix)
    }

    /// The books about them.
    #[must_use]
    pub fn shadow_counts(&self, service: &Name) -> String {
        format!("{}shadow-counts:{service}", self.prefix)
    }

    /// The hash of one gateway.
    #[must_use]
    pub fn gateway(&self, instance: &str) -> String {
        format!("{}gateway:{instance}", self.prefix)
    }

    /// The health of a service's endpoints, as all gateways see it.
    #[must_use]
    pub fn health(&self, service: &Name) -> String {
        format!("{}health:{service}", self.prefix)
    }

    /// What the keys of `health` begin with.
    #[must_use]
    pub fn health_prefix(&self) -> String {
        format!("{}health:", self.prefix)
    }

    /// Running totals of a version; without one, of requests that ended before it was chosen.
    #[must_use]
    pub fn stats(&self, service: &Name, version: Option<&Name>) -> String {
        match version {
            Some(version) => format!("{}stats:{service}:{version}", self.prefix),
            None => format!("{}stats:{service}", self.prefix),
        }
    }

    /// The same counts for the window that starts at this Unix second.
    #[must_use]
    pub fn stats_window(&self, service: &Name, version: Option<&Name>, start: u64) -> String {
        let version = version.map_or("", Name::as_str);
        format!("{}stats:{service}:{version}:{start}", self.prefix)
    }

    /// Fine buckets of latency of one Unix second.
    #[must_use]
    pub fn hist(&self, service: &Name, version: &Name, second: u64) -> String {
        format!("{}hist:{service}:{version}:{second}", self.prefix)
    }

    /// What is live of the versions of a service.
    #[must_use]
    pub fn live(&self, service: &Name) -> String {
        format!("{}live:{service}", self.prefix)
    }

    /// What is live of its endpoints.
    #[must_use]
    pub fn live_endpoints(&self, service: &Name) -> String {
        format!("{}live:{service}:endpoints", self.prefix)
    }

    /// What the comparisons of a candidate with `base` came to.
    #[must_use]
    pub fn shadow_results(&self, service: &Name, candidate: &Name) -> String {
        format!("{}shadow-results:{service}:{candidate}", self.prefix)
    }

    /// How far the partitions of a topic are compared.
    #[must_use]
    pub fn shadow_offsets(&self, service: &Name, candidate: &Name) -> String {
        format!("{}shadow-offsets:{service}:{candidate}", self.prefix)
    }

    /// Which records of a log are compared beyond that.
    #[must_use]
    pub fn shadow_offsets_done(&self, service: &Name, candidate: &Name, log: &str) -> String {
        format!("{}:done:{log}", self.shadow_offsets(service, candidate))
    }

    /// How often records that are not compared yet were handed to workers.
    #[must_use]
    pub fn shadow_offsets_handed(&self, service: &Name, candidate: &Name) -> String {
        format!("{}:handed", self.shadow_offsets(service, candidate))
    }

    /// The stream of examples of what differs.
    #[must_use]
    pub fn shadow_diffs(&self, service: &Name, candidate: &Name) -> String {
        format!("{}shadow-diffs:{service}:{candidate}", self.prefix)
    }

    /// The stream of records that could not be compared.
    #[must_use]
    pub fn shadow_dead(&self, service: &Name) -> String {
        format!("{}shadow-dead:{service}", self.prefix)
    }

    /// The stream of pairs that people are asked to judge.
    #[must_use]
    pub fn labels(&self, service: &Name) -> String {
        format!("{}labels:{service}", self.prefix)
    }

    /// What people said of one pair.
    #[must_use]
    pub fn label(&self, service: &Name, pair: &str) -> String {
        format!("{}label:{service}:{pair}", self.prefix)
    }

    /// The stream of what a rollout decided, with its evidence.
    #[must_use]
    pub fn audit(&self, service: &Name) -> String {
        format!("{}audit:{service}", self.prefix)
    }

    /// The pairs that are not labelled yet.
    #[must_use]
    pub fn labels_open(&self, service: &Name) -> String {
        self.internal(&format!("labels-open:{service}"))
    }

    /// What the pilot wrote about a service, and what gateways count by: the key of
    /// `Object::Pilot`.
    #[must_use]
    pub fn pilot(&self, service: &Name) -> String {
        self.object(&Object::Pilot(service.clone()))
    }

    /// The counters of a trial: what requests came to, by the share under which their version was
    /// chosen.
    #[must_use]
    pub fn trial(&self, service: &Name, candidate: &Name) -> String {
        format!("{}trial:{service}:{candidate}", self.prefix)
    }

    /// The set of callers that a trial counted, where callers stay in a version.
    #[must_use]
    pub fn trial_callers(&self, service: &Name, candidate: &Name) -> String {
        self.internal(&format!("trial-callers:{service}:{candidate}"))
    }

    /// The lease of the pilot that leads a service's rollout.
    #[must_use]
    pub fn pilot_lease(&self, service: &Name) -> String {
        self.internal(&format!("pilot:{service}"))
    }

    /// Stands while a gateway has said that nobody watches the rollout of a service.
    #[must_use]
    pub fn unwatched(&self, service: &Name) -> String {
        self.internal(&format!("unwatched:{service}"))
    }

    /// A key for gateways only; its format may change.
    #[must_use]
    pub fn internal(&self, what: &str) -> String {
        format!("{}internal:{what}", self.prefix)
    }
}

/// As much of a token's hash as may stand outside of Redis keys.
pub(crate) fn first_digits(hash: &str) -> &str {
    hash.get(..8).unwrap_or_default()
}

/// Makes a text match only itself in a Redis glob.
fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
