//! The HTTP client: TLS with verified certificates, of public authorities or of the configured ones instead.

use std::path::Path;

use anyhow::Context as _;
use clickhouse::Client;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Shorter than ClickHouse's own 3 s, so that no insert is sent into a connection that is being closed.
const IDLE: std::time::Duration = std::time::Duration::from_secs(2);

/// A ClickHouse client that trusts the authorities in `ca_location`, or the public ones.
///
/// # Errors
/// Where the file cannot be read or holds no certificate.
pub fn client(ca_location: Option<&Path>) -> anyhow::Result<Client> {
    let Some(path) = ca_location else {
        return Ok(Client::default());
    };
    let mut roots = rustls::RootCertStore::empty();
    let context = || format!("clickhouse.ca_location = {path:?}");
    for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
        roots.add(certificate.with_context(context)?).with_context(context)?;
    }
    anyhow::ensure!(!roots.is_empty(), "clickhouse.ca_location = {path:?}: the file holds no certificate");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Ok(Client::with_http_client(HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector)))
}

#[cfg(test)]
mod tests {
    use super::client;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let path = std::env::temp_dir().join(format!("recwatch-no-certificate-{}.pem", std::process::id()));
        std::fs::write(&path, "nothing").unwrap();
        let told = format!("{:#}", client(Some(&path)).err().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(told.contains("clickhouse.ca_location") && told.contains("no certificate"), "{told}");
        assert!(client(Some(&path)).is_err());
    }
}
