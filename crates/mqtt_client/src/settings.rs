//! Settings that every program with a client of a broker has.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use service::Problems;

use crate::{BrokerUrl, Tls, TlsFiles};

/// Settings of TLS to a broker; every field may be left out.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[group(id = "broker_tls")]
pub struct TlsSettings {
    /// CA that the certificate of a broker at mqtts:// must lead to, PEM [default: those this system trusts]
    #[arg(
        id = "broker_ca",
        long = "broker-ca",
        env = "LASTMILE_BROKER_CA",
        value_name = "FILE"
    )]
    pub ca: Option<PathBuf>,
    /// Certificate to show to a broker at mqtts:// that asks for one, and those that lead to its CA, PEM
    /// [default: none]
    #[arg(
        id = "broker_cert",
        long = "broker-cert",
        env = "LASTMILE_BROKER_CERT",
        value_name = "FILE"
    )]
    pub cert: Option<PathBuf>,
    /// Private key of that certificate, PEM
    #[arg(
        id = "broker_key",
        long = "broker-key",
        env = "LASTMILE_BROKER_KEY",
        value_name = "FILE"
    )]
    pub key: Option<PathBuf>,
}

impl TlsSettings {
    /// Reads the files for an address that asks for TLS; `None` where it does not, or what is wrong was added to
    /// `problems`.
    pub fn resolve(self, url: &BrokerUrl, problems: &mut Problems) -> Option<Tls> {
        if !url.tls {
            for (name, file) in [
                ("tls.ca", &self.ca),
                ("tls.cert", &self.cert),
                ("tls.key", &self.key),
            ] {
                if file.is_some() {
                    problems.add(
                        name,
                        "is for TLS, which the broker's address does not ask for; give mqtts://...",
                    );
                }
            }
            return None;
        }
        let own = match (self.cert, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                problems.add("tls.key", "is missing; a certificate needs its key");
                return None;
            }
            (None, Some(_)) => {
                problems.add("tls.cert", "is missing; a key needs its certificate");
                return None;
            }
        };
        let files = TlsFiles { ca: self.ca, own };
        Tls::open(&files)
            .map_err(|error| problems.add("tls", error.to_string()))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_said() {
        let file = || Some(PathBuf::from("none.pem"));
        let (plain, tls): (BrokerUrl, BrokerUrl) =
            ("mqtt://h".parse().unwrap(), "mqtts://h".parse().unwrap());
        let said = |settings: TlsSettings, url: &BrokerUrl| {
            let mut problems = Problems::new();
            assert!(settings.resolve(url, &mut problems).is_none());
            problems.to_string()
        };
        let (ca, cert, key) = (
            TlsSettings {
                ca: file(),
                ..TlsSettings::default()
            },
            TlsSettings {
                cert: file(),
                ..TlsSettings::default()
            },
            TlsSettings {
                key: file(),
                ..TlsSettings::default()
            },
        );
        assert_eq!(said(TlsSettings::default(), &plain), "");
        assert!(said(ca.clone(), &plain).contains("tls.ca is for TLS"));
        assert!(said(ca, &tls).contains("none.pem"));
        assert!(said(cert, &tls).contains("tls.key is missing"));
        assert!(said(key, &tls).contains("tls.cert is missing"));
    }
}
