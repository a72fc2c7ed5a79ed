//! How `service:<svc>` and `defaults` are read.

use crate::model::decode::{Decoded, Decoder, Fields, Wanted};
use crate::model::value::{
    self, duration, key_source, limit, list, networks, nonzero_duration, nonzero_size, share,
    switch, whole, word,
};

use super::{Auth, Balance, Cors, HealthCheck, HostHeader, RateBy, RateScope, RetryOn, Settings};

/// The largest count a setting takes: requests in flight, in a queue, in a burst.
const COUNT_MAX: u32 = 1_000_000;

const BALANCERS: &[(&str, Balance)] = &[
    ("least_time", Balance::LeastTime),
    ("round_robin", Balance::RoundRobin),
    ("weighted", Balance::Weighted),
    ("least_conn", Balance::LeastConn),
    ("random", Balance::Random),
];

const RETRY_ON: &[(&str, RetryOn)] = &[
    ("connect", RetryOn::Connect),
    ("reset", RetryOn::Reset),
    ("timeout", RetryOn::Timeout),
    ("502", RetryOn::Status502),
    ("503", RetryOn::Status503),
    ("504", RetryOn::Status504),
];

const RATE_SCOPES: &[(&str, RateScope)] = &[
    ("gateway", RateScope::Gateway),
    ("shared", RateScope::Shared),
];

const HOST_HEADERS: &[(&str, HostHeader)] = &[
    ("upstream", HostHeader::Upstream),
    ("client", HostHeader::Client),
];

/// Decodes `service:<svc>` or `defaults`.
#[must_use]
pub fn decode(key: &str, fields: &Fields) -> Decoded<Settings> {
    let mut decoder = Decoder::new(key, fields);
    let mut settings = Settings::default();
    take_choosing(&mut decoder, &mut settings);
    take_clocks(&mut decoder, &mut settings);
    take_health(&mut decoder, &mut settings);
    take_limits(&mut decoder, &mut settings);
    take_callers(&mut decoder, &mut settings);
    take_upstream(&mut decoder, &mut settings);
    decoder.finish(Some(settings))
}

fn take_choosing(decoder: &mut Decoder<'_>, settings: &mut Settings) {
    settings.balance = decoder.take("balance", balance);
    settings.sticky = decoder.take("sticky", limit(key_source));
    settings.spill = decoder.take("spill", switch);
}

fn take_clocks(decoder: &mut Decoder<'_>, settings: &mut Settings) {
    settings.connect_timeout = decoder.take("connect_timeout", nonzero_duration);
    settings.timeout = decoder.take("timeout", nonzero_duration);
    settings.stall = decoder.take("stall", nonzero_duration);
    settings.total = decoder.take("total", limit(nonzero_duration));
    settings.retries = decoder.take("retries", whole(0..=100));
    settings.retry_on = decoder.take("retry_on", list(word(RETRY_ON)));
    settings.retry_unsafe = decoder.take("retry_unsafe", switch);
    settings.retry_budget = decoder.take("retry_budget", share);
}

fn take_health(decoder: &mut Decoder<'_>, settings: &mut Settings) {
    settings.health = decoder.take("health", health);
    settings.health_interval = decoder.take("health_interval", nonzero_duration);
    settings.health_timeout = decoder.take("health_timeout", nonzero_duration);
    settings.fall = decoder.take("fall", whole(1..=1000));
    settings.rise = decoder.take("rise", whole(1..=1000));
    settings.eject_5xx = decoder.take("eject_5xx", limit(whole(1..=1000)));
    settings.eject_time = decoder.take("eject_time", nonzero_duration);
    settings.max_ejected = decoder.take("max_ejected", share);
    settings.slow_start = decoder.take("slow_start", limit(nonzero_duration));
    settings.hold = decoder.take("hold", duration);
}

fn take_limits(decoder: &mut Decoder<'_>, settings: &mut Settings) {
    settings.rate = decoder.take("rate", limit(value::rate));
    settings.burst = decoder.take("burst", whole(1..=COUNT_MAX));
    settings.rate_scope = decoder.take("rate_scope", word(RATE_SCOPES));
    settings.rate_by = decoder.take("rate_by", rate_by);
    settings.concurrency = decoder.take("concurrency", limit(whole(1..=COUNT_MAX)));
    settings.queue = decoder.take("queue", whole(0..=COUNT_MAX));
    settings.queue_timeout = decoder.take("queue_timeout", nonzero_duration);
    settings.max_body = decoder.take("max_body", nonzero_size);
    settings.max_stream = decoder.take("max_stream", limit(nonzero_size));
}

fn take_callers(decoder: &mut Decoder<'_>, settings: &mut Settings) {
    settings.auth = decoder.take("auth", list(auth));
    settings.cors = decoder.take("cors", cors);
    settings.cors_credentials = decoder.take("cors_credentials", switch);
    settings.cors_max_age = decoder.take("cors_max_age", duration);
    let listed = matches!(settings.cors, Some(Cors::Origins(_)));
    if settings.cors_credentials == Some(true) && !listed {
        decoder.mistake(
            Some("cors_credentials"),
            "needs a list of origins in cors beside it: * with credentials would open every \
             session to every page",
        );
    }
    settings.allow_ip = decoder.take("allow_ip", networks);
    settings.deny_ip = decoder.take("deny_ip", networks);
    settings.forward_credentials = decoder.take("forward_credentials", switch);
    settings.enabled = decoder.take("enabled", switch);
}

fn take_upstream(decoder: &mut Decoder<'_>, settings: &mut Settings) {
    settings.host_header = decoder.take("host_header", word(HOST_HEADERS));
    settings.tls_verify = decoder.take("tls_verify", switch);
    settings.tls_ca = decoder.take("tls_ca", value::file);
    settings.tls_name = decoder.take("tls_name", value::dns_name);
    settings.http2 = decoder.take("http2", switch);
    settings.set_request_headers = decoder.take_secret("set_request_headers", value::header_list);
    settings.set_response_headers = decoder.take_secret("set_response_headers", value::header_list);
    let header_names = || list(value::free_header_name);
    settings.remove_request_headers = decoder.take("remove_request_headers", header_names());
    settings.remove_response_headers = decoder.take("remove_response_headers", header_names());
    settings.expose_headers = decoder.take("expose_headers", switch);
}

fn balance(text: &str) -> Result<Balance, Wanted> {
    match text.strip_prefix("hash:") {
        Some(key) => key_source(key)
            .map(Balance::Hash)
            .map_err(|wanted| format!("after hash: {wanted}")),
        None => word(BALANCERS)(text).map_err(|wanted| format!("{wanted}, or hash:<key>")),
    }
}

fn health(text: &str) -> Result<HealthCheck, Wanted> {
    match (text, text.strip_prefix("http:")) {
        ("passive", _) => Ok(HealthCheck::Passive),
        ("tcp", _) => Ok(HealthCheck::Tcp),
        (_, Some(path)) => value::path_and_query(path)
            .map(HealthCheck::Http)
            .map_err(|wanted| format!("after http: {wanted}")),
        _ => Err("passive, tcp or http:/path".to_owned()),
    }
}

fn rate_by(text: &str) -> Result<RateBy, Wanted> {
    match text {
        "service" => Ok(RateBy::Service),
        _ => key_source(text)
            .map(RateBy::Key)
            .map_err(|wanted| format!("service, {wanted}")),
    }
}

fn auth(text: &str) -> Result<Auth, Wanted> {
    match (text, text.strip_prefix("jwt:")) {
        ("open", _) => Ok(Auth::Open),
        ("token", _) => Ok(Auth::Token),
        (_, Some(issuer)) => value::name(issuer)
            .map(Auth::Jwt)
            .map_err(|wanted| format!("after jwt: {wanted}")),
        _ => Err("open, token or jwt:<issuer id>".to_owned()),
    }
}

fn cors(text: &str) -> Result<Cors, Wanted> {
    match text {
        "off" => Ok(Cors::Off),
        "*" => Ok(Cors::Any),
        _ => list(value::origin)(text)
            .map(Cors::Origins)
            .map_err(|wanted| format!("off, * or {wanted}")),
    }
}
