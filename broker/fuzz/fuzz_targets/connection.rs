//! Anything over a connection to a broker in memory; see `broker::fuzzing`.
#![no_main]

use std::cell::RefCell;

use broker::fuzzing::Harness;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static HARNESS: RefCell<Harness> = RefCell::new(Harness::new());
}

fuzz_target!(|case: &[u8]| {
    HARNESS.with_borrow_mut(|harness| {
        if let Err(violation) = harness.one(case) {
            panic!("{violation}");
        }
    });
});
