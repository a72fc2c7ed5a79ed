//! The keys of a request, where a setting of its service asks for one.

use bytes::Bytes;
use http::request::Parts;

use super::guard::Caller;
use crate::model::hash;
use crate::model::settings::{Balance, KeySource};
use crate::model::table::Service;
use crate::policy::{key, sticky};

/// Where a request stands by its keys.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys {
    /// `sticky`: the caller's point, see `policy::sticky`.
    pub(super) point: Option<u64>,
    /// `balance hash:`: the hash of the key.
    pub(super) balance: Option<u64>,
}

impl Keys {
    /// Those that the service asks for and the request has. `body` is as much of a JSON body as is
    /// here, at least its first 64 KiB; empty for routed requests.
    pub(super) fn of(
        service: &Service,
        (parts, caller): (&Parts, &Caller),
        body: &[Bytes],
    ) -> Self {
        let sticky = service.settings.sticky.as_ref();
        let balance = match &service.settings.balance {
            Balance::Hash(source) => Some(source),
            _ => None,
        };
        if sticky.is_none() && balance.is_none() {
            return Self::default();
        }
        let facts = key::Facts {
            headers: &parts.headers,
            query: parts.uri.query(),
            client: caller.address,
            caller: caller.credential.as_ref().map(|credential| &credential.id),
            body,
        };
        let find = |source: &KeySource| key::key(source, &facts);
        let name = service.name.as_str();
        Self {
            point: (sticky.and_then(find)).map(|key| sticky::point(name, &key)),
            balance: (balance.and_then(find)).map(|key| hash::spread(&[&key])),
        }
    }
}
