//! The generated statements are run by the engines they are for, over a lake made here, and each table must have
//! as many rows, and the same driven metres, as it has to the lake's own query engine.
#![expect(clippy::unwrap_used, reason = "a failed step must fail the test")]

mod engines;
#[path = "../../../lake_models/tests/it/python.rs"]
mod python;
#[path = "../../../lake_models/tests/it/world.rs"]
#[expect(dead_code, reason = "made for the tests of the models, too")]
mod world;
