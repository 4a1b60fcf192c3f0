//! TLS: the certificate and its key, and what happens when their files change.
//!
//! Guarantees: a renewed pair is used for new connections within [`RELOAD_INTERVAL`], without a restart; a new pair that cannot be
//! used is logged once, and the old one stays. TLS 1.2 and 1.3 with the defaults of rustls. Deliberately absent: getting
//! certificates (ACME), and certificates of clients.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    },
};
use zeroize::Zeroizing;

use crate::store::check_secret;

/// The minimum time between two checks for changed files. New connections trigger the check.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Why a certificate and its key are unusable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is unusable. Has its path and the reason.
    #[error("cannot use the certificate {0}: {1}")]
    Certificate(PathBuf, String),
    /// The key is unusable. Has its path and the reason.
    #[error("cannot use the key {0}: {1}")]
    Key(PathBuf, String),
    /// Each can be parsed, but they do not belong together.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// The contents of the two files.
#[derive(PartialEq)]
struct Pair {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

/// The TLS configuration of a listener: a certificate with its key, and their files.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: Arc<ServerConfig>,
    /// The contents that were read last, usable or not; `None` if the files could not be read.
    loaded: Option<Pair>,
    checked_at: Instant,
}

impl Tls {
    /// Reads the certificate chain, the server's own certificate first, and the unencrypted private key, both as PEM (RFC 7468).
    ///
    /// # Errors
    /// [`TlsError`] names the unusable file.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let loaded = read(certificate, key)?;
        let checked = fs::metadata(key).and_then(|found| check_secret(key, &found));
        checked.map_err(|error| TlsError::Key(key.into(), error.to_string()))?;
        let config = Arc::new(configure(certificate, key, &loaded)?);
        Ok(Self {
            certificate: certificate.into(),
            key: key.into(),
            config,
            loaded: Some(loaded),
            checked_at: Instant::now(),
        })
    }

    /// Returns the acceptor for the next connection, after a reload if the files have changed.
    pub(in crate::http) fn acceptor(&mut self) -> TlsAcceptor {
        if self.checked_at.elapsed() >= RELOAD_INTERVAL {
            self.checked_at = Instant::now();
            self.reload_if_changed();
        }
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    fn reload_if_changed(&mut self) {
        let (loaded, config) = match read(&self.certificate, &self.key) {
            Ok(pair) if self.loaded.as_ref() == Some(&pair) => return,
            Ok(pair) => {
                let config = configure(&self.certificate, &self.key, &pair);
                (Some(pair), config)
            }
            Err(_) if self.loaded.is_none() => return,
            Err(error) => (None, Err(error)),
        };
        self.loaded = loaded;
        match config {
            Ok(config) => {
                self.config = Arc::new(config);
                tracing::info!(certificate = %self.certificate.display(), "the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the new certificate is not used; the old one stays"),
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Pair, TlsError> {
    let cannot_read = |error: io::Error| format!("cannot read it: {error}");
    let pem = fs::read(certificate).map_err(|error| TlsError::Certificate(certificate.into(), cannot_read(error)))?;
    let secret = fs::read(key).map_err(|error| TlsError::Key(key.into(), cannot_read(error)))?;
    Ok(Pair { certificate: pem, key: Zeroizing::new(secret) })
}

fn configure(certificate: &Path, key: &Path, pair: &Pair) -> Result<ServerConfig, TlsError> {
    let not_pem = |what: &str, error: &pem::Error| match error {
        pem::Error::NoItemsFound => format!("it holds no {what} in PEM form"),
        error => format!("it is not PEM: {error}"),
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pair.certificate)
        .collect::<Result<_, _>>()
        .and_then(|chain: Vec<_>| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|error| TlsError::Certificate(certificate.into(), not_pem("certificate", &error)))?;
    let secret = PrivateKeyDer::from_pem_slice(&pair.key)
        .map_err(|error| TlsError::Key(key.into(), not_pem("unencrypted private key", &error)))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
