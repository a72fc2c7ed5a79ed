//! Names of services, versions and configured things: `[A-Za-z0-9][A-Za-z0-9_.-]{0,127}`.
//!
//! Invariant: a `Name` that exists is valid; nobody checks it again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest name, in bytes.
pub const NAME_MAX: usize = 128;

/// A valid name; cheap to clone and to share between threads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The name of a service, as clients write it in `server_name`.
pub type ServiceName = Name;
/// The name of a version of a service: `base`, `candidate`, ...
pub type VersionName = Name;

impl Name {
    /// Takes a text as a name, or `None` where it breaks the form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = text.bytes();
        let first = bytes.next()?;
        let valid = text.len() <= NAME_MAX
            && first.is_ascii_alphanumeric()
            && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        valid.then(|| Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the stable version.
    #[must_use]
    pub fn base() -> Self {
        Self("base".into())
    }

    /// Whether this is the stable version.
    #[must_use]
    pub fn is_base(&self) -> bool {
        &*self.0 == "base"
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        let longest = "a".repeat(NAME_MAX);
        for good in ["a", "base", "ner-v2.1_x", "9lives", longest.as_str()] {
            assert_eq!(
                Name::parse(good).map(|n| n.to_string()).as_deref(),
                Some(good)
            );
        }
        let too_long = "a".repeat(NAME_MAX + 1);
        for bad in [
            "",
            "-a",
            ".a",
            "_a",
            "a b",
            "a/b",
            "a:b",
            "é",
            "a\n",
            too_long.as_str(),
        ] {
            assert_eq!(Name::parse(bad), None, "{bad:?}");
        }
    }
}
