//! The spine from outside: a real process, its settings, its life and its end.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod health_check;
mod life;
mod probe;
mod settings;
