//! Routes: which requests, other than those of the named entry, go to which service.

use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};

use super::decode::{Decoded, Decoder, Fields, Wanted};
use super::name::{Name, ServiceName, VersionName};
use super::path;
use super::value::{self, list, switch, whole};

/// How much memory a compiled `path_regex` may take, in bytes.
const REGEX_SIZE_MAX: usize = 1 << 20;

/// The longest `path_regex`, in bytes.
const REGEX_LENGTH_MAX: usize = 1024;

/// The decoded `route:<id>`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its id.
    pub id: Name,
    /// The service it leads to.
    pub service: ServiceName,
    /// Which paths it takes.
    pub path: PathMatch,
    /// Which hosts it takes.
    pub host: HostMatch,
    /// Which methods it takes; empty: all.
    pub methods: Vec<Method>,
    /// Headers that must be there.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters that must be there.
    pub query: Vec<(Box<str>, ValueMatch)>,
    /// Whether the matched prefix is taken off.
    pub strip_prefix: bool,
    /// The new path; each `$` begins the number of a group of the regex, which exists.
    pub rewrite: Option<Box<str>>,
    /// The version it pins: while that has no endpoint the route does not match.
    pub version: Option<VersionName>,
    /// Higher wins before everything else.
    pub priority: i32,
    /// Whether it is there at all.
    pub enabled: bool,
}

/// Which paths a route takes.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// All.
    Any,
    /// This one.
    Exact(Box<str>),
    /// Those that start with this, which ends in `/`.
    Prefix(Box<str>),
    /// Those that match as a whole.
    Regex(Regex),
}

/// Which hosts a route takes; compared without port and case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// All.
    Any,
    /// This one, lower case.
    Exact(Box<str>),
    /// Those below this domain: `.example.com`, lower case.
    Below(Box<str>),
}

/// What a header or query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// Present.
    Present,
    /// Exactly this.
    Exact(Box<str>),
}

/// Decodes `route:<id>`. Whether the service exists is judged elsewhere.
#[must_use]
pub fn decode(key: &str, id: &Name, fields: &Fields) -> Decoded<Route> {
    let mut decoder = Decoder::new(key, fields);
    let service = decoder.require("service", value::name);
    let path = take_path(&mut decoder);
    let (strip_prefix, rewrite) = take_new_path(&mut decoder, &path);
    let host = decoder.take("host", host).unwrap_or(HostMatch::Any);
    let methods = decoder
        .take("methods", list(value::method))
        .unwrap_or_default();
    let headers = decoder.take_prefixed("header.", value::header_name, value_match);
    let query = decoder.take_prefixed("query.", value::text, value_match);
    let version = decoder.take("version", value::name);
    let priority = decoder.take("priority", whole(-1_000_000..=1_000_000));
    let enabled = decoder.take("enabled", switch).unwrap_or(true);
    let route = service.map(|service| Route {
        id: id.clone(),
        service,
        path,
        host,
        methods,
        headers,
        query,
        strip_prefix,
        rewrite,
        version,
        priority: priority.unwrap_or(0),
        enabled,
    });
    decoder.finish(route)
}

/// `path` or `path_regex`; both are a mistake.
fn take_path(decoder: &mut Decoder<'_>) -> PathMatch {
    let path = decoder.take("path", path);
    let regex = decoder.take("path_regex", whole_path_regex);
    if decoder.has("path") && decoder.has("path_regex") {
        decoder.mistake(Some("path_regex"), "excludes path: keep one of the two");
    }
    match (path, regex) {
        (_, Some(regex)) => PathMatch::Regex(regex),
        (Some(path), None) if path.ends_with('/') => PathMatch::Prefix(path),
        (Some(path), None) => PathMatch::Exact(path),
        (None, None) => PathMatch::Any,
    }
}

/// A path that a request can have: servers read `%2F` as a slash and `%41` as an A, and a path that
/// can be read in two ways is refused.
fn path(text: &str) -> Result<Box<str>, Wanted> {
    let valid = value::path(text)?;
    let matches = path::as_read(&valid).is_some_and(|read| read == path::as_written(&valid));
    matches.then_some(valid).ok_or_else(|| {
        "a path with escapes only where they are needed: requests with others (%2F, %5C, %41), or \
         with segments such as ..;x, can be read in two ways and are refused"
            .to_owned()
    })
}

/// `strip_prefix` and `rewrite`, which need a path to work on.
fn take_new_path(decoder: &mut Decoder<'_>, path: &PathMatch) -> (bool, Option<Box<str>>) {
    let strip_prefix = decoder.take("strip_prefix", switch).unwrap_or(false);
    if strip_prefix && !decoder.has("path") {
        decoder.mistake(Some("strip_prefix"), "needs path, the prefix to take off");
    }
    if strip_prefix && decoder.has("rewrite") {
        decoder.mistake(
            Some("rewrite"),
            "excludes strip_prefix: keep one of the two",
        );
    }
    let groups = match path {
        PathMatch::Regex(regex) => regex.captures_len() - 1,
        _ => 0,
    };
    // Where the regex itself is wrong its groups are unknown.
    let unknown = decoder.has("path_regex") && !matches!(path, PathMatch::Regex(_));
    let rewrite = decoder.take("rewrite", |text| {
        if unknown {
            value::path(text)
        } else {
            rewrite(text, groups)
        }
    });
    (strip_prefix, rewrite)
}

/// A path in which every `$` is followed by the number of a group of the regex.
fn rewrite(text: &str, groups: usize) -> Result<Box<str>, Wanted> {
    let known = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (number, _) = rest.split_at(end.unwrap_or(rest.len()));
        number
            .parse()
            .is_ok_and(|group: usize| (1..=groups).contains(&group))
    };
    if text.split('$').skip(1).all(known) {
        return value::path(text);
    }
    Err(match groups {
        0 => "a path without $: only path_regex has groups to put in ($ itself is %24)".to_owned(),
        1 => "a path with no other group than $1".to_owned(),
        _ => format!("a path with no other groups than $1 to ${groups}"),
    })
}

/// A regular expression that must match the whole path, in linear time.
fn whole_path_regex(text: &str) -> Result<Regex, Wanted> {
    let compile = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(REGEX_SIZE_MAX)
            .dfa_size_limit(REGEX_SIZE_MAX)
            .build()
    };
    let why = |error: regex::Error| {
        let shown = error.to_string();
        let last = shown.lines().last().unwrap_or_default();
        let last = last.trim_start_matches("error: ");
        format!("a regular expression that compiles ({last})")
    };
    if text.is_empty() || text.len() > REGEX_LENGTH_MAX {
        return Err(format!(
            "a regular expression of 1 to {REGEX_LENGTH_MAX} bytes"
        ));
    }
    // Alone first: `a)|(b` would compile inside the group and match more than whole paths.
    compile(text).map_err(why)?;
    compile(&format!(r"\A(?:{text})\z")).map_err(why)
}

fn host(text: &str) -> Result<HostMatch, Wanted> {
    let lower = text.to_ascii_lowercase();
    let wanted = "a host such as example.com or *.example.com, without port";
    match lower.strip_prefix('*') {
        Some(below) => (below.strip_prefix('.'))
            .filter(|domain| value::dns_name(domain).is_ok())
            .map(|_| HostMatch::Below(below.into())),
        None => value::dns_name(&lower).ok().map(HostMatch::Exact),
    }
    .ok_or_else(|| wanted.to_owned())
}

fn value_match(text: &str) -> Result<ValueMatch, Wanted> {
    match text {
        "*" => Ok(ValueMatch::Present),
        "" => Ok(ValueMatch::Exact("".into())),
        _ => value::text(text).map(ValueMatch::Exact),
    }
}
