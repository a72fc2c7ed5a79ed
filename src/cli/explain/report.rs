//! What `explain` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::Measured;
use crate::access::Rule;
use crate::cli::write;
use crate::model::decode::ConfigError;
use crate::model::endpoint::Duty;
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;
use crate::model::settings::{Effective, KeySource, RateBy, RateScope};
use crate::model::table::{Endpoint, Service, Version};
use crate::policy::route;
use crate::policy::version::Choice;
use crate::proxy::explain::{self, Asked, Entrance, Explained};

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `named`, or the id of a route.
    rule: Option<Rule>,
    service: Option<String>,
    /// How the caller is let in.
    auth: Option<String>,
    /// The version, where it is certain.
    version: Option<String>,
    /// `pinned`, `chosen`, `sticky`, `weight` or `spill`.
    why: Option<&'static str>,
    /// The sticky key's point in [0, 1).
    point: Option<f64>,
    /// The part of the tickets that each version has, where a ticket decides.
    shares: BTreeMap<String, f64>,
    /// Who serves those tickets: the version itself, or one that stands in.
    serves: BTreeMap<String, Option<String>>,
    endpoints: Vec<Row>,
    limits: Vec<String>,
    /// The status of an answer that the gateway makes itself.
    status: Option<u16>,
    code: Option<&'static str>,
    msg: Option<String>,
    /// What is wrong with the hashes that this was made of: a gateway that ran before serves their
    /// last good state.
    mistakes: Vec<String>,
    #[serde(skip)]
    notes: Vec<String>,
}

/// One endpoint.
#[derive(Debug, Serialize)]
struct Row {
    url: String,
    version: String,
    /// What would be asked for.
    asks: String,
    /// Whether the balancer may choose it now.
    candidate: bool,
    duty: &'static str,
    weight: u32,
    state: &'static str,
    /// What gateways wrote of it, as they wrote it.
    health: BTreeMap<String, serde_json::Value>,
    live: BTreeMap<String, serde_json::Value>,
}

impl Report {
    pub(super) fn of(explained: &Explained<'_>, asked: &Asked<'_>, measured: &Measured) -> Self {
        let answer = explained.answer.as_ref();
        let mut report = Self {
            rule: explained.rule.clone(),
            service: explained.name.as_deref().map(str::to_owned),
            auth: explained.entrance.as_ref().map(entrance),
            version: explained.version.map(|version| version.name.to_string()),
            why: None,
            point: explained.point.map(fraction),
            shares: BTreeMap::new(),
            serves: BTreeMap::new(),
            endpoints: Vec::new(),
            limits: Vec::new(),
            status: answer.map(|answer| answer.status),
            code: answer
                .map(|answer| answer.code)
                .filter(|code| !code.is_empty()),
            msg: answer.map(|answer| answer.msg.clone()),
            mistakes: Vec::new(),
            notes: Vec::new(),
        };
        if let (Some(service), Some(choice)) = (explained.service, explained.choice) {
            report.choose(explained, service, choice);
            report.limits = limits(&service.settings, explained);
            report.list(service, explained, asked, measured);
        }
        report
    }

    /// Names the mistakes of the hashes that were looked at.
    pub(super) fn warn(&mut self, keys: &Keys, mistakes: &[ConfigError]) {
        let mut objects = vec![Object::Defaults];
        if let Some(name) = self.service.as_deref().and_then(Name::parse) {
            objects.extend(write::around(&name));
        }
        if let Some(Rule::Route(id)) = &self.rule {
            objects.extend(Name::parse(id).map(Object::Route));
        }
        let looked_at: Vec<String> = objects.iter().map(|it| keys.object(it)).collect();
        let ours = mistakes.iter().filter(|it| looked_at.contains(&it.key));
        self.mistakes = ours.map(ToString::to_string).collect();
    }

    fn choose(&mut self, explained: &Explained<'_>, service: &Arc<Service>, choice: Choice<'_>) {
        let (why, chosen) = match choice {
            Choice::Pinned(version) => ("pinned", version),
            Choice::Asked(version) => ("chosen", version),
            Choice::Sticky(version) => ("sticky", version),
            Choice::Drawn(_) => ("weight", None),
        };
        self.why = Some(why);
        if let (Some(chosen), Some(server)) = (chosen, explained.version)
            && !Arc::ptr_eq(chosen, server)
        {
            self.why = Some("spill");
            let name = &chosen.name;
            self.notes.push(format!(
                "{name} is its version, and has no endpoint that is up"
            ));
        }
        if !matches!(choice, Choice::Drawn(_) | Choice::Sticky(_)) {
            return;
        }
        let sum: f64 = service.versions.iter().map(|it| f64::from(it.weight)).sum();
        for version in service.versions.iter().filter(|it| it.weight > 0) {
            let share = f64::from(version.weight) / sum;
            self.shares.insert(version.name.to_string(), share);
            let server = explain::server(service, version, true, None);
            let name = server.map(|it| it.name.to_string());
            self.serves.insert(version.name.to_string(), name);
            let stands = server.is_some_and(|it| Arc::ptr_eq(it, version));
            if matches!(choice, Choice::Drawn(_)) && !stands {
                let by = server.map_or("nobody", |it| it.name.as_str());
                let name = &version.name;
                self.notes
                    .push(format!("{name} has no endpoint that is up: {by} stands in"));
            }
        }
    }

    fn list(
        &mut self,
        service: &Service,
        explained: &Explained<'_>,
        asked: &Asked<'_>,
        measured: &Measured,
    ) {
        let concerned = |version: &&Arc<Version>| match (explained.choice, explained.version) {
            (Some(Choice::Drawn(_)), _) | (_, None) => version.weight > 0,
            (_, Some(only)) => Arc::ptr_eq(only, version),
        };
        for version in service.versions.iter().filter(concerned) {
            let candidates = explain::candidates(&service.settings, version);
            for endpoint in &version.endpoints {
                let candidate = candidates.iter().any(|it| Arc::ptr_eq(it, endpoint));
                self.endpoints
                    .push(row(endpoint, candidate, explained, asked, measured));
            }
        }
    }

    /// For people: a line for each thing that is known.
    pub(super) fn lines(&self) -> String {
        let mut lines = String::new();
        let mut line = |name: &str, text: &str| {
            // Writing into a text cannot fail.
            let _written = writeln!(lines, "{name:10} {text}");
        };
        match &self.rule {
            Some(Rule::Named) => line("rule", "named entry: the body names the service"),
            Some(Rule::Route(id)) => line("rule", &format!("route {id}")),
            None => {}
        }
        for (name, text) in [("service", &self.service), ("auth", &self.auth)] {
            if let Some(text) = text {
                line(name, text);
            }
        }
        for limit in &self.limits {
            line("limit", limit);
        }
        if let Some(why) = self.why {
            line("version", &self.version_line(why));
        }
        for note in &self.notes {
            line("", note);
        }
        for row in &self.endpoints {
            line("endpoint", &row.line());
        }
        if let (Some(status), Some(msg)) = (self.status, &self.msg) {
            let code = self.code.unwrap_or_default();
            line("answer", &format!("{status} {code} {msg}"));
        }
        for mistake in &self.mistakes {
            line(
                "mistake",
                &format!("{mistake} (a gateway that ran before serves what was good)"),
            );
        }
        lines
    }

    fn version_line(&self, why: &str) -> String {
        let shares = self.shares.iter();
        let shares: Vec<String> = shares
            .map(|(version, share)| format!("{version} {}", percent(*share)))
            .collect();
        let shares = shares.join(", ");
        let Some(version) = &self.version else {
            return if self.status.is_some() {
                "none".to_owned()
            } else {
                format!("the next ticket decides: {shares}")
            };
        };
        match why {
            "pinned" => format!("{version}: the route pins it"),
            "chosen" => format!("{version}: the caller chose it"),
            "sticky" => {
                let point = self.point.unwrap_or_default();
                format!("{version}: the caller stays there, point {point:.6} of {shares}")
            }
            "spill" => format!("{version}: stands in"),
            _ => format!("{version}: all requests go there"),
        }
    }
}

impl Row {
    fn line(&self) -> String {
        let Self {
            url,
            asks,
            version,
            duty,
            state,
            weight,
            ..
        } = self;
        let mut line = format!("{url} {version} {state}");
        if *duty != "active" {
            let _written = write!(line, " {duty}");
        }
        if *weight != 1 {
            let _written = write!(line, " weight={weight}");
        }
        for name in ["inflight", "ewma_ms"] {
            if let Some(number) = self.live.get(name) {
                let _written = write!(line, " {name}={number}");
            }
        }
        if let Some(why) = self.health.get("why").and_then(|why| why.as_str())
            && *state != "up"
        {
            let _written = write!(line, " ({why})");
        }
        if !self.candidate {
            line.push_str(" (not now)");
        }
        if asks != url {
            let _written = write!(line, " asked for {asks}");
        }
        line
    }
}

fn row(
    endpoint: &Endpoint,
    candidate: bool,
    explained: &Explained<'_>,
    asked: &Asked<'_>,
    measured: &Measured,
) -> Row {
    let spec = &endpoint.spec;
    let scheme = if spec.target.tls { "https" } else { "http" };
    let asks = match &explained.path {
        None => spec.url.to_string(),
        Some(path) => {
            let path = route::join(&spec.target.path, path, asked.parts.uri.query());
            format!("{scheme}://{}{path}", spec.target.authority)
        }
    };
    Row {
        url: spec.url.to_string(),
        version: spec.version.to_string(),
        asks,
        candidate,
        duty: match spec.duty {
            Duty::Active => "active",
            Duty::Backup => "backup",
            Duty::Drain => "drain",
            Duty::Off => "off",
        },
        weight: spec.weight,
        state: endpoint.live.condition.health().state.as_str(),
        health: Measured::json(&measured.health, &spec.url),
        live: Measured::json(&measured.live, &spec.url),
    }
}

fn entrance(entrance: &Entrance) -> String {
    match entrance {
        Entrance::Unasked => "open: nobody is asked".to_owned(),
        Entrance::Anybody => "open: anybody, and no good credential was shown".to_owned(),
        Entrance::By(credential) => format!("let in as {}", credential.name),
        Entrance::Issuer(id) => {
            format!("issuer {id} decides; what follows is if it vouches for the caller")
        }
    }
}

/// The bounds that the request meets on its way.
fn limits(settings: &Effective, explained: &Explained<'_>) -> Vec<String> {
    let mut limits = Vec::new();
    if let Some(Entrance::By(credential)) = &explained.entrance {
        if let Some(quota) = &credential.quota {
            limits.push(format!("of the token: {}", rate(quota)));
        }
        if let Some(most) = credential.concurrency {
            limits.push(format!("of the token: {most} at once"));
        }
    }
    if let Some(limit) = &settings.rate {
        let by = match &limit.by {
            RateBy::Service => "all callers together".to_owned(),
            RateBy::Key(source) => format!("each {}", source_text(source)),
        };
        let scope = match limit.scope {
            RateScope::Gateway => "each gateway",
            RateScope::Shared => "all gateways together",
        };
        limits.push(format!("{}, {by}, {scope}", rate(&limit.quota)));
    }
    if let Some(most) = settings.concurrency {
        let queue = settings.queue;
        limits.push(format!("{most} at once on each gateway, {queue} in line"));
    }
    limits
}

fn rate(quota: &crate::model::quota::Quota) -> String {
    let (count, seconds, burst) = (quota.rate.count, quota.rate.per.as_secs(), quota.burst);
    format!("{count} requests in {seconds} s, {burst} at once")
}

fn source_text(source: &KeySource) -> String {
    match source {
        KeySource::Header(name) => format!("header:{name}"),
        KeySource::Cookie(name) => format!("cookie:{name}"),
        KeySource::Query(name) => format!("query:{name}"),
        KeySource::Json(pointer) => format!("json:{pointer}"),
        KeySource::Ip => "ip".to_owned(),
        KeySource::Token => "token".to_owned(),
    }
}

/// A point in units of 2^-64.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough to show")]
fn fraction(point: u64) -> f64 {
    (point >> 11) as f64 / (1_u64 << 53) as f64
}

/// A share as people write it: 90%, 0.05%.
fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_short() {
        for (share, text) in [
            (0.9, "90%"),
            (1.0, "100%"),
            (0.0005, "0.05%"),
            (1.0 / 3.0, "33.3333%"),
        ] {
            assert_eq!(percent(share), text);
        }
        assert!(fraction(u64::MAX) < 1.0);
        assert!((fraction(1 << 63) - 0.5).abs() < 1e-9);
    }
}
