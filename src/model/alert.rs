//! Alerts: who is told when something is wrong, and what counts as wrong.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decode::{Decoded, Decoder, Fields, Wanted};
use super::endpoint::Target;
use super::settings::Limit;
use super::value::{
    self, MailServer, limit, list, name_glob, nonzero_duration, share, whole, word,
};

/// The decoded `alert:<id>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Where messages go, and in which form.
    pub channel: Channel,
    /// The environment variable that holds the password or the signing secret.
    pub secret_env: Option<Box<str>>,
    /// What is told.
    pub on: Vec<Kind>,
    /// The services it is about: names, in which `*` stands for any run of characters.
    pub services: Vec<Box<str>>,
    /// From which share of failed requests on, 0 to 1.
    pub error_rate: f64,
    /// From which 99th percentile of response times on.
    pub latency_p99: Option<Duration>,
    /// Over how long both are looked at.
    pub window: Duration,
    /// After how long a going incident is told again.
    pub repeat: Duration,
    /// How many requests a window needs to count.
    pub min_requests: u64,
}

/// Where messages go, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A web hook.
    Hook(Format, Hidden<Target>),
    /// Mail to these addresses.
    Mail(Hidden<MailServer>, Vec<Box<str>>),
}

/// The form of a web hook's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the product of that name")]
pub enum Format {
    Json,
    Slack,
    Dingtalk,
    Feishu,
    Wecom,
}

/// What is told: the same names as those of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An endpoint went down.
    EndpointDown,
    /// Too many requests fail.
    ErrorRate,
    /// Requests take too long.
    Latency,
    /// A rollout was rolled back, paused or finished.
    Rollout,
    /// A hash has a mistake.
    ConfigError,
    /// The configuration disappeared without an order.
    ConfigVanished,
    /// Redis is away.
    RedisLost,
    /// Shadow copies were dropped.
    ShadowDropped,
}

/// A value that is a secret in itself, as the URL of a web hook is; logs never show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden<T>(pub T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// The formats; mail is the one without a web hook.
const FORMATS: &[(&str, Option<Format>)] = &[
    ("json", Some(Format::Json)),
    ("slack", Some(Format::Slack)),
    ("dingtalk", Some(Format::Dingtalk)),
    ("feishu", Some(Format::Feishu)),
    ("wecom", Some(Format::Wecom)),
    ("email", None),
];

const KINDS: &[(&str, Kind)] = &[
    ("endpoint_down", Kind::EndpointDown),
    ("error_rate", Kind::ErrorRate),
    ("latency", Kind::Latency),
    ("rollout", Kind::Rollout),
    ("config_error", Kind::ConfigError),
    ("config_vanished", Kind::ConfigVanished),
    ("redis_lost", Kind::RedisLost),
    ("shadow_dropped", Kind::ShadowDropped),
];

impl Alert {
    /// Whether it tells of this kind, and of this service; what is about no service is told to all.
    #[must_use]
    pub fn covers(&self, kind: Kind, service: &str) -> bool {
        let named = |glob: &str| matches(glob.as_bytes(), service.as_bytes());
        self.on.contains(&kind)
            && (kind != Kind::Latency || self.latency_p99.is_some())
            && (service.is_empty() || self.services.iter().any(|glob| named(glob)))
    }
}

/// Whether a text is what a glob describes, in which `*` stands for any run of characters.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut glob_at, mut text_at) = (0, 0);
    // Where the last star stands, and how much of the text it took so far.
    let mut star = None;
    while let Some(byte) = text.get(text_at) {
        match glob.get(glob_at) {
            Some(b'*') => {
                star = Some((glob_at, text_at));
                glob_at += 1;
            }
            Some(same) if same == byte => {
                glob_at += 1;
                text_at += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                glob_at = at + 1;
                text_at = taken + 1;
            }
        }
    }
    glob.get(glob_at..)
        .unwrap_or_default()
        .iter()
        .all(|rest| *rest == b'*')
}

impl Kind {
    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let known = KINDS.iter().find(|(known, _)| *known == name);
        known.map(|(_, kind)| *kind)
    }

    /// Its name, as in `on` and in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let known = KINDS.iter().find(|(_, kind)| *kind == self);
        known.map_or("", |(name, _)| name)
    }
}

/// Decodes `alert:<id>`.
#[must_use]
pub fn decode(key: &str, fields: &Fields) -> Decoded<Alert> {
    let mut decoder = Decoder::new(key, fields);
    let d = &mut decoder;
    let channel = take_channel(d);
    let secret_env = d.take_secret("secret_env", value::env_name);
    let on = d.take("on", list(word(KINDS)));
    let services = d.take("services", list(name_glob));
    let error_rate = d.take("error_rate", share);
    let latency_p99 = d.take("latency_p99", limit(nonzero_duration));
    let window = d.take("window", nonzero_duration);
    let repeat = d.take("repeat", nonzero_duration);
    let min_requests = d.take("min_requests", whole(1..=1_000_000_000));
    if on.as_ref().is_some_and(|on| on.contains(&Kind::Latency)) && !d.has("latency_p99") {
        d.mistake(Some("on"), "latency needs latency_p99");
    }
    let alert = channel.map(|channel| Alert {
        channel,
        secret_env,
        on: on.unwrap_or_else(|| KINDS.iter().map(|(_, kind)| *kind).collect()),
        services: services.unwrap_or_else(|| vec!["*".into()]),
        error_rate: error_rate.unwrap_or(0.05),
        latency_p99: latency_p99.and_then(Limit::at),
        window: window.unwrap_or(Duration::from_secs(30)),
        repeat: repeat.unwrap_or(Duration::from_mins(10)),
        min_requests: min_requests.unwrap_or(10),
    });
    decoder.finish(alert)
}

/// `url`, `format` and `to`, which only mail has.
fn take_channel(decoder: &mut Decoder<'_>) -> Option<Channel> {
    decoder.demand("url");
    let format = match decoder.take("format", word(FORMATS)) {
        None if decoder.has("format") => {
            // Without the format nobody knows what `url` and `to` should be.
            decoder.take_secret("url", |_| Ok(()));
            decoder.take("to", |_| Ok(()));
            return None;
        }
        None => Some(Format::Json),
        Some(format) => format,
    };
    let Some(format) = format else {
        let server = decoder.take_secret("url", value::smtp_url);
        let to = decoder.require("to", list(mail_address));
        return Some(Channel::Mail(Hidden(server?), to?));
    };
    let url = decoder.take_secret("url", value::http_url);
    if decoder.take("to", |_| Ok(())).is_some() {
        decoder.mistake(Some("to"), "is only for format email");
    }
    Some(Channel::Hook(format, Hidden(url?)))
}

fn mail_address(text: &str) -> Result<Box<str>, Wanted> {
    let parse = || {
        let (user, host) = text.split_once('@')?;
        let plain = (1..=64).contains(&user.len())
            && (user.bytes()).all(|b| b.is_ascii_alphanumeric() || b"._%+-".contains(&b));
        value::dns_name(host).ok().filter(|_| plain)?;
        Some(text.into())
    };
    parse().ok_or_else(|| "a mail address such as ops@example.com".to_owned())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_run() {
        for (glob, text, wanted) in [
            ("*", "ner", true),
            ("ner-*", "ner-v2", true),
            ("ner-*", "ner", false),
            ("*-v2", "ner-v1-v2", true),
            ("n*r*2", "ner-v2", true),
            ("n*r*3", "ner-v2", false),
            ("ner", "ner", true),
            ("ner", "nerd", false),
            ("", "", true),
        ] {
            assert_eq!(
                matches(glob.as_bytes(), text.as_bytes()),
                wanted,
                "{glob} {text}"
            );
        }
    }
}
