//! lake_models.
