//! Users and rules, from outside.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ::broker::{AccessSettings, Config, Settings};
use service::Common;

use crate::broker::{Broker, until};
use crate::client::{self, Client, Packet, QOS_1, RETAIN};
use crate::mosquitto;

const RULES: &str = "\
[all]
deny readwrite secret/#
[users]
allow readwrite own/%u/#
allow readwrite of/%c
[user ann]
client ann-*
allow read a/#
allow write a/b
";

/// Sets a password with the program itself.
fn passwd(file: &Path, user: &str, password: &str, rest: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    let command = command.arg("passwd").arg(file).arg(user).args(rest);
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // With --delete nobody reads it.
    drop(writeln!(stdin, "{password}"));
    drop(stdin);
    child.wait_with_output().unwrap()
}

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for (user, password) in [("ann", "apple"), ("bob", "banana")] {
            let set = passwd(&files.users(), user, password, &[]);
            assert!(set.status.success(), "{set:?}");
        }
        files.rules(RULES);
        files
    }

    fn users(&self) -> PathBuf {
        self.dir.path().join("users")
    }

    fn rules(&self, rules: &str) {
        let new = self.dir.path().join("acl.new");
        fs::write(&new, format!("lastmile-acl 1\n{rules}")).unwrap();
        fs::rename(new, self.dir.path().join("acl")).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            access: AccessSettings {
                mqtt_password_file: Some(self.users()),
                mqtt_acl_file: Some(self.dir.path().join("acl")),
                ..AccessSettings::default()
            },
            ..Settings::default()
        }
    }
}

/// Connects with a name; returns the client and the return code.
async fn login(broker: &Broker, id: &str, flags: u8, rest: &[u8]) -> (Client, Option<u8>) {
    let mut client = Client::open(broker.addr()).await;
    client.send(&client::connect(id, flags, 0, rest)).await;
    let answer = client.receive().await;
    (client, answer.map(|answer| answer.body[1]))
}

const NAMED: u8 = 0xc0;
const CLEAN: u8 = 2;

fn name(user: &str, password: &str) -> Vec<u8> {
    [client::text(user), client::text(password)].concat()
}

async fn ann(broker: &Broker, id: &str, clean: bool) -> Client {
    let flags = NAMED | if clean { CLEAN } else { 0 };
    let (client, code) = login(broker, id, flags, &name("ann", "apple")).await;
    assert_eq!(code, Some(0));
    client
}

#[test]
fn addresses_that_others_reach_want_users_or_a_word() {
    let problems = |change: fn(&mut Settings)| {
        let mut settings = Settings {
            mqtt_listen: Some(":1883".parse().unwrap()),
            ..Settings::default()
        };
        change(&mut settings);
        let common = Common::new(Path::new("/nowhere"));
        Config::resolve(&settings, &common)
            .err()
            .map(|problems| problems.to_string())
    };
    let refused = problems(|_| {}).unwrap();
    assert!(
        refused.contains("mqtt_listen") && refused.contains("mqtt_allow_anonymous"),
        "{refused}"
    );
    let refused = problems(|settings| {
        settings.mqtt_listen = None;
        settings.listeners.mqtt_ws_listen = Some("0.0.0.0:1".parse().unwrap());
    });
    assert!(refused.unwrap().contains("mqtt_ws_listen"));
    let allowed: [fn(&mut Settings); 3] = [
        |settings| settings.mqtt_listen = Some("127.0.0.1:1883".parse().unwrap()),
        |settings| settings.access.mqtt_allow_anonymous = Some(true),
        |settings| settings.access.mqtt_password_file = Some("users".into()),
    ];
    for allow in allowed {
        assert_eq!(problems(allow), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_proves_a_name_comes_in() {
    let files = Files::new();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), files.settings()).await;
    let mut first = ann(&broker, "ann-1", true).await;
    for (id, flags, rest, code) in [
        ("ann-1", NAMED | CLEAN, name("ann", "banana"), 4),
        ("ann-1", NAMED | CLEAN, name("eve", "apple"), 4),
        ("ann-1", 0x80 | CLEAN, client::text("ann"), 4),
        ("ann-1", CLEAN, Vec::new(), 5),
        ("bob-1", NAMED | CLEAN, name("ann", "apple"), 2),
        // Neither rule takes such a name.
        ("a/b", NAMED | CLEAN, name("bob", "banana"), 2),
        ("+", NAMED | CLEAN, name("bob", "banana"), 2),
    ] {
        let (mut refused, answer) = login(&broker, id, flags, &rest).await;
        assert_eq!(answer, Some(code), "{id}");
        refused.expect_closed().await;
    }
    // Who is refused takes over nobody's connection.
    first.expect_quiet().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_for_messages_subscriptions_shares_wills_and_retained_ones() {
    let files = Files::new();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), files.settings()).await;
    let mut client = ann(&broker, "ann-1", true).await;
    let wanted = [
        ("a/#", 1),
        ("a/+/c", 0),
        ("own/ann/#", 1),
        ("of/ann-1", 1),
        ("#", 1),
        ("+/b", 1),
        ("own/#", 1),
        ("own/bob/x", 1),
        ("secret/x", 1),
        ("$share/g/a/b", 1),
        ("$share/g/#", 1),
        ("$share/a/secret/x", 1),
    ];
    let granted = client.subscribe(&wanted).await;
    assert_eq!(granted, [1, 0, 1, 1, 128, 128, 128, 128, 128, 1, 128, 128]);
    for filter in ["a/#", "a/+/c", "$share/g/a/b"] {
        client.unsubscribe(filter).await;
    }
    // What is denied is acknowledged and kept by nobody; what follows it is not held up.
    for (topic, flags) in [
        ("a/c", QOS_1),
        ("secret/x", QOS_1 | RETAIN),
        ("own/bob/x", QOS_1),
    ] {
        client
            .send(&client::publish(flags, topic, 5, b"denied"))
            .await;
        client.expect(0x40, &[0, 5]).await;
    }
    client
        .send(&client::publish(RETAIN, "own/bob/y", 0, b"denied"))
        .await;
    client.publish("a/b", "allowed").await;
    assert_eq!(broker.records(), [("a/b".to_owned(), b"allowed".to_vec())]);
    assert!(broker.metric("broker_retained_messages") < 0.5);
    assert_eq!(broker.labelled("what=\"PublishDenied\""), 4);
    assert_eq!(broker.labelled("what=\"SubscribeDenied\""), 7);
    let with_will = |topic: &str| {
        [
            client::text(topic),
            client::text("bye"),
            name("ann", "apple"),
        ]
        .concat()
    };
    let flags = NAMED | CLEAN | 4;
    let (_, code) = login(&broker, "ann-2", flags, &with_will("own/bob/will")).await;
    assert_eq!(code, Some(5));
    let (allowed, code) = login(&broker, "ann-2", flags, &with_will("own/ann/will")).await;
    assert_eq!(code, Some(0));
    drop(allowed);
    assert_eq!(client.message().await.topic, "own/ann/will");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_rules_end_what_they_deny_and_wrong_ones_nothing() {
    let files = Files::new();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), files.settings()).await;
    let mut client = ann(&broker, "ann-1", false).await;
    assert_eq!(
        client.subscribe(&[("a/#", 1), ("own/ann/x", 1)]).await,
        [1, 1]
    );
    files.rules("[all]\nallow nothing");
    until("the wrong rules were seen", || {
        broker.labelled("taken=\"No\"") > 0
    })
    .await;
    client.send(&client::publish(QOS_1, "a/b", 6, b"1")).await;
    // The message and its PUBACK, in either order.
    for _ in 0..2 {
        let Packet { first, body } = client.receive().await.unwrap();
        if first & 0xf0 == 0x30 {
            client
                .acknowledge(u16::from_be_bytes([body[5], body[6]]))
                .await;
        }
    }
    files.rules("[users]\nallow readwrite own/%u/#");
    until("the new rules were read", || {
        broker.labelled("taken=\"Yes\"") > 0
    })
    .await;
    // Nothing that is denied now reaches it.
    let mut other = {
        let (client, code) = login(&broker, "b", NAMED | CLEAN, &name("bob", "banana")).await;
        assert_eq!(code, Some(0));
        client
    };
    other.publish("own/bob/x", "wakes nobody").await;
    client
        .send_or_fail(&client::publish(QOS_1, "own/ann/x", 6, b"2"))
        .await;
    client.expect_closed().await;
    // The session is there, without what it may not have.
    let mut again = ann(&broker, "ann-1", false).await;
    broker.log().cursors().sync().await.unwrap();
    let meta = broker.log().cursors().get("session/ann-1").unwrap().meta;
    let meta = String::from_utf8(meta.to_vec()).unwrap();
    assert!(
        meta.contains("own/ann/x") && !meta.contains("a/#"),
        "{meta}"
    );
    // A user that is gone is gone at once.
    assert!(
        passwd(&files.users(), "ann", "", &["--delete"])
            .status
            .success()
    );
    until("the users were read", || {
        broker.labelled("taken=\"Yes\"") > 1
    })
    .await;
    again.send_or_fail(&[0xc0, 0]).await;
    while again.receive().await.is_some() {}
    let (_, code) = login(&broker, "ann-1", NAMED | CLEAN, &name("ann", "apple")).await;
    assert_eq!(code, Some(4));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_clients_give_names() {
    if !mosquitto::installed() {
        return;
    }
    let files = Files::new();
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(dir.path(), files.settings()).await;
    let port = broker.addr().port().to_string();
    for (password, code) in [("apple", 0), ("wrong", 5), ("", 5)] {
        let mut arguments = vec![
            "-p", &port, "-i", "ann-m", "-t", "a/b", "-q", "1", "-m", password,
        ];
        if !password.is_empty() {
            arguments.extend(["-u", "ann", "-P", password]);
        }
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        let output = mosquitto::run_as("mosquitto_pub", arguments).await;
        assert_eq!(output.status.success(), code == 0, "{output:?}");
    }
    assert_eq!(broker.records(), [("a/b".to_owned(), b"apple".to_vec())]);
    broker.stop().await;
}

#[test]
fn passwords_are_set_changed_and_removed_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    for (user, password, rest, success, says) in [
        ("ann", "apple", &[][..], true, "added"),
        ("ann", "apricot", &[], true, "changed"),
        ("bob", "banana", &[], true, "2 users"),
        ("ann", "", &[], false, "empty"),
        ("#x", "apple", &[], false, "name"),
        ("eve", "", &["--delete"], false, "no user eve"),
        ("bob", "", &["--delete"], true, "removed"),
    ] {
        let output = passwd(&file, user, password, rest);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.success(), success, "{text}");
        assert!(text.contains(says), "{text}");
        assert!(password.is_empty() || !text.contains(password), "{text}");
    }
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("ann:$argon2id$") && !text.contains("apricot"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
