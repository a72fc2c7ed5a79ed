//! OpenTelemetry spans of a whole gateway, as a collector gets them.

#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::collections::BTreeMap;

use serde_json::Value;
use smartlink::access;
use smartlink::model::value;
use smartlink::trace;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::load::{Load, get, named, serving};
use crate::support::port::Port;
use crate::support::receiver::Receiver;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof, options};
use crate::support::upstream::Upstream;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn site(redis: &Redis, collector: &str, sample: f64) -> Site {
    let mut options = options(redis);
    options.trace = Some(trace::Options {
        collector: value::url(collector).expect("a URL"),
        sample,
        instance: "here".to_owned(),
    });
    redis.run("HSET smartlink:route:r service a path /r/");
    let site = Site::start_with(options);
    await_proof(redis);
    site
}

/// One span, decoded.
#[derive(Clone, Debug)]
struct Span {
    json: Value,
    attributes: BTreeMap<String, String>,
}

impl Span {
    fn text(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    fn nanos(&self, field: &str) -> u64 {
        self.text(field).parse().expect("a number as text")
    }

    fn failed(&self) -> bool {
        self.json["status"]["code"] == 2
    }

    #[track_caller]
    fn says(&self, wanted: &[(&str, &str)]) {
        for (name, wanted) in wanted {
            assert_eq!(self.attribute(name), *wanted, "{name} of {self:#?}");
        }
    }
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let list = list.as_array().expect("a list");
    let pair = |it: &Value| {
        let value = &it["value"];
        let text = value["stringValue"].as_str().or(value["intValue"].as_str());
        let name = it["key"].as_str().expect("a key").to_owned();
        (name, text.expect("a text or a number as text").to_owned())
    };
    list.iter().map(pair).collect()
}

/// All spans that were taken so far.
fn spans(collector: &Receiver) -> Vec<Span> {
    let mut spans = Vec::new();
    for export in collector.received() {
        assert_eq!(export.target, "/v1/traces");
        assert!(export.head.contains("content-type: application/json\r\n"));
        let json = export.json();
        for resource in json["resourceSpans"].as_array().expect("a list") {
            let of = attributes(&resource["resource"]["attributes"]);
            assert_eq!(of["service.name"], "smartlink");
            assert_eq!(of["service.instance.id"], "here");
            for scope in resource["scopeSpans"].as_array().expect("a list") {
                assert_eq!(scope["scope"]["name"], "smartlink");
                let list = scope["spans"].as_array().expect("a list").iter();
                spans.extend(list.map(|json| Span {
                    attributes: attributes(&json["attributes"]),
                    json: json.clone(),
                }));
            }
        }
    }
    spans
}

#[track_caller]
fn await_spans(collector: &Receiver, count: usize) -> Vec<Span> {
    let spans = eventually("the spans arrive", || {
        let spans = spans(collector);
        (spans.len() >= count).then_some(spans)
    });
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

fn metric(site: &Site, result: &str) -> u64 {
    let name = format!("smartlink_spans_total{{result=\"{result}\"}} ");
    let page = site.ask_admin("/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("it is told").parse().expect("a number")
}

fn traced(path: &str, parent: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: h:80\r\ntraceparent: {parent}\r\ntracestate: v=1\r\n\r\n")
}

/// The span of a request for `/r/x?a=1&sig=s3cret`.
fn says_what_was_asked(server: &Span, upstream: &Upstream) {
    server.says(&[
        ("http.request.method", "GET"),
        ("url.path", "/r/x"),
        ("url.query", "a=1&sig=REDACTED"),
        ("url.scheme", "http"),
        ("server.address", "h"),
        ("server.port", "80"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", "5"),
        ("smartlink.service", "a"),
        ("smartlink.version", "base"),
        ("smartlink.rule", "r"),
        ("smartlink.endpoint", &upstream.url("/up")),
        ("error.type", ""),
    ]);
}

#[test]
fn a_request_is_a_span_of_its_caller_and_each_attempt_one_of_its_own() {
    let redis = Redis::start();
    let collector = Receiver::start();
    let closed = Port::reserve();
    let upstream = Upstream::saying("hello");
    redis.call(&[
        "HSET",
        "smartlink:endpoints:a",
        &closed.url(),
        "base weight=1",
    ]);
    redis.call(&[
        "HSET",
        "smartlink:endpoints:a",
        &upstream.url("/up"),
        "base backup",
    ]);
    redis.run("HSET smartlink:service:a fall 1000 balance round_robin");
    let site = site(&redis, &format!("http://{}/", collector.address), 0.0);
    let mut client = Client::connect(site.address);
    client.send(traced(
        "/r/x?a=1&sig=s3cret",
        &format!("00-{TRACE}-{CALLER}-01"),
    ));
    assert_eq!(client.read_answer().head.status, 200);
    let spans = await_spans(&collector, 3);
    let [server, first, second] = &spans[..] else {
        panic!("{spans:#?}");
    };
    for span in &spans {
        assert_eq!(span.text("traceId"), TRACE);
        assert_eq!(span.text("traceState"), "v=1");
        assert!(span.nanos("endTimeUnixNano") >= span.nanos("startTimeUnixNano"));
        assert!(span.nanos("startTimeUnixNano") >= server.nanos("startTimeUnixNano"));
        assert!(span.nanos("endTimeUnixNano") <= server.nanos("endTimeUnixNano"));
    }
    assert_eq!(server.text("parentSpanId"), CALLER);
    assert_eq!(
        (server.text("name"), &server.json["kind"]),
        ("GET", &2.into())
    );
    assert!(!server.failed());
    says_what_was_asked(server, &upstream);
    for span in [first, second] {
        assert_eq!(span.json["kind"], 3);
        assert_eq!(span.text("parentSpanId"), server.text("spanId"));
        span.says(&[("smartlink.service", "a"), ("smartlink.version", "base")]);
    }
    assert!(first.failed() && !second.failed());
    first.says(&[
        ("error.type", "connect_failed"),
        ("smartlink.endpoint", &closed.url()),
        ("http.request.resend_count", ""),
    ]);
    second.says(&[
        ("http.response.status_code", "200"),
        ("http.request.resend_count", "1"),
        ("url.full", &upstream.url("/up/r/x?a=1&sig=REDACTED")),
    ]);
    // The upstream is a child of the attempt that reached it, and nobody else is told of the caller.
    let head = upstream.only().head;
    let parent = format!("00-{TRACE}-{}-01", second.text("spanId"));
    assert_eq!(head.value("traceparent"), Some(&*parent));
    assert_eq!(head.value("tracestate"), Some("v=1"));
    eventually("they are counted", || {
        (metric(&site, "sent") == 3).then_some(())
    });
}

#[test]
fn the_caller_decides_and_where_there_is_none_the_share() {
    let redis = Redis::start();
    let collector = Receiver::start();
    let upstream = Upstream::saying("hello");
    redis.call(&["HSET", "smartlink:endpoints:a", &upstream.url("/"), "base"]);
    let site = site(&redis, &format!("http://{}/otel", collector.address), 1.0);
    let mut client = Client::connect(site.address);
    let quiet = format!("00-{TRACE}-{CALLER}-00");
    client.send(traced("/r/quiet", &quiet));
    assert_eq!(client.read_answer().head.status, 200);
    assert_eq!(upstream.only().head.value("traceparent"), Some(&*quiet));
    // What is no traceparent decides nothing.
    client.send(traced("/r/new", "nonsense"));
    assert_eq!(client.read_answer().head.status, 200);
    assert_eq!(site.ask(&named("a")).status, 200);
    assert_eq!(site.ask(&named("nobody")).status, 400);
    eventually("all are sent", || {
        (metric(&site, "sent") == 5).then_some(())
    });
    let exports = collector.received();
    assert!(exports.iter().all(|it| it.target == "/otel/v1/traces"));
    let text: String = exports.iter().map(|it| it.body.clone()).collect();
    assert!(
        !text.contains("/r/quiet") && !text.contains("v=1"),
        "{text}"
    );
    assert!(text.contains("\"POST /ai_server/\""), "{text}");
    let answer = "{\"key\":\"smartlink.error\",\"value\":{\"stringValue\":\"no_such_service\"}}";
    assert!(text.contains(answer), "{text}");
}

#[test]
fn a_collector_that_is_away_hangs_or_refuses_costs_no_request_anything() {
    let redis = Redis::start();
    let closed = Port::reserve();
    let (hanging, refusing) = (Receiver::start(), Receiver::start());
    hanging.hang();
    refusing.answer(400, "no");
    let (one, _) = serving("one");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let urls = [&hanging, &refusing].map(|it| format!("http://{}/", it.address));
    let [hanging_url, refusing_url] = &urls;
    for url in [&closed.url(), hanging_url, refusing_url] {
        let mut site = site(&redis, url, 1.0);
        let load = Load::start(site.address, vec![named("a"), get("/r/x")], |answer| {
            (answer.status == 200).then_some(()).ok_or(String::new())
        });
        if url == hanging_url {
            hanging.await_nth(0);
        } else {
            eventually("they are lost", || {
                (metric(&site, "failed") > 0).then_some(())
            });
        }
        load.await_more(100);
        load.expect_all_good();
        assert_eq!(metric(&site, "sent"), 0);
        // Nobody waits for the last ones longer than a second.
        site.begin_drain();
        site.await_end();
    }
}

#[test]
fn a_line_in_the_access_log_and_spans_go_together() {
    let redis = Redis::start();
    let collector = Receiver::start();
    let (one, _) = serving("one");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let file = redis.folder().join("access.log");
    let mut options = options(&redis);
    options.trace = Some(trace::Options {
        collector: value::url(&format!("http://{}/", collector.address)).expect("a URL"),
        sample: 1.0,
        instance: "here".to_owned(),
    });
    options.access = Some(access::Options {
        place: access::Place::File(file.clone()),
        format: access::Format::Json,
        sample: 1.0,
    });
    let mut site = Site::start_with(options);
    await_proof(&redis);
    assert_eq!(site.ask(&named("a")).status, 200);
    // The last ones are sent when the gateway stops.
    site.begin_drain();
    site.await_end();
    let spans = await_spans(&collector, 2);
    let line = std::fs::read_to_string(file).expect("a file");
    let line: Value = serde_json::from_str(&line).expect("one line of JSON");
    assert_eq!(spans[0].attribute("smartlink.request_id"), line["id"]);
    assert_eq!(spans[0].attribute("http.route"), "/ai_server/");
}
