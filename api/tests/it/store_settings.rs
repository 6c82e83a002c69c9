//! Which store the program takes when several places name one; the same for every program.

use std::path::Path;
use std::process::Output;

use crate::process::command;

const URI: &str = "mongodb://ann:hunter2@db.example:27017/fleet";

fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = command(folder, arguments);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("hunter2"), "{text}");
    }
    output
}

/// Returns the `[store]` section that is in effect.
fn store(arguments: &[&str], environment: &[(&str, &str)], file: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.toml");
    std::fs::write(&path, file).unwrap();
    let mut all = vec!["--print-config", "--config", path.to_str().unwrap()];
    all.extend(arguments);
    let output = run(folder.path(), &all, environment);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{:?}", output.stderr);
    text.split_once("[store]").unwrap().1.to_owned()
}

#[test]
fn the_higher_layer_names_the_store() {
    let mongodb_file = format!("[store]\nmongodb_uri = \"{URI}\"\n");
    let sqlite_file = "[store]\nsqlite = \"file.sqlite\"\n";
    let by_environment = [("MONGODB_URI", URI)];
    let is_mongodb = |section: String| {
        assert!(section.contains("kind = \"mongodb\""), "{section}");
        assert!(section.contains("mongodb://***@db.example:27017/fleet"));
    };
    let is_sqlite = |section: String, path: &str| {
        assert!(section.contains("kind = \"sqlite\""), "{section}");
        assert!(section.contains(path), "{section}");
    };
    is_sqlite(store(&[], &[], ""), "store.sqlite");
    is_mongodb(store(&[], &by_environment, ""));
    is_mongodb(store(&["--mongodb-uri", URI], &[], ""));
    is_mongodb(store(&[], &[], &mongodb_file));
    // Flag over environment, environment over file, flag over file.
    let flag = ["--sqlite", "flag.sqlite"];
    is_sqlite(store(&flag, &by_environment, ""), "flag.sqlite");
    is_sqlite(store(&flag, &[], &mongodb_file), "flag.sqlite");
    is_mongodb(store(&[], &by_environment, sqlite_file));
    let sqlite = [("LASTMILE_SQLITE", "env.sqlite")];
    is_sqlite(store(&[], &sqlite, &mongodb_file), "env.sqlite");
    is_mongodb(store(&["--mongodb-uri", URI], &sqlite, sqlite_file));
    // An empty variable, as compose files pass it on, names nothing.
    is_sqlite(
        store(&[], &[("MONGODB_URI", "")], sqlite_file),
        "file.sqlite",
    );
    // What goes with the store comes from wherever it is.
    let section = store(
        &[],
        &by_environment,
        "[store]\nmongodb_database = \"other\"\n",
    );
    assert!(
        section.contains("mongodb_database = \"other\""),
        "{section}"
    );
}

#[test]
fn two_stores_on_one_layer_and_wrong_uris_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], environment: &[(&str, &str)], what: &str| {
        let mut all = vec!["--check-config"];
        all.extend(arguments);
        let output = run(folder.path(), &all, environment);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(what), "{said}");
    };
    let both = "store.sqlite is given together with mongodb_uri";
    refused(&["--sqlite", "a", "--mongodb-uri", URI], &[], both);
    refused(&[], &[("LASTMILE_SQLITE", "a"), ("MONGODB_URI", URI)], both);
    for wrong in [
        "ann:hunter2@db",
        "mongodb://ann:hunter2@",
        "mongodb://ann:hun/hunter2@db",
    ] {
        refused(&[], &[("MONGODB_URI", wrong)], "store.mongodb_uri");
    }
    let right = run(folder.path(), &["--check-config"], &[("MONGODB_URI", URI)]);
    assert_eq!(right.status.code(), Some(0));
    // The help shows no value of the environment.
    let help = run(folder.path(), &["--help"], &[("MONGODB_URI", URI)]);
    assert!(help.status.success());
}
