//! What is sent to the server: every write asks for a majority and the journal, by both ways of updating.

use std::sync::{Arc, Mutex};

use mongodb::bson::{Bson, Document, doc};
use store::conformance::build::{batch, letter, position, update};
use store::{Batch, LakeSource, LakeTable, SourceCursor, Window, WindowState, Writer};
use store_mongo::MongoStore;
use store_mongo::tuning::Tuning;

use crate::server::Fresh;

/// Commands that write rows.
const WRITES: [&str; 5] = ["insert", "update", "delete", "findAndModify", "bulkWrite"];

/// The commands a store sent.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<(String, Document)>>>);

impl Sent {
    fn watched(&self, tuning: Tuning) -> Tuning {
        let sent = self.clone();
        Tuning {
            watch: Some(Arc::new(move |name: &str, command: &Document| {
                let mut all = sent.0.lock().unwrap();
                all.push((name.to_owned(), command.clone()));
            })),
            ..tuning
        }
    }

    fn has(&self, command: &str) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .any(|(name, _)| name == command)
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Writes that do not wait for a majority and its journals.
    fn hasty(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let writes = all
            .iter()
            .filter(|(name, _)| WRITES.contains(&name.as_str()));
        writes
            .filter(|(_, command)| {
                let concern = command.get_document("writeConcern");
                !concern.is_ok_and(|concern| {
                    concern.get("w") == Some(&Bson::from("majority"))
                        && concern.get("j") == Some(&Bson::from(true))
                })
            })
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Documents in all insertions into a collection.
    fn inserted(&self, collection: &str) -> usize {
        let all = self.0.lock().unwrap();
        let into = all.iter().filter(|(name, command)| {
            name == "insert" && command.get("insert") == Some(&Bson::from(collection))
        });
        into.map(|(_, command)| command.get_array("documents").unwrap().len())
            .sum()
    }

    /// Updates in all commands of a kind, which lists them in this field.
    fn statements(&self, command: &str, field: &str) -> usize {
        let all = self.0.lock().unwrap();
        let of_kind = all.iter().filter(|(name, _)| name == command);
        of_kind
            .map(|(_, command)| command.get_array(field).unwrap().len())
            .sum()
    }
}

/// Does everything that writes.
async fn write_all(store: &MongoStore) {
    let whole = |next| Batch {
        rejects: vec![letter(b"{", 0, Some(9))],
        cursor: Some(SourceCursor {
            source: "log".into(),
            next,
        }),
        records: batch([position(Some("o"), "d", 0, Some(next))])
            .records
            .into_iter()
            .chain([update("org", "v", 0)])
            .collect(),
    };
    for next in 1..3 {
        store.append(whole(next)).await.unwrap();
    }
    let table = LakeTable::DelivererLocation;
    let writer = store.writers(table).await.unwrap().pop().unwrap();
    let window = Window {
        table,
        writer_id: writer.writer_id,
        after: 0,
        to: writer.committed,
        state: WindowState::Planned,
        rows: None,
    };
    store.plan_window(&window).await.unwrap();
    for state in [WindowState::Committed, WindowState::Verified] {
        store.advance_window(&window, state, 3).await.unwrap();
    }
    assert_eq!(store.purge(&window, 10).await.unwrap(), 3);
    assert!(store.acquire_lease("l", "h", 0, 10).await.unwrap());
    store.release_lease("l", "h").await.unwrap();
}

async fn speaks_bulk_write(fresh: &Fresh) -> bool {
    let hello = fresh.raw.run_command(doc! { "hello": 1 }).await.unwrap();
    hello.get_i32("maxWireVersion").unwrap() >= 25
}

#[tokio::test]
async fn every_write_waits_for_a_majority_and_its_journals() {
    let Some(fresh) = Fresh::new("commands").await else {
        return;
    };
    for bulk_write in [None, Some(false)] {
        fresh.raw.drop().await.unwrap();
        let sent = Sent::default();
        let tuning = Tuning {
            bulk_write,
            ..Tuning::default()
        };
        let store = fresh.open_with(sent.watched(tuning)).await;
        write_all(&store).await;
        assert_eq!(sent.hasty(), Vec::<String>::new());
        for name in ["insert", "update", "delete", "findAndModify"] {
            assert!(sent.has(name), "{name} was not seen");
        }
        // Left to itself the store takes the new way where the server has it.
        let expected = bulk_write.is_none() && speaks_bulk_write(&fresh).await;
        assert_eq!(sent.has("bulkWrite"), expected);
    }
    fresh.drop().await;
}

#[tokio::test]
async fn control_a_write_that_waits_for_less_is_noticed() {
    let Some(fresh) = Fresh::new("commands_control").await else {
        return;
    };
    for bulk_write in [None, Some(false)] {
        fresh.raw.drop().await.unwrap();
        let sent = Sent::default();
        let tuning = Tuning {
            bulk_write,
            acknowledge_early: true,
            ..Tuning::default()
        };
        let store = fresh.open_with(sent.watched(tuning)).await;
        write_all(&store).await;
        let hasty = sent.hasty();
        for name in WRITES {
            let noticed = hasty.iter().any(|hasty| hasty == name);
            assert_eq!(noticed, sent.has(name), "{name}");
        }
    }
    fresh.drop().await;
}

/// Points of three orders that one deliverer carries, in any order of time.
fn points(from: i64) -> Batch {
    let orders = ["a", "b", "c"];
    batch((0..3_000_i64).map(|i| {
        let order = orders[usize::try_from(i % 3).unwrap()];
        let late = (i * 7_919) % 3_000;
        position(Some(order), "d", from + late, None)
    }))
}

#[tokio::test]
async fn many_points_of_an_order_are_one_document_of_its_last() {
    let Some(fresh) = Fresh::new("commands_last").await else {
        return;
    };
    for bulk_write in [true, false] {
        fresh.raw.drop().await.unwrap();
        let sent = Sent::default();
        let tuning = Tuning {
            bulk_write: Some(bulk_write),
            // Signs of life are updates as well, as many as it takes long.
            silent: true,
            ..Tuning::default()
        };
        let store = fresh.open_with(sent.watched(tuning.clone())).await;
        let (command, field) = if bulk_write {
            ("bulkWrite", "ops")
        } else {
            ("update", "updates")
        };
        // In the older form the writer's commit is an update as well.
        let commit = usize::from(!bulk_write);
        sent.clear();
        store.append(points(0)).await.unwrap();
        assert_eq!(sent.inserted("last_positions"), 3);
        assert_eq!(sent.inserted("last_by_deliverer"), 1);
        assert_eq!(
            sent.statements(command, field),
            commit,
            "new ones are inserted"
        );

        sent.clear();
        store.append(points(3_000)).await.unwrap();
        assert_eq!(
            sent.inserted("last_positions"),
            0,
            "what is known is updated"
        );
        assert_eq!(sent.inserted("last_by_deliverer"), 0);
        assert_eq!(sent.statements(command, field), 4 + commit);

        // A process that knows nothing tries to insert, and then updates.
        sent.clear();
        let another = fresh.open_with(sent.watched(tuning)).await;
        another.append(points(6_000)).await.unwrap();
        assert_eq!(sent.inserted("last_positions"), 3);
        assert_eq!(sent.statements(command, field), 4 + commit);
    }
    fresh.drop().await;
}
