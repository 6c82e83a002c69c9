//! The harness of the system tests: real processes, real clients, SIGKILL.
//!
//! It knows the services only from outside: their command lines, their ready line, their HTTP answers
//! and the files they leave. It links none of them, so what it finds is what a user would find.
//!
//! - [`binaries`] finds the development binaries, building them once when nobody has.
//! - [`process`] starts a program, waits for its ready line, ends it; nothing outlives its guard.
//! - [`pipeline`] is the all-in-one program, which tests kill and start again.
//! - [`ports`] picks a free `--port-base`; [`poll`] waits with a deadline; [`http`] asks the API.
//! - [`python`] runs the independent checkers; [`skip`] says by name what a machine cannot run.
//! - [`kill_loop`] is the kill -9 campaign, shared by the gate and by `cargo xtask soak`.
//! - [`mongo_server`] is the database of the tests; [`services`] are the five services as processes of
//!   their own over it, and [`services_loop`] is the kill -9 campaign over them.
//! - [`settings_docs`] compares the documentation's tables of settings with what the programs say.
//! - [`dependency_rules`] holds who may depend on what.

pub mod binaries;
pub mod dependency_rules;
pub mod http;
pub mod kill_loop;
pub mod mongo_server;
pub mod mosquitto;
pub mod pipeline;
pub mod poll;
pub mod ports;
pub mod proc_stat;
pub mod process;
pub mod publisher;
pub mod python;
pub mod services;
pub mod services_loop;
pub mod settings_docs;
pub mod skip;
