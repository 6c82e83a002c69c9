//! The embedded store against the conformance suite and its own promises.

mod conformance;
