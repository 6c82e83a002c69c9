//! MQTT over TLS: a certificate made for the run, and connections that trust it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::client;

const NAME: &str = "localhost";

/// Writes a certificate and its key into a folder; returns where they are.
pub(super) fn write_certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let (certificate, key) = (certificate_of(folder), folder.join("key.pem"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((certificate, key))
}

fn certificate_of(folder: &Path) -> PathBuf {
    folder.join("certificate.pem")
}

/// Returns what connects to the broker with the certificate of a folder.
pub(super) fn connector(folder: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate_of(folder))?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Opens a connection and waits for its CONNACK.
pub(super) async fn connect(
    connector: &TlsConnector,
    address: &str,
    id: &str,
) -> Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME)?;
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(&client::connect_packet(id, true)).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    ensure!(answer[0] == 0x20 && answer[3] == 0, "refused: {answer:?}");
    Ok(stream)
}
