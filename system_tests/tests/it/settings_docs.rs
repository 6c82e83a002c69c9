//! The documentation's tables of settings are what the programs say.

use system_tests::settings_docs::{REMEDY, compare};

#[test]
fn the_tables_of_settings_are_up_to_date() {
    let compared = compare().unwrap();
    let outdated = compared.outdated();
    assert!(
        outdated.is_empty(),
        "the tables {outdated:?} of {} are out of date; {REMEDY}",
        compared.path.display()
    );
}
