//! Negative controls of the conformance suite: stores that break a law, and every law noticing one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use model::{DelivererId, FleetEvent, Latitude, OrderId, Position, Record, Reject};
use store::conformance::LAWS;
use store::{
    Appended, Batch, Counts, FleetEventQuery, HistoryQuery, LakeSource, LakeTable, Page, Reader,
    StoreError, StoredFleetEvent, StoredPosition, StoredReject, Window, WindowState, Writer,
    WriterProgress,
};
use store_sqlite::{Options, SqliteStore};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breach {
    /// Takes every item for new.
    NeverTheSame,
    /// Takes the first item of a batch for all of its kind.
    KeepsTheFirst,
    /// The last position is the one that came last.
    LastIsLatestToArrive,
    /// Forgets cursors.
    NoCursor,
    /// Lets a cursor go back.
    CursorGoesBack,
    /// Takes any page cursor for the beginning.
    AnyPageCursor,
    /// Pages after the first begin one item late.
    SkipsBetweenPages,
    /// `to` belongs to the range.
    ClosedRange,
    /// Keeps places to a tenth of a degree.
    Rounds,
    /// Reads ids as numbers where it can.
    IdsAreNumbers,
    /// Scans leave out the first row.
    ScanSkips,
    /// Records no windows, allows any purge.
    NoWindows,
    /// Gives a lease to whoever asks.
    AnyLease,
}

use Breach::{
    AnyLease, AnyPageCursor, ClosedRange, CursorGoesBack, IdsAreNumbers, KeepsTheFirst,
    LastIsLatestToArrive, NeverTheSame, NoCursor, NoWindows, Rounds, ScanSkips, SkipsBetweenPages,
};

const BREACHES: [Breach; 13] = [
    NeverTheSame,
    KeepsTheFirst,
    LastIsLatestToArrive,
    NoCursor,
    CursorGoesBack,
    AnyPageCursor,
    SkipsBetweenPages,
    ClosedRange,
    Rounds,
    IdsAreNumbers,
    ScanSkips,
    NoWindows,
    AnyLease,
];

struct Broken {
    inner: SqliteStore,
    how: Breach,
    count: AtomicU64,
    arrived: Mutex<HashMap<String, Position>>,
    cursors: Mutex<HashMap<String, u64>>,
}

impl Broken {
    fn is(&self, how: Breach) -> bool {
        self.how == how
    }

    fn fresh(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    fn make_new(&self, batch: &mut Batch) {
        for record in &mut batch.records {
            match record {
                Record::Position(position) => position.seq = Some(self.fresh()),
                Record::FleetEvent { event, .. } => {
                    event.data = format!("{} {}", event.data, self.fresh()).into();
                }
            }
        }
        for reject in &mut batch.rejects {
            reject.payload = format!("{}", self.fresh()).into_bytes().into();
        }
    }

    fn seen(&self, point: Option<Position>, id: &str) -> Option<Position> {
        let mut point = match self.how {
            LastIsLatestToArrive => self.arrived.lock().unwrap().get(id).cloned(),
            _ => point,
        };
        if let Some(point) = point.as_mut().filter(|_| self.is(Rounds)) {
            let tenths = (point.lat.degrees() * 10.0).round() / 10.0;
            point.lat = Latitude::from_degrees(tenths).unwrap();
        }
        point
    }

    fn number<'a>(&self, id: &'a str) -> &'a str {
        let trimmed = id.trim_start_matches('0');
        if self.is(IdsAreNumbers) && trimmed.is_empty() {
            "0"
        } else {
            id
        }
    }
}

#[async_trait]
impl Writer for Broken {
    async fn append(&self, mut batch: Batch) -> Result<Appended, StoreError> {
        let sent = batch.len() as u64;
        match self.how {
            NeverTheSame => self.make_new(&mut batch),
            KeepsTheFirst => {
                batch.records.truncate(1);
                batch.rejects.truncate(1);
            }
            _ => {}
        }
        for position in batch.records.iter().filter_map(Record::position) {
            let mut arrived = self.arrived.lock().unwrap();
            let order = position.order_id.as_ref().map(OrderId::to_string);
            for id in order.into_iter().chain([position.deliverer_id.to_string()]) {
                arrived.insert(id, position.clone());
            }
        }
        if let Some(cursor) = &batch.cursor {
            let mut cursors = self.cursors.lock().unwrap();
            cursors.insert(cursor.source.clone(), cursor.next);
        }
        let mut appended = self.inner.append(batch).await?;
        if self.is(KeepsTheFirst) {
            let accounted = appended.stored + appended.duplicate + appended.rejected;
            appended.duplicate += sent - accounted;
        }
        Ok(appended)
    }

    async fn cursor(&self, source: &str) -> Result<Option<u64>, StoreError> {
        match self.how {
            NoCursor => Ok(None),
            CursorGoesBack => Ok(self.cursors.lock().unwrap().get(source).copied()),
            _ => self.inner.cursor(source).await,
        }
    }

    async fn sync(&self, source: &str) -> Result<Option<u64>, StoreError> {
        self.inner.sync(source).await
    }
}

#[async_trait]
impl Reader for Broken {
    async fn last_by_order(&self, id: &OrderId) -> Result<Option<Position>, StoreError> {
        let id = OrderId::new(self.number(id.as_str())).unwrap();
        let last = self.inner.last_by_order(&id).await?;
        Ok(self.seen(last, id.as_str()))
    }

    async fn last_by_deliverer(&self, id: &DelivererId) -> Result<Option<Position>, StoreError> {
        let last = self.inner.last_by_deliverer(id).await?;
        Ok(self.seen(last, id.as_str()))
    }

    async fn history(&self, query: &HistoryQuery) -> Result<Page<Position>, StoreError> {
        let mut query = query.clone();
        if self.is(ClosedRange) {
            query.to = query.to.map(|to| to.saturating_add_micros(1));
        }
        let mut page = self.inner.history(&query).await?;
        if self.is(SkipsBetweenPages) && query.after.is_some() && !page.items.is_empty() {
            page.items.remove(0);
        }
        Ok(page)
    }

    async fn fleet_events(&self, query: &FleetEventQuery) -> Result<Page<FleetEvent>, StoreError> {
        let mut query = query.clone();
        if self.is(AnyPageCursor) {
            query.after = None;
        }
        let mut page = self.inner.fleet_events(&query).await?;
        if self.is(SkipsBetweenPages) && query.after.is_some() && !page.items.is_empty() {
            page.items.remove(0);
        }
        Ok(page)
    }

    async fn rejected(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<Reject>, StoreError> {
        let after = after.filter(|_| !self.is(AnyPageCursor));
        self.inner.rejected(limit, after).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.inner.counts().await
    }
}

#[async_trait]
impl LakeSource for Broken {
    async fn writers(&self, table: LakeTable) -> Result<Vec<WriterProgress>, StoreError> {
        self.inner.writers(table).await
    }

    async fn scan_positions(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredPosition>, StoreError> {
        let mut rows = self
            .inner
            .scan_positions(writer_id, after, to, limit)
            .await?;
        if self.is(ScanSkips) && !rows.is_empty() {
            rows.remove(0);
        }
        Ok(rows)
    }

    async fn scan_fleet_events(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredFleetEvent>, StoreError> {
        self.inner
            .scan_fleet_events(writer_id, after, to, limit)
            .await
    }

    async fn scan_rejected(
        &self,
        writer_id: &str,
        after: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<StoredReject>, StoreError> {
        self.inner.scan_rejected(writer_id, after, to, limit).await
    }

    async fn last_window(&self, table: LakeTable, id: &str) -> Result<Option<Window>, StoreError> {
        if self.is(NoWindows) {
            return Ok(None);
        }
        self.inner.last_window(table, id).await
    }

    async fn plan_window(&self, window: &Window) -> Result<(), StoreError> {
        if self.is(NoWindows) {
            return Ok(());
        }
        self.inner.plan_window(window).await
    }

    async fn advance_window(
        &self,
        window: &Window,
        state: WindowState,
        rows: u64,
    ) -> Result<(), StoreError> {
        if self.is(NoWindows) {
            return Ok(());
        }
        self.inner.advance_window(window, state, rows).await
    }

    async fn purge(&self, window: &Window, limit: usize) -> Result<u64, StoreError> {
        if self.is(NoWindows) {
            return Ok(0);
        }
        self.inner.purge(window, limit).await
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now_us: i64,
        ttl_us: i64,
    ) -> Result<bool, StoreError> {
        if self.is(AnyLease) {
            return Ok(true);
        }
        self.inner.acquire_lease(name, holder, now_us, ttl_us).await
    }

    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.inner.release_lease(name, holder).await
    }
}

#[tokio::test]
async fn every_law_notices_a_store_that_breaks_it() {
    let mut noticed = BTreeSet::new();
    for how in BREACHES {
        let mut broken = 0;
        for law in LAWS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store.sqlite");
            let store = Broken {
                inner: SqliteStore::open(&path, &Options::default()).unwrap(),
                how,
                count: AtomicU64::default(),
                arrived: Mutex::default(),
                cursors: Mutex::default(),
            };
            if law.check(&store).await.is_err() {
                noticed.insert(law.name);
                broken += 1;
            }
        }
        assert!(broken > 0, "no law noticed the breach {how:?}");
    }
    let blind: Vec<_> = LAWS
        .iter()
        .map(|law| law.name)
        .filter(|name| !noticed.contains(name))
        .collect();
    assert!(blind.is_empty(), "laws that noticed no breach: {blind:?}");
}
