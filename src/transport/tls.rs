//! TLS towards endpoints, by hyper-rustls.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tower_service::Service;

use super::UpstreamIo;
use crate::model::settings::Transport;

/// The most TLS set-ups one thread remembers.
const CONFIGS_MAX: usize = 1_000;
/// How long a set-up serves before its `tls_ca` file is read again: files are renewed.
const FRESH_MS: u64 = 60_000;

/// TLS set-ups of one thread, by transport.
#[derive(Debug, Default)]
pub struct TlsConfigs {
    made: RefCell<HashMap<Transport, Made>>,
}

/// A set-up, and when it was made.
#[derive(Debug)]
struct Made {
    config: Arc<ClientConfig>,
    at: u64,
}

/// Speaks TLS over a connected socket; the certificate must hold `name`.
pub(super) async fn wrap(
    config: Arc<ClientConfig>,
    name: &str,
    tcp: TcpStream,
) -> io::Result<UpstreamIo> {
    let authority = if name.contains(':') {
        format!("[{name}]")
    } else {
        name.to_owned()
    };
    let uri = Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(io::Error::other)?;
    let mut connector = HttpsConnector::from((Connected(Some(tcp)), config));
    connector.call(uri).await.map_err(io::Error::other)
}

impl TlsConfigs {
    pub(super) async fn get(
        &self,
        transport: &Transport,
        now: u64,
    ) -> io::Result<Arc<ClientConfig>> {
        if let Some(made) = self.made.borrow().get(transport)
            && now.saturating_sub(made.at) < FRESH_MS
        {
            return Ok(Arc::clone(&made.config));
        }
        let pem = match &transport.tls_ca {
            Some(path) => Some(
                tokio::fs::read(&**path)
                    .await
                    .map_err(|e| io::Error::new(e.kind(), format!("tls_ca {path}: {e}")))?,
            ),
            None => None,
        };
        let config = Arc::new(build(transport, pem.as_deref())?);
        let mut made = self.made.borrow_mut();
        if made.len() >= CONFIGS_MAX {
            made.clear();
        }
        let entry = Made {
            config: Arc::clone(&config),
            at: now,
        };
        made.insert(transport.clone(), entry);
        Ok(config)
    }
}

fn build(transport: &Transport, pem: Option<&[u8]>) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = if transport.tls_insecure {
        let anyone = Anyone(provider.signature_verification_algorithms);
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone))
            .with_no_client_auth()
    } else if let Some(pem) = pem {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots
                .add(certificate.map_err(io::Error::other)?)
                .map_err(io::Error::other)?;
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        with_public_roots(&provider)?
    };
    if transport.http2 {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(config)
}

/// The system's authorities, or Mozilla's where the system has none; read once per process.
fn with_public_roots(provider: &Arc<CryptoProvider>) -> io::Result<ClientConfig> {
    static PUBLIC: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = PUBLIC.get() {
        return Ok(config.clone());
    }
    let builder = || {
        ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)
    };
    let config = match builder()?.with_native_roots() {
        Ok(with_roots) => with_roots.with_no_client_auth(),
        Err(_none_on_this_system) => builder()?.with_webpki_roots().with_no_client_auth(),
    };
    Ok(PUBLIC.get_or_init(|| config).clone())
}

/// Hands an already connected socket to hyper-rustls.
struct Connected(Option<TcpStream>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let tcp = self.0.take().map(TokioIo::new);
        std::future::ready(tcp.ok_or_else(|| io::Error::other("the socket was handed over before")))
    }
}

/// `tls_verify off`: any certificate will do, if its holder can sign with it.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
