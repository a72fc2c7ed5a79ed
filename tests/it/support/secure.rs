//! Upstreams that speak TLS, HTTP/2 or both, by hyper; they answer with what they were sent.

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version, server};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

/// The path that is answered by half a body.
pub const BREAKS: &str = "/breaks";

/// The body of an answer.
type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// An authority that nobody knows who has not read its file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

/// What a server saw of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The protocol it came over.
    pub version: Version,
    /// The host that was asked for.
    pub host: String,
    /// The name that the TLS client wanted to speak to.
    pub name: Option<String>,
    /// Whether a header came through that is meant for one connection only.
    pub hop: bool,
}

#[derive(Default)]
struct Log {
    connections: usize,
    seen: Vec<Seen>,
    /// One more owner for each answer that is not over.
    open: Arc<()>,
}

/// A listening upstream.
pub struct Server {
    /// Its port on the loopback address.
    pub port: u16,
    log: Arc<Mutex<Log>>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        std::fs::write(file.path(), pem).expect("a file");
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// The file that makes it known.
    pub fn path(&self) -> &str {
        Path::to_str(self.file.path()).expect("text")
    }

    /// A certificate for this name or address, and its key, as texts of PEM.
    pub fn pair(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// How a server proves that it has this name, and which protocols it offers.
    pub fn vouch(&self, name: &str, protocols: &[&str]) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], key)
            .expect("a pair");
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }
}

impl Server {
    /// A server with this name by this authority, which offers these protocols.
    pub fn tls(authority: &Authority, name: &str, protocols: &[&str]) -> Self {
        Self::start(Some(Arc::new(authority.vouch(name, protocols))))
    }

    /// A server that speaks HTTP/2 from the first byte, without TLS.
    pub fn prior_knowledge() -> Self {
        Self::start(None)
    }

    /// The requests it saw.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.lock().expect("no panic").seen.clone()
    }

    /// The only request it saw.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// How many answers are not over.
    pub fn open(&self) -> usize {
        Arc::strong_count(&self.log.lock().expect("no panic").open) - 1
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.log.lock().expect("no panic").connections
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let log: Arc<Mutex<Log>> = Arc::default();
        let server = Self {
            port: address.port(),
            log: Arc::clone(&log),
        };
        listener.set_nonblocking(true).expect("a socket");
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, tls, log));
        });
        server
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, log: Arc<Mutex<Log>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        log.lock().expect("no panic").connections += 1;
        let (tls, log) = (tls.clone(), Arc::clone(&log));
        tokio::spawn(async move {
            let Some(tls) = tls else {
                return serve(stream, true, None, log).await;
            };
            // A client that does not trust us leaves in the middle of this.
            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                let facts = stream.get_ref().1;
                let http2 = facts.alpn_protocol() == Some(b"h2");
                let name = facts.server_name().map(str::to_owned);
                serve(stream, http2, name, log).await;
            }
        });
    }
}

async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    name: Option<String>,
    log: Arc<Mutex<Log>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let headers = request.headers();
        let host = headers.get("host").map(|host| host.to_str().expect("text"));
        let seen = Seen {
            version: request.version(),
            host: request
                .uri()
                .authority()
                .map(http::uri::Authority::as_str)
                .or(host)
                .unwrap_or_default()
                .to_owned(),
            name: name.clone(),
            hop: headers.contains_key("keep-alive") || headers.contains_key("connection"),
        };
        let mut log = log.lock().expect("no panic");
        log.seen.push(seen);
        let open = Arc::clone(&log.open);
        async move { Ok::<_, Infallible>(echo(request, open)) }
    });
    let io = TokioIo::new(io);
    // However a connection ends is seen by the other side.
    if http2 {
        let _ended = server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ended = server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await;
    }
}

/// An answer with the request's own body, as it comes.
fn echo(request: Request<Incoming>, open: Arc<()>) -> Response<Body> {
    if request.uri().path() != BREAKS {
        let body = request.into_body().map_err(move |error| {
            // It is held for as long as the body.
            debug_assert!(Arc::strong_count(&open) > 1);
            error.into()
        });
        return Response::new(body.boxed_unsync());
    }
    let half = futures_util::stream::unfold(false, |sent| async move {
        if !sent {
            return Some((Ok(Frame::data(Bytes::from_static(b"half"))), true));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Err("it broke off".into()), true))
    });
    Response::new(StreamBody::new(half).boxed_unsync())
}
