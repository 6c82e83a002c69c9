//! Leases: a document each, taken by a guarded upsert.

use mongodb::bson::doc;

use crate::database::{LEASES, Store, answer, within};
use crate::error::{Outcome, is_duplicate};

/// Takes or renews a lease.
pub(crate) async fn acquire(
    store: &Store,
    name: &str,
    holder: &str,
    now_us: i64,
    ttl_us: i64,
) -> Outcome<bool> {
    let free = doc! {
        "_id": name,
        "$or": [{ "holder": holder }, { "until_us": { "$lte": now_us } }],
    };
    let taken = doc! { "$set": { "holder": holder, "until_us": now_us.saturating_add(ttl_us) } };
    let leases = store.documents(LEASES);
    match within(leases.update_one(free, taken).upsert(true)).await? {
        // The lease is there and does not match: another holds it.
        Err(error) if is_duplicate(&error) => Ok(false),
        outcome => Ok(outcome.map(|_| true)?),
    }
}

/// Gives a lease up.
pub(crate) async fn release(store: &Store, name: &str, holder: &str) -> Outcome<()> {
    let held = doc! { "_id": name, "holder": holder };
    answer(store.documents(LEASES).delete_one(held)).await?;
    Ok(())
}
