//! Indexes and the schema record: made once, checked ever after, changed only when asked to.

use std::time::Duration;

use futures_util::future;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use store::conformance::build::{batch, position};
use store::{ErrorKind, Writer};
use store_mongo::{MongoStore, Options};

use crate::server::Fresh;

async fn expiry(fresh: &Fresh) -> Option<Duration> {
    let positions = fresh.raw.collection::<Document>("positions");
    let mut indexes = positions.list_indexes().await.unwrap();
    while indexes.advance().await.unwrap() {
        let options = indexes.deserialize_current().unwrap().options.unwrap();
        if options.name.as_deref() == Some("expiry") {
            return options.expire_after;
        }
    }
    None
}

#[tokio::test]
async fn several_processes_may_make_the_schema_at_once() {
    let Some(fresh) = Fresh::new("schema_at_once").await else {
        return;
    };
    let opened = future::join_all((0..6).map(|_| fresh.open())).await;
    let positions = fresh.raw.collection::<Document>("positions");
    let mut names = positions.list_index_names().await.unwrap();
    names.sort();
    assert_eq!(names, ["_id_", "by_deliverer", "by_writer"]);
    let meta = fresh.raw.collection::<Document>("meta");
    let schema = meta.find_one(doc! { "_id": "schema" }).await.unwrap();
    assert_eq!(schema.unwrap().get_i64("version").unwrap(), 1);
    assert_eq!(opened[0].database(), fresh.raw.name());
    fresh.drop().await;
}

#[tokio::test]
async fn an_unknown_version_is_refused() {
    let Some(fresh) = Fresh::new("schema_version").await else {
        return;
    };
    let meta = fresh.raw.collection::<Document>("meta");
    let newer = doc! { "_id": "schema", "version": 99_i64 };
    meta.insert_one(newer).await.unwrap();
    let error = MongoStore::open(&fresh.options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let told = error.source.to_string();
    assert!(
        told.contains("schema version 99; this program knows 1"),
        "{told}"
    );
    fresh.drop().await;
}

#[tokio::test]
async fn an_index_that_differs_is_named() {
    let Some(fresh) = Fresh::new("schema_index").await else {
        return;
    };
    let wrong = IndexModel::builder()
        .keys(doc! { "s": 1 })
        .options(IndexOptions::builder().name("by_writer".to_owned()).build())
        .build();
    let positions = fresh.raw.collection::<Document>("positions");
    positions.create_index(wrong).await.unwrap();
    let error = MongoStore::open(&fresh.options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let told = error.source.to_string();
    assert!(told.contains("by_writer of positions"), "{told}");
    positions.drop_index("by_writer").await.unwrap();
    fresh.open().await;
    fresh.drop().await;
}

#[tokio::test]
async fn positions_expire_only_as_asked() {
    let Some(mut fresh) = Fresh::new("schema_ttl").await else {
        return;
    };
    for (asked, then) in [
        (None, None),
        (Some(86_400), Some(86_400)),
        (Some(3_600), Some(3_600)),
        (None, Some(3_600)),
        (Some(0), None),
        (Some(0), None),
    ] {
        fresh.options.ttl = asked.map(Duration::from_secs);
        fresh.open().await;
        let seen = expiry(&fresh).await;
        assert_eq!(seen, then.map(Duration::from_secs), "asked for {asked:?}");
    }
    fresh.drop().await;
}

#[tokio::test]
async fn a_wrong_uri_and_a_refused_document_are_invalid() {
    let error = MongoStore::open(&Options::new("http://here"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let Some(fresh) = Fresh::new("schema_validator").await else {
        return;
    };
    let store = fresh.open().await;
    let refuse = doc! {
        "collMod": "positions",
        "validator": { "lat": { "$lt": 0.0 } },
    };
    fresh.raw.run_command(refuse).await.unwrap();
    let error = store
        .append(batch([position(None, "d", 0, None)]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    fresh.drop().await;
}
