//! Other makers' programs read our checkpoints, and we read theirs.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lake::storage::LocalStorage;
use serde_json::Value;
use store::LakeTable;

use crate::moto::python;
use crate::world::World;

#[tokio::test]
async fn deltalake_reads_a_log_that_begins_with_our_checkpoint_and_we_one_with_theirs() {
    let has = Command::new(python())
        .args(["-c", "import deltalake, pyarrow"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        crate::moto::skipped("lake::readers", "needs Python with deltalake and pyarrow");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(Arc::new(LocalStorage::new(folder.path())));
    world.window_rows = 7;
    for part in 0..4 {
        world.store(part * 60, 60);
        world.run(None).await.unwrap();
    }
    let mut newest = Vec::new();
    for table in LakeTable::ALL {
        let snapshot = world.snapshot(table).await;
        let version = snapshot.checkpoint().unwrap();
        let log = folder
            .path()
            .join("raw")
            .join(table.as_str())
            .join("_delta_log");
        for commit in 0..=version {
            std::fs::remove_file(log.join(format!("{commit:020}.json"))).unwrap();
        }
        newest.push(snapshot);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints.py");
    let output = Command::new(python())
        .arg(script)
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (table, ours) in LakeTable::ALL.into_iter().zip(newest) {
        let number = |name: &str| {
            let pointer = format!("/{}/{name}", table.as_str());
            found.pointer(&pointer).unwrap().as_u64().unwrap()
        };
        assert_eq!(number("version"), ours.commits - 1);
        assert_eq!(number("files"), ours.files.len() as u64);
        assert_eq!(
            (number("rows"), number("plain_rows")),
            (ours.rows(), ours.rows())
        );
        assert_eq!(number("sum"), number("plain_sum"));
        // Theirs is of the newest version, and now the one that is named.
        let theirs = world.snapshot(table).await;
        assert_eq!(theirs.checkpoint(), Some(ours.commits - 1));
        assert_eq!(theirs.transactions, ours.transactions);
        let live = |snapshot: &lake::delta::Snapshot| {
            let files = snapshot.files.values();
            let files = files.map(|add| {
                let partition = add.partition_values.clone();
                (
                    add.path.clone(),
                    partition,
                    add.size,
                    add.rows(),
                    add.tags.clone(),
                )
            });
            files.collect::<Vec<_>>()
        };
        assert_eq!(live(&theirs), live(&ours));
    }
    world.store(240, 60);
    assert!(world.run(None).await.unwrap().complete);
}
