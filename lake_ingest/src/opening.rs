//! Opening the store, which somebody else makes, and telling an outage of it from other failures.

use std::sync::Arc;
use std::time::Duration;

use lake::LakeError;
use lake_models::ModelError;
use service::{BoxError, Context};
use store::{ErrorKind, Store, StoreError};
use stores::Config;

use crate::job::PATIENCE;

/// Opens the store for what runs once and ends. A file that is not there is said so at once: whoever waits at a
/// terminal has the wrong folder. A server may be on its way.
pub(crate) async fn now(config: &Config, context: &Context) -> Result<Arc<dyn Store>, BoxError> {
    let limit = if config.is_mongodb() {
        PATIENCE
    } else {
        Duration::ZERO
    };
    let opened = config.open_existing(context, Some(limit)).await?;
    opened.ok_or_else(|| "stopped before the store was there".into())
}

/// Tells whether an error comes from a store or a bucket that is away, which mends itself.
pub(crate) fn is_outage(error: &BoxError) -> bool {
    let kind = error
        .downcast_ref::<StoreError>()
        .map(StoreError::kind)
        .or_else(|| error.downcast_ref::<LakeError>().map(LakeError::kind))
        .or_else(|| error.downcast_ref::<ModelError>().map(ModelError::kind));
    kind == Some(ErrorKind::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_known_whoever_met_it() {
        let away = |kind| StoreError {
            operation: "writers",
            store: "mongodb",
            kind,
            source: "x".into(),
        };
        assert!(is_outage(&away(ErrorKind::Unavailable).into()));
        let met_by_the_lake = LakeError::from(away(ErrorKind::Unavailable));
        assert!(is_outage(&met_by_the_lake.into()));
        let met_by_a_model = ModelError::from(LakeError::from(away(ErrorKind::Unavailable)));
        assert!(is_outage(&met_by_a_model.into()));
        assert!(!is_outage(&away(ErrorKind::Data).into()));
        assert!(!is_outage(&"x".into()));
    }
}
