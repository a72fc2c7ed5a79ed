//! Changes of configuration, field by field, and what of them may be shown.

use std::collections::BTreeSet;

use super::decode::Fields;
use super::keys::Object;

/// What the history shows instead of a text that may hold a secret.
pub const HIDDEN: &str = "[hidden]";
/// What it shows instead of a text of more than `SHOWN_MAX` bytes.
pub const TOO_LONG: &str = "[too long]";
/// The longest text that the history keeps, in bytes.
pub const SHOWN_MAX: usize = 4096;

/// One field that is another one now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Whose field.
    pub object: Object,
    /// The field.
    pub field: String,
    /// What it said; `None` where it was not there.
    pub old: Option<String>,
    /// What it says; `None` where it is gone.
    pub new: Option<String>,
}

impl Change {
    /// What the history may show of a text of this field.
    #[must_use]
    pub fn shown<'t>(&self, text: &'t str) -> &'t str {
        match text {
            _ if self.is_secret() => HIDDEN,
            text if text.len() > SHOWN_MAX => TOO_LONG,
            text => text,
        }
    }

    /// Whether the field may hold a secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        is_secret(&self.object, &self.field)
    }
}

/// Whether a field of such an object may hold a secret: an address with a key in it, or headers
/// that only an upstream is to see.
#[must_use]
pub fn is_secret(object: &Object, field: &str) -> bool {
    match object {
        Object::Alert(_) => field == "url",
        Object::Issuer(_) => matches!(field, "jwks_url" | "introspection_url"),
        Object::Shadow(_) => field == "scorer",
        Object::Service(_) | Object::Defaults => {
            matches!(field, "set_request_headers" | "set_response_headers")
        }
        _ => false,
    }
}

/// The fields that differ, in their order.
#[must_use]
pub fn difference(object: &Object, old: &Fields, new: &Fields) -> Vec<Change> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = names.into_iter().map(|field| Change {
        object: object.clone(),
        field: field.clone(),
        old: old.get(field).cloned(),
        new: new.get(field).cloned(),
    });
    changes.filter(|change| change.old != change.new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Name;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let pairs = pairs.iter();
        pairs
            .map(|(field, text)| ((*field).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let object = Object::Weights(Name::parse("a").expect("a name"));
        let old = fields(&[("base", "90"), ("candidate", "10"), ("v3", "1")]);
        let new = fields(&[("base", "80"), ("candidate", "10"), ("v4", "1")]);
        let found: Vec<_> = difference(&object, &old, &new)
            .into_iter()
            .map(|it| (it.field, it.old, it.new))
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            found,
            [
                ("base".to_owned(), text("90"), text("80")),
                ("v3".to_owned(), text("1"), None),
                ("v4".to_owned(), None, text("1")),
            ]
        );
        assert_eq!(difference(&object, &old, &old), []);
    }

    #[test]
    fn secrets_and_long_texts_are_not_shown() {
        let id = || Name::parse("a").expect("a name");
        for (object, field, text, shown) in [
            (Object::Alert(id()), "url", "https://h/secret", HIDDEN),
            (Object::Alert(id()), "to", "a@b", "a@b"),
            (Object::Defaults, "set_request_headers", "{}", HIDDEN),
            (Object::Service(id()), "timeout", "5s", "5s"),
        ] {
            let change = Change {
                object,
                field: field.to_owned(),
                old: None,
                new: None,
            };
            assert_eq!(change.shown(text), shown, "{field}");
        }
        let change = Change {
            object: Object::Weights(id()),
            field: "x".to_owned(),
            old: None,
            new: None,
        };
        assert_eq!(change.shown(&"x".repeat(SHOWN_MAX + 1)), TOO_LONG);
    }
}
