//! The all-in-one program from outside: its settings, its data directory, its way from POST to GET.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod pipeline;
mod process;
mod settings;
