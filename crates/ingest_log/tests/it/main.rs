//! Tests of the log through its public face, on real files.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod basics;
