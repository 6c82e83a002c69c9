//! Shows how far the sending is: a bar on a terminal, a line every few seconds otherwise. On stderr.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::stats::Totals;

/// Without a terminal a line is written this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    expected: Option<u64>,
    acknowledged: bool,
    connections: u64,
    next_line: Duration,
}

impl Progress {
    /// `acknowledged`: progress means PUBACKs rather than messages written.
    pub(crate) fn new(expected: Option<u64>, acknowledged: bool, connections: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| bar(expected));
        Self {
            bar,
            expected,
            acknowledged,
            connections,
            next_line: LINE_EVERY,
        }
    }

    pub(crate) fn show(&mut self, totals: &Totals, elapsed: Duration) {
        let done = self.done(totals);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(self.details(totals));
        } else if elapsed >= self.next_line {
            self.next_line = elapsed + LINE_EVERY;
            self.line(totals, elapsed);
        }
    }

    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => write_line(text),
        }
    }

    pub(crate) fn finish(&mut self, totals: &Totals, elapsed: Duration) {
        self.show(totals, elapsed);
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }

    fn done(&self, totals: &Totals) -> u64 {
        let counter = if self.acknowledged {
            &totals.acked
        } else {
            &totals.published
        };
        Totals::read(counter)
    }

    fn details(&self, totals: &Totals) -> String {
        let published = Totals::read(&totals.published);
        let connected = Totals::read(&totals.connected);
        let in_flight = published.saturating_sub(self.done(totals));
        let resent = Totals::read(&totals.resent);
        let resent = if resent > 0 {
            format!(", {resent} resent")
        } else {
            String::new()
        };
        format!(
            "{in_flight} in flight{resent}, {connected}/{} connected",
            self.connections
        )
    }

    fn line(&self, totals: &Totals, elapsed: Duration) {
        let word = if self.acknowledged {
            "acknowledged"
        } else {
            "published"
        };
        let of = self
            .expected
            .map(|count| format!(" of {count}"))
            .unwrap_or_default();
        let seconds = elapsed.as_secs();
        let details = self.details(totals);
        write_line(&format!(
            "{seconds}s: {}{of} {word}, {details}",
            self.done(totals)
        ));
    }
}

fn bar(expected: Option<u64>) -> ProgressBar {
    let bar = expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.set_draw_target(ProgressDrawTarget::stderr());
    let template = if expected.is_some() {
        "{bar:30} {human_pos}/{human_len} {per_sec} ETA {eta} {msg}"
    } else {
        "{spinner} {human_pos} {per_sec} {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Writes to stderr; progress that nobody can read is no reason to fail.
fn write_line(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
