//! `demo`: one demo service, an address in, coordinates out in the standard output form.
//!
//! Known cities lie where they lie; any other text gets a point of its own that never changes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{Error, signal};
use crate::settings;

/// What a request may hold.
const BODY_MAX: usize = 1024 * 1024;

/// Where well-known places lie: name, longitude, latitude.
const PLACES: [(&str, f64, f64); 12] = [
    ("Beijing", 116.4074, 39.9042),
    ("Berlin", 13.4050, 52.5200),
    ("Hangzhou", 120.1551, 30.2741),
    ("London", -0.1276, 51.5072),
    ("Nairobi", 36.8219, -1.2921),
    ("New York", -74.0060, 40.7128),
    ("Paris", 2.3522, 48.8566),
    ("San Francisco", -122.4194, 37.7749),
    ("Shanghai", 121.4737, 31.2304),
    ("Shenzhen", 114.0579, 22.5431),
    ("Sydney", 151.2093, -33.8688),
    ("Tokyo", 139.6917, 35.6895),
];

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(demo: &settings::Demo) -> Result<ExitCode, Error> {
    super::runtime()?.block_on(async {
        let listener = listen(demo.listen).await?;
        super::print(&format!(
            "demo service {} on http://{}/get_lng_lat/\n",
            demo.version, demo.listen
        ))?;
        let mut stop = signal::Stop::listen()?;
        let role = Role {
            version: demo.version.clone(),
            faults: if demo.faulty {
                Faults::All
            } else {
                Faults::None
            },
        };
        tokio::select! {
            never = serve(listener, role) => match never {},
            () = stop.wait() => Ok(ExitCode::SUCCESS),
        }
    })
}

/// A socket for `serve`.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| Error::Listen { address, cause })
}

/// What a demo service plays.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// What its answers say in the field `version`.
    pub(super) version: String,
    /// What is wrong with it.
    pub(super) faults: Faults,
}

/// What is wrong with a version that is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    /// Nothing.
    None,
    /// It fails on streets, and is wrong now and then.
    All,
    /// It fails on streets, but not where only a copy of a request comes.
    OfUsers,
}

/// Answers on every connection, in its role, as long as it is polled.
pub(super) async fn serve(listener: TcpListener, role: Role) -> Infallible {
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            // Out of file descriptors, most likely: let some close.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let role = role.clone();
        tokio::spawn(async move {
            let service = service_fn(move |req| answer(req, role.clone()));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new());
            // A caller that breaks the connection off is no news to a demo.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// The fields of the standard input form that the demo reads.
#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    server_name: String,
    #[serde(default)]
    data: Vec<Value>,
}

async fn answer(req: Request<Incoming>, role: Role) -> Result<Response<Full<Bytes>>, Infallible> {
    let version = &role.version;
    if req.method() != Method::POST {
        let hello = refusal("POST the standard input form", version);
        return Ok(reply(StatusCode::OK, &hello));
    }
    let is_copy = req.headers().contains_key("x-smartlink-shadow");
    let fails = match role.faults {
        Faults::None => false,
        Faults::All => true,
        Faults::OfUsers => !is_copy,
    };
    let body = Limited::new(req.into_body(), BODY_MAX).collect().await;
    let input = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Input>(&body.to_bytes()).ok());
    Ok(match input {
        Some(input) if fails && input.data.iter().any(is_street) => reply(
            StatusCode::INTERNAL_SERVER_ERROR,
            &refusal("no idea how to read a street", version),
        ),
        Some(input) => reply(StatusCode::OK, &output(&input, &role)),
        None => reply(
            StatusCode::BAD_REQUEST,
            &refusal("want the standard input form", version),
        ),
    })
}

/// The standard output form, and which version made it.
#[derive(Serialize)]
struct Output<'a> {
    server_name: &'a str,
    status: bool,
    msg: &'a str,
    data: Vec<Place<'a>>,
    duration: u64,
    version: &'a str,
}

#[derive(Serialize)]
struct Place<'a> {
    address: &'a str,
    lng: f64,
    lat: f64,
}

/// The address that an item of `data` is, or holds.
fn address_of(item: &Value) -> &str {
    let address = item.as_str().or_else(|| item.get("address")?.as_str());
    address.unwrap_or_default()
}

fn is_street(item: &Value) -> bool {
    address_of(item).contains("Street")
}

fn output<'a>(input: &'a Input, role: &'a Role) -> Output<'a> {
    let place = |item: &'a Value| {
        let address = address_of(item);
        let (lng, lat) = locate(address);
        // A version that is not ready misses the digits of some.
        let wrong = role.faults == Faults::All && address.len().is_multiple_of(5);
        let lat = if wrong { lat.round() } else { lat };
        Place { address, lng, lat }
    };
    Output {
        server_name: &input.server_name,
        status: true,
        msg: "success",
        data: input.data.iter().map(place).collect(),
        duration: 0,
        version: &role.version,
    }
}

fn refusal<'a>(msg: &'a str, version: &'a str) -> Output<'a> {
    Output {
        server_name: "",
        status: false,
        msg,
        data: Vec::new(),
        duration: 0,
        version,
    }
}

fn reply(status: StatusCode, output: &Output<'_>) -> Response<Full<Bytes>> {
    let json = serde_json::to_vec(output).expect("texts and finite numbers are JSON");
    let mut resp = Response::new(Full::from(json));
    *resp.status_mut() = status;
    resp.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    resp
}

/// Longitude and latitude of an address: of the place it names, else a point made of its letters.
fn locate(address: &str) -> (f64, f64) {
    let lower = address.to_lowercase();
    let known = PLACES
        .iter()
        .find(|(name, _, _)| lower.contains(&name.to_lowercase()));
    if let Some((_, lng, lat)) = known {
        return (*lng, *lat);
    }
    let hash = lower.bytes().fold(0xcbf2_9ce4_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let lng = f64::from(hash % 3_600_000) / 10_000.0 - 180.0;
    let lat = f64::from(hash / 7 % 1_200_000) / 10_000.0 - 60.0;
    (four_digits(lng), four_digits(lat))
}

fn four_digits(degrees: f64) -> f64 {
    (degrees * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_always_lies_at_the_same_point() {
        assert_eq!(locate("Alexanderplatz 1, berlin"), (13.405, 52.52));
        for address in ["", "somewhere else", "北京"] {
            let (lng, lat) = locate(address);
            assert_eq!(locate(address), (lng, lat));
            assert!(lng.abs() <= 180.0 && lat.abs() <= 60.0, "{address}");
        }
    }

    #[test]
    fn addresses_are_texts_or_objects() {
        let input: Input = serde_json::from_value(serde_json::json!({
            "server_name": "test_server", "params": {}, "data": ["Paris", {"address": "Tokyo"}, 7]
        }))
        .unwrap();
        let role = Role {
            version: "candidate".to_owned(),
            faults: Faults::None,
        };
        let output = serde_json::to_value(output(&input, &role)).unwrap();
        assert_eq!(output["version"], "candidate");
        assert_eq!(output["data"][0]["lat"], 48.8566);
        assert_eq!(output["data"][1]["lng"], 139.6917);
        assert_eq!(output["data"][2]["address"], "");
    }
}
