//! A day of a real fleet: 35,351 events, of which 35,149 are also positions.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use flate2::read::GzDecoder;

use crate::support::Place;

const EVENTS: u64 = 35_351;
const POSITIONS: u64 = 35_149;

fn sample() -> Option<Vec<String>> {
    let path = std::env::var_os("LASTMILE_DOOR2DOOR").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../../shared/data/door2door-events.jsonl.gz")
        },
        PathBuf::from,
    );
    let file = File::open(&path).ok()?;
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    Some(lines.collect::<Result<_, _>>().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_is_stored_whole_and_a_replay_adds_nothing() {
    let Some(lines) = sample() else {
        println!("skipped: the door2door sample is absent; name it in LASTMILE_DOOR2DOOR");
        return;
    };
    assert_eq!(lines.len() as u64, EVENTS);
    let place = Place::new();
    for replay in 0..3 {
        for part in lines.chunks(1_000) {
            let messages = part
                .iter()
                .map(|line| ("fleet/org-id/events", line.as_bytes()));
            place.append(messages).await;
        }
        let counted = place.subscribe(place.writer()).await;
        let expected = if replay == 0 {
            (EVENTS, 0)
        } else {
            (0, EVENTS)
        };
        assert_eq!((counted.stored, counted.duplicate), expected, "{counted:?}");
        assert_eq!(counted.rejected, 0);
        let counts = place.counts().await;
        assert_eq!(
            (counts.fleet_events, counts.positions, counts.rejected),
            (EVENTS, POSITIONS, 0),
            "after replay {replay}"
        );
    }
}
