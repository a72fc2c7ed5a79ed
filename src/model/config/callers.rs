//! Who may be let in: tokens and issuers in force, and settings that name issuers.

use std::mem::discriminant;
use std::sync::Arc;

use super::roster::token_hash;
use super::slot::{self, Content, Slot};
use super::{Batch, Config, Sight};
use crate::model::decode::{ConfigError, Raw};
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;
use crate::model::object::{Value, decode_object};
use crate::model::settings::Auth;
use crate::model::table::Issuers;
use crate::model::token::Token;
use crate::model::tokens::TokenHash;

impl Config {
    /// Takes what was read of a token: a good one is in force at once, and a mistake leaves the one
    /// before in force.
    pub(super) fn take_token(
        &mut self,
        (object, hash): (Object, TokenHash),
        raw: Raw,
        sight: Sight,
        batch: &mut Batch,
    ) {
        let returned = self.vanished.remove(&object);
        let read = decode_token(&self.keys, &object, raw);
        let slot = self.slots.get(&object);
        let same = match (&read, slot) {
            (Ok(token), None) => self.roster.get(&hash).is_some_and(|now| now == token),
            (Err((raw, _)), Some(slot)) => slot.stands_as(raw),
            _ => false,
        };
        let is_new = slot.is_none() && self.roster.get(&hash).is_none();
        let uncounted = is_new || slot.is_some_and(|slot| slot.surplus);
        self.sight(&object, sight != Sight::Read || returned || !same);
        if same {
            return;
        }
        let most = self.most(&object);
        let count = self.counts.entry(discriminant(&object)).or_default();
        let surplus = uncounted && *count >= most;
        *count += usize::from(uncounted && !surplus);
        match read {
            Ok(token) if !surplus => {
                self.slots.remove(&object);
                if self.put_token(&object, &hash, token) {
                    batch.changed.insert(object.clone());
                }
            }
            read => {
                let new = || Slot::new(self.batch);
                let slot = self.slots.entry(object.clone()).or_insert_with(new);
                slot.surplus = surplus;
                match read {
                    Err((raw, faults)) if !surplus => slot.refuse(raw, faults),
                    _ => slot.refuse_surplus(&self.keys, &object, most),
                }
            }
        }
        batch.touched.insert(object);
    }

    /// Takes note of a token that a walk met; what is left of it must come in a batch.
    pub(super) fn note_token(
        &mut self,
        object: &Object,
        hash: &TokenHash,
        raw: Raw,
    ) -> Option<Raw> {
        let token = match decode_token(&self.keys, object, raw) {
            Ok(token) => token,
            Err((raw, _)) => return Some(raw),
        };
        if self.slots.contains_key(object) {
            return Some(Raw::Token(token));
        }
        let most = self.most(object);
        let count = self.counts.entry(discriminant(object)).or_default();
        match self.roster.get(hash) {
            Some(now) if *now == token => self.roster.sight(hash, self.batch + 1, false),
            None if !self.table.loaded && *count < most => {
                *count += 1;
                self.noted += 1;
                self.put_token(object, hash, token);
                self.roster.sight(hash, self.batch + 1, true);
            }
            _ => return Some(Raw::Token(token)),
        }
        None
    }

    /// Puts a token in force; whether it says something else than the one before.
    fn put_token(&mut self, object: &Object, hash: &TokenHash, token: Arc<Token>) -> bool {
        let now = self.mark_of(object, &token);
        let before = self.roster.put(hash, token, self.batch);
        let before = before.map_or(0, |before| self.mark_of(object, &before));
        self.digest = self.digest.wrapping_sub(before).wrapping_add(now);
        before != now
    }

    /// Takes a token out of force; whether it was.
    pub(super) fn take_out_token(&mut self, object: &Object, batch: &mut Batch) -> bool {
        let Some(token) = token_hash(object).and_then(|hash| self.roster.take_out(&hash)) else {
            return false;
        };
        let mark = self.mark_of(object, &token);
        self.digest = self.digest.wrapping_sub(mark);
        batch.changed.insert(object.clone());
        true
    }

    /// What a token adds to the table's digest.
    pub(super) fn mark_of(&self, object: &Object, token: &Token) -> u128 {
        let Object::Token(digits) = object else {
            return 0;
        };
        slot::digest(&self.keys.object(object), Some(&token.fields(digits)))
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

/// The good token that stands there; otherwise what stands there, and what is wrong with it.
fn decode_token(
    keys: &Keys,
    object: &Object,
    raw: Raw,
) -> Result<Arc<Token>, (Raw, Vec<ConfigError>)> {
    let (value, faults) = match &raw {
        Raw::Token(token) => return Ok(Arc::clone(token)),
        Raw::Hash(fields) => decode_object(keys, object, fields),
        Raw::Unreadable(_) | Raw::Absent => return Err(slot::unread(keys, object, raw)),
    };
    match value {
        Some(Value::Token(token)) => Ok(Arc::new(token)),
        _ => Err((raw, faults)),
    }
}
