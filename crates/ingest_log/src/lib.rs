//! ingest_log.
