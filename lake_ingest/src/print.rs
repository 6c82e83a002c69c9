//! What goes to stdout.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, Table, presets};
use lake_models::{ModelOutcome, ModelSummary, Rows};
use serde::Serialize;
use service::BoxError;

use crate::background::Running;
use crate::job::Report;
use crate::last_run::LastRun;
use crate::settings::{Format, SummaryFormat};
use crate::status::Status;
use crate::upkeep::Kept;

/// Writes to stdout; a reader that has gone away (`| head`) is no failure.
pub(crate) fn out(
    write: impl FnOnce(&mut dyn Write) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    let mut content = Vec::new();
    write(&mut content)?;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&content).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn table<'a>(columns: impl IntoIterator<Item = (&'a str, bool)>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let columns: Vec<_> = columns.into_iter().collect();
    table.set_header(columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (index, (_, numeric)) in columns.iter().enumerate() {
        if *numeric && let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints the answer to a query.
pub(crate) fn rows(rows: &Rows, format: Format) -> Result<(), BoxError> {
    out(|to| {
        match format {
            Format::Csv => rows.write_csv(to)?,
            Format::Json => {
                rows.write_json(&mut *to)?;
                writeln!(to)?;
            }
            Format::Table => {
                let mut table = table(rows.columns());
                for row in rows.cells()? {
                    table.add_row(row);
                }
                let count = rows.len();
                let noun = if count == 1 { "row" } else { "rows" };
                writeln!(to, "{table}\n{count} {noun}")?;
            }
        }
        Ok(())
    })
}

fn json(to: &mut dyn Write, value: &impl Serialize) -> Result<(), BoxError> {
    serde_json::to_writer(&mut *to, value)?;
    writeln!(to)?;
    Ok(())
}

/// Prints what a run did.
pub(crate) fn report(report: &Report, format: SummaryFormat) -> Result<(), BoxError> {
    out(|to| {
        if format == SummaryFormat::Json {
            return json(to, report);
        }
        if let Some(offload) = &report.offload {
            let head =
                ["rows", "windows", "files", "bytes", "behind", "purged"].map(|name| (name, true));
            let mut table = table([("offloaded", false)].into_iter().chain(head));
            for part in &offload.tables {
                let numbers = [
                    part.rows,
                    part.windows,
                    part.files,
                    part.bytes,
                    part.lag_rows,
                    part.purged_rows,
                ];
                let cells = numbers.map(Cell::new);
                table.add_row(
                    [Cell::new(format!("raw.{}", part.table))]
                        .into_iter()
                        .chain(cells),
                );
            }
            writeln!(to, "{table}")?;
            writeln!(to, "{} rows in {:.2} s", offload.rows(), offload.seconds)?;
        }
        if let Some(dates) = &report.dates {
            let head = ["in store", "in lake", "missing", "twice"].map(|name| (name, true));
            let mut table = table(
                [("compared", false), ("date", false)]
                    .into_iter()
                    .chain(head),
            );
            for count in dates {
                let numbers = [
                    count.store_rows,
                    count.lake_rows,
                    count.missing,
                    count.repeated,
                ];
                let names = [format!("raw.{}", count.table), count.date.clone()];
                let cells = names.into_iter().chain(numbers.map(|n| n.to_string()));
                table.add_row(cells);
            }
            writeln!(to, "{table}")?;
        }
        let head = ["rows", "written", "unchanged", "removed", "seconds"].map(|name| (name, true));
        let mut models = table(
            [("model", false), ("outcome", false)]
                .into_iter()
                .chain(head),
        );
        for model in &report.models {
            models.add_row(model_row(model));
        }
        writeln!(to, "{models}")?;
        if report.interrupted {
            writeln!(to, "interrupted: the next run does the rest")?;
        }
        Ok(())
    })
}

fn model_row(model: &ModelSummary) -> Vec<String> {
    let outcome = match model.outcome {
        ModelOutcome::NoInput => "no input yet",
        ModelOutcome::Unchanged => "unchanged",
        ModelOutcome::Ran => "ran",
    };
    vec![
        model.model.clone(),
        outcome.to_owned(),
        model.rows.to_string(),
        model.partitions_written.to_string(),
        model.partitions_unchanged.to_string(),
        model.partitions_removed.to_string(),
        format!("{:.2}", model.seconds),
    ]
}

/// Prints what the upkeep did.
pub(crate) fn upkeep(kept: &[Kept], format: SummaryFormat) -> Result<(), BoxError> {
    out(|to| {
        if format == SummaryFormat::Json {
            return json(to, &kept);
        }
        let head = ["files", "small", "bytes", "compacted", "into", "deleted"];
        let head = head.map(|name| (name, true));
        let mut table = table([("table", false)].into_iter().chain(head));
        for kept in kept {
            let compacted = kept.compacted.as_ref();
            let numbers = [
                kept.shape.files,
                kept.shape.small_files,
                kept.shape.bytes,
                compacted.map_or(0, |done| done.files_before),
                compacted.map_or(0, |done| done.files_after),
                kept.vacuumed.map_or(0, |done| done.files),
            ];
            let numbers = numbers.map(|number| number.to_string());
            table.add_row([kept.table.clone()].into_iter().chain(numbers));
        }
        writeln!(to, "{table}")?;
        Ok(())
    })
}

/// Prints whether the service runs, and what the last run did.
pub(crate) fn service(
    running: Option<&Running>,
    last_run: Option<&LastRun>,
) -> Result<(), BoxError> {
    out(|to| {
        match running {
            Some(running) => writeln!(to, "service: runs as process {}", running.pid)?,
            None => writeln!(to, "service: not started in the background")?,
        }
        match last_run {
            None => writeln!(to, "last run: none yet")?,
            Some(run) => {
                write!(
                    to,
                    "last run: {}, {} to {}, {} rows",
                    run.outcome, run.began, run.ended, run.rows
                )?;
                match &run.error {
                    Some(error) => writeln!(to, ": {error}")?,
                    None => writeln!(to)?,
                }
            }
        }
        Ok(())
    })
}

/// Prints how far everything is.
pub(crate) fn status(status: &Status, format: Format) -> Result<(), BoxError> {
    let optional = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let marks: Vec<Vec<String>> = status
        .watermarks
        .iter()
        .map(|mark| {
            let state = mark.state.map(|state| format!("{state:?}").to_lowercase());
            vec![
                format!("raw.{}", mark.table),
                mark.writer_id.clone(),
                mark.committed.to_string(),
                mark.in_lake.to_string(),
                mark.committed.saturating_sub(mark.in_lake).to_string(),
                mark.window.clone().unwrap_or_default(),
                state.unwrap_or_default(),
                optional(mark.rows),
            ]
        })
        .collect();
    let mark_columns = [
        ("table", false),
        ("writer", false),
        ("committed", true),
        ("in lake", true),
        ("behind", true),
        ("last window", false),
        ("state", false),
        ("rows", true),
    ];
    out(|to| match format {
        Format::Json => json(to, status),
        Format::Csv => {
            let names = mark_columns.map(|(name, _)| name.replace(' ', "_"));
            writeln!(to, "{}", names.join(","))?;
            for row in &marks {
                writeln!(to, "{}", row.join(","))?;
            }
            Ok(())
        }
        Format::Table => {
            let mut store = table(mark_columns);
            for row in &marks {
                store.add_row(row);
            }
            writeln!(to, "{store}")?;
            let numbers = ["commits", "files", "small", "rows", "bytes"].map(|name| (name, true));
            let mut lake = table([("lake", false)].into_iter().chain(numbers));
            for held in &status.lake {
                lake.add_row([
                    held.table.clone(),
                    held.commits.to_string(),
                    held.shape.files.to_string(),
                    held.shape.small_files.to_string(),
                    held.rows.to_string(),
                    held.shape.bytes.to_string(),
                ]);
            }
            writeln!(to, "{lake}")?;
            Ok(())
        }
    })
}
