//! The listener: accepts connections, bounds their number, and ends them when the stop comes.
//!
//! HTTP/1.1 only. Beyond the bound a connection waits in the kernel's backlog. A client that does not
//! send a request's head in time is cut off, so idle connections cannot use up the bound for good.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use service::{BoxError, Stage, Tasks};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Longest wait for a request's head, and so the longest a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// Most bytes of a request's head, with the longest ids percent-encoded and room for a proxy's headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Time an open answer has to end once the stop has come.
const GRACE: Duration = Duration::from_secs(5);
/// Longest time a client may leave what was sent to it unread or unacknowledged. It ends streams of
/// clients that stand still or are gone, which would hold their places for ever.
#[cfg(target_os = "linux")]
const UNREAD_TIMEOUT_MS: u32 = 60_000;
/// Pause after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `token` is cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    tasks: Tasks,
    token: CancellationToken,
) -> Result<(), BoxError> {
    let permits = Arc::new(Semaphore::new(max_connections));
    let mut failures: u64 = 0;
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return Ok(()),
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                failures = 0;
                let connection = connection(stream, router.clone(), token.clone(), permit);
                tasks.spawn_child(Stage::Serve, connection);
            }
            Err(error) => {
                // Powers of two: a lasting failure is logged ever more rarely.
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "accepting a connection failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    if let Err(error) = tune(&stream) {
        // The client has gone already, or the system does not know the option; neither is a reason
        // not to serve.
        tracing::debug!(%error, "a connection could not be tuned");
    }
    Ok((stream, permit))
}

/// Sends answers at once, and gives up clients that do not take theirs.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_TIMEOUT_MS)?;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    router: Router,
    token: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        () = token.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, served).await {
                Ok(outcome) => outcome,
                Err(_) => return tracing::debug!("a connection was cut off at the stop"),
            }
        }
    };
    if let Err(error) = outcome {
        // Clients go away at any time; that is no event of ours.
        tracing::debug!(%error, "a connection ended early");
    }
}
