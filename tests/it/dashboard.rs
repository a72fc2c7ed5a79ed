//! The dashboard and what docker-compose provisions it with: every expression names what is exported.

#![expect(
    clippy::string_slice,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use smartlink::telemetry::metrics::{ALL, Kind};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&file("deploy/grafana/dashboards/smartlink.json")).expect("JSON")
}

/// All texts of that name, wherever they stand.
fn texts<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|it| texts(it, name, found)),
        Value::Object(fields) => {
            for (field, value) in fields {
                match value {
                    Value::String(text) if field == name => found.push(text),
                    value => texts(value, name, found),
                }
            }
        }
        _ => {}
    }
}

/// The labels that a series of this name has, with those that Prometheus gives; `None` where no
/// such series is exported.
fn labels(series: &str) -> Option<BTreeSet<&'static str>> {
    let (metric, part) = ALL.iter().find_map(|metric| {
        let part = series.strip_prefix(metric.name)?;
        let fits = match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].contains(&part),
            Kind::Counter | Kind::Gauge => part.is_empty(),
        };
        fits.then_some((metric, part))
    })?;
    let mut labels: BTreeSet<_> = metric.labels.iter().copied().collect();
    labels.extend(["job", "instance"]);
    if part == "_bucket" {
        labels.insert("le");
    }
    Some(labels)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What is wrong with an expression, as far as names go.
fn check(expression: &str) -> Result<(), String> {
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        let count = |c: char| expression.matches(c).count();
        if count(open) != count(close) {
            return Err(format!("{open} and {close} do not match"));
        }
    }
    let mut known = BTreeSet::new();
    let starts = expression.match_indices(is_word);
    let begins = |at: usize| !expression[..at].ends_with(is_word);
    for (at, _) in starts.filter(|(at, _)| begins(*at)) {
        let word: &str = expression[at..].split(|c| !is_word(c)).next().unwrap_or("");
        if !word.starts_with("smartlink_") && !word.starts_with("process_") {
            continue;
        }
        let labels = labels(word).ok_or_else(|| format!("{word} is not exported"))?;
        let behind = &expression[at + word.len()..];
        if let Some(matchers) = behind.strip_prefix('{') {
            let matchers = matchers.split('}').next().unwrap_or("");
            for matcher in matchers.split(',') {
                let label = matcher.split(|c| !is_word(c)).next().unwrap_or("");
                if !labels.contains(label) {
                    return Err(format!("{word} has no label {label}"));
                }
            }
        }
        known.extend(labels);
    }
    if known.is_empty() {
        return Err("it names nothing of ours".to_owned());
    }
    for by in ["by (", "on ("] {
        for (at, _) in expression.match_indices(by) {
            let list = expression[at + by.len()..].split(')').next().unwrap_or("");
            if let Some(label) = list.split(", ").find(|label| !known.contains(label)) {
                return Err(format!("nothing has a label {label}"));
            }
        }
    }
    Ok(())
}

#[test]
fn every_expression_names_what_is_exported() {
    let dashboard = dashboard();
    let mut expressions = Vec::new();
    texts(&dashboard, "expr", &mut expressions);
    for expression in &expressions {
        let checked = check(expression);
        assert_eq!(checked, Ok(()), "{expression}");
    }
    for shown in [
        "smartlink_requests_total",
        "smartlink_request_errors_total",
        "smartlink_request_duration_seconds_bucket",
        "smartlink_requests_in_flight",
        "smartlink_version_weight",
        "smartlink_endpoint_state",
        "smartlink_endpoint_ejections_total",
        "smartlink_stats_flush_lag_seconds",
    ] {
        let is_shown = expressions.iter().any(|it| it.contains(shown));
        assert!(is_shown, "no panel shows {shown}");
    }
    let mut queries = Vec::new();
    texts(&dashboard, "query", &mut queries);
    let query = "label_values(smartlink_requests_in_flight, service)";
    assert_eq!(queries, [query]);
    assert!(labels("smartlink_requests_in_flight").is_some_and(|it| it.contains("service")));
}

#[test]
fn every_panel_asks_the_provisioned_source() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let sources = file("deploy/grafana/provisioning/datasources/prometheus.yml");
    let mut names = Vec::new();
    texts(&dashboard, "uid", &mut names);
    for name in names.iter().filter(|name| **name != "smartlink") {
        assert!(sources.contains(&format!("uid: {name}\n")), "{name}");
    }
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title} has the id of another"
        );
        assert!(panel["datasource"]["uid"].is_string(), "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title} shows nothing");
    }
}

#[test]
fn docker_compose_mounts_what_is_there() {
    let compose = file("docker-compose.yml");
    let mut mounted = 0;
    for (at, _) in compose.match_indices("./deploy/") {
        let path = compose[at..].split(':').next().unwrap_or_default();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        assert!(path.exists(), "{}", path.display());
        mounted += 1;
    }
    assert_eq!(mounted, 3);
    let provider = file("deploy/grafana/provisioning/dashboards/smartlink.yml");
    let folder = provider.split("path: ").nth(1).expect("a path").trim();
    assert!(compose.contains(&format!("./deploy/grafana/dashboards:{folder}:ro")));
}

#[test]
fn an_expression_with_a_wrong_name_is_found() {
    for good in [
        "rate(smartlink_requests_total{service=~\"$service\",status=~\"5..\"}[1m])",
        "sum by (service, le) (smartlink_request_duration_seconds_bucket{le=\"+Inf\"})",
        "process_open_fds{job=\"smartlink\"}",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in [
        "rate(smartlink_requests[1m])",
        "smartlink_request_duration_seconds",
        "smartlink_retries_total{status=\"200\"}",
        "sum by (state) (smartlink_retries_total)",
        "sum(smartlink_retries_total",
        "up",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
