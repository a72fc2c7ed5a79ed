//! The rules of the book, each as a sentence. Hashes are written as `field=text, field=text`.

mod carry;
mod last_good;
mod random;
mod routes;
mod snapshot;
mod tokens;
mod vanish;
mod weights;

use super::*;
use crate::model::decode::Fields;
use crate::model::keys::Parsed;
use crate::model::table::Service;

const ONE: &str = "http://h:1/=base";
const TWO: &str = "http://h:1/=base, http://h:2/=candidate";

/// A book with the hands that write and read it.
struct Book {
    config: Config,
    seed: u64,
}

impl Book {
    /// Before the first load.
    fn unloaded() -> Self {
        Self {
            config: Config::new(Keys::new("smartlink:")),
            seed: 0,
        }
    }

    /// After the first load, of these hashes.
    fn loaded(hashes: &[(&str, &str)]) -> Self {
        let mut book = Self::unloaded();
        book.read_all(hashes);
        book
    }

    fn apply(&mut self, readings: Vec<Reading>, extent: Extent) -> Applied {
        self.seed += 1;
        self.config.apply(readings, extent, self.seed)
    }

    /// One `HSET` (a whole new hash) that a notification named.
    fn write(&mut self, key: &str, hash: &str) -> Applied {
        self.write_together(&[(key, hash)])
    }

    /// One `EXEC`.
    fn write_together(&mut self, hashes: &[(&str, &str)]) -> Applied {
        let readings = hashes.iter().map(|(key, hash)| named(key, hashed(hash)));
        self.apply(readings.collect(), Extent::Part)
    }

    /// One `DEL` that a notification named.
    fn delete(&mut self, key: &str) -> Applied {
        self.apply(vec![named(key, Raw::Absent)], Extent::Part)
    }

    /// A full reading that finds these hashes and nothing else.
    fn read_all(&mut self, hashes: &[(&str, &str)]) -> Applied {
        let found: BTreeMap<Object, Raw> = hashes
            .iter()
            .map(|(key, hash)| (object(key), hashed(hash)))
            .collect();
        let known: Vec<Object> = self.config.known().collect();
        let gone = known
            .into_iter()
            .filter(|object| !found.contains_key(object));
        let gone: Vec<_> = gone.map(|object| (object, Raw::Absent)).collect();
        let readings = found.into_iter().chain(gone).map(|(object, raw)| Reading {
            object,
            raw,
            sight: Sight::Read,
        });
        self.apply(readings.collect(), Extent::All)
    }

    /// A reading of one object on the slow round.
    fn glance(&mut self, key: &str, raw: Raw) -> Applied {
        let reading = Reading {
            object: object(key),
            raw,
            sight: Sight::Read,
        };
        self.apply(vec![reading], Extent::Part)
    }

    fn find(&self, name: &str) -> Option<Arc<Service>> {
        self.config.table().services.get(name).cloned()
    }

    fn service(&self, name: &str) -> Arc<Service> {
        self.find(name).expect("the service exists")
    }

    /// `base=90 candidate=10`: every version with its weight as it works out.
    fn shares(&self, name: &str) -> String {
        let Some(service) = self.find(name) else {
            return "no such service".to_owned();
        };
        if service.misconfigured.is_some() {
            return "misconfigured".to_owned();
        }
        let versions = service.versions.iter();
        let shares: Vec<String> = versions
            .map(|version| format!("{}={}", version.name, version.weight))
            .collect();
        shares.join(" ")
    }

    /// Where something is wrong, without the prefix.
    fn wrong(&self) -> Vec<String> {
        let places = self.config.errors().map(ConfigError::place);
        places
            .map(|place| place.replace("smartlink:", ""))
            .collect()
    }

    fn message(&self, place: &str) -> String {
        let mut errors = self.config.errors();
        let error = errors.find(|error| error.place() == format!("smartlink:{place}"));
        error.expect("an error at that place").message.clone()
    }

    /// Ids of the routes in the table, the most specific first.
    fn routes(&self) -> Vec<String> {
        let table = self.config.table();
        table
            .routes
            .routes
            .iter()
            .map(|route| route.id.to_string())
            .collect()
    }
}

fn object(key: &str) -> Object {
    match Keys::new("smartlink:").parse(&format!("smartlink:{key}")) {
        Parsed::Object(object) => object,
        other => panic!("{key} is {other:?}"),
    }
}

fn hashed(hash: &str) -> Raw {
    let pairs = hash.split(", ").filter(|pair| !pair.is_empty());
    let fields: Fields = pairs
        .map(|pair| pair.split_once('=').expect("field=text"))
        .map(|(field, text)| (field.to_owned(), text.to_owned()))
        .collect();
    Raw::Hash(fields)
}

fn named(key: &str, raw: Raw) -> Reading {
    Reading {
        object: object(key),
        raw,
        sight: Sight::Named,
    }
}
