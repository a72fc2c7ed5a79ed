//! Where in an answer: pointers with `*`, and the path of what is being walked.

use serde_json::Value as Json;

/// The longest path, in bytes; what is deeper is told under the path of the last step that fits.
const PATH_MAX: usize = 256;

/// The parts of a JSON pointer, unescaped (RFC 6901).
pub(super) fn parts(pointer: &str) -> impl Iterator<Item = String> {
    let parts = pointer.split('/').skip(1);
    parts.map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// Whether any value where `parts` lead fulfils `wanted`; `*` leads to every item of an array and
/// every member of an object.
pub(super) fn any_at(value: &Json, parts: &[String], wanted: &impl Fn(&Json) -> bool) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return wanted(value);
    };
    match value {
        Json::Object(members) if part == "*" => members.values().any(|v| any_at(v, rest, wanted)),
        Json::Object(members) => members.get(part).is_some_and(|v| any_at(v, rest, wanted)),
        Json::Array(items) if part == "*" => items.iter().any(|v| any_at(v, rest, wanted)),
        Json::Array(items) => (part.parse().ok())
            .and_then(|at: usize| items.get(at))
            .is_some_and(|v| any_at(v, rest, wanted)),
        _ => false,
    }
}

/// The path of the values that are being compared.
#[derive(Debug, Default)]
pub(super) struct Path {
    text: String,
    /// Steps that did not fit.
    beyond: usize,
}

/// Where a path was before a step.
#[derive(Debug)]
pub(super) struct Step {
    len: usize,
    beyond: usize,
}

impl Path {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Goes to a member of an object.
    pub(super) fn member(&mut self, name: &str) -> Step {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        self.step(&escaped)
    }

    /// Goes to the items of an array.
    pub(super) fn items(&mut self) -> Step {
        self.step("*")
    }

    /// Goes back to where the path was before `step`.
    pub(super) fn back(&mut self, step: &Step) {
        self.text.truncate(step.len);
        self.beyond = step.beyond;
    }

    fn step(&mut self, part: &str) -> Step {
        let step = Step {
            len: self.text.len(),
            beyond: self.beyond,
        };
        if self.beyond > 0 || step.len + 1 + part.len() > PATH_MAX {
            self.beyond += 1;
        } else {
            self.text.push('/');
            self.text.push_str(part);
        }
        step
    }
}
