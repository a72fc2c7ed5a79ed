//! Arrays without order: which item of one belongs to which of the other.
//!
//! Items that are the same find each other by their hash. What is left is matched by trying: first
//! items that are the same within the rules, then those with the fewest differences. Trying has a
//! bound; past it the array as a whole is one difference.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::rules::{Matching, Scope};
use super::walk::{Found, Walk};
use super::{Kind, hash};

/// The most items on a side that are tried against all items of the other.
const TRIED_MAX: usize = 1000;

impl Walk<'_> {
    /// Compares two arrays whose items have no order.
    pub(super) fn unordered(&mut self, scope: &Scope<'_>, base: &[Json], candidate: &[Json]) {
        match scope.matching() {
            Some(Matching::Member(name)) => self.keyed(scope, name, base, candidate),
            _ => self.multiset(scope, base, candidate),
        }
    }

    /// Items that have the same value in one member belong together, in their order where several
    /// have; those without it likewise.
    fn keyed(&mut self, scope: &Scope<'_>, name: &str, base: &[Json], candidate: &[Json]) {
        let item = scope.item();
        let key = item.member(name);
        let mut groups: BTreeMap<Option<u64>, (Vec<&Json>, Vec<&Json>)> = BTreeMap::new();
        let rules = self.rules;
        let key_of = |value: &Json| Some(hash::of(rules, &key, value.get(name)?, &mut 0));
        for value in base {
            groups.entry(key_of(value)).or_default().0.push(value);
        }
        for value in candidate {
            groups.entry(key_of(value)).or_default().1.push(value);
        }
        let step = self.path.items();
        for (base, candidate) in groups.values() {
            for (base, candidate) in base.iter().zip(candidate) {
                self.values(&item, base, candidate);
            }
            if !item.ignored {
                for value in base.iter().skip(candidate.len()) {
                    self.tell(Kind::Missing, Some(value), None);
                }
                for value in candidate.iter().skip(base.len()) {
                    self.tell(Kind::Extra, None, Some(value));
                }
            }
        }
        self.path.back(&step);
    }

    fn multiset(&mut self, scope: &Scope<'_>, base: &[Json], candidate: &[Json]) {
        if base.len() != candidate.len() {
            return self.tell_length(base, candidate);
        }
        let (left, right) = self.left_over(scope, base, candidate);
        let item = scope.item();
        let Some(pairs) = self.matched(&item, &left, &right) else {
            return self.tell_arrays(Kind::Value, base, candidate);
        };
        let step = self.path.items();
        for (base, candidate) in pairs {
            self.values(&item, base, candidate);
        }
        self.path.back(&step);
    }

    /// What of two arrays is not in the other.
    fn left_over<'j>(
        &mut self,
        scope: &Scope<'_>,
        base: &'j [Json],
        candidate: &'j [Json],
    ) -> (Vec<&'j Json>, Vec<&'j Json>) {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        let right = self.hashes(scope, candidate);
        for hash in &right {
            *counts.entry(*hash).or_default() += 1;
        }
        let mut rest = |hash: u64| match counts.get_mut(&hash) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        let left = self.hashes(scope, base).into_iter().zip(base);
        let left = left
            .filter_map(|(hash, value)| rest(hash).then_some(value))
            .collect();
        // What the counts still hold was not taken.
        let mut untaken = |hash: u64| !rest(hash);
        let right = right.into_iter().zip(candidate);
        let right = right
            .filter_map(|(hash, value)| untaken(hash).then_some(value))
            .collect();
        (left, right)
    }

    /// Each of `left` with one of `right`, which are as many, but for those that are the same;
    /// `None` where finding out would take too long.
    fn matched<'j>(
        &mut self,
        scope: &Scope<'_>,
        left: &[&'j Json],
        right: &[&'j Json],
    ) -> Option<Vec<(&'j Json, &'j Json)>> {
        if left.len() > TRIED_MAX {
            return None;
        }
        let mut free: Vec<&Json> = right.to_vec();
        let mut unmatched = Vec::new();
        for base in left {
            let mut same = None;
            for (at, candidate) in free.iter().enumerate() {
                if self.differences(scope, base, candidate, 0)? == 0 {
                    same = Some(at);
                    break;
                }
            }
            match same {
                Some(at) => drop(free.remove(at)),
                None => unmatched.push(*base),
            }
        }
        let mut tried = Vec::new();
        for (i, base) in unmatched.iter().enumerate() {
            for (j, candidate) in free.iter().enumerate() {
                tried.push((self.differences(scope, base, candidate, usize::MAX)?, i, j));
            }
        }
        tried.sort_unstable();
        let mut pairs = Vec::new();
        let (mut base, mut candidate): (Vec<_>, Vec<_>) = (
            unmatched.into_iter().map(Some).collect(),
            free.into_iter().map(Some).collect(),
        );
        for (_, i, j) in tried {
            let (Some(left), Some(right)) = (base.get_mut(i), candidate.get_mut(j)) else {
                continue;
            };
            if left.is_some() && right.is_some() {
                pairs.extend(left.take().zip(right.take()));
            }
        }
        Some(pairs)
    }

    /// How many differences two items have, up to one more than `most`; `None` where the effort
    /// is spent.
    fn differences(
        &mut self,
        scope: &Scope<'_>,
        base: &Json,
        candidate: &Json,
        most: usize,
    ) -> Option<usize> {
        let counting = Found::Only { count: 0, most };
        let before = std::mem::replace(&mut self.found, counting);
        self.values(scope, base, candidate);
        let counted = std::mem::replace(&mut self.found, before);
        match counted {
            Found::Only { count, .. } if self.effort > 0 => Some(count),
            _ => None,
        }
    }
}
