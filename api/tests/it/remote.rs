//! The broker in another process: a Mosquitto, which knows nothing of us.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use api::remote::{self, Remote};
use api::{IngestError, OutgoingMessage};
use model::topic;
use service::{Common, Context};
use tempfile::TempDir;

use crate::harness::{DEADLINE, TOPIC, item};

/// A running Mosquitto without persistence; killed when dropped.
struct Mosquitto {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts one, or says which test is skipped because none is installed.
    fn start(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = folder.path().join("mosquitto.conf");
        std::fs::write(
            &config,
            format!("listener {port} 127.0.0.1\nallow_anonymous true\n"),
        )
        .unwrap();
        let mut command = Command::new("mosquitto");
        command
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            println!("SKIPPED {test}: mosquitto is not installed");
            return None;
        };
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::yield_now();
        }
        Some(Self {
            port,
            child,
            _folder: folder,
        })
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn connect(port: u16, context: &Context) -> Remote {
    let settings = remote::Settings {
        broker: Some(format!("mqtt://127.0.0.1:{port}").into()),
        ..remote::Settings::default()
    };
    let config = remote::Config::resolve(settings, &Common::new("unused")).unwrap();
    remote::connect(&config, 2_000, context)
}

fn message(payload: String) -> OutgoingMessage {
    OutgoingMessage {
        topic: TOPIC.to_owned(),
        payload: payload.into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_out_acknowledged_and_come_back_live() {
    let Some(broker) = Mosquitto::start("messages_go_out_acknowledged_and_come_back_live") else {
        return;
    };
    let context = Context::for_tests();
    let remote = connect(broker.port, &context);
    let mut live = remote.live.subscribe();
    // The live connection may come after the first messages; send until one comes back.
    let first = async {
        for second in 0.. {
            let messages = vec![message(item("43", second)), message("{".to_owned())];
            remote.ingest.ingest(messages).await.unwrap();
            if let Ok(batch) = live.try_recv() {
                return batch;
            }
            tokio::task::yield_now().await;
        }
        unreachable!("the range has no end")
    };
    let batch = tokio::time::timeout(DEADLINE, first).await.unwrap();
    assert_eq!(batch[0].order_id.as_ref().unwrap().as_str(), "43");
    assert_eq!(topic::delivery_topic(&batch[0].deliverer_id), TOPIC);

    let large = vec![message("x".repeat(4_000))];
    let refused = remote.ingest.ingest(large).await;
    assert!(
        matches!(refused, Err(IngestError::TooLarge { .. })),
        "{refused:?}"
    );

    context.tasks.stop(DEADLINE).await.unwrap();
    assert!(context.tasks.take_failures().is_empty());
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_said_so() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let context = Context::for_tests();
    let remote = connect(port, &context);
    let refused = remote.ingest.ingest(vec![message(item("43", 1))]).await;
    assert!(
        matches!(refused, Err(IngestError::Unavailable(_))),
        "{refused:?}"
    );
    context.tasks.stop(DEADLINE).await.unwrap();
}
