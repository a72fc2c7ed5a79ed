//! Pairs for people: who judges which, and what they said.

use std::collections::HashMap;
use std::time::Duration;

use fred::interfaces::StreamsInterface;
use fred::types::Value;

use super::super::live::read_hashes;
use super::{Comparisons, Error, bytes};
use crate::model::decode::Fields;
use crate::model::name::{ServiceName, VersionName};

/// A pair that is to be judged, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its name.
    pub name: String,
    /// What stands in the stream.
    pub fields: Fields,
}

/// What there is to judge for a reviewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// How many pairs are not done, whoever may judge them.
    pub open: u64,
    /// The next one for this reviewer.
    pub next: Option<Offered>,
}

/// What a reviewer says of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved<'a> {
    /// The pair.
    pub name: &'a str,
    /// Which candidate is compared in it.
    pub candidate: &'a VersionName,
    /// Why it was chosen.
    pub chosen: &'a str,
    /// Who says so.
    pub reviewer: &'a str,
    /// `base`, `candidate`, `tie`, `both_bad` or `skip`.
    pub choice: &'a str,
    /// In their own words; may be empty.
    pub comment: &'a str,
    /// How long they looked at it.
    pub looked: Duration,
    /// How many reviewers each pair wants.
    pub wanted: u32,
}

/// A pair and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts {
    /// Where it stands in the stream.
    pub entry: String,
    /// What stands there.
    pub fields: Fields,
    /// The hash of its labels.
    pub labels: Fields,
}

impl Comparisons {
    /// Gives a reviewer the next pair, theirs for so long.
    pub async fn reserve(
        &self,
        service: &ServiceName,
        reviewer: &str,
        hold: Duration,
    ) -> Result<Pick, Error> {
        const STEP: &str = "reserve a pair";
        let keys = vec![self.keys.labels(service), self.keys.labels_open(service)];
        let prefix = self.keys.label(service, "");
        let args = [&*prefix, reviewer, &hold.as_millis().to_string()].map(bytes);
        loop {
            let answer =
                (self.run(STEP, &self.scripts.reserve, keys.clone(), args.to_vec())).await?;
            let Value::Array(parts) = answer else {
                return Err(Error::Answer(STEP));
            };
            let mut parts = parts.into_iter();
            let open = parts.next().and_then(|open| open.as_u64());
            let open = open.ok_or(Error::Answer(STEP))?;
            let Some(name) = parts.next() else {
                return Ok(Pick { open, next: None });
            };
            let name = name.as_string().ok_or(Error::Answer(STEP))?;
            if name.is_empty() {
                // One that was trimmed is out of the way now.
                continue;
            }
            let mut fields = Fields::new();
            while let (Some(field), Some(value)) = (parts.next(), parts.next()) {
                let text = |value: Value| value.as_string().ok_or(Error::Answer(STEP));
                fields.insert(text(field)?, text(value)?);
            }
            let next = Some(Offered { name, fields });
            return Ok(Pick { open, next });
        }
    }

    /// Saves what a reviewer says; `false` where they had judged the pair before, or it is gone.
    pub async fn save(&self, service: &ServiceName, saved: &Saved<'_>) -> Result<bool, Error> {
        const STEP: &str = "save a label";
        let keys = vec![
            self.keys.label(service, saved.name),
            self.keys.labels_open(service),
            self.keys.shadow_results(service, saved.candidate),
        ];
        let (ms, wanted) = (
            saved.looked.as_millis().to_string(),
            saved.wanted.to_string(),
        );
        let args = [
            saved.name,
            saved.reviewer,
            saved.choice,
            saved.comment,
            &ms,
            &wanted,
            saved.chosen,
        ];
        let args = args.map(bytes).into();
        let answer = self.run(STEP, &self.scripts.save, keys, args).await?;
        answer
            .as_i64()
            .map(|saved| saved == 1)
            .ok_or(Error::Answer(STEP))
    }

    /// The pairs behind an entry (`0` for the first), with what was said of each; at most so many.
    pub async fn labelled(
        &self,
        service: &ServiceName,
        behind: &str,
        most: u64,
    ) -> Result<Vec<Verdicts>, Error> {
        let entries = self
            .entries(&self.keys.labels(service), behind, most)
            .await?;
        let label = |fields: &Fields| {
            let name = fields.get("pair").map_or("", String::as_str);
            self.keys.label(service, name)
        };
        let keys: Vec<String> = entries.iter().map(|(_, fields)| label(fields)).collect();
        let labels = read_hashes(self.here()?, &keys).await?;
        let all = entries.into_iter().zip(labels);
        Ok(all
            .map(|((entry, fields), labels)| Verdicts {
                entry,
                fields,
                labels: Fields::from_iter(labels),
            })
            .collect())
    }

    /// The entries of a stream behind one of them (`0` for the first), at most so many.
    async fn entries(
        &self,
        stream: &str,
        behind: &str,
        most: u64,
    ) -> Result<Vec<(String, Fields)>, Error> {
        type Entries = Vec<(String, HashMap<String, String>)>;
        let behind = format!("({behind}");
        let read: Result<Entries, _> = (self.here()?)
            .xrange_values(stream, behind, "+", Some(most))
            .await;
        let entries = read.map_err(Error::step("read a stream"))?;
        let fields = |(id, fields)| (id, Fields::from_iter::<HashMap<String, String>>(fields));
        Ok(entries.into_iter().map(fields).collect())
    }
}
