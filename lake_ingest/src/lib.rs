//! lake_ingest.
