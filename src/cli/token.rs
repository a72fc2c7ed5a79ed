//! `token`: typed help with the hashes under `smartlink:token:`.
//!
//! Invariant: a token is printed once, when it is made, and kept nowhere.

use std::fmt::Write as _;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::write::{failed, with_store};
use super::{Error, redis_options};
use crate::model::decode::{Fields, Raw};
use crate::model::keys::{Object, Parsed};
use crate::model::token;
use crate::settings::{self, CreateToken, ListTokens, RevokeToken, TokenAction};
use crate::store;

/// What tokens begin with, so that scanners for lost secrets know them.
const PREFIX: &str = "sl_";
/// Random bytes of a token: nobody guesses 256 bits.
const BYTES: usize = 32;
/// The fewest digits of a hash that name a token.
const DIGITS_MIN: usize = 8;

/// A token as it is listed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Row {
    name: String,
    /// The first digits of its hash.
    digits: String,
    services: String,
    not_before: Option<String>,
    expires: Option<String>,
    enabled: bool,
    #[serde(skip)]
    key: String,
    #[serde(skip)]
    hash: String,
}

/// Does what is asked about tokens.
pub(super) fn run(token: &settings::Token) -> Result<ExitCode, Error> {
    match &token.action {
        TokenAction::Create(create) => self::create(create),
        TokenAction::List(list) => self::list(list),
        TokenAction::Revoke(revoke) => self::revoke(revoke),
    }
}

fn create(create: &CreateToken) -> Result<ExitCode, Error> {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).map_err(|error| Error::Random(error.to_string()))?;
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = hex(&Sha256::digest(&text));
    let options = redis_options(&create.redis, &instance());
    let key = options.keys.object(&Object::Token(hash.clone().into()));
    let fields = fields(create);
    let (_, mistakes) = token::decode("token", &hash, &fields);
    if !mistakes.is_empty() {
        for mistake in mistakes {
            let field = mistake.field.unwrap_or_default().replace('_', "-");
            eprintln!("smartlink: --{field}: {}", mistake.message);
        }
        return Ok(ExitCode::from(super::BAD_FLAGS));
    }
    with_store(&options, async |store| {
        store.write_token(&key, &fields).await
    })?;
    if create.json {
        let json = serde_json::json!({"token": text, "key": key, "name": create.name});
        super::print(&format!("{json:#}\n"))?;
    } else {
        eprintln!("smartlink: made {key}; the token is shown this once:");
        super::print(&format!("{text}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fields(create: &CreateToken) -> Fields {
    let on = create.may_choose.then(|| "on".to_owned());
    let fields = [
        ("name", Some(&create.name)),
        ("services", Some(&create.services)),
        ("expires", create.expires.as_ref()),
        ("not_before", create.not_before.as_ref()),
        ("rate", create.rate.as_ref()),
        ("burst", create.burst.as_ref()),
        ("concurrency", create.concurrency.as_ref()),
        ("allow_ip", create.allow_ip.as_ref()),
        ("may_choose", on.as_ref()),
    ];
    let fields = fields.into_iter();
    let fields = fields.filter_map(|(field, text)| Some((field.to_owned(), text?.clone())));
    fields.collect()
}

fn list(list: &ListTokens) -> Result<ExitCode, Error> {
    let rows = rows(&redis_options(&list.redis, &instance()))?;
    super::print(&if list.json {
        let json = serde_json::to_string_pretty(&rows).expect("texts are JSON");
        format!("{json}\n")
    } else {
        lines(&rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn lines(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no tokens\n".to_owned();
    }
    let width = rows.iter().map(|row| row.name.chars().count()).max();
    let width = width.unwrap_or_default().max("name".len());
    let mut lines = format!(
        "{:width$}  {:8}  {:20}  services\n",
        "name", "hash", "expires"
    );
    for row in rows {
        let expires = row.expires.as_deref().unwrap_or("never");
        let off = if row.enabled { "" } else { "  (off)" };
        let Row {
            name,
            digits,
            services,
            ..
        } = row;
        // Writing into a text cannot fail.
        let _written = writeln!(
            lines,
            "{name:width$}  {digits:8}  {expires:20}  {services}{off}"
        );
    }
    lines
}

fn revoke(revoke: &RevokeToken) -> Result<ExitCode, Error> {
    let options = redis_options(&revoke.redis, &instance());
    let rows = rows(&options)?;
    let which = revoke.which.as_str();
    let digits = which.len() >= DIGITS_MIN && which.bytes().all(|b| b.is_ascii_hexdigit());
    let named = |row: &&Row| row.name == which || (digits && row.hash.starts_with(which));
    let found: Vec<&Row> = rows.iter().filter(named).collect();
    if found.len() > 1 && !revoke.all {
        eprintln!("smartlink: several tokens are called {which}; name one by its digits, or --all");
        super::print(&lines_of(&found))?;
        return Ok(ExitCode::FAILURE);
    }
    if found.is_empty() {
        eprintln!("smartlink: no token is called {which}");
        return Ok(ExitCode::FAILURE);
    }
    let keys = found.iter().map(|row| row.key.clone()).collect();
    let gone = with_store(&options, async |store| store.delete_tokens(keys).await)?;
    super::print(&format!("revoked {gone}: {which}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn lines_of(rows: &[&Row]) -> String {
    let line = |row: &&Row| format!("{}  {}\n", row.digits, row.services);
    rows.iter().map(line).collect()
}

/// All tokens that stand in Redis, right or wrong.
fn rows(options: &store::Options) -> Result<Vec<Row>, Error> {
    let read = super::runtime()?.block_on(store::read_all(options));
    let found = read.map_err(|cause| failed(options, cause))?;
    let mut rows: Vec<Row> = found
        .into_iter()
        .filter_map(|(key, raw)| match (options.keys.parse(&key), raw) {
            (Parsed::Object(Object::Token(hash)), Raw::Hash(fields)) => {
                Some(row(key, &hash, &fields))
            }
            _ => None,
        })
        .collect();
    rows.sort();
    Ok(rows)
}

fn row(key: String, hash: &str, fields: &Fields) -> Row {
    let field = |name: &str| fields.get(name).cloned();
    let digits: String = hash.chars().take(DIGITS_MIN).collect();
    let enabled =
        field("enabled").is_none_or(|text| crate::model::value::switch(&text) != Ok(false));
    Row {
        name: field("name").unwrap_or_else(|| digits.clone()),
        digits,
        services: field("services").unwrap_or_default(),
        not_before: field("not_before"),
        expires: field("expires"),
        enabled,
        key,
        hash: hash.to_owned(),
    }
}

fn instance() -> String {
    format!("token-{}", std::process::id())
}

fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a text cannot fail.
        let _written = write!(digits, "{byte:02x}");
    }
    digits
}
