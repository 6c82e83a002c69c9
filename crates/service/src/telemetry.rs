//! Logging to stderr: text on a terminal, one JSON object per line otherwise.

use std::io::{self, IsTerminal};
use std::panic;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::LogFormat;

/// Starts logging; does nothing when a logger is there already.
pub(crate) fn init(filter: EnvFilter, format: LogFormat) {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(io::stderr);
        registry.with(layer).try_init()
    } else {
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(terminal)
            .with_writer(io::stderr);
        registry.with(layer).try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was set up before");
    }
}

/// Makes any panic log one line and abort the process.
pub(crate) fn abort_on_panic() {
    panic::set_hook(Box::new(|panicked| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            panic = %panicked,
            %backtrace,
            "a panic aborts the process"
        );
        std::process::abort();
    }));
}
