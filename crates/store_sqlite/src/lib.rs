//! store_sqlite.
