//! What operators get wrong: each is named with its field, and what a pattern can say the schema
//! says too.

use std::collections::BTreeMap;

use serde_json::to_value;
use smartlink::model::decode::Fields;

use crate::files::{Kind, TOKEN, validator};

/// Who refuses: a range or a rule between fields is more than a pattern can say.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Both,
    Decoder,
}
use By::{Both, Decoder};

/// The kind, the hash, the field at fault (`""`: the hash), a part of the message, who refuses.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
    By,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("endpoints", &[("ftp://h/", "base")], "ftp://h/", "want", Both),
    ("endpoints", &[("10.0.0.5:8000", "base")], "10.0.0.5:8000", "a URL such as", Both),
    ("endpoints", &[("http://", "base")], "http://", "a URL such as", Both),
    ("endpoints", &[("http://h:0/", "base")], "http://h:0/", "a URL such as", Decoder),
    ("endpoints", &[("http://h:65536/", "base")], "http://h:65536/", "a URL such as", Decoder),
    ("endpoints", &[("http://h:/", "base")], "http://h:/", "a URL such as", Both),
    ("endpoints", &[("http://h/a b", "base")], "http://h/a b", "a URL such as", Both),
    ("endpoints", &[("http://h/../x", "base")], "http://h/../x", "a URL such as", Decoder),
    ("endpoints", &[("http://h/%2E%2e/", "base")], "http://h/%2E%2e/", "a URL such as", Decoder),
    ("endpoints", &[("http://h/%zz", "base")], "http://h/%zz", "a URL such as", Both),
    ("endpoints", &[("http://[::1/", "base")], "http://[::1/", "a URL such as", Both),
    ("endpoints", &[("http://300.1.1.1/", "base")], "http://300.1.1.1/", "a URL such as", Decoder),
    ("endpoints", &[("http://-h/", "base")], "http://-h/", "a URL such as", Both),
    ("endpoints", &[("http://u:secret@h/", "base")], "http://***@h/", "without user", Both),
    ("endpoints", &[("http://h/?key=secret", "base")], "http://h/?***", "query", Both),
    ("endpoints", &[("http://h/", "")], "http://h/", "the version first", Both),
    ("endpoints", &[("http://h/", "drain")], "http://h/", "the version first", Both),
    ("endpoints", &[("http://h/", "base backups")], "http://h/", "not \"backups\"", Both),
    ("endpoints", &[("http://h/", "base weight=-1")], "http://h/", "0 to 1000000", Both),
    ("endpoints", &[("http://h/", "base weight=1000001")], "http://h/", "0 to 1000000", Both),
    ("endpoints", &[("http://h/", "base max_conns=0")], "http://h/", "1 to 1000000", Both),
    ("endpoints", &[("http://h/", "base drain off")], "http://h/", "at most once", Decoder),
    ("endpoints", &[("http://h/", "base weight=1 weight=2")], "http://h/", "at most once", Decoder),

    ("weights", &[("base", "ten")], "base", "a whole number from 0 to 1000000", Both),
    ("weights", &[("base", "-1")], "base", "a whole number", Both),
    ("weights", &[("base", "0.5")], "base", "a whole number", Both),
    ("weights", &[("base", "1000001")], "base", "a whole number", Both),
    ("weights", &[("base", "1e9")], "base", "a whole number", Both),
    ("weights", &[("base", "nan")], "base", "a whole number", Both),
    ("weights", &[("-base", "1")], "-base", "the field wants a name", Both),

    ("service", &[("timeut", "1s")], "timeut", "did you mean timeout?", Both),
    ("service", &[("zzzzzzzzzzzz", "1")], "zzzzzzzzzzzz", "known are: allow_ip", Both),
    ("service", &[("timeout", "soon")], "timeout", "a duration such as 250ms", Both),
    ("service", &[("timeout", "0")], "timeout", "at least 1ms", Both),
    ("service", &[("timeout", "1 s")], "timeout", "a duration", Both),
    ("service", &[("timeout", "-1s")], "timeout", "a duration", Both),
    ("service", &[("timeout", "1d")], "timeout", "a duration", Both),
    ("service", &[("timeout", "87601h")], "timeout", "at most 87600h", Decoder),
    ("service", &[("timeout", "99999999999999999999")], "timeout", "at most 87600h", Both),
    ("service", &[("total", "none")], "total", "off or a duration", Both),
    ("service", &[("max_body", "10MB")], "max_body", "a size such as", Both),
    ("service", &[("max_body", "0")], "max_body", "at least 1", Both),
    ("service", &[("max_body", "2000000GiB")], "max_body", "at most 1024GiB", Decoder),
    ("service", &[("retries", "101")], "retries", "0 to 100", Both),
    ("service", &[("retry_on", "connect, 500")], "retry_on", "not \"500\"", Both),
    ("service", &[("retry_on", "conect")], "retry_on", "did you mean connect?", Both),
    ("service", &[("retry_budget", "20")], "retry_budget", "a share such as 10%", Both),
    ("service", &[("max_ejected", "101%")], "max_ejected", "at most 100%", Both),
    ("service", &[("spill", "maybe")], "spill", "on or off", Both),
    ("service", &[("balance", "leasttime")], "balance", "did you mean least_time?", Both),
    ("service", &[("balance", "hash:body")], "balance", "after hash: header:NAME", Both),
    ("service", &[("sticky", "header:")], "sticky", "header:NAME", Both),
    ("service", &[("sticky", "json:user")], "sticky", "json:/pointer", Both),
    ("service", &[("health", "http:health")], "health", "after http: a path", Both),
    ("service", &[("rate", "100")], "rate", "a rate such as 100/s", Both),
    ("service", &[("rate", "0/s")], "rate", "above 0", Both),
    ("service", &[("rate", "10/d")], "rate", "a rate", Both),
    ("service", &[("auth", "jwt:")], "auth", "after jwt: a name", Both),
    ("service", &[("auth", "tokens")], "auth", "open, token or jwt:", Both),
    ("service", &[("cors", "https://a.example/x")], "cors", "off, * or an origin", Both),
    ("service", &[("cors", "*, https://a.example")], "cors", "not \"*\"", Both),
    ("service", &[("cors", "*"), ("cors_credentials", "on")], "cors_credentials", "needs a list of origins", Decoder),
    ("service", &[("cors_credentials", "on")], "cors_credentials", "needs a list of origins", Decoder),
    ("service", &[("allow_ip", "10.0.0.0/33")], "allow_ip", "an address or network", Decoder),
    ("service", &[("deny_ip", "10.0.0.1,,10.0.0.2")], "deny_ip", "without empty items", Both),
    ("service", &[("tls_ca", "ca.pem")], "tls_ca", "the absolute path", Both),
    ("service", &[("tls_name", "https://h")], "tls_name", "a host name", Both),
    ("service", &[("set_request_headers", "x: y")], "set_request_headers", "a JSON object", Both),
    ("service", &[("set_request_headers", r#"{"x": 1}"#)], "set_request_headers", "a JSON object", Decoder),
    ("service", &[("set_request_headers", r#"{"x": "a\nb"}"#)], "set_request_headers", "one line for x", Decoder),
    ("service", &[("set_request_headers", r#"{"x": "a", "X": "b"}"#)], "set_request_headers", "x stands there twice", Decoder),
    ("service", &[("set_response_headers", r#"{"Content-Length": "1"}"#)], "set_response_headers", "the gateway's own", Decoder),
    ("service", &[("remove_request_headers", "transfer-encoding")], "remove_request_headers", "the gateway's own", Decoder),
    ("service", &[("remove_request_headers", "a b")], "remove_request_headers", "a header name", Both),
    ("service", &[("enabled", "")], "enabled", "on or off", Both),

    ("route", &[("path", "/geo/")], "service", "is missing and required", Both),
    ("route", &[("service", "no such")], "service", "a name", Both),
    ("route", &[("service", "s"), ("path", "geo")], "path", "a path such as /geo/", Both),
    ("route", &[("service", "s"), ("path", "/北京/")], "path", "percent-encoded", Both),
    ("route", &[("service", "s"), ("path", "/a?b=1")], "path", "without query", Both),
    ("route", &[("service", "s"), ("path", "/a/./b")], "path", "without . or ..", Decoder),
    ("route", &[("service", "s"), ("path", "/a%2Fb")], "path", "only where they are needed", Decoder),
    ("route", &[("service", "s"), ("path", "/%41/")], "path", "only where they are needed", Decoder),
    ("route", &[("service", "s"), ("path", "/a/..;x/")], "path", "only where they are needed", Decoder),
    ("route", &[("service", "s"), ("path_regex", "/(a")], "path_regex", "unclosed group", Decoder),
    ("route", &[("service", "s"), ("path_regex", "/a)|(/b")], "path_regex", "unopened group", Decoder),
    ("route", &[("service", "s"), ("path_regex", r"/(\w{100}){100}")], "path_regex", "size", Decoder),
    ("route", &[("service", "s"), ("path_regex", "")], "path_regex", "1 to 1024 bytes", Both),
    ("route", &[("service", "s"), ("path", "/a"), ("path_regex", "/a")], "path_regex", "excludes path", Both),
    ("route", &[("service", "s"), ("strip_prefix", "on")], "strip_prefix", "needs path", Decoder),
    ("route", &[("service", "s"), ("path", "/a/"), ("strip_prefix", "on"), ("rewrite", "/b")], "rewrite", "excludes strip_prefix", Both),
    ("route", &[("service", "s"), ("path", "/a/"), ("rewrite", "/$1")], "rewrite", "without $", Decoder),
    ("route", &[("service", "s"), ("path_regex", "/(a)"), ("rewrite", "/$2")], "rewrite", "no other group than $1", Decoder),
    ("route", &[("service", "s"), ("host", "example.com:80")], "host", "without port", Both),
    ("route", &[("service", "s"), ("host", "a.*.com")], "host", "*.example.com", Both),
    ("route", &[("service", "s"), ("methods", "get")], "methods", "in upper case", Both),
    ("route", &[("service", "s"), ("header.a b", "1")], "header.a b", "the field wants a header name", Both),
    ("route", &[("service", "s"), ("headers.a", "1")], "headers.a", "unknown field", Both),
    ("route", &[("service", "s"), ("priority", "high")], "priority", "a whole number from -1000000", Both),

    ("token", &[("name", "a")], "services", "is missing and required", Both),
    ("token", &[("services", "ner/*")], "services", "a pattern such as ner-*", Both),
    ("token", &[("services", "*"), ("expires", "tomorrow")], "expires", "a date such as", Both),
    ("token", &[("services", "*"), ("expires", "2027-02-30")], "expires", "a date such as", Decoder),
    ("token", &[("services", "*"), ("expires", "2027-01-31T10:00:00")], "expires", "a time such as", Both),
    ("token", &[("services", "*"), ("expires", "2026-01-01"), ("not_before", "2027-01-01")], "expires", "after not_before", Decoder),
    ("token", &[("services", "*"), ("burst", "5")], "burst", "needs rate", Both),
    ("token", &[("services", "*"), ("concurrency", "0")], "concurrency", "off or a whole number", Both),

    ("issuer", &[("issuer", "a"), ("audience", "b"), ("algorithms", "RS256")], "", "want one of jwks_url", Both),
    ("issuer", &[("issuer", "a"), ("audience", "b"), ("algorithms", "RS256"), ("jwks_url", "https://a/"), ("public_key_file", "/k")], "", "want only one of", Both),
    ("issuer", &[("issuer", "a"), ("audience", "b"), ("jwks_url", "https://a/")], "algorithms", "is missing and required", Both),
    ("issuer", &[("issuer", "a"), ("audience", "b"), ("algorithms", "none"), ("jwks_url", "https://a/")], "algorithms", "one of HS256", Both),
    ("issuer", &[("issuer", "a"), ("audience", "b"), ("algorithms", "HS256"), ("jwks_url", "https://a/")], "algorithms", "no HS algorithm", Decoder),
    ("issuer", &[("issuer", "a"), ("audience", "b"), ("algorithms", "RS256"), ("secret_env", "A")], "algorithms", "with secret_env", Decoder),
    ("issuer", &[("issuer", "a"), ("audience", "b"), ("algorithms", "RS256"), ("jwks_url", "http://id.example.com/")], "jwks_url", "https", Both),
    ("issuer", &[("introspection_url", "https://a/"), ("client_secret_env", "pass word")], "client_secret_env", "environment variable", Both),
    ("issuer", &[("introspection_url", "https://a/"), ("require", "env")], "require", "claim=value", Both),

    ("shadow", &[("to", "redis")], "to", "one of stream, kafka, mirror", Both),
    ("shadow", &[("candidate", "base")], "candidate", "other than base", Both),
    ("shadow", &[("sample", "200%")], "sample", "a share", Both),
    ("shadow", &[("keep", "slow")], "keep", "failures, slow 5s", Both),
    ("shadow", &[("keep", "slow later")], "keep", "after slow: a duration", Both),
    ("shadow", &[("maxlen", "0")], "maxlen", "1 to 100000000", Both),
    ("shadow", &[("topic", "a b")], "topic", "a topic", Both),
    ("shadow", &[("redact_json", "params")], "redact_json", "a JSON pointer", Both),
    ("shadow", &[("ignore", "/a~2")], "ignore", "a JSON pointer", Both),
    ("shadow", &[("tolerance", "/score")], "tolerance", "/score=0.01", Both),
    ("shadow", &[("unordered", "data")], "unordered", "/data", Both),
    ("shadow", &[("bad", "http_5xx, ok")], "bad", "not \"ok\"", Both),
    ("shadow", &[("bad", "bad_jsn")], "bad", "did you mean bad_json?", Both),
    ("shadow", &[("fail_when", "/status")], "fail_when", "a value such as /status=false", Both),
    ("shadow", &[("fail_when", "status=false")], "fail_when", "off or a JSON pointer", Both),
    ("shadow", &[("ignore", "body")], "ignore", "status or content-type", Both),
    ("shadow", &[("text", "/answer")], "text", "trim, casefold or similar:0.9", Both),
    ("shadow", &[("text", "similar")], "text", "trim, casefold or similar:0.9", Both),
    ("shadow", &[("text", "/a=similar:2")], "text", "trim, casefold or similar:0.9", Both),
    ("shadow", &[("null_is_missing", "maybe")], "null_is_missing", "on or off", Both),
    ("shadow", &[("sse_text", "choices")], "sse_text", "a JSON pointer", Both),
    ("shadow", &[("answer_schema", "true")], "answer_schema", "which is a JSON object", Both),
    ("shadow", &[("answer_schema", "{\"type\": 1}")], "answer_schema", "a JSON Schema that can be used", Decoder),
    ("shadow", &[("answer_schema", "{\"pattern\": \"(?=a)\"}")], "answer_schema", "a JSON Schema that can be used", Decoder),
    ("shadow", &[("answer_schema", "{\"$ref\": \"https://a.example/\"}")], "answer_schema", "a JSON Schema that can be used", Decoder),
    ("shadow", &[("scorer", "judge")], "scorer", "an http or https URL", Both),
    ("shadow", &[("scorer", "llm:https://h/")], "scorer", "llm:<model>@<URL>", Both),
    ("shadow", &[("scorer", "llm:m@ftp://h/")], "scorer", "llm:<model>@<URL>", Both),
    ("shadow", &[("scorer_concurrent", "65")], "scorer_concurrent", "a whole number from 1 to 64", Both),
    ("shadow", &[("scorer_timeout", "0s")], "scorer_timeout", "a duration", Both),

    ("rollout", &[("candidate", "base")], "candidate", "other than base", Both),
    ("rollout", &[("mode", "auto")], "mode", "one of drive, guard, advise", Both),
    ("rollout", &[("steps", "50,25")], "steps", "rising percentages", Decoder),
    ("rollout", &[("steps", "0,25")], "steps", "rising percentages", Decoder),
    ("rollout", &[("steps", "1,,2")], "steps", "rising percentages", Both),
    ("rollout", &[("confidence", "100%")], "confidence", "from 50% to 99.99%", Decoder),
    ("rollout", &[("max_latency_ratio", "0.9")], "max_latency_ratio", "a number from 1 to 100", Both),
    ("rollout", &[("error_tolerance", "1%")], "error_tolerance", "above error_tolerance", Decoder),
    ("rollout", &[("state", "stopped")], "state", "one of running, paused, aborted", Both),
    ("rollout", &[("step", "3")], "step", "did you mean steps?", Both),

    ("pilot", &[("trial", "first"), ("candidate", "v2")], "trial", "a whole number", Both),
    ("pilot", &[("trial", "-1"), ("candidate", "v2")], "trial", "a whole number", Both),
    ("pilot", &[("trial", "9007199254740992"), ("candidate", "v2")], "trial", "to 9007199254740991", Decoder),
    ("pilot", &[("trial", "1")], "candidate", "is missing and required", Both),
    ("pilot", &[("candidate", "base")], "candidate", "other than base", Both),
    ("pilot", &[("slow_at_us", "1,2,3")], "slow_candidate_at_us", "belongs beside slow_at_us", Both),
    ("pilot", &[("slow_candidate_at_us", "1,2,3")], "slow_at_us", "belongs beside slow_candidate_at_us", Both),
    ("pilot", &[("slow_at_us", "1,2"), ("slow_candidate_at_us", "1,2,3")], "slow_at_us", "three whole numbers", Both),
    ("pilot", &[("slow_at_us", "1,2,3"), ("slow_candidate_at_us", "0,2,3")], "slow_candidate_at_us", "three whole numbers", Both),
    ("pilot", &[("slow_at_us", "1,2,3"), ("slow_candidate_at_us", "3,2,1")], "slow_candidate_at_us", "none below", Decoder),
    ("pilot", &[("slow_at_us", "1,2,3ms"), ("slow_candidate_at_us", "1,2,3")], "slow_at_us", "three whole numbers", Both),

    ("alert", &[("format", "slack")], "url", "is missing and required", Both),
    ("alert", &[("url", "hooks.example.com")], "url", "an http or https URL", Both),
    ("alert", &[("url", "https://h/"), ("format", "teams")], "format", "one of json, slack", Both),
    ("alert", &[("url", "https://h/"), ("format", "email"), ("to", "a@b.example")], "url", "a URL such as smtp://", Both),
    ("alert", &[("url", "smtp://m"), ("format", "email")], "to", "is missing and required", Both),
    ("alert", &[("url", "smtp://m"), ("format", "email"), ("to", "ops")], "to", "a mail address", Both),
    ("alert", &[("url", "https://h/"), ("to", "a@b.example")], "to", "only for format email", Both),
    ("alert", &[("url", "https://h/"), ("on", "everything")], "on", "one of endpoint_down", Both),
    ("alert", &[("url", "https://h/"), ("on", "latency")], "on", "needs latency_p99", Decoder),
    ("alert", &[("url", "https://h/"), ("min_requests", "0")], "min_requests", "a whole number", Both),
];

fn hash(pairs: &[(&str, &str)]) -> Fields {
    let owned = |(field, text): &(&str, &str)| ((*field).to_owned(), (*text).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn every_mistake_is_named_with_its_field_and_what_was_wanted() {
    for (file, pairs, field, wanted, _) in CASES {
        let errors = Kind::of(file).mistakes(&hash(pairs));
        let [error] = errors.as_slice() else {
            panic!("one mistake in {file} {pairs:?}: {errors:?}");
        };
        assert_eq!(
            error.field.as_deref().unwrap_or_default(),
            *field,
            "{error}"
        );
        assert!(error.message.contains(wanted), "{file} {pairs:?}: {error}");
    }
}

#[test]
fn schemas_refuse_what_a_pattern_can_refuse() {
    let validators: BTreeMap<_, _> = CASES
        .iter()
        .map(|case| (case.0, validator(case.0)))
        .collect();
    for (file, pairs, _, _, by) in CASES {
        let hash = to_value(hash(pairs)).expect("texts");
        assert_eq!(
            validators[file].is_valid(&hash),
            *by == By::Decoder,
            "{file} {pairs:?}"
        );
    }
}

#[test]
fn no_message_repeats_a_secret() {
    for (file, pairs) in [
        ("alert", &[("url", "https://u:s3cret@h/#x")][..]),
        (
            "alert",
            &[
                ("url", "s3cret"),
                ("format", "email"),
                ("to", "a@b.example"),
            ],
        ),
        (
            "alert",
            &[("url", "https://h/s3cret"), ("secret_env", "s3cret s3cret")],
        ),
        (
            "issuer",
            &[("jwks_url", "http://h/?s3cret"), ("secret_env", "s3cret!")],
        ),
        ("issuer", &[("introspection_url", "https://u:s3cret@h/")]),
        (
            "service",
            &[(
                "set_request_headers",
                r#"{"authorization": "s3cret\ns3cret"}"#,
            )],
        ),
        (
            "service",
            &[("set_request_headers", "authorization: s3cret")],
        ),
        ("service", &[("tls_ca", "https://u:s3cret@h/ca.pem")]),
        ("shadow", &[("scorer", "https://h:x/?key=s3cret")]),
        ("endpoints", &[("http://u:s3/cret@s3cret@h/", "base")]),
        ("endpoints", &[("http://h/?s3cret", "base off drain")]),
    ] {
        let errors = Kind::of(file).mistakes(&hash(pairs));
        assert!(!errors.is_empty(), "{file} {pairs:?}");
        for error in errors {
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}

#[test]
fn errors_show_only_the_first_digits_of_a_token() {
    let errors = Kind::of("token").mistakes(&hash(&[("service", "ner")]));
    assert!(TOKEN.starts_with("token:9f86d081"));
    for error in errors {
        assert_eq!(error.key, "smartlink:token:9f86d081…");
    }
}

#[test]
fn a_hash_with_thousands_of_mistakes_names_a_hundred() {
    let many = (0..5000).map(|n| (format!("http://h{n}/"), String::new()));
    let errors = Kind::of("endpoints").mistakes(&many.collect());
    assert_eq!(errors.len(), 100);
    assert!(
        errors[99]
            .message
            .ends_with("and 4900 more fields are wrong")
    );

    let too_many = (0..10_001).map(|n| (format!("v{n}"), "1".to_owned()));
    let errors = Kind::of("weights").mistakes(&too_many.collect());
    assert_eq!(errors[0].message, "want at most 10000 fields, got 10001");
}
