//! What the data plane would do with a request, by the functions that it serves requests with, and
//! without sending anything.
//!
//! Invariant: no decision is made here that is made elsewhere for a real request.

use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};

use super::error::Error;
use super::guard::{self, Caller, Hidden, address};
use super::keys::Keys;
use super::{cors, entry, handler, headers, routed};
use crate::access::Rule;
use crate::model::credential::Credential;
use crate::model::name::{Name, VersionName};
use crate::model::settings::{Auth, Cors, Effective};
use crate::model::split::Split;
use crate::model::table::{Endpoint, Service, Table, Version};
use crate::policy::balance::{self, Ask, Picked};
use crate::policy::credential::{self, Scene, Seen};
use crate::policy::version::{self, Choice};

/// A request, and where and when it would come.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Path of the named entry.
    pub entry: &'a str,
    /// Its head.
    pub parts: &'a Parts,
    /// Its whole body.
    pub body: &'a Bytes,
    /// The client's address, as it is seen through trusted proxies.
    pub client: IpAddr,
    /// The time, Unix milliseconds.
    pub now_ms: i64,
}

/// What would become of it; what was not reached is absent.
#[derive(Debug, Default)]
pub struct Explained<'t> {
    /// What leads it to its service.
    pub rule: Option<Rule>,
    /// The name of the service that it asks for, also of one that is not there.
    pub name: Option<Box<str>>,
    /// The service.
    pub service: Option<&'t Arc<Service>>,
    /// How the caller is let in.
    pub entrance: Option<Entrance>,
    /// How its version is found.
    pub choice: Option<Choice<'t>>,
    /// The caller's point, where `sticky` gives it one.
    pub point: Option<u64>,
    /// The version that serves it, where no ticket decides.
    pub version: Option<&'t Arc<Version>>,
    /// What is appended to the endpoint's path; absent for the named entry.
    pub path: Option<Box<str>>,
    /// The answer, where the gateway makes it itself.
    pub answer: Option<Told>,
}

/// How a caller is let in.
#[derive(Debug)]
pub enum Entrance {
    /// Nobody is asked who they are.
    Unasked,
    /// Anybody is let in; no good credential was shown.
    Anybody,
    /// By this credential.
    By(Arc<Credential>),
    /// This issuer says whether: what follows holds where it vouches for the caller.
    Issuer(Name),
}

/// An answer that the gateway makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its status.
    pub status: u16,
    /// Its code; empty where it is no error.
    pub code: &'static str,
    /// What it says.
    pub msg: String,
}

impl From<Error> for Told {
    fn from(error: Error) -> Self {
        let (status, code, msg) = error.told();
        Self { status, code, msg }
    }
}

/// What would become of the request. Rates, slots and lines are those of running gateways and left
/// out here.
#[must_use]
pub fn explain<'t>(table: &'t Table, asked: &Asked<'_>) -> Explained<'t> {
    let mut explained = Explained::default();
    if let Err(error) = follow(table, asked, &mut explained) {
        explained.answer = Some(error.into());
    }
    explained
}

fn follow<'t>(
    table: &'t Table,
    asked: &Asked<'_>,
    explained: &mut Explained<'t>,
) -> Result<(), Error> {
    let parts = asked.parts;
    let named_host = handler::check_target(parts)?;
    let host = named_host.as_ref().or(parts.headers.get(header::HOST));
    let closing = asked.entry.strip_suffix('/').unwrap_or(asked.entry);
    if !entry::is_named(closing, parts) {
        return follow_route(table, asked, host, explained);
    }
    if parts.method == Method::POST {
        return follow_name(table, asked, explained);
    }
    if cors::is_preflight(parts) {
        explained.answer = Some(preflight());
        return Ok(());
    }
    follow_route(table, asked, host, explained)
}

fn preflight() -> Told {
    Told {
        status: StatusCode::NO_CONTENT.as_u16(),
        code: "",
        msg: "the answer to a preflight".to_owned(),
    }
}

fn follow_name<'t>(
    table: &'t Table,
    asked: &Asked<'_>,
    explained: &mut Explained<'t>,
) -> Result<(), Error> {
    explained.rule = Some(Rule::Named);
    let length = asked.body.len() as u64;
    let name = entry::name_in(asked.body, table.defaults.max_body)?;
    explained.name = Some(name.clone());
    let found = table.services.get(&name);
    let (service, caller) = admit(table, asked, found, &name, explained)?;
    let bound = service.settings.max_body;
    if length > bound {
        return Err(Error::BodyTooLarge("max_body", bound));
    }
    choose(
        service,
        &caller,
        asked,
        slice::from_ref(asked.body),
        None,
        explained,
    )
}

fn follow_route<'t>(
    table: &'t Table,
    asked: &Asked<'_>,
    host: Option<&HeaderValue>,
    explained: &mut Explained<'t>,
) -> Result<(), Error> {
    if !table.loaded {
        return Err(Error::Starting);
    }
    let parts = asked.parts;
    let preflight_asked = cors::is_preflight(parts);
    let announced = preflight_asked.then(|| routed::announced(parts)).flatten();
    let found = routed::find(table, host, parts, announced.as_ref())?;
    let route = found.route;
    explained.rule = Some(Rule::Route(route.id.as_str().into()));
    explained.path = Some(found.upstream_path.into());
    let name = route.service.as_str();
    explained.name = Some(name.into());
    let known = table.services.get(name);
    if let Some(service) = known.filter(|_| preflight_asked)
        && service.settings.cors_routed != Cors::Off
    {
        let service = guard::find(table, Some(service), name)?;
        address::check(asked.client, &service.settings)?;
        explained.service = Some(service);
        explained.answer = Some(preflight());
        return Ok(());
    }
    let (service, caller) = admit(table, asked, known, name, explained)?;
    if let Some(bound) = service.settings.max_stream
        && asked.body.len() as u64 > bound
    {
        return Err(Error::BodyTooLarge("max_stream", bound));
    }
    let pinned = table.routes.routes.iter().find(|it| it.id == route.id);
    let pinned = pinned.and_then(|route| route.version.as_ref());
    choose(service, &caller, asked, &[], pinned, explained)
}

/// Lets the caller in, in the order in which the guard looks.
fn admit<'t>(
    table: &'t Table,
    asked: &Asked<'_>,
    service: Option<&'t Arc<Service>>,
    name: &str,
    explained: &mut Explained<'t>,
) -> Result<(&'t Arc<Service>, Caller), Error> {
    let (found, settings) = guard::judged(table, service, name);
    explained.service = service;
    let mut caller = Caller {
        address: asked.client,
        credential: None,
        hidden: Hidden::default(),
    };
    if table.loaded {
        address::check(caller.address, settings)?;
        let entrance = identify(table, asked, settings, name)?;
        if let Entrance::By(credential) = &entrance {
            caller.credential = Some(Arc::clone(credential));
        }
        explained.entrance = Some(entrance);
    }
    Ok((found?, caller))
}

fn identify(
    table: &Table,
    asked: &Asked<'_>,
    settings: &Effective,
    name: &str,
) -> Result<Entrance, Error> {
    if settings.auth.is_empty() {
        return Ok(Entrance::Unasked);
    }
    let scene = Scene {
        auth: &settings.auth,
        tokens: &table.tokens,
        service: name,
        address: asked.client,
        now_ms: &|| asked.now_ms,
    };
    let (seen, _) = credential::look(&asked.parts.headers, &scene, |id, _, _| {
        if table.issuers.contains_key(id) {
            Err(id.clone())
        } else {
            Ok(None)
        }
    });
    match seen {
        Seen::Open(Some(credential)) => Ok(Entrance::By(credential)),
        Seen::Open(None) if settings.auth == [Auth::Open] => Ok(Entrance::Unasked),
        Seen::Open(None) => Ok(Entrance::Anybody),
        Seen::Asks(issuer) => Ok(Entrance::Issuer(issuer)),
        Seen::Refused(refusal) => Err(refusal.into()),
    }
}

/// Finds the version, and whoever stands in where none of its endpoints is up.
fn choose<'t>(
    service: &'t Arc<Service>,
    caller: &Caller,
    asked: &Asked<'_>,
    body: &[Bytes],
    pinned: Option<&VersionName>,
    explained: &mut Explained<'t>,
) -> Result<(), Error> {
    let keys = Keys::of(service, (asked.parts, caller), body);
    let credential = caller.credential.as_deref();
    let wish = headers::wish(&asked.parts.headers, credential);
    let pinned = pinned.map(VersionName::as_str);
    let choice = version::decide(service, pinned, wish, keys.point);
    explained.point = keys.point;
    explained.choice = Some(choice);
    let spills = pinned.is_none();
    let by = |chosen| server(service, chosen, spills, keys.balance);
    let certain = match choice {
        Choice::Pinned(version) | Choice::Asked(version) | Choice::Sticky(version) => {
            version.map(by)
        }
        Choice::Drawn(split) => {
            let drawn = split.map(Split::positions).unwrap_or_default();
            let drawn = drawn.iter().filter_map(|at| service.versions.get(*at));
            let mut servers = drawn.map(by);
            let first = servers.next();
            let name = |server: Option<&'t Arc<Version>>| server.map(|it| &it.name);
            if !servers.all(|other| first.map(name) == Some(name(other))) {
                return Ok(());
            }
            first
        }
    };
    explained.version = Some(certain.flatten().ok_or(Error::NoEndpoint)?);
    Ok(())
}

/// The version that serves a request for `chosen`: the next with an endpoint that is up.
#[must_use]
pub fn server<'t>(
    service: &'t Arc<Service>,
    chosen: &'t Arc<Version>,
    spills: bool,
    key: Option<u64>,
) -> Option<&'t Arc<Version>> {
    let ask = ask(&service.settings, key);
    let is_up = |version: &&Arc<Version>| !matches!(balance::pick(version, &ask), Picked::Nobody);
    let here = Some(chosen).filter(is_up);
    here.or_else(|| {
        let mut others = version::spill(service, chosen);
        others.find(|version| spills && service.settings.spill && is_up(version))
    })
}

/// The endpoints of a version among which its balancer chooses.
#[must_use]
pub fn candidates<'t>(settings: &Effective, version: &'t Version) -> Vec<&'t Arc<Endpoint>> {
    balance::candidates(version, &ask(settings, None))
}

fn ask(settings: &Effective, key: Option<u64>) -> Ask<'_> {
    Ask {
        settings,
        now_us: 0,
        tried: &[],
        random: 0,
        key,
    }
}
