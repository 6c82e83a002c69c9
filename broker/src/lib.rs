//! broker.
mod protocol;
