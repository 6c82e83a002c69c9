//! The URIs of real installations: credentials, TLS, certificates of clients, a replica set by name, and
//! servers found through DNS.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use model::OrderId;
use mongodb::Client;
use mongodb::bson::doc;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use store::conformance::build::{batch, position};
use store::{ErrorKind, Reader, StoreError, Writer};
use store_mongo::{MongoStore, Options};

use crate::server::{Durability, Server, report_skip};

/// As in a URI, and as it is.
const PASSWORD: (&str, &str) = ("hun%2Fter%402", "hun/ter@2");
const SRV_URI: &str = "LASTMILE_TEST_SRV_URI";
/// Where the child that looks a server up asks; nothing else listens there.
const NAME_SERVER: &str = "127.83.82.86";

/// A CA and the files of what it signed, each a certificate with its key behind it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn issue(&self, name: &str) {
        // The server says of itself, as of a member of a replica set, that it is at its address.
        let hosts = ["localhost", "127.0.0.1", "db.fleet.test"].map(str::to_owned);
        let params = CertificateParams::new(hosts).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let secret = key.serialize_pem();
        fs::write(self.file(&format!("{name}.crt")), &certificate).unwrap();
        fs::write(self.file(&format!("{name}.key")), &secret).unwrap();
        fs::write(self.file(&format!("{name}.pem")), certificate + &secret).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// What makes a server speak TLS.
    fn flags(&self) -> Vec<String> {
        let (certificate, key) = (self.file("server.crt"), self.file("server.key"));
        ["--tls-cert-file", &certificate, "--tls-key-file", &key]
            .map(str::to_owned)
            .to_vec()
    }
}

/// Starts a server that knows one user and lets nobody else in.
async fn guarded(test: &str, storage: &Path, authority: &Authority) -> Option<Server> {
    let open = Server::start(storage, 0, Durability::Journal);
    let Some(open) = open else {
        report_skip(test, "needs SecantusDB; run tools/install.sh");
        return None;
    };
    let client = Client::with_uri_str(open.uri()).await.unwrap();
    let user = doc! { "createUser": "fleet", "pwd": PASSWORD.1, "roles": ["root"] };
    client.database("admin").run_command(user).await.unwrap();
    client.shutdown().await;
    open.kill();
    let mut flags = authority.flags();
    flags.push("--auth".to_owned());
    Server::start_with(storage, 0, &flags)
}

async fn open(uri: &str) -> Result<MongoStore, StoreError> {
    let options = Options {
        timeout: std::time::Duration::from_secs(2),
        ..Options::new(uri)
    };
    MongoStore::open(&options).await
}

/// Stores a point and reads it back.
async fn use_it(uri: &str) {
    let store = open(uri).await.unwrap();
    store
        .append(batch([position(Some("o1"), "d", 1, Some(1))]))
        .await
        .unwrap();
    let last = store
        .last_by_order(&OrderId::new("o1").unwrap())
        .await
        .unwrap();
    assert!(last.is_some());
}

/// Checks that a URI is refused for a while, not for ever, and that nothing secret shows.
async fn refused(uri: &str, because: &str) {
    let error = open(uri).await.unwrap_err();
    let said = format!("{error}: {}", error.source);
    assert_eq!(error.kind, ErrorKind::Unavailable, "{uri}: {said}");
    assert!(said.to_lowercase().contains(because), "{uri}: {said}");
    for piece in ["hun", "ter", "wrong-password"] {
        assert!(!said.contains(piece), "{uri}: {said}");
    }
}

#[tokio::test]
async fn credentials_and_tls_of_the_uri_are_used() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.issue("server");
    let Some(server) = guarded("credentials_and_tls", folder.path(), &authority).await else {
        return;
    };
    let (port, ca) = (server.port(), authority.file("ca.pem"));
    let with = |user: &str, rest: &str| {
        format!("mongodb://{user}localhost:{port}/fleet?authSource=admin&{rest}")
    };
    let (tls, user) = (
        format!("tls=true&tlsCAFile={ca}"),
        format!("fleet:{}@", PASSWORD.0),
    );
    use_it(&with(&user, &tls)).await;
    // Negative controls: each part left out or wrong.
    refused(&with("fleet:wrong-password@", &tls), "auth").await;
    refused(&with("", &tls), "auth").await;
    refused(&with(&user, "tls=false"), "").await;
    refused(&with(&user, "tls=true"), "certificate").await;
    let stranger = Authority::new();
    let other = format!("tls=true&tlsCAFile={}", stranger.file("ca.pem"));
    refused(&with(&user, &other), "certificate").await;
    // A file that is not there is a mistake, and waiting does not help.
    let missing = format!("tls=true&tlsCAFile={}", stranger.file("none.pem"));
    let error = open(&with(&user, &missing)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.source.to_string().contains("none.pem"), "{error}");
}

#[tokio::test]
async fn a_clients_certificate_and_the_name_of_the_replica_set_are_used() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.issue("server");
    authority.issue("client");
    let (ca, own) = (authority.file("ca.pem"), authority.file("client.pem"));
    let mut flags = authority.flags();
    flags.extend(["--tls-ca-file", &ca, "--tls-require-client-cert"].map(str::to_owned));
    let Some(server) = Server::start_with(folder.path(), 0, &flags) else {
        return report_skip("certificates", "needs SecantusDB; run tools/install.sh");
    };
    let base = format!(
        "mongodb://localhost:{}/fleet?tls=true&tlsCAFile={ca}",
        server.port()
    );
    let known = format!("{base}&tlsCertificateKeyFile={own}");
    use_it(&known).await;
    let client = Client::with_uri_str(&known).await.unwrap();
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await.unwrap();
    let set = hello.get_str("setName").unwrap();
    use_it(&format!("{known}&replicaSet={set}")).await;
    // Negative controls.
    refused(&base, "").await;
    refused(&format!("{known}&replicaSet=another"), "").await;
}

/// Opens what DNS names; does nothing unless told to by the environment.
#[tokio::test]
async fn srv_child() {
    if let Ok(uri) = std::env::var(SRV_URI) {
        use_it(&uri).await;
    }
}

/// Answers as the name server of a provider of databases does: SRV and TXT for `fleet.test`, an address for the server.
fn answer(asked: &[u8], port: u16) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(asked).ok()?.into_response();
    message.edns = None;
    let query = message.queries.first()?.clone();
    let (name, kind) = (query.name().to_ascii(), query.query_type());
    let data = match (name.trim_end_matches('.'), kind) {
        ("_mongodb._tcp.cluster.fleet.test", RecordType::SRV) => {
            let target = Name::from_ascii("db.fleet.test.").unwrap();
            Some(RData::SRV(SRV::new(0, 0, port, target)))
        }
        ("cluster.fleet.test", RecordType::TXT) => {
            Some(RData::TXT(TXT::new(vec!["authSource=admin".to_owned()])))
        }
        ("db.fleet.test", RecordType::A) => Some(RData::A(A::new(127, 0, 0, 1))),
        _ => None,
    };
    let record = |data| Record::from_rdata(query.name().clone(), 60, data);
    message.add_answers(data.map(record));
    message.to_vec().ok()
}

/// `mongodb+srv`, with the TLS, the credentials and the options that belong to it, against a name server of the test's own, which
/// a mount namespace puts in place of the machine's.
#[tokio::test]
async fn servers_are_found_through_dns() {
    let test = "servers_are_found_through_dns";
    let names = match UdpSocket::bind((NAME_SERVER, 53)) {
        Ok(names) => names,
        Err(error) => {
            return report_skip(test, &format!("needs root to listen on port 53: {error}"));
        }
    };
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.issue("server");
    let Some(server) = guarded(test, folder.path(), &authority).await else {
        return;
    };
    let port = server.port();
    std::thread::spawn(move || {
        let mut asked = [0; 4096];
        while let Ok((size, from)) = names.recv_from(&mut asked) {
            if let Some(answer) = answer(&asked[..size], port) {
                drop(names.send_to(&answer, from));
            }
        }
    });
    let resolver = folder.path().join("resolv.conf");
    fs::write(&resolver, format!("nameserver {NAME_SERVER}\n")).unwrap();
    let child = |host: &str| {
        let ca = authority.file("ca.pem");
        let uri = format!(
            "mongodb+srv://fleet:{}@{host}/fleet?tlsCAFile={ca}",
            PASSWORD.0
        );
        let script = r#"mount --bind "$1" /etc/resolv.conf && exec "$2" --exact connect::srv_child --nocapture"#;
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&resolver)
            .arg(std::env::current_exe().unwrap())
            .env(SRV_URI, uri)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    };
    let found = child("cluster.fleet.test");
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    if said.contains("Operation not permitted") {
        return report_skip(test, "needs the right to make a mount namespace");
    }
    assert!(found.status.success(), "{said}");
    // Negative control: a name it does not know.
    assert!(!child("other.fleet.test").status.success());
}
