//! The broker from outside: a raw MQTT client of the tests' own, the real command-line clients, and real kills.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test awaits the tasks it spawns"
)]
#![expect(clippy::print_stdout, reason = "what is skipped is said by name")]

mod access;
mod back_pressure;
mod broker;
mod certificates;
mod client;
mod commands;
mod completion;
mod conformance;
mod disk_faults;
mod exactly_once;
mod foreign;
mod fuzz;
mod hold;
mod idle;
mod kill;
mod limits;
mod live;
mod mosquitto;
mod mqtt5;
mod mqtt5_sessions;
mod protocol;
mod publish;
mod replay;
mod router;
mod rules;
mod sessions;
mod share;
mod share_exactly_once;
mod share_load;
mod sys;
mod tls;
mod v5;
mod websocket;
mod wills;
