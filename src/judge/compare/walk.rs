//! The walk through two documents, side by side.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value as Json};

use super::content::{Content, media_type};
use super::path::Path;
use super::rules::{Rules, Scope};
use super::{Difference, Differences, Kind, OTHER, PATHS_MAX, SHOWN_MAX, Side, alike, hash};

/// A walk in progress.
#[derive(Debug)]
pub(super) struct Walk<'r> {
    pub(super) rules: &'r Rules,
    pub(super) path: Path,
    pub(super) found: Found,
    /// How many more values may be looked at to find which items of arrays belong together.
    pub(super) effort: usize,
}

/// What a walk has found.
#[derive(Debug)]
pub(super) enum Found {
    /// The differences.
    All(Differences),
    /// How many they are, up to the most that matter.
    Only { count: usize, most: usize },
}

/// Values looked at for matching in one pair of answers: about a tenth of a second.
const EFFORT_MAX: usize = 1_000_000;

impl<'r> Walk<'r> {
    pub(super) fn new(rules: &'r Rules) -> Self {
        Self {
            rules,
            path: Path::default(),
            found: Found::All(BTreeMap::new()),
            effort: EFFORT_MAX,
        }
    }

    pub(super) fn into_differences(self) -> Differences {
        match self.found {
            Found::All(differences) => differences,
            Found::Only { .. } => Differences::new(),
        }
    }

    /// Compares status and type of content.
    pub(super) fn heads(&mut self, base: &Side<'_>, candidate: &Side<'_>) {
        if base.status != candidate.status && !self.rules.ignores_status() {
            let (base, candidate) = (base.status.into(), candidate.status.into());
            self.tell_at("status", Kind::Value, Some(&base), Some(&candidate));
        }
        let (base, candidate) = (base.content_type, candidate.content_type);
        let (base, candidate) = (media_type(base), media_type(candidate));
        if base != candidate && !self.rules.ignores_content_type() {
            let (base, candidate) = (base.into(), candidate.into());
            self.tell_at("content-type", Kind::Value, Some(&base), Some(&candidate));
        }
    }

    /// Compares two bodies.
    pub(super) fn contents(&mut self, base: &Content<'_>, candidate: &Content<'_>) {
        match (base, candidate) {
            (Content::Events(_, Some(base)), Content::Events(_, Some(candidate))) => {
                let pointer = self.rules.sse_text().unwrap_or_default();
                let scope = self.rules.scope_at(pointer);
                if !scope.ignored && !alike::texts(base, candidate, scope.text) {
                    let (base, candidate) = (base.as_str().into(), candidate.as_str().into());
                    self.tell_at(pointer, Kind::Value, Some(&base), Some(&candidate));
                }
            }
            (Content::Json(base), Content::Json(candidate))
            | (Content::Events(base, _), Content::Events(candidate, _)) => {
                self.values(&self.rules.scope(), base, candidate);
            }
            (Content::Text(base), Content::Text(candidate)) => {
                if !alike::texts(base, candidate, self.rules.scope().text) {
                    let (base, candidate) = ((*base).into(), (*candidate).into());
                    self.tell_at("body", Kind::Value, Some(&base), Some(&candidate));
                }
            }
            (Content::Bytes(base), Content::Bytes(candidate)) if base == candidate => {}
            (Content::Bytes(base), Content::Bytes(candidate)) => {
                let (base, candidate) = (bytes(base), bytes(candidate));
                self.tell_at("body", Kind::Value, Some(&base), Some(&candidate));
            }
            (Content::None, Content::None) => {}
            _ => {
                let (base, candidate) = (base.name().into(), candidate.name().into());
                self.tell_at("body", Kind::Type, Some(&base), Some(&candidate));
            }
        }
    }

    /// Compares two values under the rules in force for them.
    pub(super) fn values(&mut self, scope: &Scope<'_>, base: &Json, candidate: &Json) {
        if self.is_enough() {
            return;
        }
        self.charge(1);
        match (base, candidate) {
            (Json::Object(base), Json::Object(candidate)) => self.members(scope, base, candidate),
            (Json::Array(base), Json::Array(candidate)) => self.items(scope, base, candidate),
            _ if scope.ignored => {}
            (Json::Null, Json::Null) => {}
            (Json::Bool(a), Json::Bool(b)) if a == b => {}
            (Json::Number(a), Json::Number(b)) if alike::numbers(a, b, scope.tolerance) => {}
            (Json::String(a), Json::String(b)) if self.are_alike(scope, a, b) => {}
            (Json::Number(_), Json::Number(_))
            | (Json::String(_), Json::String(_))
            | (Json::Bool(_), Json::Bool(_)) => {
                self.tell(Kind::Value, Some(base), Some(candidate));
            }
            _ => self.tell(Kind::Type, Some(base), Some(candidate)),
        }
    }

    fn members(
        &mut self,
        scope: &Scope<'_>,
        base: &Map<String, Json>,
        candidate: &Map<String, Json>,
    ) {
        let null_is_missing = self.rules.null_is_missing();
        let present = |value: &&Json| !(null_is_missing && value.is_null());
        let added = candidate.keys().filter(|name| !base.contains_key(*name));
        for name in base.keys().chain(added) {
            let scope = scope.member(name);
            if scope.is_blind() {
                continue;
            }
            let step = self.path.member(name);
            match (
                base.get(name).filter(present),
                candidate.get(name).filter(present),
            ) {
                (Some(base), Some(candidate)) => self.values(&scope, base, candidate),
                _ if scope.ignored => {}
                (Some(base), None) => self.tell(Kind::Missing, Some(base), None),
                (None, Some(candidate)) => self.tell(Kind::Extra, None, Some(candidate)),
                (None, None) => {}
            }
            self.path.back(&step);
        }
    }

    fn items(&mut self, scope: &Scope<'_>, base: &[Json], candidate: &[Json]) {
        // Most arrays are the same to the last bit, which is seen sooner than hashed.
        if matches!(self.found, Found::All(_)) && base == candidate {
            return;
        }
        if scope.matching().is_some() && !scope.ignored {
            return self.unordered(scope, base, candidate);
        }
        if base.len() != candidate.len() {
            if !scope.ignored {
                self.tell_length(base, candidate);
            }
            return;
        }
        if base.len() > 1 && !scope.ignored {
            let (mut a, mut b) = (self.hashes(scope, base), self.hashes(scope, candidate));
            if a == b {
                return;
            }
            a.sort_unstable();
            b.sort_unstable();
            if a == b {
                return self.tell_arrays(Kind::Order, base, candidate);
            }
        }
        let step = self.path.items();
        for (at, (base, candidate)) in base.iter().zip(candidate).enumerate() {
            self.values(&scope.item_at(at), base, candidate);
        }
        self.path.back(&step);
    }

    fn are_alike(&mut self, scope: &Scope<'_>, a: &str, b: &str) -> bool {
        let per_value = if scope.text.similar.is_some() { 1 } else { 16 };
        self.charge((a.len() + b.len()) / per_value);
        alike::texts(a, b, scope.text)
    }

    /// The numbers by which the items of an array find each other.
    pub(super) fn hashes(&mut self, scope: &Scope<'_>, items: &[Json]) -> Vec<u64> {
        let mut visited = 0;
        let hashes = hash::all(self.rules, scope, items, &mut visited);
        self.charge(visited);
        hashes
    }

    pub(super) fn tell_length(&mut self, base: &[Json], candidate: &[Json]) {
        let (base, candidate) = (base.len().into(), candidate.len().into());
        self.tell(Kind::Length, Some(&base), Some(&candidate));
    }

    pub(super) fn tell_arrays(&mut self, kind: Kind, base: &[Json], candidate: &[Json]) {
        self.remember(None, kind, || (shown(base), shown(candidate)));
    }

    /// Remembers a difference at the path of the walk.
    pub(super) fn tell(&mut self, kind: Kind, base: Option<&Json>, candidate: Option<&Json>) {
        self.remember(None, kind, || (show(base), show(candidate)));
    }

    fn tell_at(&mut self, path: &str, kind: Kind, base: Option<&Json>, candidate: Option<&Json>) {
        self.remember(Some(path), kind, || (show(base), show(candidate)));
    }

    fn remember(
        &mut self,
        path: Option<&str>,
        kind: Kind,
        shown: impl FnOnce() -> (Box<str>, Box<str>),
    ) {
        let differences = match &mut self.found {
            Found::All(differences) => differences,
            Found::Only { count, .. } => {
                *count += 1;
                return;
            }
        };
        let path = match path.unwrap_or(self.path.text()) {
            // A document that is no object or array.
            "" => "body",
            path => path,
        };
        let full = differences.len() >= PATHS_MAX && !differences.contains_key(path);
        let path = if full { OTHER } else { path };
        if !differences.contains_key(path) {
            let (base, candidate) = shown();
            let difference = Difference {
                kind,
                base,
                candidate,
            };
            differences.insert(path.into(), difference);
        }
    }

    /// Whether more differences would change nothing.
    fn is_enough(&self) -> bool {
        match &self.found {
            Found::All(_) => false,
            Found::Only { count, most } => self.effort == 0 || count > most,
        }
    }

    /// Spends effort, where values are looked at only to find which belong together.
    fn charge(&mut self, values: usize) {
        if matches!(self.found, Found::Only { .. }) {
            self.effort = self.effort.saturating_sub(values);
        }
    }
}

fn bytes(bytes: &[u8]) -> Json {
    let start = bytes.get(..SHOWN_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(start).into()
}

fn show(value: Option<&Json>) -> Box<str> {
    match value {
        Some(Json::String(text)) => cut(text.as_bytes()),
        Some(value) => shown(value),
        None => "".into(),
    }
}

/// A value as JSON writes it, cut.
fn shown(value: &(impl serde::Serialize + ?Sized)) -> Box<str> {
    let mut page = Page(Vec::new());
    // An error says that the page is full, or that there is more than JSON can write.
    let _full = serde_json::to_writer(&mut page, value);
    cut(&page.0)
}

fn cut(bytes: &[u8]) -> Box<str> {
    let start = bytes.get(..SHOWN_MAX).unwrap_or(bytes);
    match std::str::from_utf8(start) {
        Ok(text) => text.into(),
        Err(error) => {
            let whole = start.get(..error.valid_up_to()).unwrap_or_default();
            String::from_utf8_lossy(whole).into()
        }
    }
}

/// Takes as many bytes as are shown.
struct Page(Vec<u8>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() >= SHOWN_MAX {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
