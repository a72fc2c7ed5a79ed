//! What is no mistake and seldom meant.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use super::Mistake;
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;
use crate::model::settings::Auth;
use crate::model::table::Table;
use crate::model::tokens;
use crate::policy::scope;

/// The most warnings of one kind; the rest is a number.
const NAMED_MAX: usize = 100;

/// All warnings; `public` is where a gateway listens to more than its own machine.
pub(super) fn find(keys: &Keys, table: &Table, public: Option<&SocketAddr>) -> Vec<Mistake> {
    let open = public.and_then(|at| open(keys, table, *at));
    let mut found: Vec<Mistake> = open.into_iter().collect();
    found.extend(idle_tokens(keys, table));
    found.extend(idle_issuers(keys, table));
    found.extend(bounded(
        (table.routes.covered().iter()).map(|pair| covered(keys, pair)),
        || keys.pattern("route:*"),
    ));
    found
}

/// That services ask nobody who they are, where a gateway listens to more than its own machine.
fn open(keys: &Keys, table: &Table, at: SocketAddr) -> Option<Mistake> {
    const NAMED: usize = 5;
    let mut names = table.open().map(|service| service.name.as_str());
    let shown: Vec<&str> = names.by_ref().take(NAMED).collect();
    let more = names.count();
    let first = shown.first()?;
    let list = shown.join(", ");
    let list = match more {
        0 => list,
        more => format!("{list} and {more} more"),
    };
    Some(Mistake {
        key: keys.object(&Object::Defaults),
        field: Some("auth".to_owned()),
        message: format!(
            "anybody who reaches {at} may ask {list}; want token here, or in {} and its like",
            keys.object(&Object::Service(Name::parse(first)?))
        ),
    })
}

/// Tokens that name services which nobody serves.
fn idle_tokens(keys: &Keys, table: &Table) -> Vec<Mistake> {
    if table.services.is_empty() {
        return Vec::new();
    }
    let mut opens: HashMap<&str, bool> = HashMap::new();
    let mut opens_any = |pattern| {
        let found = || {
            let mut services = table.services.iter();
            table.services.get(pattern).is_some()
                || pattern.contains('*')
                    && services.any(|service| scope::covers([pattern], service.name.as_str()))
        };
        *opens.entry(pattern).or_insert_with(found)
    };
    let idle = table.tokens.iter().filter_map(|(hash, token)| {
        let none: Vec<&str> = token.patterns().filter(|it| !opens_any(it)).collect();
        let first = none.first()?;
        let more = match none.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more like it"),
        };
        Some(Mistake {
            key: keys.shown(&Object::Token(tokens::digits(hash).into())),
            field: Some("services".to_owned()),
            message: format!(
                "no service is called {first}{more}; the token is of {}",
                token.credential.name
            ),
        })
    });
    bounded(idle, || keys.pattern("token:*"))
}

/// Issuers that no `auth` names.
fn idle_issuers(keys: &Keys, table: &Table) -> Vec<Mistake> {
    let services = table.services.iter().map(|service| &service.settings);
    let auths = services.chain([&table.defaults]).flat_map(|it| &it.auth);
    let named: BTreeSet<&Name> = auths
        .filter_map(|way| match way {
            Auth::Jwt(id) => Some(id),
            Auth::Open | Auth::Token => None,
        })
        .collect();
    let idle = table.issuers.keys().filter(|id| !named.contains(id));
    let idle = idle.map(|id| Mistake {
        key: keys.object(&Object::Issuer(id.clone())),
        field: None,
        message: format!("no auth names it; want jwt:{id} in the auth of a service"),
    });
    bounded(idle, || keys.pattern("issuer:*"))
}

fn covered(keys: &Keys, (before, never): &(Name, Name)) -> Mistake {
    Mistake {
        key: keys.object(&Object::Route(never.clone())),
        field: None,
        message: format!("never matches: route {before} comes before it and takes all it would"),
    }
}

/// The first of them, and how many more there are under such keys.
fn bounded(
    mut found: impl Iterator<Item = Mistake>,
    keys: impl FnOnce() -> String,
) -> Vec<Mistake> {
    let mut named: Vec<Mistake> = found.by_ref().take(NAMED_MAX).collect();
    let more = found.count();
    if more > 0 {
        named.push(Mistake {
            key: keys(),
            field: None,
            message: format!("{more} more are like these"),
        });
    }
    named
}
