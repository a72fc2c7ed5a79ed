//! JSON Web Tokens before a whole gateway: every forgery is refused, every good one is not, and the
//! issuer is not asked more than it must be.

use jsonwebtoken::Algorithm::{self, *};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::load::{Answer, Caller, serving};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::signer::{
    Publisher, RSA_PUBLIC, RSA_PUBLIC_FILE, jwk, now, part, sign, sign_parts, with,
};
use crate::support::site::{Site, await_proof};
use crate::support::upstream::Upstream;

const EVERY: &str = "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,EdDSA";

/// A gateway with issuers of all kinds, and what it needs.
struct House {
    redis: Redis,
    issuer: Publisher,
    site: Site,
    _upstream: Upstream,
}

impl House {
    fn start() -> Self {
        let redis = Redis::start();
        let (upstream, _) = serving("ok");
        let issuer = Publisher::start(&keys());
        for (service, auth) in [("s", "jwt:corp, jwt:batch"), ("f", "jwt:file")] {
            redis.call(&[
                "HSET",
                &format!("smartlink:endpoints:{service}"),
                &upstream.url("/"),
                "base",
            ]);
            redis.call(&[
                "HSET",
                &format!("smartlink:service:{service}"),
                "auth",
                auth,
            ]);
        }
        let write = |id: &str, pairs: &[&str]| {
            let key = format!("smartlink:issuer:{id}");
            redis.call(&[&["HSET", &key, "audience", "smartlink"], pairs].concat());
        };
        let url = issuer.url("/keys");
        write(
            "corp",
            &[
                "issuer",
                "https://id.example/",
                "algorithms",
                EVERY,
                "jwks_url",
                &url,
            ],
        );
        write(
            "batch",
            &[
                "issuer",
                "batch",
                "algorithms",
                "HS256,HS384,HS512",
                "secret_env",
                "SECRET",
            ],
        );
        write(
            "file",
            &[
                "issuer",
                "file",
                "algorithms",
                "RS256",
                "public_key_file",
                RSA_PUBLIC_FILE,
            ],
        );
        let site = Site::start(&redis);
        await_proof(&redis);
        Self {
            redis,
            issuer,
            site,
            _upstream: upstream,
        }
    }

    fn ask(&self, service: &str, credential: &str) -> Answer {
        let body = format!(r#"{{"server_name": "{service}"}}"#);
        let length = body.len();
        let request = format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\n{credential}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.site.ask(request.as_bytes())
    }

    fn bearer(&self, service: &str, token: &str) -> Answer {
        self.ask(service, &format!("authorization: Bearer {token}"))
    }
}

fn keys() -> Value {
    let names = ["rsa", "p256", "p384", "ed25519"];
    json!({"keys": names.map(|name| jwk(name, name))})
}

fn corp() -> Value {
    json!({"iss": "https://id.example/", "aud": "smartlink", "sub": "alice", "exp": now() + 600})
}

fn signer(algorithm: Algorithm) -> &'static str {
    match algorithm {
        ES256 => "p256",
        ES384 => "p384",
        EdDSA => "ed25519",
        HS256 | HS384 | HS512 => "s3cret",
        _ => "rsa",
    }
}

/// A good token of `corp`, or of `batch` where the algorithm needs a secret.
fn good(algorithm: Algorithm) -> String {
    changed(algorithm, &json!({}), &json!({}))
}

/// A good one, but for these changes to header and claims, and signed as it should be.
fn changed(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
    let name = signer(algorithm);
    let is_secret = name == "s3cret";
    let plain = json!({"alg": format!("{algorithm:?}"), "typ": "JWT", "kid": name});
    let issuer = if is_secret {
        json!({"iss": "batch"})
    } else {
        json!({})
    };
    let plain_claims = with(corp(), &issuer);
    sign(
        &with(plain, header),
        &with(plain_claims, claims),
        (name, algorithm),
    )
}

/// Three parts of a token.
fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("three parts")
}

fn of_headers() -> Vec<(String, String)> {
    let [_, claims, signature] = parts(&good(RS256));
    let mut all = Vec::new();
    let mut add = |name: &str, token: String| all.push((name.to_owned(), token));
    for alg in [
        "none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "HS256", "ES512", "RS1",
    ] {
        let head = part(&json!({"alg": alg, "kid": "rsa"}));
        add(
            &format!("alg {alg:?} without signature"),
            format!("{head}.{claims}."),
        );
        add(
            &format!("alg {alg:?} with a signature"),
            format!("{head}.{claims}.{signature}"),
        );
    }
    for alg in [
        json!(null),
        json!(1),
        json!(["RS256"]),
        json!({"a": "RS256"}),
    ] {
        let head = part(&json!({"alg": alg}));
        add(
            &format!("alg {alg}"),
            sign_parts(&head, &claims, ("rsa", RS256)),
        );
    }
    for (name, extra) in [
        ("crit", json!({"crit": ["exp"]})),
        ("crit of nothing", json!({"crit": []})),
        ("crit with b64", json!({"crit": ["b64"], "b64": false})),
        ("kid a number", json!({"kid": 1})),
        ("kid a list", json!({"kid": ["rsa"]})),
    ] {
        add(name, changed(RS256, &extra, &json!({})));
    }
    let theirs = jwk("stranger", "stranger");
    for (name, extra) in [
        ("a stranger's key", json!({})),
        ("a stranger's jwk inside", json!({"jwk": theirs})),
        ("jku elsewhere", json!({"jku": "http://127.0.0.1:1/keys"})),
        ("x5u elsewhere", json!({"x5u": "http://127.0.0.1:1/cert"})),
        ("x5c inside", json!({"x5c": ["MIIB"]})),
    ] {
        let head = with(json!({"alg": "RS256", "kid": "rsa"}), &extra);
        add(name, sign(&head, &corp(), ("stranger", RS256)));
        let bare = with(head, &json!({"kid": null}));
        add(
            &format!("{name}, no kid"),
            sign(&bare, &corp(), ("stranger", RS256)),
        );
    }
    add("alg twice", {
        let head = r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#;
        let head = base64_text(head);
        sign_parts(&head, &claims, ("rsa", RS256))
    });
    all
}

/// Key identifiers that hope to be used as a path or in a query.
fn of_kids() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, token: String| all.push((name.to_owned(), token));
    for kid in [
        "../../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "rsa\n",
        "rsa\u{0}",
        "file:///etc/passwd",
    ] {
        let head = json!({"alg": "HS256", "kid": kid});
        add(
            &format!("kid {kid:?} and no secret"),
            sign(&head, &corp(), ("", HS256)),
        );
    }
    all
}

fn base64_text(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

/// The wrong key or algorithm for what the token says.
fn of_keys() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, token: String| all.push((name.to_owned(), token));
    let published = keys().to_string();
    let rsa = jwk("rsa", "rsa");
    let modulus = rsa
        .get("n")
        .and_then(Value::as_str)
        .expect("text")
        .to_owned();
    let secrets = [
        RSA_PUBLIC,
        RSA_PUBLIC.trim(),
        &published,
        &modulus,
        "",
        "secret",
    ];
    for (at, secret) in secrets.iter().enumerate() {
        for algorithm in [HS256, HS384, HS512] {
            for iss in ["https://id.example/", "batch", "file"] {
                let head = json!({"alg": format!("{algorithm:?}"), "kid": "rsa"});
                let claims = with(corp(), &json!({"iss": iss}));
                let token = sign(&head, &claims, (secret, algorithm));
                add(&format!("{algorithm:?} with secret {at} for {iss}"), token);
            }
        }
    }
    for (said, name, algorithm) in [
        ("PS256", "rsa", RS256),
        ("RS256", "rsa", PS256),
        ("RS512", "rsa", RS256),
        ("ES256", "p384", ES384),
        ("ES384", "p256", ES256),
        ("EdDSA", "p256", ES256),
        ("ES256", "ed25519", EdDSA),
        ("RS256", "ed25519", EdDSA),
        ("HS256", "rsa", RS256),
    ] {
        for kid in [signer(ES256), signer(RS256), name] {
            let head = json!({"alg": said, "kid": kid});
            let token = sign(&head, &corp(), (name, algorithm));
            add(&format!("{said} signed by {algorithm:?}, kid {kid}"), token);
        }
    }
    let batch = with(corp(), &json!({"iss": "batch"}));
    add(
        "batch by corp's key",
        sign(
            &json!({"alg": "RS256", "kid": "rsa"}),
            &batch,
            ("rsa", RS256),
        ),
    );
    add(
        "corp by batch's secret",
        sign(&json!({"alg": "HS256"}), &corp(), ("s3cret", HS256)),
    );
    all
}

fn of_signatures() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, token: String| all.push((name.to_owned(), token));
    for algorithm in [RS256, PS256, ES256, ES384, EdDSA, HS256] {
        let [head, claims, signature] = parts(&good(algorithm));
        let [_, _, other] = parts(&changed(algorithm, &json!({}), &json!({"sub": "bob"})));
        let admin = part(&with(corp(), &json!({"sub": "root"})));
        let name = |what: &str| format!("{algorithm:?} {what}");
        let zeros = base64_text(&"\0".repeat(64));
        let half = signature
            .get(..signature.len() / 2)
            .expect("ASCII")
            .to_owned();
        let flipped: String = flip(&signature);
        add(
            &name("claims of somebody else"),
            format!("{head}.{admin}.{signature}"),
        );
        add(
            &name("signature of another"),
            format!("{head}.{claims}.{other}"),
        );
        add(
            &name("signature of zeros"),
            format!("{head}.{claims}.{zeros}"),
        );
        add(&name("half a signature"), format!("{head}.{claims}.{half}"));
        add(
            &name("signature twice"),
            format!("{head}.{claims}.{signature}{signature}"),
        );
        add(&name("one bit"), format!("{head}.{claims}.{flipped}"));
        add(&name("no signature"), format!("{head}.{claims}."));
        add(&name("padding"), format!("{head}.{claims}.{signature}=="));
        add(
            &name("four parts"),
            format!("{head}.{claims}.{signature}.{signature}"),
        );
        add(&name("two parts"), format!("{head}.{claims}"));
        add(
            &name("a dot before"),
            format!(".{head}.{claims}.{signature}"),
        );
        add(
            &name("a blank inside"),
            format!("{head}.{claims}. {signature}"),
        );
        add(
            &name("two tokens"),
            format!("{head}.{claims}.{signature},{head}.{claims}.{signature}"),
        );
    }
    add(
        "five parts, as if encrypted",
        "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d".to_owned(),
    );
    add("huge", format!("{}.{}", good(RS256), "a".repeat(30_000)));
    add("dots", "..".to_owned());
    add("percent", good(RS256).replace('.', "%2e"));
    all
}

/// The first character changed.
fn flip(signature: &str) -> String {
    let (first, rest) = signature.split_at(1);
    format!("{}{rest}", if first == "A" { "B" } else { "A" })
}

fn of_claims() -> Vec<(String, String)> {
    let changes = [
        json!({"exp": now() - 31}),
        json!({"exp": 0}),
        json!({"exp": -1}),
        json!({"exp": null}),
        json!({"exp": (now() + 600).to_string()}),
        json!({"exp": [now() + 600]}),
        json!({"exp": true}),
        json!({"nbf": now() + 120}),
        json!({"nbf": "0"}),
        json!({"iss": null}),
        json!({"iss": ""}),
        json!({"iss": "https://id.example"}),
        json!({"iss": "https://ID.example/"}),
        json!({"iss": "https://id.example/x"}),
        json!({"iss": ["https://id.example/"]}),
        json!({"iss": {"a": "https://id.example/"}}),
        json!({"aud": null}),
        json!({"aud": ""}),
        json!({"aud": "smartlink2"}),
        json!({"aud": "Smartlink"}),
        json!({"aud": []}),
        json!({"aud": ["other"]}),
        json!({"aud": {"smartlink": true}}),
        json!({"aud": "smartlink other"}),
    ];
    let mut all: Vec<(String, String)> = changes
        .iter()
        .map(|change| {
            (
                format!("claims {change}"),
                changed(RS256, &json!({}), change),
            )
        })
        .collect();
    let head = part(&json!({"alg": "RS256", "kid": "rsa"}));
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for text in ["[]", "1", "", "{", "null", &deep] {
        let token = sign_parts(&head, &base64_text(text), ("rsa", RS256));
        all.push((format!("claims {text:.20}"), token));
    }
    all
}

#[test]
fn every_forged_token_is_refused_and_every_good_one_is_not() {
    let house = House::start();
    let algorithms = [
        RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512,
    ];
    let parts_of_a_second: Value =
        serde_json::from_str(&format!("{}.5", now() + 60)).expect("a number");
    for algorithm in algorithms {
        for (header, claims) in [
            (json!({}), json!({})),
            (
                json!({"kid": null, "typ": null, "jku": "http://127.0.0.1:1/"}),
                json!({}),
            ),
            (
                json!({}),
                json!({"aud": ["x", "smartlink"], "nbf": now() + 10}),
            ),
            (json!({}), json!({"exp": now() - 20, "sub": null})),
            (json!({"x": {"y": 1}}), json!({"exp": parts_of_a_second})),
        ] {
            let token = changed(algorithm, &header, &claims);
            for line in [
                "authorization: Bearer",
                "authorization: bearer",
                "x-api-key:",
            ] {
                let answer = house.ask("s", &format!("{line} {token}"));
                assert_eq!(
                    answer.status, 200,
                    "{algorithm:?} {header} {claims} {answer:?}"
                );
            }
        }
    }
    let forged = [
        of_headers(),
        of_kids(),
        of_keys(),
        of_signatures(),
        of_claims(),
    ]
    .concat();
    assert!(forged.len() >= 60, "{}", forged.len());
    for (name, token) in &forged {
        for service in ["s", "f"] {
            let answer = house.bearer(service, token);
            assert!(matches!(answer.status, 401 | 431), "{name}: {answer:?}");
        }
    }
    // All of them together made the issuer be asked for its keys twice at most: when it appeared,
    // and because of keys that nobody knows.
    assert!(house.issuer.asked() <= 3, "{}", house.issuer.asked());
    let file = |alg, iss: &str| {
        let claims = with(corp(), &json!({"iss": iss}));
        sign(&json!({"alg": format!("{alg:?}")}), &claims, ("rsa", alg))
    };
    assert_eq!(house.bearer("f", &file(RS256, "file")).status, 200);
    assert_eq!(house.bearer("f", &file(RS512, "file")).status, 401);
    assert_eq!(house.bearer("f", &good(RS256)).status, 401);
}

#[test]
fn unknown_keys_make_an_issuer_be_asked_once_and_delay_nobody() {
    let house = House::start();
    assert_eq!(house.bearer("s", &good(RS256)).status, 200);
    std::thread::scope(|scope| {
        for at in 0..50 {
            let house = &house;
            scope.spawn(move || {
                let head = json!({"alg": "RS256", "kid": format!("k{at}")});
                let token = sign(&head, &corp(), ("stranger", RS256));
                assert_eq!(house.bearer("s", &token).status, 401);
            });
        }
    });
    assert_eq!(house.bearer("s", &good(ES256)).status, 200);
    assert!(house.issuer.asked() <= 3, "{}", house.issuer.asked());
}

#[test]
fn a_new_key_is_known_with_the_first_token_that_it_signs() {
    let house = House::start();
    let token = sign(
        &json!({"alg": "RS256", "kid": "new"}),
        &corp(),
        ("stranger", RS256),
    );
    assert_eq!(house.bearer("s", &good(RS256)).status, 200);
    house
        .issuer
        .say(200, &json!({"keys": [jwk("stranger", "new")]}));
    assert_eq!(house.bearer("s", &token).status, 200);
    // And the one that was taken back is none any more, however good it was found before.
    assert_eq!(house.bearer("s", &good(RS256)).status, 401);
}

#[test]
fn keys_that_were_there_last_stay_while_the_issuer_is_away() {
    let house = House::start();
    assert_eq!(house.bearer("s", &good(RS256)).status, 200);
    house.redis.run("HSET smartlink:issuer:corp cache 50ms");
    eventually("the new setting counts", || {
        (house.issuer.asked() >= 3).then_some(())
    });
    for answer in [
        (500, keys()),
        (302, keys()),
        (200, json!({"keys": []})),
        (200, json!("x")),
    ] {
        house.issuer.say(answer.0, &answer.1);
        let before = house.issuer.asked();
        eventually("it was asked in vain", || {
            (house.issuer.asked() > before).then_some(())
        });
        assert_eq!(house.bearer("s", &good(RS256)).status, 200);
    }
}

#[test]
fn services_are_those_of_the_claim_and_a_changed_issuer_counts_at_once() {
    let house = House::start();
    let token = changed(RS256, &json!({}), &json!({"services": ["x", "y-*"]}));
    assert_eq!(house.bearer("s", &token).status, 200);
    house
        .redis
        .run("HSET smartlink:issuer:corp services_claim services");
    let status = |wanted: u16, token: &str| {
        eventually("the setting counts", || {
            (house.bearer("s", token).status == wanted).then_some(())
        });
    };
    status(403, &token);
    status(403, &good(RS256));
    status(
        200,
        &changed(ES256, &json!({}), &json!({"services": "a, s"})),
    );
    house
        .redis
        .run("HSET smartlink:issuer:corp require tier=gold");
    status(
        401,
        &changed(ES256, &json!({}), &json!({"services": "a, s"})),
    );
    status(
        200,
        &changed(ES256, &json!({}), &json!({"services": "s", "tier": "gold"})),
    );
}

#[test]
fn a_service_whose_issuer_is_not_there_is_closed_and_a_slip_changes_nothing() {
    let house = House::start();
    let token = good(RS256);
    assert_eq!(house.bearer("s", &token).status, 200);
    // A slip of the pen: what was in force stays, and is named.
    house.redis.run("HSET smartlink:service:s auth jwt:crop");
    eventually("the slip is named", || {
        let errors = house.redis.hash("smartlink:errors");
        errors.get("smartlink:service:s auth").cloned()
    });
    assert_eq!(house.bearer("s", &token).status, 200);
    house.redis.run("HSET smartlink:service:s auth jwt:corp");
    house.redis.run("DEL smartlink:issuer:corp");
    eventually("nobody gets in", || {
        (house.bearer("s", &token).code() == "misconfigured").then_some(())
    });
}

#[test]
fn discovery_finds_the_keys_of_an_issuer_that_is_a_url() {
    let redis = Redis::start();
    let (upstream, _) = serving("ok");
    let keys = Publisher::start(&keys());
    let document = Publisher::start(&json!({}));
    let issuer = document.url("/realm");
    document.say(
        200,
        &json!({"issuer": issuer, "jwks_uri": keys.url("/keys")}),
    );
    redis.call(&["HSET", "smartlink:endpoints:s", &upstream.url("/"), "base"]);
    redis.run("HSET smartlink:service:s auth jwt:corp");
    redis.call(&[
        "HSET",
        "smartlink:issuer:corp",
        "issuer",
        &issuer,
        "audience",
        "smartlink",
        "algorithms",
        "RS256",
    ]);
    let site = Site::start(&redis);
    let token = changed(RS256, &json!({}), &json!({"iss": issuer}));
    let request = format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nx-api-key: {token}\r\ncontent-length: 20\r\n\r\n\
         {{\"server_name\": \"s\"}}"
    );
    let mut caller = Caller::connect(site.address).expect("it accepts");
    let answer = caller.ask(request.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn an_issuer_whose_tokens_cannot_be_judged_is_named() {
    let redis = Redis::start();
    let _site = Site::start(&redis);
    await_proof(&redis);
    let file = redis.folder().join("keys.pem");
    let nobody = Port::reserve();
    let common = "audience smartlink issuer https://id.example/ algorithms";
    for (id, rest) in [
        ("secret", "HS256 secret_env NOWHERE".to_owned()),
        ("file", format!("RS256 public_key_file {}", file.display())),
        ("away", format!("RS256 jwks_url {}", nobody.url())),
        (
            "asked",
            "RS256 introspection_url https://127.0.0.1/ client_id a client_secret_env NOWHERE"
                .to_owned(),
        ),
    ] {
        redis.run(&format!("HSET smartlink:issuer:{id} {common} {rest}"));
    }
    let places = [
        ("secret secret_env", "NOWHERE_FILE"),
        ("file public_key_file", "No such file"),
        ("away jwks_url", ""),
        ("asked client_secret_env", "NOWHERE_FILE"),
    ];
    for (place, why) in places {
        let place = format!("smartlink:issuer:{place}");
        let named = eventually(&place, || redis.hash("smartlink:errors").remove(&place));
        assert!(named.contains(why), "{named}");
        assert!(named.contains(" (since "), "{named}");
    }
    std::fs::copy(RSA_PUBLIC_FILE, &file).expect("the file can be written");
    redis.run("HSET smartlink:issuer:secret secret_env SECRET");
    redis.run("DEL smartlink:issuer:away");
    redis.run("HSET smartlink:issuer:asked client_secret_env SECRET");
    eventually("all is mended", || {
        redis.hash("smartlink:errors").is_empty().then_some(())
    });
}
