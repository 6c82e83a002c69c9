//! Tests of the log through its public face.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod basics;
mod damage;
mod fullness;
mod readers;
