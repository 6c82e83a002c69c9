//! [`super::Watched`] over a store that fails on request, with paused time.

use std::sync::atomic::AtomicU8;

use super::*;

const UP: u8 = 0;
const DOWN: u8 = 1;
const SILENT: u8 = 2;
const DAMAGED: u8 = 3;

/// Answers "nothing", refuses, or never answers.
#[derive(Debug, Default)]
struct Fake {
    mode: AtomicU8,
}

impl Fake {
    async fn answer<T>(&self, answer: T) -> Result<T, StoreError> {
        match self.mode.load(Ordering::SeqCst) {
            UP => Ok(answer),
            SILENT => std::future::pending().await,
            DAMAGED => Err(StoreError {
                kind: ErrorKind::Data,
                ..unavailable("x", "the schema is of another version")
            }),
            _ => Err(unavailable("x", "connection refused")),
        }
    }
}

fn page<T>() -> Page<T> {
    Page {
        items: Vec::new(),
        next_cursor: None,
    }
}

#[async_trait]
impl Reader for Fake {
    async fn last_by_order(&self, _: &OrderId) -> Result<Option<Position>, StoreError> {
        self.answer(None).await
    }
    async fn last_by_deliverer(&self, _: &DelivererId) -> Result<Option<Position>, StoreError> {
        self.answer(None).await
    }
    async fn history(&self, _: &HistoryQuery) -> Result<Page<Position>, StoreError> {
        self.answer(page()).await
    }
    async fn fleet_events(&self, _: &FleetEventQuery) -> Result<Page<FleetEvent>, StoreError> {
        self.answer(page()).await
    }
    async fn rejected(&self, _: usize, _: Option<&str>) -> Result<Page<Reject>, StoreError> {
        self.answer(page()).await
    }
    async fn counts(&self) -> Result<Counts, StoreError> {
        self.answer(Counts::default()).await
    }
}

fn watch(fake: &Arc<Fake>, context: &Context) -> Watched {
    let fake = Arc::clone(fake);
    let open = move || {
        let fake = Arc::clone(&fake);
        async move {
            fake.answer(()).await?;
            Ok(fake as Arc<dyn Reader>)
        }
    };
    Watched::start(open, "fake".to_owned(), context)
}

fn reason(context: &Context) -> Option<String> {
    let components = context.health.components();
    let store = components.into_iter().find(|(name, _)| *name == "store");
    store.unwrap().1
}

/// Waits, in paused time, until readiness is as wanted.
async fn until_ready(context: &Context, ready: bool) {
    let asked = async {
        while reason(context).is_none() != ready {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asked)
        .await
        .unwrap();
}

async fn refused_at_once(watched: &Watched) {
    let asked = Instant::now();
    let error = watched.counts().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn it_answers_before_the_store_is_there_and_once_it_is() {
    let (fake, context) = (Arc::new(Fake::default()), Context::for_tests());
    fake.mode.store(DOWN, Ordering::SeqCst);
    let watched = watch(&fake, &context);
    refused_at_once(&watched).await;
    until_ready(&context, false).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    refused_at_once(&watched).await;
    assert!(reason(&context).unwrap().contains("connection refused"));
    fake.mode.store(UP, Ordering::SeqCst);
    until_ready(&context, true).await;
    assert_eq!(watched.counts().await.unwrap(), Counts::default());
    context.tasks.stop(Duration::from_secs(1)).await.unwrap();
    assert!(context.tasks.take_failures().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_noticed_by_itself_and_so_is_its_end() {
    for away in [DOWN, SILENT] {
        let (fake, context) = (Arc::new(Fake::default()), Context::for_tests());
        let watched = watch(&fake, &context);
        until_ready(&context, true).await;
        fake.mode.store(away, Ordering::SeqCst);
        until_ready(&context, false).await;
        refused_at_once(&watched).await;
        fake.mode.store(UP, Ordering::SeqCst);
        until_ready(&context, true).await;
        watched.counts().await.unwrap();
        context.tasks.stop(Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_silent_store_ends() {
    let (fake, context) = (Arc::new(Fake::default()), Context::for_tests());
    let watched = watch(&fake, &context);
    until_ready(&context, true).await;
    fake.mode.store(SILENT, Ordering::SeqCst);
    let asked = Instant::now();
    let error = watched.counts().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(asked.elapsed() <= CALL_LIMIT);
    context.tasks.stop(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waiting_does_not_mend_fails_the_process() {
    let (fake, context) = (Arc::new(Fake::default()), Context::for_tests());
    fake.mode.store(DAMAGED, Ordering::SeqCst);
    drop(watch(&fake, &context));
    tokio::time::timeout(Duration::from_mins(1), context.tasks.failed())
        .await
        .unwrap();
}
