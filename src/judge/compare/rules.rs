//! What counts as a difference where: the comparing part of a policy, made ready to be walked
//! beside a document.
//!
//! Rules form a tree by the parts of their pointers. A rule holds at its pointer and for all below
//! it, until a more specific one says otherwise: a longer pointer is more specific than a shorter,
//! and of two equally long ones that which names a part where the other has `*`, at the first part
//! in which they differ.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::model::comparison::{Allowance, AnswerSchema, Comparison, Ignored};

use super::path::{any_at, parts};
use super::{Class, Content};

/// How two answers are compared.
#[derive(Clone, Debug)]
pub struct Rules {
    root: Node,
    bad: Vec<Class>,
    fail_when: Vec<(Vec<String>, Box<str>)>,
    answer_schema: Option<AnswerSchema>,
    sse_text: Option<Box<str>>,
    ignores_status: bool,
    ignores_content_type: bool,
    null_is_missing: bool,
}

/// The rules at one part of a pointer.
#[derive(Clone, Debug, Default)]
struct Node {
    named: BTreeMap<String, Node>,
    any: Option<Box<Node>>,
    rule: Rule,
}

#[derive(Clone, Debug, Default)]
struct Rule {
    ignore: bool,
    tolerance: Option<Tolerance>,
    text: Option<Allowance>,
    unordered: Option<Matching>,
}

/// How far two numbers may lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tolerance {
    pub(super) absolute: f64,
    /// As a share of the larger one.
    pub(super) relative: f64,
}

/// How the items of an array without order find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matching {
    /// By their whole value.
    Value,
    /// By the value of a member.
    Member(Box<str>),
}

/// The rules in force for a value.
#[derive(Clone, Debug)]
pub(super) struct Scope<'r> {
    /// The parts of the tree that fit the path so far, the most specific first.
    nodes: Vec<&'r Node>,
    pub(super) ignored: bool,
    /// `None`: numbers differ where their values do, but for rounding.
    pub(super) tolerance: Option<Tolerance>,
    pub(super) text: Allowance,
}

/// Where services say how long they took: never the same twice.
const DURATION: &str = "/duration";

impl Default for Rules {
    fn default() -> Self {
        Self::new(&Comparison::default())
    }
}

impl Rules {
    /// The rules of a policy.
    #[must_use]
    pub fn new(policy: &Comparison) -> Self {
        let mut root = Node::default();
        for rule in &policy.tolerance {
            let node = root.at(rule.pointer.as_deref().unwrap_or_default());
            let tolerance = node.rule.tolerance.get_or_insert_default();
            tolerance.absolute = tolerance.absolute.max(rule.absolute);
            tolerance.relative = tolerance.relative.max(rule.relative);
        }
        for rule in &policy.text {
            let node = root.at(rule.pointer.as_deref().unwrap_or_default());
            node.rule.text = Some(rule.allows);
        }
        for rule in &policy.unordered {
            let by = rule.key.clone();
            root.at(&rule.pointer).rule.unordered =
                Some(by.map_or(Matching::Value, Matching::Member));
        }
        let duration = root.at(DURATION);
        duration.rule.ignore = !duration.speaks();
        for ignored in &policy.ignore {
            if let Ignored::At(pointer) = ignored {
                root.at(pointer).rule.ignore = true;
            }
        }
        Self {
            root,
            bad: policy.bad.clone(),
            fail_when: (policy.fail_when.iter())
                .map(|failure| (parts(&failure.pointer).collect(), failure.value.clone()))
                .collect(),
            answer_schema: policy.answer_schema.clone(),
            sse_text: policy.sse_text.clone(),
            ignores_status: policy.ignore.contains(&Ignored::Status),
            ignores_content_type: policy.ignore.contains(&Ignored::ContentType),
            null_is_missing: policy.null_is_missing,
        }
    }

    /// Whether a side of this class is bad where the other side has this status. A 4xx is the
    /// caller's fault, unless the other side answers the same request.
    pub(super) fn is_bad(&self, class: Class, other_status: u16) -> bool {
        let fault = class != Class::Http4xx || (200..300).contains(&other_status);
        fault && self.bad.contains(&class)
    }

    /// Whether an answer says by its content that it failed.
    pub(super) fn has_failed(&self, answer: &Json) -> bool {
        (self.fail_when.iter())
            .any(|(parts, text)| any_at(answer, parts, &|value| says(value, text)))
    }

    /// Whether an answer is as the schema wants it. Without a schema each one is.
    pub(super) fn admits(&self, content: &Content<'_>) -> bool {
        let Some(schema) = &self.answer_schema else {
            return true;
        };
        match content {
            Content::Json(answer) => schema.admits(answer),
            // A stream is not one document: the schema is not about it.
            Content::None | Content::Events(..) => true,
            Content::Text(_) | Content::Bytes(_) => false,
        }
    }

    pub(super) fn sse_text(&self) -> Option<&str> {
        self.sse_text.as_deref()
    }

    pub(super) fn ignores_status(&self) -> bool {
        self.ignores_status
    }

    pub(super) fn ignores_content_type(&self) -> bool {
        self.ignores_content_type
    }

    pub(super) fn null_is_missing(&self) -> bool {
        self.null_is_missing
    }

    /// The rules for a whole document.
    pub(super) fn scope(&self) -> Scope<'_> {
        let rule = &self.root.rule;
        Scope {
            nodes: vec![&self.root],
            ignored: false,
            tolerance: rule.tolerance,
            text: rule.text.unwrap_or_default(),
        }
    }

    /// The rules at a pointer.
    pub(super) fn scope_at(&self, pointer: &str) -> Scope<'_> {
        parts(pointer).fold(self.scope(), |scope, part| scope.member(&part))
    }
}

/// Whether a value is what `text` says: the string itself, or what JSON writes so.
fn says(value: &Json, text: &str) -> bool {
    match value {
        Json::String(string) => string == text,
        Json::Number(number) => number.to_string() == text || text.parse().ok() == number.as_f64(),
        Json::Bool(true) => text == "true",
        Json::Bool(false) => text == "false",
        Json::Null => text == "null",
        Json::Array(_) | Json::Object(_) => false,
    }
}

impl Node {
    fn at(&mut self, pointer: &str) -> &mut Self {
        parts(pointer).fold(self, |node, part| match part.as_str() {
            "*" => node.any.get_or_insert_default(),
            _ => node.named.entry(part).or_default(),
        })
    }

    /// Whether a rule says how values are compared, here or below.
    fn speaks(&self) -> bool {
        let rule = &self.rule;
        rule.tolerance.is_some()
            || rule.text.is_some()
            || rule.unordered.is_some()
            || self.named.values().any(Self::speaks)
            || self.any.as_deref().is_some_and(Self::speaks)
    }
}

impl<'r> Scope<'r> {
    /// The rules for a member of an object.
    pub(super) fn member(&self, name: &str) -> Self {
        self.below(|node| node.named.get(name))
    }

    /// The rules for the item of an array at a position.
    pub(super) fn item_at(&self, position: usize) -> Self {
        if self.nodes.iter().all(|node| node.named.is_empty()) {
            return self.item();
        }
        self.member(&position.to_string())
    }

    /// The rules for an item of an array that has no order.
    pub(super) fn item(&self) -> Self {
        self.below(|_| None)
    }

    /// How an array's items find each other; `None`: by their positions.
    pub(super) fn matching(&self) -> Option<&'r Matching> {
        (self.nodes.iter()).find_map(|node| node.rule.unordered.as_ref())
    }

    /// Whether nothing below is compared.
    pub(super) fn is_blind(&self) -> bool {
        self.ignored && self.nodes.iter().all(|node| !node.speaks())
    }

    fn below(&self, named: impl Fn(&'r Node) -> Option<&'r Node>) -> Self {
        let mut scope = Self {
            nodes: Vec::new(),
            ..*self
        };
        for node in &self.nodes {
            scope.nodes.extend(named(node));
            scope.nodes.extend(node.any.as_deref());
        }
        // The most specific last, so that it has the last word.
        for node in scope.nodes.iter().rev() {
            let rule = &node.rule;
            scope.tolerance = rule.tolerance.or(scope.tolerance);
            scope.text = rule.text.unwrap_or(scope.text);
            if rule.tolerance.is_some() || rule.text.is_some() || rule.unordered.is_some() {
                scope.ignored = false;
            }
            if rule.ignore {
                scope.ignored = true;
            }
        }
        scope
    }
}
