//! What every request pays at the routing table, and what one change costs with 10,000 services.

#![expect(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use smartlink::model::config::{Config, Extent, Reading, Sight};
use smartlink::model::decode::{Fields, Raw};
use smartlink::model::keys::{Keys, Object};
use smartlink::model::name::Name;
use smartlink::model::object::decode_object;
use smartlink::model::split::Split;

const SERVICES: usize = 10_000;

fn name(number: usize) -> Name {
    Name::parse(&format!("service-{number}")).expect("a name")
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    let owned = pairs
        .iter()
        .map(|(field, text)| ((*field).to_owned(), (*text).to_owned()));
    owned.collect()
}

fn endpoints() -> Fields {
    fields(&[
        ("http://10.0.0.1:8000/get_lng_lat/", "base"),
        ("http://10.0.0.2:8000/get_lng_lat/", "base weight=2"),
        ("http://10.0.0.3:8000/get_lng_lat/", "base backup"),
        (
            "http://10.0.0.4:8001/get_lng_lat/",
            "candidate max_conns=64",
        ),
    ])
}

fn reading(object: Object, fields: Fields) -> Reading {
    Reading {
        object,
        raw: Raw::Hash(fields),
        sight: Sight::Named,
    }
}

fn loaded() -> Config {
    let mut config = Config::new(Keys::new("smartlink:"));
    let weights = fields(&[("base", "90"), ("candidate", "10")]);
    let hashes = (0..SERVICES).flat_map(|number| {
        [
            reading(Object::Endpoints(name(number)), endpoints()),
            reading(Object::Weights(name(number)), weights.clone()),
        ]
    });
    let applied = config.apply(hashes.collect(), Extent::All, 1);
    assert!(
        applied
            .table
            .is_some_and(|table| table.services.len() == SERVICES)
    );
    config
}

fn table(criterion: &mut Criterion) {
    let mut config = loaded();
    let routing_table = config.table();
    let names: Vec<String> = (0..SERVICES)
        .map(|number| name(number).to_string())
        .collect();
    let mut turns = names.iter().cycle();
    criterion.bench_function("look up one of 10,000 services", |bench| {
        bench.iter(|| {
            turns
                .next()
                .map(|name| routing_table.services.get(black_box(name)))
        });
    });
    let changes = ["11", "12"].map(|weight| fields(&[("base", "90"), ("candidate", weight)]));
    let mut turns = changes.iter().cycle();
    criterion.bench_function(
        "apply one change of weights among 10,000 services",
        |bench| {
            bench.iter(|| {
                let weights = turns.next().cloned().unwrap_or_default();
                let change = reading(Object::Weights(name(4_711)), weights);
                let applied = config.apply(vec![change], Extent::Part, 2);
                assert!(applied.table.is_some());
            });
        },
    );
}

fn split(criterion: &mut Criterion) {
    let cases: [(&str, &[u32]); 2] = [
        ("draw from a split of 2 versions", &[90, 10]),
        ("draw from a split of 5 versions", &[50, 20, 15, 10, 5]),
    ];
    for (case, weights) in cases {
        let split = Split::new(weights.iter().copied().enumerate(), 7).expect("weights");
        criterion.bench_function(case, |bench| bench.iter(|| split.draw()));
    }
}

fn decode(criterion: &mut Criterion) {
    let keys = Keys::new("smartlink:");
    let object = Object::Endpoints(name(1));
    let fields = endpoints();
    criterion.bench_function("decode a hash of 4 endpoints", |bench| {
        bench.iter(|| decode_object(&keys, &object, black_box(&fields)));
    });
}

criterion_group!(benches, table, split, decode);
criterion_main!(benches);
