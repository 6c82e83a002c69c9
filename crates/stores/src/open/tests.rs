//! Waiting for a store, and not making one by mistake.

use service::Common;
#[cfg(feature = "mongodb")]
use service::Problems;
use tempfile::TempDir;

use super::*;
use crate::Settings;

fn sqlite(folder: &TempDir) -> Config {
    Config::resolve(Settings::default(), &Common::new(folder.path())).unwrap()
}

fn component(context: &Context) -> Option<String> {
    let components = context.health.components();
    let store = components.into_iter().find(|(name, _)| *name == COMPONENT);
    store.and_then(|(_, reason)| reason)
}

#[tokio::test]
async fn what_only_reads_makes_no_file_and_says_who_does() {
    let folder = TempDir::new().unwrap();
    let (config, context) = (sqlite(&folder), Context::for_tests());
    let opened = config.open_existing(&context, Some(Duration::ZERO)).await;
    let error = opened.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let said = ErrorChain(&error).to_string();
    assert!(
        said.contains("the subscriber makes it, check --data"),
        "{said}"
    );
    assert!(!folder.path().join("store.sqlite").exists());
}

#[tokio::test]
async fn a_file_that_comes_is_opened_and_unreadiness_ends() {
    let folder = TempDir::new().unwrap();
    let (config, context) = (sqlite(&folder), Context::for_tests());
    let waiting = config.open_existing(&context, Some(SQLITE_WAIT));
    let making = async {
        while !component(&context).is_some_and(|reason| reason.contains("waiting for the store")) {
            tokio::task::yield_now().await;
        }
        config.open().await.unwrap()
    };
    let (opened, _made) = tokio::join!(waiting, making);
    assert!(opened.unwrap().is_some());
    assert_eq!(component(&context), None);
}

#[tokio::test]
async fn a_stop_ends_the_wait() {
    let folder = TempDir::new().unwrap();
    let (config, context) = (sqlite(&folder), Context::for_tests());
    let waiting = config.open_existing(&context, None);
    let stopping = context.tasks.stop(Duration::from_secs(5));
    let (opened, stopped) = tokio::join!(waiting, stopping);
    assert!(opened.unwrap().is_none());
    stopped.unwrap();
}

#[tokio::test]
async fn pipelines_over_one_file_share_its_writer() {
    let folder = TempDir::new().unwrap();
    let (config, context) = (sqlite(&folder), Context::for_tests());
    let writers = config.wait_writers(3, &context).await.unwrap().unwrap();
    let [first, second, third] = writers.as_slice() else {
        panic!("three were asked for");
    };
    assert!(Arc::ptr_eq(first, second) && Arc::ptr_eq(second, third));
}

#[cfg(feature = "mongodb")]
fn mongodb(uri: &str) -> Result<Config, Problems> {
    let settings = Settings {
        mongodb_uri: Some(uri.to_owned().into()),
        ..Settings::default()
    };
    Config::resolve(settings, &Common::new("unused"))
}

/// The port of a server that was there and is no more.
#[cfg(feature = "mongodb")]
fn dead_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[cfg(feature = "mongodb")]
#[tokio::test]
async fn a_database_that_is_down_is_waited_for_and_its_password_kept() {
    let uri = format!("mongodb://ann:hunter2@127.0.0.1:{}/db", dead_port());
    let (config, context) = (mongodb(&uri).unwrap(), Context::for_tests());
    let waiting = config.wait_writers(2, &context);
    let stopping = async {
        let said = loop {
            match component(&context) {
                Some(reason) if reason.contains("waiting for the store") => break reason,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        context.tasks.stop(Duration::from_secs(30)).await.unwrap();
        said
    };
    let (opened, said) = tokio::join!(waiting, stopping);
    assert!(opened.unwrap().is_none());
    assert!(!said.contains("hunter2"), "{said}");
    let error = config.open().await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let shown = format!("{error:?} {}", ErrorChain(&error));
    assert!(!shown.contains("hunter2"), "{shown}");
}
