//! Every law of the contract, each on a database of its own, by both ways of updating.

use store::conformance::LAWS;
use store_mongo::tuning::Tuning;

use crate::server::Fresh;

async fn keeps_every_law(test: &str, tuning: Tuning) {
    let mut broken = Vec::new();
    for law in LAWS {
        let Some(fresh) = Fresh::new(test).await else {
            return;
        };
        let store = fresh.open_with(tuning.clone()).await;
        if let Err(violation) = law.check(&store).await {
            broken.push(violation.to_string());
        }
        fresh.drop().await;
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test]
async fn the_store_keeps_every_law() {
    keeps_every_law("conformance", Tuning::default()).await;
}

#[tokio::test]
async fn the_store_keeps_every_law_with_update_commands() {
    let tuning = Tuning {
        bulk_write: Some(false),
        ..Tuning::default()
    };
    keeps_every_law("conformance_commands", tuning).await;
}
