//! `kill -9` of the program at random moments of its runs: the next run repairs what the killed one left, and at the
//! end the lake has every stored row once, as other makers' programs see it.
//!
//! Between a kill and the next run the lease of the dead one is taken away, as a minute's wait would; that the
//! program waits for it is tested elsewhere. `LASTMILE_LAKE_KILLS` sets the number of kills, for longer campaigns.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use store::conformance::build::Chance;
use store::{LakeSource, LakeTable, WindowState, Writer};
use store_sqlite::{Options, SqliteStore};
use tempfile::TempDir;

use crate::place::{Place, readers, rows};
use crate::program::lake_ingest;

/// Rows of one kind that come between two runs.
const PER_CYCLE: u64 = 120;
/// Windows much smaller than that: most kills fall between two of them.
const WINDOW_ROWS: &str = "20";

/// Why a process was ended, and where.
enum Moment {
    /// After so many windows and a moment more.
    Windows(usize, Duration),
    /// After a time, wherever it is then: in the models as likely as in the offload.
    Time(Duration),
}

struct Campaign {
    data: TempDir,
    place: Place,
    stored: u64,
    chance: Chance,
    /// How long an undisturbed run took.
    whole_run: Duration,
}

fn open(data: &Path) -> SqliteStore {
    SqliteStore::open(&data.join("store.sqlite"), &Options::default()).unwrap()
}

impl Campaign {
    fn new(place: Place, seed: u64) -> Self {
        Self {
            data: tempfile::tempdir().unwrap(),
            place,
            stored: 0,
            chance: Chance::new(seed),
            whole_run: Duration::ZERO,
        }
    }

    async fn store(&mut self) {
        let store = open(self.data.path());
        let next = self.stored + PER_CYCLE;
        store.append(rows(self.stored..next)).await.unwrap();
        self.stored = next;
    }

    fn command(&self, window_rows: &str) -> Command {
        let mut command = lake_ingest(self.data.path());
        let lake = self.place.lake();
        command.args(["--once", "--lake", &lake, "--window-rows", window_rows]);
        self.place.reached_by(&mut command);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    fn run(&mut self) {
        let begun = Instant::now();
        let output = self.command(WINDOW_ROWS).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        self.whole_run = begun.elapsed();
    }

    fn moment(&mut self) -> Moment {
        let mut upto = |most: Duration| {
            let most = u64::try_from(most.as_micros()).unwrap();
            Duration::from_micros(self.chance.below(most + 1))
        };
        let (time, soon) = (upto(self.whole_run), upto(Duration::from_millis(30)));
        if self.chance.below(2) == 0 {
            return Moment::Time(time);
        }
        let windows = usize::try_from(1 + self.chance.below(8)).unwrap();
        Moment::Windows(windows, soon)
    }

    /// Begins a run and kills it; tells whether it was still running.
    fn kill(&self, moment: &Moment) -> bool {
        let mut command = self.command(WINDOW_ROWS);
        let mut child = command.env("RUST_LOG", "lake=info").spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let wait = match moment {
            Moment::Windows(windows, wait) => {
                let verified =
                    |line: &Result<String, _>| line.as_ref().unwrap().contains("window verified");
                log.by_ref().filter(verified).take(*windows).for_each(drop);
                *wait
            }
            Moment::Time(wait) => *wait,
        };
        // Not to wait for anything: the only way to hit between its steps is by time.
        std::thread::park_timeout(wait);
        child.kill().unwrap();
        // Ended by itself it has an exit code; killed it has none.
        child.wait().unwrap().code().is_none()
    }

    /// Takes the dead one's lease away; tells whether it left rows that are not proven to be in the lake.
    async fn left_rows(&self) -> bool {
        let store = open(self.data.path());
        let us = "the test";
        assert!(store.acquire_lease("lake", us, i64::MAX, 0).await.unwrap());
        store.release_lease("lake", us).await.unwrap();
        for table in LakeTable::ALL {
            for writer in store.writers(table).await.unwrap() {
                let last = store.last_window(table, &writer.writer_id).await.unwrap();
                let verified = last.filter(|window| window.state == WindowState::Verified);
                if verified.is_none_or(|window| window.to < writer.committed) {
                    return true;
                }
            }
        }
        false
    }
}

fn kills(otherwise: usize) -> usize {
    let given = std::env::var("LASTMILE_LAKE_KILLS").ok();
    given.map_or(otherwise, |kills| kills.parse().unwrap())
}

async fn killed_again_and_again(place: Place, kills: usize, seed: u64) {
    let mut campaign = Campaign::new(place, seed);
    campaign.store().await;
    campaign.run();
    let (mut killed, mut in_the_offload) = (0, 0);
    for cycle in 0..kills {
        campaign.store().await;
        let moment = campaign.moment();
        killed += usize::from(campaign.kill(&moment));
        let found = campaign.place.read(campaign.stored, true);
        assert!(found.is_ok(), "seed {seed}, kill {cycle}: {found:?}");
        if campaign.left_rows().await {
            in_the_offload += 1;
            if in_the_offload == 1 {
                // Negative control: what is not there yet does not go unnoticed.
                let missing = campaign.place.read(campaign.stored, false).unwrap_err();
                assert!(missing.contains("are missing"), "{missing}");
            }
        }
    }
    campaign.run();
    assert!(!campaign.left_rows().await);
    let found = campaign.place.read(campaign.stored, false);
    assert!(found.is_ok(), "seed {seed}: {found:?}");
    let found = found.unwrap();
    let whole = found.get("final/vehicle_position_data").unwrap();
    assert_eq!(whole, campaign.stored);
    println!("{killed} of {kills} killed, {in_the_offload} with rows left; {found}");
    assert!(killed > 0 && in_the_offload > 0, "no run was disturbed");
}

#[tokio::test]
async fn a_folder_survives_kills_at_random_moments() {
    if !readers("lake_ingest::kill over a folder") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("lake"));
    killed_again_and_again(place, kills(8), 20_260_101).await;
}

#[tokio::test]
async fn a_bucket_survives_kills_at_random_moments() {
    let test = "lake_ingest::kill over a bucket";
    if !readers(test) {
        return;
    }
    let Some(place) = Place::bucket(test) else {
        return;
    };
    killed_again_and_again(place, kills(5), 20_260_102).await;
}

/// Puts the store's files of one folder in the place of those of another.
fn copy_store(from: &Path, to: &Path) {
    let files = |folder: &Path| {
        let files = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name());
        let of_store = files.filter(|name| name.to_string_lossy().starts_with("store.sqlite"));
        of_store.collect::<Vec<_>>()
    };
    for name in files(to) {
        fs::remove_file(to.join(name)).unwrap();
    }
    for name in files(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Removes the record of what was taken from every commit of the lake; returns how many there were.
fn forget_transactions(lake: &Path) -> usize {
    let mut forgotten = 0;
    for table in LakeTable::ALL {
        let log = lake.join("raw").join(table.as_str()).join("_delta_log");
        for file in fs::read_dir(log).unwrap() {
            let path = file.unwrap().path();
            let content = fs::read_to_string(&path).unwrap();
            let kept = content.lines().filter(|line| !line.starts_with("{\"txn\""));
            let kept: Vec<_> = kept.collect();
            forgotten += content.lines().count() - kept.len();
            fs::write(&path, kept.join("\n") + "\n").unwrap();
        }
    }
    forgotten
}

/// A store that was put back to before its run would have its rows taken again. The lake's own record of what it
/// took refuses that; without the record (the negative control) rows come twice, and the readers say so.
#[tokio::test]
async fn rows_are_not_taken_twice_by_a_store_that_forgot_and_control() {
    if !readers("lake_ingest::kill control") {
        return;
    }
    let (folder, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lake = folder.path().join("lake");
    let mut campaign = Campaign::new(Place::Folder(lake.clone()), 1);
    campaign.store().await;
    copy_store(campaign.data.path(), backup.path());
    campaign.run();
    copy_store(backup.path(), campaign.data.path());
    // Other windows than before, so other files.
    let again = || campaign.command("33").output().unwrap();
    let refused = again();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(campaign.place.read(campaign.stored, false).is_ok());

    copy_store(backup.path(), campaign.data.path());
    assert!(forget_transactions(&lake) > 0);
    // The run may end well or at a check of a model; raw has the rows twice by then.
    drop(again());
    let twice = campaign.place.read(campaign.stored, true).unwrap_err();
    assert!(twice.contains("there twice"), "{twice}");
}
