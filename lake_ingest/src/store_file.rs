//! Opening the store, which somebody else makes.

use std::path::Path;

use service::BoxError;
use store_sqlite::{Options, SqliteStore};

/// Opens the store if it exists; opening alone would make an empty one wherever `--data` points.
pub(crate) async fn open(path: &Path) -> Result<SqliteStore, BoxError> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        if !path.exists() {
            let shown = path.display();
            return Err(format!(
                "there is no store at {shown}; the subscriber makes it, check --data"
            )
            .into());
        }
        SqliteStore::open(&path, &Options::default()).map_err(BoxError::from)
    });
    opened.await?
}
