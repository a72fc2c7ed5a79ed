//! Who may be let in: tokens and issuers in force, and settings that name issuers.

use std::sync::Arc;

use super::slot::{Content, Slot};
use super::{Batch, Config};
use crate::model::decode::ConfigError;
use crate::model::keys::Object;
use crate::model::name::Name;
use crate::model::settings::Auth;
use crate::model::table::Issuers;
use crate::model::tokens::{Tokens, parse_hash};

impl Config {
    /// The tokens in force.
    pub(super) fn settle_tokens(&self, batch: &Batch) -> Tokens {
        let mut tokens = self.table.tokens.clone();
        for object in &batch.changed {
            let Object::Token(digits) = object else {
                continue;
            };
            let slot = self.slots.get(object);
            let token = match slot.and_then(Slot::in_force) {
                Some(Content::Token(token)) => Some(Arc::clone(token)),
                _ => None,
            };
            if let Some(hash) = parse_hash(digits) {
                tokens.set(&hash, token);
            }
        }
        tokens
    }

    /// The issuers in force, where any of them is another one.
    pub(super) fn settle_issuers(&self, batch: &Batch) -> Option<Arc<Issuers>> {
        let altered = |object: &Object| matches!(object, Object::Issuer(_));
        batch.changed.iter().find(|object| altered(object))?;
        let issuers = self.slots.iter().filter_map(|(object, slot)| {
            let (Object::Issuer(id), Some(Content::Issuer(issuer))) = (object, slot.in_force())
            else {
                return None;
            };
            Some((id.clone(), Arc::clone(issuer)))
        });
        Some(Arc::new(issuers.collect()))
    }

    /// Puts settings in force whose issuers are; others wait, and those before stay.
    pub(super) fn judge_settings(&mut self, object: Object, batch: &mut Batch) {
        let Some(slot) = self.slots.get(&object) else {
            return;
        };
        let auth = |content: Option<&Content>| match content {
            Some(Content::Settings(settings)) => settings.auth.clone().unwrap_or_default(),
            _ => Vec::new(),
        };
        let waits = self.missing(&auth(slot.pending())).cloned();
        let lost = self.missing(&auth(slot.in_force())).cloned();
        let fault = waits.as_ref().or(lost.as_ref()).map(|id| ConfigError {
            key: self.keys.shown(&object),
            field: Some("auth".to_owned()),
            message: no_issuer(id),
        });
        let Some(slot) = self.slots.get_mut(&object) else {
            return;
        };
        if waits.is_none() {
            slot.adopt();
        }
        slot.discord = fault.into_iter().collect();
        batch.touched.insert(object);
    }

    /// Why nobody can be let in in these ways: an issuer is not there, or not a good one.
    pub(super) fn unproven(&self, auth: &[Auth]) -> Option<Box<str>> {
        let missing = self.missing(auth)?;
        Some(format!("auth: {}", no_issuer(missing)).into())
    }

    fn missing<'a>(&self, auth: &'a [Auth]) -> Option<&'a Name> {
        let stands = |id: &Name| {
            let slot = self.slots.get(&Object::Issuer(id.clone()));
            slot.and_then(Slot::in_force).is_some()
        };
        let mut named = auth.iter().filter_map(|way| match way {
            Auth::Jwt(id) => Some(id),
            Auth::Open | Auth::Token => None,
        });
        named.find(|id| !stands(id))
    }
}

fn no_issuer(id: &Name) -> String {
    format!("want an issuer that stands and is good; jwt:{id} names none")
}
