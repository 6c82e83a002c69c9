//! The one client of a storage: credentials, region, endpoint, TLS.

use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Credentials, ProvideCredentials, Region};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use service::ErrorChain;

use super::failure::Failure;
use super::options::Options;

/// The region of a service that has none, such as a server of one's own.
const ANY_REGION: &str = "us-east-1";

/// A client and what it was told.
pub(super) struct Connected {
    pub(super) client: Client,
    /// The service's URL, when it is not AWS itself.
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
}

/// Returns a variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Makes the client. Credentials are asked for here once, so that their absence is told as such.
pub(super) async fn connect(options: &Options) -> Result<Connected, Failure> {
    let given = options.endpoint.clone();
    let given = given.or_else(|| variable("AWS_ENDPOINT_URL_S3"));
    let given = given.or_else(|| variable("AWS_ENDPOINT_URL"));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.limits.connect)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(given.as_deref())?)
        .timeout_config(timeouts);
    if given.is_some() {
        // Not the default chain: it would look for a machine at AWS to ask for its region.
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::new(ANY_REGION));
        loader = loader.region(region);
    }
    if let Some((key, secret)) = &options.credentials {
        let credentials = Credentials::new(key, secret.expose(), None, None, "lastmile");
        loader = loader.credentials_provider(credentials);
    }
    let shared = loader.load().await;
    let endpoint = given.or_else(|| shared.endpoint_url().map(str::to_owned));
    let Some(region) = shared.region().map(ToString::to_string) else {
        return Err(Failure::lasting("no region is known; set AWS_REGION"));
    };
    if let Some(provider) = shared.credentials_provider() {
        provider.provide_credentials().await.map_err(|error| {
            Failure::lasting(format!(
                "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a \
                 role ({})",
                ErrorChain(&error)
            ))
        })?;
    }
    let path_style = options.path_style.unwrap_or(endpoint.is_some());
    let mut config = Builder::from(&shared)
        .force_path_style(path_style)
        .retry_config(RetryConfig::disabled());
    config.set_endpoint_url(endpoint.clone());
    Ok(Connected {
        client: Client::from_conf(config.build()),
        endpoint,
        region,
    })
}

/// Makes the HTTP client: rustls with ring, and the certificates of the system (or of `SSL_CERT_FILE`).
fn http_client(endpoint: Option<&str>) -> Result<aws_sdk_s3::config::SharedHttpClient, Failure> {
    // A machine that speaks plain HTTP to a server of its own need not have any certificates.
    let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    let trusted = TrustStore::empty().with_native_roots(!plain);
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    let tls = tls.map_err(|error| Failure::lasting(ErrorChain(&error).to_string()))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https())
}
