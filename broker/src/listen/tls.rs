//! TLS: a certificate chain and its key, and whose clients' certificates are trusted.
//!
//! Versions 1.2 and 1.3. The files are read again when they change; connections that are there keep what they
//! began with. With a CA for clients, one without a certificate of it is refused in the handshake.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// The files, all PEM.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The server's certificate and those that lead to its CA.
    pub(crate) certificates: PathBuf,
    pub(crate) key: PathBuf,
    /// Whose clients' certificates are trusted; `None`: clients need none.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM of what it is to be.
    #[error("{} holds no {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The cause.
        #[source]
        source: pem::Error,
    },
    /// The certificates of clients cannot be checked with this CA.
    #[error("{} is no CA for clients: {reason}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not go together, or cannot be used.
    #[error("the certificate {} and the key {} cannot be used", certificates.display(), key.display())]
    Pair {
        /// The file of certificates.
        certificates: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
}

/// TLS as the files say at the moment.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let config = RwLock::new(read(&files)?);
        Ok(Self { files, config })
    }

    /// Returns the files that are read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let TlsFiles {
            certificates,
            key,
            client_ca,
        } = self.files.clone();
        [Some(certificates), Some(key), client_ca]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Reads the files again; when they cannot be used, all stays as it was.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.files)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let pair = |source| TlsError::Pair {
        certificates: files.certificates.clone(),
        key: files.key.clone(),
        source,
    };
    let chain = certificates(&files.certificates)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Pem {
        path: files.key.clone(),
        what: "private key",
        source,
    })?;
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(pair)?;
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(path) => config.with_client_cert_verifier(verifier(path, provider)?),
    };
    let config = config.with_single_cert(chain, key).map_err(pair)?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem {
        path: path.to_owned(),
        what: "certificate",
        source,
    };
    let read = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if all.is_empty() {
        return Err(wrong(pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let wrong = |reason: String| TlsError::ClientCa {
        path: path.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.build().map_err(|error| wrong(error.to_string()))
}
