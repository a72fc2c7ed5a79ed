//! The admin port of a shadow worker: `/healthz`, and `/metrics` for Prometheus.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::door::Door;
use super::{Error, Options, accept, answer, metrics, text};
use crate::worker::Board;

/// Everything there is.
const PATHS: [&str; 2] = ["/healthz", "/metrics"];

/// Opens the port and answers on it, as long as the runtime lives.
pub async fn open(options: &Options, lanes: Board) -> Result<(), Error> {
    let listener = TcpListener::bind(options.address).await;
    let listener = listener.map_err(|cause| Error::Bind(options.address, cause))?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH);
    let port = Arc::new(Port {
        door: Door::try_new(options, &listener)?,
        lanes,
        started: started.map_or(0.0, |it| it.as_secs_f64()),
    });
    let answer = move |req: Request<Incoming>| {
        let answer = port.answer(req.method(), req.uri().path(), req.headers());
        std::future::ready(answer)
    };
    tokio::spawn(accept(listener, answer));
    Ok(())
}

struct Port {
    door: Door,
    lanes: Board,
    started: f64,
}

impl Port {
    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let refusal = (self.door).refuse((method, path, headers), &PATHS, &["/healthz"]);
        if let Some(refusal) = refusal {
            return refusal;
        }
        if path == "/healthz" {
            return text(StatusCode::OK, "ok\n");
        }
        let page = metrics::worker::page(&self.lanes.borrow(), self.started);
        answer(StatusCode::OK, metrics::KIND, page.into())
    }
}
