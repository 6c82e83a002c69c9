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

async fn expiry(fresh: &Fresh, collection: &str) -> Option<Duration> {
    let documents = fresh.raw.collection::<Document>(collection);
    let mut indexes = documents.list_indexes().await.ok()?;
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
    let names = async |collection| {
        let documents = fresh.raw.collection::<Document>(collection);
        let mut names = documents.list_index_names().await.unwrap();
        names.sort();
        names
    };
    assert_eq!(names("rejected").await, ["_id_", "by_storing", "by_writer"]);
    let point = position(Some("o"), "d", 0, None);
    opened[1].append(batch([point])).await.unwrap();
    // A second index would cost each position as much as storing it does.
    for collection in ["positions", "position_lists", "carried"] {
        assert_eq!(names(collection).await, ["_id_"], "{collection}");
    }
    let meta = fresh.raw.collection::<Document>("meta");
    let schema = meta.find_one(doc! { "_id": "schema" }).await.unwrap();
    assert_eq!(schema.unwrap().get_i64("version").unwrap(), 2);
    assert_eq!(opened[0].database(), fresh.raw.name());
    fresh.drop().await;
}

#[tokio::test]
async fn an_unknown_version_is_refused() {
    let Some(fresh) = Fresh::new("schema_version").await else {
        return;
    };
    let meta = fresh.raw.collection::<Document>("meta");
    for (version, advice) in [(99_i64, "or a newer one"), (1, "name another database")] {
        fresh.raw.drop().await.unwrap();
        let other = doc! { "_id": "schema", "version": version };
        meta.insert_one(other).await.unwrap();
        let error = MongoStore::open(&fresh.options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let told = error.source.to_string();
        let expected = format!("schema version {version}; this program knows 2");
        assert!(told.contains(&expected) && told.contains(advice), "{told}");
    }
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
    let rejected = fresh.raw.collection::<Document>("rejected");
    rejected.create_index(wrong).await.unwrap();
    let error = MongoStore::open(&fresh.options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let told = error.source.to_string();
    assert!(told.contains("by_writer of rejected"), "{told}");
    rejected.drop_index("by_writer").await.unwrap();
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
        let seen = expiry(&fresh, "positions").await;
        let then = then.map(Duration::from_secs);
        assert_eq!(seen, then, "asked for {asked:?}");
        for leads_there in ["position_lists", "carried"] {
            let seen = expiry(&fresh, leads_there).await;
            let later = then.map(|then| then + Duration::from_hours(24));
            assert_eq!(seen, later, "{leads_there}, asked for {asked:?}");
        }
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
    fresh.raw.create_collection("positions").await.unwrap();
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
