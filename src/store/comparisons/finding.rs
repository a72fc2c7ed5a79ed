//! What one record came to, and how the script is told.

use super::bytes;
use crate::model::name::VersionName;

/// The most paths told apart over all pairs: as many as in one.
const PATHS_MAX: u32 = 500;
/// The most dead letters kept.
const DEAD_MAX: u32 = 10_000;
/// The most pairs that wait for a label.
const OPEN_MAX: u32 = 10_000;

/// What one record came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Counters and by how much they grow.
    pub counts: Vec<(String, u64)>,
    /// Paths that differ, and how.
    pub marks: Vec<(String, Mark)>,
    /// Why it could not be compared, where it could not.
    pub letter: Option<Letter>,
    /// An example: of which kinds it is one, and its fields. No kinds: none.
    pub example: (Vec<String>, Vec<(&'static str, String)>),
    /// A pair for people to judge.
    pub offer: Option<Offer>,
}

/// In which answers something differs from the first answer of `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Only in the candidate's.
    CandidateOnly,
    /// Only in the second one of `base`.
    NoiseOnly,
    /// In both.
    Both,
}

impl Mark {
    /// Its name among the counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CandidateOnly => "candidate_only",
            Self::NoiseOnly => "noise_only",
            Self::Both => "both",
        }
    }
}

/// A record that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Why.
    pub reason: String,
    /// How often it was handed out.
    pub deliveries: u64,
    /// Its text, as far as it is text.
    pub record: String,
}

/// A pair for people to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// What stands in the stream.
    pub fields: Vec<(&'static str, String)>,
}

impl Finding {
    /// The arguments of `count_finding.lua`, behind those of the script before.
    pub(super) fn args(
        &self,
        mut args: Vec<Vec<u8>>,
        candidate: &VersionName,
        entry: &str,
    ) -> Vec<Vec<u8>> {
        let mut say = |text: &str| args.push(bytes(text));
        say(&self.counts.len().to_string());
        for (field, increment) in &self.counts {
            say(field);
            say(&increment.to_string());
        }
        say(&PATHS_MAX.to_string());
        say(&self.marks.len().to_string());
        for (path, mark) in &self.marks {
            say(path);
            say(mark.name());
        }
        say(&DEAD_MAX.to_string());
        match &self.letter {
            None => say("0"),
            Some(letter) => {
                let deliveries = letter.deliveries.to_string();
                let texts = [
                    "entry",
                    entry,
                    "candidate",
                    candidate.as_str(),
                    "reason",
                    &letter.reason,
                    "deliveries",
                    &deliveries,
                    "record",
                    &letter.record,
                ];
                say(&texts.len().to_string());
                texts.into_iter().for_each(&mut say);
            }
        }
        let (kinds, fields) = &self.example;
        say(&kinds.len().to_string());
        for kind in kinds {
            say(kind);
        }
        say_fields(fields, &mut say);
        say(&OPEN_MAX.to_string());
        match &self.offer {
            None => ["", "0"].into_iter().for_each(&mut say),
            Some(offer) => {
                say(&offer.name);
                say_fields(&offer.fields, &mut say);
            }
        }
        args
    }
}

fn say_fields(fields: &[(&'static str, String)], say: &mut impl FnMut(&str)) {
    say(&(2 * fields.len()).to_string());
    for (field, value) in fields {
        say(field);
        say(value);
    }
}
