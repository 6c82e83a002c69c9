//! Settings of a lake in a bucket.
//!
//! What AWS's own tools take from the environment is taken from there, too, and is no setting of ours: keys, region,
//! profile. So secrets are in no settings, and are never printed.

use clap::Args;
use lake::storage::s3::{Encryption, Options};
use serde::{Deserialize, Serialize};
use service::Problems;

/// What may be set for a lake in a bucket.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "lake_s3")]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their flags, and these stand beside those of other parts"
)]
pub struct S3Settings {
    /// URL of the S3 service, where that is not AWS; keys and region come from where AWS's own tools look.
    #[arg(
        long,
        help = "URL of the S3 service, where that is not AWS [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or \
                AWS]. Keys and region come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and \
                AWS_REGION, a profile, a web identity, or the machine's role",
        env = "LASTMILE_S3_ENDPOINT",
        value_name = "URL",
        global = true,
        help_heading = "Lake in S3"
    )]
    pub s3_endpoint: Option<String>,
    /// Whether the bucket is named in the path and not in the host [default: true with an endpoint, else false]
    #[arg(long, env = "LASTMILE_S3_PATH_STYLE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", global = true, help_heading = "Lake in S3")]
    pub s3_path_style: Option<bool>,
    /// How S3 encrypts what it stores: AES256, aws:kms, or aws:kms=KEY [default: as the bucket says]
    #[arg(
        long,
        env = "LASTMILE_S3_SSE",
        value_name = "SSE",
        global = true,
        help_heading = "Lake in S3"
    )]
    pub s3_sse: Option<String>,
    /// Create the bucket at the start if it does not exist; for development [default: false]
    #[arg(long, env = "LASTMILE_S3_CREATE_BUCKET", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", global = true, help_heading = "Lake in S3")]
    pub s3_create_bucket: Option<bool>,
}

/// What holds for a lake in a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their flags, and these stand beside those of other parts"
)]
pub struct S3Config {
    /// URL of the service, where one was set here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_endpoint: Option<String>,
    /// Whether the bucket is named in the path, where that was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_path_style: Option<bool>,
    /// How S3 encrypts, where that was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_sse: Option<String>,
    /// Whether a missing bucket is created.
    pub s3_create_bucket: bool,
}

impl S3Settings {
    /// Checks everything; returns what holds and how to reach the bucket.
    pub(crate) fn resolve(self, problems: &mut Problems) -> (S3Config, Options) {
        // An empty text is what a compose file gives for "not set".
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (endpoint, sse) = (given(self.s3_endpoint), given(self.s3_sse));
        if let Some(url) = &endpoint {
            let host = url.strip_prefix("http://").or(url.strip_prefix("https://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['@', ' ', '?', '#'])) {
                // Not repeated: it may hold a password.
                let message = "is no URL of a service; give for example http://127.0.0.1:9000, and keys by \
                               AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
                problems.add("s3.s3_endpoint", message);
            }
        }
        let encryption = sse.as_deref().map(str::parse::<Encryption>);
        let encryption = encryption.transpose().unwrap_or_else(|error| {
            problems.add("s3.s3_sse", error.to_string());
            None
        });
        let config = S3Config {
            s3_endpoint: endpoint.clone(),
            s3_path_style: self.s3_path_style,
            s3_sse: sse,
            s3_create_bucket: self.s3_create_bucket.unwrap_or_default(),
        };
        let options = Options {
            endpoint,
            path_style: self.s3_path_style,
            encryption,
            create_bucket: config.s3_create_bucket,
            ..Options::default()
        };
        (config, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_without_repeating_a_password() {
        let mut problems = Problems::new();
        let settings = S3Settings {
            s3_endpoint: Some("http://user:hunter2@host:9000".to_owned()),
            s3_sse: Some("rot13".to_owned()),
            ..S3Settings::default()
        };
        settings.resolve(&mut problems);
        let problems = problems.to_string();
        for part in ["s3_endpoint", "AWS_ACCESS_KEY_ID", "rot13", "aws:kms"] {
            assert!(problems.contains(part), "{problems}");
        }
        assert!(!problems.contains("hunter2"), "{problems}");
    }

    #[test]
    fn empty_is_not_set() {
        let mut problems = Problems::new();
        let settings = S3Settings {
            s3_endpoint: Some(String::new()),
            s3_sse: Some(String::new()),
            ..S3Settings::default()
        };
        let (config, options) = settings.resolve(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        assert_eq!((config, options), (S3Config::default(), Options::default()));
    }
}
