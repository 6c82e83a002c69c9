//! System tests: what a user relies on, checked on real processes from outside.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod before_first_subscriber;
mod dependency_rules;
mod door2door;
mod foreign_clients;
mod freeze;
mod heavy;
mod kill_9;
mod lake_query;
mod lessons;
mod lifecycle;
mod scripts;
mod separate_processes;
mod services;
mod services_kill;
mod settings_docs;
