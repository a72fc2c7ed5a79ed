//! Receivers of alerts: an HTTP server that keeps what it was sent and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use serde_json::Value;

use super::eventually;

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    /// Path and query.
    pub target: String,
    /// The head, lower case.
    pub head: String,
    pub body: String,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// What it answers: status and body.
type Answer = (u16, &'static str);

/// The status of a receiver that never answers.
const SILENCE: u16 = 0;

#[derive(Debug)]
struct State {
    received: Vec<Received>,
    answer: Answer,
}

/// An HTTP server on loopback.
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub fn start() -> Self {
        Self::start_on(None)
    }

    /// One that speaks TLS.
    pub fn start_tls(config: ServerConfig) -> Self {
        Self::start_on(Some(Arc::new(config)))
    }

    fn start_on(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State {
            received: Vec::new(),
            answer: (200, "{\"errcode\":0,\"code\":0}"),
        }));
        let theirs = Arc::clone(&state);
        // Ends with the process: it holds nothing but its port.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, tls) = (Arc::clone(&theirs), tls.clone());
                // A client that breaks off leaves no request.
                thread::spawn(move || match tls {
                    None => serve(stream, &state).ok(),
                    Some(tls) => {
                        let tls = ServerConnection::new(tls).expect("a session");
                        serve(StreamOwned::new(tls, stream), &state).ok()
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What it answers from now on.
    pub fn answer(&self, status: u16, body: &'static str) {
        self.with(|state| state.answer = (status, body));
    }

    /// From now on it takes requests and never answers.
    pub fn hang(&self) {
        self.answer(SILENCE, "");
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.with(|state| state.received.clone())
    }

    /// The bodies so far, each as `state kind service`.
    pub fn told(&self) -> Vec<String> {
        let text = |json: &Value, field: &str| json[field].as_str().unwrap_or("?").to_owned();
        let bodies = self.received().into_iter().map(|it| it.json());
        let told = bodies.map(|it| {
            ["state", "kind", "service"]
                .map(|field| text(&it, field))
                .join(" ")
        });
        told.collect()
    }

    /// Waits for the n-th request, from 0 on.
    #[track_caller]
    pub fn await_nth(&self, n: usize) -> Received {
        eventually("a message arrives", || self.received().get(n).cloned())
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let received = Received {
        target,
        head,
        body: String::from_utf8(body).expect("UTF-8"),
    };
    let (status, answer) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.received.push(received);
        state.answer
    };
    if status == SILENCE {
        // Until the client leaves.
        return reader.read_to_end(&mut Vec::new()).map(drop);
    }
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    )?;
    stream.flush()
}
