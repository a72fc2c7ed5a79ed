//! Where Redis is and who we are there.
//!
//! Invariant: no password is ever shown, neither in an error nor in a debug form.

use std::fmt;

use fred::types::config::{Config, ServerConfig};

use super::Error;
use crate::model::keys::Keys;

/// What is needed to reach Redis.
#[derive(Clone)]
pub struct Options {
    /// `redis://`, `rediss://`, `redis-sentinel://`, `redis-cluster://` (each also with `valkey`,
    /// the last two also with `rediss`), or `unix:///path[?db=N]`.
    pub url: String,
    /// User; wins over the URL.
    pub user: Option<String>,
    /// Password; wins over the URL.
    pub password: Option<String>,
    /// The keys we speak of.
    pub keys: Keys,
    /// Our name among the gateways.
    pub instance: String,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.shown())
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The URL without user, password and query, fit for logs.
    #[must_use]
    pub fn shown(&self) -> String {
        let (url, query) = self.url.split_once(['?', '#']).unwrap_or((&self.url, ""));
        let Some((scheme, rest)) = url.split_once("://") else {
            // Without a scheme nobody can tell a password from a host.
            return if url.starts_with('/') {
                url
            } else {
                "(no URL)"
            }
            .to_owned();
        };
        // A password may hold a question mark where somebody forgot to escape it.
        let place = match rest.rsplit_once('@') {
            Some((_, place)) => place,
            None if query.contains('@') => "…",
            None => rest,
        };
        format!("{scheme}://{place}")
    }

    /// The same for fred, checked.
    pub(super) fn config(&self) -> Result<Config, Error> {
        let mut config = match unix_path(&self.url) {
            Some(rest) => unix_config(rest)?,
            None => url_config(&self.url)?,
        };
        config.fail_fast = false;
        config.username = self.user.clone().or(config.username);
        config.password = self.password.clone().or(config.password);
        if config.server.is_clustered() && !self.keys.has_hash_tag() {
            return Err(Error::NoHashTag(self.keys.prefix().to_owned()));
        }
        Ok(config)
    }
}

/// What follows the scheme of a URL that names a unix socket.
fn unix_path(url: &str) -> Option<&str> {
    const SCHEMES: [&str; 4] = ["unix://", "redis+unix://", "valkey+unix://", "unix:"];
    let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
    rest.or_else(|| url.starts_with('/').then_some(url))
}

fn unix_config(rest: &str) -> Result<Config, Error> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (credentials, path) = match place.split_once("@/") {
        Some((credentials, _)) if !place.starts_with('/') => (
            credentials,
            place.get(credentials.len() + 1..).unwrap_or(""),
        ),
        _ => ("", place),
    };
    if !path.starts_with('/') {
        return Err(Error::Url("a unix socket needs an absolute path".into()));
    }
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let database = match query.strip_prefix("db=") {
        Some(number) => Some(
            number
                .parse()
                .map_err(|_not_so| Error::Url("want ?db=0 to ?db=255".into()))?,
        ),
        None if query.is_empty() => None,
        None => return Err(Error::Url("of a unix socket only ?db=N is known".into())),
    };
    Ok(Config {
        server: ServerConfig::new_unix_socket(path),
        username: said(user),
        password: said(password),
        database,
        ..Config::default()
    })
}

fn url_config(url: &str) -> Result<Config, Error> {
    const SCHEMES: [&str; 12] = [
        "redis",
        "rediss",
        "valkey",
        "valkeys",
        "redis-sentinel",
        "rediss-sentinel",
        "valkey-sentinel",
        "valkeys-sentinel",
        "redis-cluster",
        "rediss-cluster",
        "valkey-cluster",
        "valkeys-cluster",
    ];
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| SCHEMES.contains(&scheme)) {
        return Err(Error::Url(
            "want redis://, rediss://, redis-sentinel://, redis-cluster:// or unix://".into(),
        ));
    }
    Config::from_url(url).map_err(|error| Error::Url(error.details().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        Options {
            url: url.to_owned(),
            user: None,
            password: Some("environment".to_owned()),
            keys: Keys::new("smartlink:"),
            instance: "a".to_owned(),
        }
    }

    #[test]
    fn every_kind_of_url_is_taken() {
        for (url, hosts, database) in [
            ("redis://h", "h:6379", None),
            ("redis://u:p@h:1/3", "h:1", Some(3)),
            ("unix:///tmp/r.sock", "/tmp/r.sock:0", None),
            ("unix:///tmp/r.sock?db=2", "/tmp/r.sock:0", Some(2)),
            ("unix://u:p@/tmp/r.sock", "/tmp/r.sock:0", None),
            ("redis+unix:///tmp/r.sock", "/tmp/r.sock:0", None),
            ("/tmp/r.sock", "/tmp/r.sock:0", None),
            (
                "redis-sentinel://h:1/4?sentinelServiceName=m",
                "h:1",
                Some(4),
            ),
        ] {
            let config = options(url).config().expect(url);
            assert_eq!(config.server.hosts()[0].to_string(), hosts, "{url}");
            assert_eq!(config.database, database, "{url}");
            assert!(config.password.is_some(), "{url}");
        }
        let mut options = options("redis://u:p@h");
        let password = |options: &Options| options.config().expect("valid").password;
        assert_eq!(password(&options).as_deref(), Some("environment"));
        options.password = None;
        assert_eq!(password(&options).as_deref(), Some("p"));
    }

    #[test]
    fn a_cluster_needs_a_hash_tag() {
        let mut options = options("redis-cluster://h:1");
        assert!(matches!(options.config(), Err(Error::NoHashTag(_))));
        options.keys = Keys::new("{smartlink}:");
        assert!(options.config().is_ok());
    }

    #[test]
    fn bad_urls_are_refused_without_showing_the_password() {
        for url in [
            "",
            "host:6379",
            "http://secret@h",
            "redis://u:secret@h:port",
            "redis://u:secret@",
            "unix://u:secret@path",
            "unix:///p?db=x",
            "redis://u:secret@h/db",
            "redis-sentinel://u:secret@h",
        ] {
            let options = options(url);
            let error = options.config().expect_err(url);
            let shown = format!("{error} {options:?}");
            assert!(!shown.contains("secret"), "{shown}");
            assert!(!shown.contains("environment"), "{shown}");
        }
    }
}
