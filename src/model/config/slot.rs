//! What is known of one configuration object: what stands in Redis, and what of it is in force.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::model::alert::Alert;
use crate::model::decode::{ConfigError, Fields, Raw};
use crate::model::endpoint::Endpoints;
use crate::model::issuer::Issuer;
use crate::model::keys::{Keys, Object};
use crate::model::object::{Value, decode_object};
use crate::model::pilot::Trial;
use crate::model::rollout::Rollout;
use crate::model::route::Route;
use crate::model::settings::Settings;
use crate::model::shadow::Shadow;
use crate::model::weights::Weights;

/// One object.
#[derive(Debug)]
pub(super) struct Slot {
    /// The last good state: what is in force.
    pub(super) good: Good,
    /// What stands in Redis, seen from the last good state.
    pub(super) standing: Standing,
    /// What the decoder found wrong.
    pub(super) faults: Vec<ConfigError>,
    /// What is wrong beside other objects: a weight without an endpoint, a route without a service.
    pub(super) discord: Vec<ConfigError>,
    /// The batch in which it was last seen to stand.
    pub(super) seen: u64,
    /// The batch in which it was last seen to be written.
    pub(super) written: u64,
    /// Whether it was missing when it was last looked for.
    pub(super) doubted: bool,
    /// Its part of the table's digest.
    pub(super) mark: u128,
    /// Whether there are too many of its kind, so that it is not even decoded.
    pub(super) surplus: bool,
    /// Whether another good text came into force in this batch.
    adopted: bool,
    /// The good text before that; `None` where there was none.
    replaced: Option<Packed>,
}

/// The last good state.
#[derive(Debug)]
pub(super) enum Good {
    /// There never was one: a mistake closes.
    Nothing,
    /// Its absence: what it would say stays unsaid.
    Absence,
    /// A text.
    Text(Decoded),
}

impl Good {
    fn into_fields(self) -> Option<Packed> {
        match self {
            Self::Text(text) => Some(text.fields),
            Self::Nothing | Self::Absence => None,
        }
    }
}

/// What stands in Redis.
#[derive(Debug)]
pub(super) enum Standing {
    /// The last good text.
    Good,
    /// A good text that does not yet fit what else stands.
    Pending(Decoded),
    /// A mistake.
    Refused(Raw),
    /// Nothing, by order, which cannot be obeyed yet.
    Deleted,
}

/// A text and what it means.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) fields: Packed,
    pub(super) content: Content,
    digest: u128,
}

/// Fields in one piece of memory: of a million tokens each has some, and they are rarely looked at.
#[derive(Debug)]
pub(super) struct Packed(Box<str>);

impl Packed {
    fn new(fields: &Fields) -> Self {
        let json = serde_json::to_string(fields).expect("a map of texts is JSON");
        Self(json.into())
    }

    fn are(&self, fields: &Fields) -> bool {
        self.0 == Self::new(fields).0
    }

    pub(super) fn unpack(&self) -> Fields {
        serde_json::from_str(&self.0).expect("it was written by us")
    }
}

/// What a text means, as far as the table needs it.
#[derive(Debug)]
pub(super) enum Content {
    Settings(Box<Settings>),
    Endpoints(Endpoints),
    Weights(Weights),
    Route(Arc<Route>),
    Alert(Arc<Alert>),
    Shadow(Arc<Shadow>),
    Issuer(Arc<Issuer>),
    Rollout(Arc<Rollout>),
    Trial(Arc<Trial>),
    Other,
}

impl Slot {
    pub(super) fn new(batch: u64) -> Self {
        Self {
            good: Good::Nothing,
            standing: Standing::Deleted,
            faults: Vec::new(),
            discord: Vec::new(),
            seen: batch,
            written: batch,
            doubted: false,
            mark: 0,
            surplus: false,
            adopted: false,
            replaced: None,
        }
    }

    /// Whether `raw` is what stands already.
    pub(super) fn stands_as(&self, raw: &Raw) -> bool {
        match (&self.standing, &self.good, raw) {
            (Standing::Good, Good::Text(text), Raw::Hash(fields))
            | (Standing::Pending(text), _, Raw::Hash(fields)) => text.fields.are(fields),
            (Standing::Refused(refused), _, raw) => refused == raw,
            _ => false,
        }
    }

    /// Takes what was read. A good text is in force at once, except where it is judged together
    /// with other objects.
    pub(super) fn take(&mut self, keys: &Keys, object: &Object, raw: Raw) {
        if let (Good::Text(text), Raw::Hash(fields)) = (&self.good, &raw)
            && text.fields.are(fields)
        {
            self.standing = Standing::Good;
            self.faults.clear();
            return;
        }
        self.standing = match decode(keys, object, raw) {
            Ok(text) => {
                self.faults.clear();
                Standing::Pending(text)
            }
            Err((raw, faults)) => {
                self.refuse(raw, faults);
                return;
            }
        };
        if !is_judged(object) {
            self.adopt();
        }
    }

    /// Refuses what stands unread, because there are too many of its kind.
    pub(super) fn refuse_surplus(&mut self, keys: &Keys, object: &Object, most: usize) {
        self.faults = vec![ConfigError {
            key: keys.shown(object),
            field: None,
            message: format!("want at most {most} keys of this kind; this one is too many"),
        }];
        // Nothing that stands equals an absence, so that the next look judges it anew.
        self.standing = Standing::Refused(Raw::Absent);
    }

    /// Takes a mistake.
    pub(super) fn refuse(&mut self, raw: Raw, faults: Vec<ConfigError>) {
        self.faults = faults;
        self.standing = Standing::Refused(raw);
    }

    /// Takes note of an order to go, which waits for the judgement.
    pub(super) fn delete(&mut self) {
        self.standing = Standing::Deleted;
        self.faults.clear();
    }

    /// Puts what is pending in force.
    pub(super) fn adopt(&mut self) {
        match std::mem::replace(&mut self.standing, Standing::Good) {
            Standing::Pending(text) => {
                let before = std::mem::replace(&mut self.good, Good::Text(text));
                if !std::mem::replace(&mut self.adopted, true) {
                    self.replaced = before.into_fields();
                }
            }
            other => self.standing = other,
        }
    }

    /// The good text before this batch and the one now, where another came into force; once.
    pub(super) fn take_change(&mut self) -> Option<(Option<Packed>, &Packed)> {
        let replaced = self.replaced.take();
        let adopted = std::mem::take(&mut self.adopted);
        match &self.good {
            Good::Text(text) if adopted => Some((replaced, &text.fields)),
            _ => None,
        }
    }

    /// The good text before this batch, of a slot that goes.
    pub(super) fn into_last(self) -> Option<Packed> {
        if self.adopted {
            self.replaced
        } else {
            self.good.into_fields()
        }
    }

    /// The content in force.
    pub(super) fn in_force(&self) -> Option<&Content> {
        match &self.good {
            Good::Text(text) => Some(&text.content),
            Good::Nothing | Good::Absence => None,
        }
    }

    /// The good content that does not fit yet.
    pub(super) fn pending(&self) -> Option<&Content> {
        match &self.standing {
            Standing::Pending(text) => Some(&text.content),
            _ => None,
        }
    }

    /// Whether nothing stands there, by order.
    pub(super) fn is_deleted(&self) -> bool {
        matches!(self.standing, Standing::Deleted)
    }

    /// Whether a mistake stands there.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.standing, Standing::Refused(_))
    }

    /// The mistake by which it closes what it is about, where it does.
    pub(super) fn closes(&self) -> Option<&ConfigError> {
        let nothing = matches!(self.good, Good::Nothing) && !self.is_deleted();
        let mut errors = self.faults.iter().chain(&self.discord);
        errors.next().filter(|_| nothing)
    }

    /// Whether what stands is what is in force.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.standing, Standing::Good)
    }

    /// All that is wrong, one error a place.
    pub(super) fn errors(&self) -> Vec<ConfigError> {
        let mut errors: Vec<ConfigError> = self.faults.clone();
        for error in &self.discord {
            match errors.iter_mut().find(|e| e.field == error.field) {
                Some(same) => {
                    same.message.push_str("; ");
                    same.message.push_str(&error.message);
                }
                None => errors.push(error.clone()),
            }
        }
        errors
    }

    /// What its state in force should add to the table's digest.
    pub(super) fn digest(&self, keys: &Keys, object: &Object) -> u128 {
        match &self.good {
            Good::Text(text) => text.digest,
            Good::Nothing if is_closing(object) && !self.is_deleted() => {
                digest(&keys.object(object), None)
            }
            Good::Nothing | Good::Absence => 0,
        }
    }
}

/// Whether what such an object says must fit what others say before it is in force.
pub(super) fn is_judged(object: &Object) -> bool {
    matches!(
        object,
        Object::Endpoints(_)
            | Object::Weights(_)
            | Object::Route(_)
            | Object::Service(_)
            | Object::Defaults
    )
}

/// Whether a mistake in such an object closes something.
pub(super) fn is_closing(object: &Object) -> bool {
    matches!(
        object,
        Object::Defaults | Object::Service(_) | Object::Endpoints(_)
    )
}

/// What is wrong with something that is no hash.
pub(super) fn unread(keys: &Keys, object: &Object, raw: Raw) -> (Raw, Vec<ConfigError>) {
    let fault = match &raw {
        Raw::Unreadable(reason) => Some(ConfigError {
            key: keys.shown(object),
            field: None,
            message: reason.clone(),
        }),
        Raw::Hash(_) | Raw::Token(_) | Raw::Absent => None,
    };
    (raw, fault.into_iter().collect())
}

fn decode(keys: &Keys, object: &Object, raw: Raw) -> Result<Decoded, (Raw, Vec<ConfigError>)> {
    let fields = match raw {
        Raw::Hash(fields) => fields,
        raw => return Err(unread(keys, object, raw)),
    };
    let (value, faults) = decode_object(keys, object, &fields);
    if !faults.is_empty() {
        return Err((Raw::Hash(fields), faults));
    }
    Ok(Decoded {
        digest: digest(&keys.object(object), Some(&fields)),
        content: value.map_or(Content::Other, Content::from),
        fields: Packed::new(&fields),
    })
}

/// The first 16 bytes of a SHA-256 over key and fields, each with its length before it.
pub(super) fn digest(key: &str, fields: Option<&Fields>) -> u128 {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(key);
    for (field, text) in fields.into_iter().flatten() {
        add(field);
        add(text);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes
        .iter()
        .take(16)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

impl From<Value> for Content {
    fn from(value: Value) -> Self {
        match value {
            Value::Defaults(settings) | Value::Service(settings) => {
                Self::Settings(Box::new(settings))
            }
            Value::Endpoints(endpoints) => Self::Endpoints(endpoints),
            Value::Weights(weights) => Self::Weights(weights),
            Value::Route(route) => Self::Route(Arc::new(route)),
            Value::Alert(alert) => Self::Alert(Arc::new(alert)),
            Value::Issuer(issuer) => Self::Issuer(Arc::new(issuer)),
            Value::Shadow(shadow) => Self::Shadow(Arc::new(shadow)),
            Value::Pilot(Some(trial)) => Self::Trial(Arc::new(trial)),
            Value::Rollout(rollout) => Self::Rollout(Arc::new(rollout)),
            // Tokens in force stand in the roster.
            Value::Pilot(None) | Value::Token(_) => Self::Other,
        }
    }
}
