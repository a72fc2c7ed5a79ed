//! Parts of a routing table, made of hashes as an operator writes them, without Redis.

use std::sync::Arc;

use smartlink::model::config::{Config, Extent, Reading, Sight};
use smartlink::model::decode::Raw;
use smartlink::model::keys::{Keys, Object};
use smartlink::model::name::Name;
use smartlink::model::table::Service;

/// A service with one endpoint for each of these versions.
pub fn service(name: &str, versions: &[&str]) -> Arc<Service> {
    let mut config = Config::new(Keys::new("smartlink:"));
    let endpoints = versions.iter().enumerate();
    let endpoints = endpoints.map(|(at, version)| {
        let url = format!("http://127.0.0.1:{}/", at + 1);
        (url, (*version).to_owned())
    });
    let reading = Reading {
        object: Object::Endpoints(Name::parse(name).expect("valid")),
        raw: Raw::Hash(endpoints.collect()),
        sight: Sight::Named,
    };
    // What this is a mistake for is not the question here.
    drop(config.apply(vec![reading], Extent::Part, 1));
    let table = config.table();
    Arc::clone(table.services.get(name).expect("it is served"))
}
