//! Measurements of whole processes from outside.

pub(crate) mod ingest;
mod measure;
mod subject;
