//! Which route takes this request, and the path it asks its upstream for.
//!
//! A path is matched twice: as it was written, and as servers may read it (escapes decoded, dots
//! removed). Where the two select different routes, or the request would climb out of what its
//! route leads to, it is refused; otherwise its bytes pass unchanged.
//!
//! Invariant: the work is bounded by the operator's routes, whatever path a stranger sends.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, Method};
use memchr::memchr_iter;

use crate::model::path;
pub use crate::model::path::join;
use crate::model::route::{HostMatch, PathMatch, Route, ValueMatch};
use crate::model::table::RouteIndex;

/// What a route may ask about a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'r> {
    /// The method.
    pub method: &'r Method,
    /// The host asked for, in any case, with or without a port; empty where there is none.
    pub host: &'r str,
    /// The path as it was sent, escapes and all.
    pub path: &'r str,
    /// What stands behind the first `?`, as it was sent.
    pub query: Option<&'r str>,
    /// The header fields.
    pub headers: &'r HeaderMap,
}

/// The route that takes a request.
#[derive(Clone, Debug)]
pub struct Match<'r> {
    /// The route.
    pub route: &'r Arc<Route>,
    /// The request's path after strip or rewrite, to be appended to the endpoint's: empty, or
    /// beginning with `/`.
    pub upstream_path: Cow<'r, str>,
}

/// A target that is refused (`bad_target`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Written and read, the path leads to different routes.
    #[error("the path means different things before and after decoding")]
    Ambiguous,
    /// The path climbs above its root, its route's prefix or the endpoint's path.
    #[error("the path climbs out of where it may go")]
    Climbs,
    /// The rewritten path is none.
    #[error("the rewritten path is not a path")]
    NoPath,
}

/// The most specific route that takes the request.
///
/// Exact values are compared with every header line, and with every query parameter of that name
/// after decoding (`+` is a space): one that is equal suffices.
pub fn find<'r>(
    index: &'r RouteIndex,
    req: &RequestFacts<'r>,
) -> Result<Option<Match<'r>>, BadTarget> {
    if !req.path.starts_with('/') {
        return Ok(None);
    }
    if path::is_plain(req.path) {
        let selected = select(index, req, req.path);
        return lead(index, req, selected, req.path, req.path);
    }
    let written = path::as_written(req.path);
    let read = path::as_read(req.path).ok_or(BadTarget::Climbs)?;
    let selected = select(index, req, &written);
    if selected != select(index, req, &read) {
        return Err(BadTarget::Ambiguous);
    }
    lead(index, req, selected, &written, &read)
}

/// The route at the selected position and where it leads.
fn lead<'r>(
    index: &'r RouteIndex,
    req: &RequestFacts<'r>,
    selected: Option<usize>,
    written: &str,
    read: &str,
) -> Result<Option<Match<'r>>, BadTarget> {
    let Some(route) = selected.and_then(|position| index.routes.get(position)) else {
        return Ok(None);
    };
    let upstream_path = match (&route.rewrite, &route.path) {
        (Some(template), path) => Cow::Owned(rewrite(template, path, written, read)?),
        (None, PathMatch::Exact(_)) if route.strip_prefix => Cow::Borrowed(""),
        (None, PathMatch::Prefix(prefix)) if route.strip_prefix => strip(prefix, req.path)?,
        _ => Cow::Borrowed(req.path),
    };
    Ok(Some(Match {
        route,
        upstream_path,
    }))
}

/// The path from the last slash of the prefix on. Slashes are counted, since the prefix may spell
/// its escapes in another case than the path.
fn strip<'r>(prefix: &str, path: &'r str) -> Result<Cow<'r, str>, BadTarget> {
    let slashes = prefix.bytes().filter(|byte| *byte == b'/').count();
    let last = path.match_indices('/').nth(slashes.saturating_sub(1));
    let rest = last.and_then(|(at, _)| path.get(at..)).unwrap_or(path);
    if !path::is_plain(rest) && path::as_read(rest).is_none() {
        return Err(BadTarget::Climbs);
    }
    Ok(Cow::Borrowed(rest))
}

/// The new path. It must read as the template filled from the path as read does: otherwise dots in
/// what the groups matched would lead out of what the template means.
fn rewrite(
    template: &str,
    path: &PathMatch,
    written: &str,
    read: &str,
) -> Result<String, BadTarget> {
    let PathMatch::Regex(regex) = path else {
        return Ok(template.to_owned());
    };
    let groups = regex.captures(written).ok_or(BadTarget::NoPath)?;
    let new = fill(template, Cow::from, |group| {
        path::encoded(groups.get(group).map_or("", |found| found.as_str()))
    });
    if !new.starts_with('/') {
        return Err(BadTarget::NoPath);
    }
    if path::is_plain(&new) {
        return Ok(new);
    }
    let groups = regex.captures(read).ok_or(BadTarget::Ambiguous)?;
    let meant = fill(
        template,
        |literal| path::decoded(literal).into(),
        |group| groups.get(group).map_or("", |found| found.as_str()).into(),
    );
    match path::as_read(&new) {
        Some(read) if read == meant => Ok(new),
        _ => Err(BadTarget::Climbs),
    }
}

/// The template with its groups (`$1`, `$12`) put in.
fn fill<'t>(
    template: &'t str,
    literal: impl Fn(&'t str) -> Cow<'t, str>,
    group: impl Fn(usize) -> Cow<'t, str>,
) -> String {
    let mut parts = template.split('$');
    let mut filled = parts.next().map(&literal).unwrap_or_default().into_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = part.split_at(digits);
        match number.parse() {
            Ok(number) => filled.push_str(&group(number)),
            Err(_) => filled.push('$'),
        }
        filled.push_str(&literal(after));
    }
    filled
}

/// The smallest position whose route takes the request with this path.
fn select(index: &RouteIndex, req: &RequestFacts<'_>, path: &str) -> Option<usize> {
    let mut best: Option<usize> = None;
    let mut consider = |positions: &[usize], fits: &dyn Fn(&Route) -> bool| {
        for &position in positions {
            if best.is_some_and(|best| best <= position) {
                return;
            }
            let route = index.routes.get(position);
            if route.is_some_and(|route| fits(route) && takes(route, req)) {
                best = Some(position);
                return;
            }
        }
    };
    if let Some(positions) = index.exact.get(path) {
        consider(positions, &|_| true);
    }
    for slash in memchr_iter(b'/', path.as_bytes()) {
        if slash >= index.prefix_longest {
            break;
        }
        if let Some(positions) = path.get(..=slash).and_then(|p| index.prefix.get(p)) {
            consider(positions, &|_| true);
        }
    }
    consider(&index.other, &|route| match &route.path {
        PathMatch::Regex(regex) => regex.is_match(path),
        PathMatch::Any => true,
        PathMatch::Exact(_) | PathMatch::Prefix(_) => false,
    });
    best
}

/// Whether the route takes the request, leaving its path aside.
fn takes(route: &Route, req: &RequestFacts<'_>) -> bool {
    (route.methods.is_empty() || route.methods.contains(req.method))
        && takes_host(&route.host, req.host)
        && route.headers.iter().all(|(name, want)| {
            let mut values = req.headers.get_all(name).iter();
            values.any(|value| is_met(want, value.as_bytes()))
        })
        && route.query.iter().all(|(name, want)| {
            let mut parameters = req.query.unwrap_or_default().split('&');
            parameters.any(|parameter| {
                let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                !parameter.is_empty()
                    && path::query_text(key) == **name
                    && is_met(want, path::query_text(value).as_bytes())
            })
        })
}

fn is_met(want: &ValueMatch, value: &[u8]) -> bool {
    match want {
        ValueMatch::Present => true,
        ValueMatch::Exact(want) => want.as_bytes() == value,
    }
}

fn takes_host(want: &HostMatch, host: &str) -> bool {
    let host = without_port(host);
    match want {
        HostMatch::Any => true,
        HostMatch::Exact(want) => want.eq_ignore_ascii_case(host),
        HostMatch::Below(domain) => {
            let below = host.len().checked_sub(domain.len()).filter(|len| *len > 0);
            let end = below.and_then(|len| host.get(len..));
            end.is_some_and(|end| domain.eq_ignore_ascii_case(end))
        }
    }
}

/// The host alone, without the dot that a fully qualified name may end with.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests;
