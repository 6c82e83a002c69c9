//! Every law of the contract, on a file of its own.

use store::conformance::LAWS;
use store_sqlite::{Options, SqliteStore};

#[tokio::test]
async fn the_embedded_store_keeps_every_law() {
    let mut broken = Vec::new();
    for law in LAWS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let store = SqliteStore::open(&path, &Options::default()).unwrap();
        if let Err(violation) = law.check(&store).await {
            broken.push(violation.to_string());
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
