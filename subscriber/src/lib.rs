//! The subscriber: takes messages from a source, decides what each item is, and stores it.
//!
//! Two sources feed one pipeline: the ingest log in the same process ([`start_from_log`]) and an MQTT
//! broker ([`start_from_mqtt`]). Messages are decoded while the batch before is being written, so a batch
//! is as large as what came meanwhile: small when little comes, large when the store is the slower one.
//!
//! # Laws
//! - **Nothing is confirmed before it is stored.** MQTT acknowledgements leave, in order, after the commit;
//!   the log's cursor is committed with the rows, and the log may delete only what [`store::Writer::sync`]
//!   called durable.
//! - **Every item is counted once**: received = stored + duplicate + rejected + in flight. A store whose
//!   answer breaks the sum stops the subscriber before anything is confirmed.
//! - **Nothing is dropped.** What is invalid, and what the store will never take, becomes a dead letter with
//!   its reason and bytes.
//!
//! While the store is unavailable the same batch is tried again, with growing and jittered pauses. At most
//! two batches are held, each with 256 KiB and a message beyond its bound, and before them, for each connection
//! to a broker, what fits the receive buffer, one read (128 KiB) and one packet; then nothing more is read,
//! and the broker or its log holds the rest. Acknowledgements and pings to the broker go on.
//!
//! Messages on topics that [`model::topic::classify`] does not know are skipped.

mod counters;
mod members;
mod metrics;
mod pipeline;
mod program;
mod replica;
mod settings;
mod source;
mod start;
mod store_batch;

pub use counters::{Counted, Counters};
pub use program::Subscriber;
pub use settings::{
    Config, MqttConfig, MqttSettings, ProgramConfig, ProgramSettings, Replica, ReplicaError,
    Settings, ShownUrl, Subscription,
};
pub use start::{Handle, LOG_CURSOR, start_from_log, start_from_mqtt};
