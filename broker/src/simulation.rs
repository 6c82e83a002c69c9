//! The broker in a simulated world: own clock, network, disk and order of events, all drawn from one seed.
//!
//! The real connections, session state, groups and logs run in it, see [`node`]; publishers and consumers with QoS 1
//! and 2 and with `$share` are around it, with topic aliases both ways, messages that expire, wills, retained messages
//! and subscriptions that end, see [`seeds`]. What goes wrong: connections end, or are ended unnoticed so
//! that their bytes come late; nobody reads for long; bytes come in pieces; writes and syncs fail; the process is killed
//! or stopped; the machine loses power during any write; sessions expire. In the end all is
//! well again, and then every message that was acknowledged must be there, in order, and those of QoS 2 once.
//!
//! [`fuzz`] sends anything to the same broker.
//!
//! A seed repeats its run exactly: `LASTMILE_SIM_FIRST=<seed> LASTMILE_SIM_SEEDS=1 cargo test -p broker --lib
//! simulation`.

mod executor;
pub(crate) mod fuzz;
mod link;
mod node;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod turns;
mod wire;
