//! The stop's order, seen from inside.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_stage_is_cancelled_only_after_the_one_before_has_ended() {
    let tasks = Tasks::new();
    let (sender, mut order) = mpsc::channel(8);
    for (stage, name) in [
        (Stage::Serve, "serve"),
        (Stage::Drain, "drain"),
        (Stage::Intake, "intake"),
    ] {
        let sender = sender.clone();
        let later = Stage::ALL.into_iter().filter(move |other| *other > stage);
        let tokens: Vec<_> = later.map(|stage| tasks.token(stage)).collect();
        tasks.spawn(stage, name, async move |token| {
            token.cancelled().await;
            // Others get every chance to overtake.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(!tokens.iter().any(CancellationToken::is_cancelled));
            sender.send(name).await?;
            Ok(())
        });
    }
    tasks.stop(LONG).await.expect("all end");
    assert!(tasks.take_failures().is_empty());
    for name in ["intake", "drain", "serve"] {
        assert_eq!(order.try_recv(), Ok(name));
    }
}

#[tokio::test]
async fn the_stop_waits_for_children_and_threads() {
    let tasks = Tasks::new();
    let (sender, mut ended) = mpsc::channel(8);
    let token = tasks.token(Stage::Intake);
    let child = sender.clone();
    tasks.spawn_child(Stage::Intake, async move {
        token.cancelled().await;
        child.send("child").await.expect("the test listens");
    });
    tasks.spawn_thread(Stage::Drain, "thread", move |token| {
        while !token.is_cancelled() {
            thread::yield_now();
        }
        sender.blocking_send("thread")?;
        Ok(())
    });
    let early = tokio::time::timeout(Duration::ZERO, tasks.ended()).await;
    assert!(early.is_err(), "nothing has ended yet");
    tasks.stop(LONG).await.expect("all end");
    tasks.ended().await;
    assert_eq!(ended.try_recv(), Ok("child"));
    assert_eq!(ended.try_recv(), Ok("thread"));
}

#[tokio::test]
async fn ending_failing_and_panicking_are_failures() {
    let tasks = Tasks::new();
    tasks.spawn(Stage::Drain, "ends", async |_| Ok(()));
    tasks.failed().await;
    tasks.spawn(Stage::Drain, "fails", async |_| Err("no".into()));
    tasks.spawn_thread(Stage::Drain, "panics", |_| panic!("as asked"));
    tasks.spawn_child(Stage::Drain, async {});
    tasks.stop(LONG).await.expect("all end");
    let mut failures: Vec<_> = tasks
        .take_failures()
        .iter()
        .map(ToString::to_string)
        .collect();
    failures.sort();
    let expected = [
        "component ends ended by itself",
        "component fails failed",
        "component panics panicked",
    ];
    assert_eq!(failures, expected);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_named() {
    let tasks = Tasks::new();
    tasks.spawn(Stage::Intake, "stubborn", async |_| {
        std::future::pending().await
    });
    tasks.spawn(Stage::Serve, "willing", async |token| {
        token.cancelled().await;
        Ok(())
    });
    let error = tasks.stop(LONG).await.expect_err("one hangs");
    assert!(error.running.contains(&"stubborn"));
    assert!(tasks.token(Stage::Serve).is_cancelled());
}
