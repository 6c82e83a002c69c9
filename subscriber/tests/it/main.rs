//! The subscriber over a real log and the embedded store, and over stores that misbehave.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod door2door;
mod faults;
mod laws;
mod process;
mod refusals;
mod shared;
mod support;
mod world;
