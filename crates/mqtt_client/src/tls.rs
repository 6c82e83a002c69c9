//! TLS to a broker, 1.2 and 1.3: whose certificates are trusted, and which one the client shows.
//!
//! The files are read once: a client whose own certificate is renewed is started again.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore};

/// The files, all PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the CAs that are trusted; `None`: those this system trusts.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and those that lead to its CA, and its private key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Why TLS cannot be had with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM of what it is to be.
    #[error("{} holds no {what} ({source})", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The cause.
        source: pem::Error,
    },
    /// A certificate that is no CA's.
    #[error("{} holds a certificate that cannot be trusted ({source})", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// Nobody is trusted.
    #[error(
        "this system trusts no CA; install its package of CA certificates, or name a file of one"
    )]
    NoRoots,
    /// Certificate and key do not go together, or cannot be used.
    #[error("the certificate and its key cannot be used ({0})")]
    Pair(rustls::Error),
}

/// How to speak TLS to a broker. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] when one of them is not what it is to be.
    pub fn open(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_root_certificates(roots(files.ca.as_deref())?);
        let config = match &files.own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let secret = PrivateKeyDer::from_pem_file(key);
                let secret = secret.map_err(|source| TlsError::Pem {
                    path: key.clone(),
                    what: "private key",
                    source,
                })?;
                let chain = certificates(certificate)?;
                config
                    .with_client_auth_cert(chain, secret)
                    .map_err(TlsError::Pair)?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// Begins a session with the broker of that name, for whoever moves the bytes.
    ///
    /// # Errors
    /// When the host is neither a name nor an address.
    pub fn session(&self, host: &str) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.0), name(host)?).map_err(io::Error::other)
    }

    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector.connect(name(host)?, stream).await
    }

    pub(crate) fn to_rumqttc(&self) -> rumqttc::Transport {
        rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(Arc::clone(&self.0)))
    }
}

fn name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        // Some of a system's certificates are of a kind that is not taken; the others serve.
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(system.certs);
        return if added == 0 {
            Err(TlsError::NoRoots)
        } else {
            Ok(roots)
        };
    };
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Ca {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

/// Returns the certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem {
        path: path.to_owned(),
        what: "certificate",
        source,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(wrong(pem::Error::NoItemsFound));
    }
    Ok(found)
}
