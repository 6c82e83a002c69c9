//! The table of normative statements names tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| {
                rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .next()
            });
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn conformance_names_tests_that_exist() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    functions(&home.join("src"), &mut found);
    functions(&home.join("tests"), &mut found);
    let table = fs::read_to_string(home.join("../docs/mqtt-conformance.md")).unwrap();
    let (mut rows, mut missing) = (0, Vec::new());
    for row in table.lines().filter(|line| line.starts_with("| MQTT-")) {
        rows += 1;
        let said = row.split('|').nth(3).unwrap();
        for name in said.split('`').skip(1).step_by(2) {
            if name.contains('_') && !found.contains(name) {
                missing.push(name.to_owned());
            }
        }
        assert!(!said.trim().is_empty(), "{row}");
    }
    assert!(rows > 100, "the table has {rows} rows");
    assert!(missing.is_empty(), "{missing:?}");
}
