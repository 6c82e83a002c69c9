//! The broker from outside: a raw MQTT client of the tests' own, the real command-line clients, and real kills.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test awaits the tasks it spawns"
)]
#![expect(clippy::print_stdout, reason = "what is skipped is said by name")]

mod back_pressure;
mod broker;
mod client;
mod fuzz;
mod hold;
mod kill;
mod live;
mod mosquitto;
mod protocol;
mod publish;
mod sessions;
mod share;
mod share_load;
