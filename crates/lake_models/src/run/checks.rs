//! What a model declares about its result, checked before anything of it is published.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

use super::spool::Spooled;
use crate::declaration::{Check, Model};
use crate::error::ModelError;
use crate::table::{FileTable, LiveFile, Place, of_file};

/// The result, as checks name it.
const RESULT: &str = "result";

/// Rows named when a check fails.
const NAMED_ROWS: usize = 5;

/// Checks a result.
pub(super) async fn all_hold(
    context: &SessionContext,
    model: &Model,
    result: &Spooled,
) -> Result<(), ModelError> {
    let failed = |source| ModelError::Run {
        model: model.full_name(),
        source: Box::new(source),
    };
    let mut files = Vec::new();
    for file in &result.files {
        files.push(LiveFile {
            location: of_file(&file.path).map_err(failed)?,
            size: file.size,
            partition: vec![file.partition.clone()],
        });
    }
    let table = FileTable::new(Place::Folder, &result.schema, &files).map_err(failed)?;
    context
        .register_table(RESULT, Arc::new(table))
        .map_err(failed)?;
    let of_rows: Vec<_> = model.checks.iter().filter_map(offending_rows).collect();
    let any = format!("SELECT 1 FROM {RESULT} WHERE {}", of_rows.join(" OR "));
    // Conditions on single rows are looked at in one reading; which of them does not hold is asked only if one does not.
    let rows_hold = of_rows.is_empty() || first(context, &any, 1).await.map_err(failed)?.is_empty();
    for check in &model.checks {
        if rows_hold && offending_rows(check).is_some() {
            continue;
        }
        let (declared, offending) = match check {
            Check::NotNull(columns) => (
                format!("not_null: {}", columns.join(", ")),
                of_result(&offending_rows(check).unwrap_or_default()),
            ),
            Check::Unique(columns) => {
                let quoted: Vec<_> = columns.iter().map(|c| format!("\"{c}\"")).collect();
                let keys = quoted.join(", ");
                let sql = format!(
                    "SELECT {keys}, COUNT(*) AS rows FROM {RESULT} GROUP BY {keys} HAVING COUNT(*) > 1"
                );
                (format!("unique: {}", columns.join(", ")), sql)
            }
            Check::Accepted(condition) => (
                format!("accepted: {condition}"),
                of_result(&offending_rows(check).unwrap_or_default()),
            ),
            Check::References {
                column,
                table,
                target,
            } => {
                let sql = format!(
                    "SELECT * FROM {RESULT} WHERE \"{column}\" IS NOT NULL AND NOT EXISTS \
                     (SELECT 1 FROM {table} AS target WHERE target.\"{target}\" = {RESULT}.\"{column}\")"
                );
                (format!("references: {column} -> {table}.{target}"), sql)
            }
            Check::Same { aggregate, query } => {
                let sql = format!(
                    "SELECT CAST(({query}) AS DOUBLE) AS expected, CAST({aggregate} AS DOUBLE) AS found \
                     FROM {RESULT}"
                );
                (format!("same: {aggregate} == {query}"), sql)
            }
        };
        let found = first(context, &offending, NAMED_ROWS)
            .await
            .map_err(failed)?;
        let holds = match check {
            Check::Same { .. } => found.iter().all(agrees),
            _ => found.is_empty(),
        };
        if !holds {
            let rows = pretty_format_batches(&found);
            return Err(ModelError::Check {
                model: model.full_name(),
                check: declared,
                rows: rows
                    .map_err(ModelError::arrow("printing rows"))?
                    .to_string(),
            });
        }
    }
    Ok(())
}

/// Returns the condition of rows a check does not accept, when that shows by each row alone.
fn offending_rows(check: &Check) -> Option<String> {
    match check {
        Check::NotNull(columns) => {
            let nulls: Vec<_> = columns.iter().map(|c| format!("\"{c}\" IS NULL")).collect();
            Some(nulls.join(" OR "))
        }
        Check::Accepted(condition) => Some(format!("({condition}) IS NOT TRUE")),
        Check::Unique(_) | Check::References { .. } | Check::Same { .. } => None,
    }
}

fn of_result(condition: &str) -> String {
    format!("SELECT * FROM {RESULT} WHERE {condition}")
}

/// Returns the first rows of a query, in batches that are not empty.
async fn first(
    context: &SessionContext,
    sql: &str,
    rows: usize,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let frame = context.sql(sql).await?.limit(0, Some(rows))?;
    let mut found = frame.collect().await?;
    found.retain(|batch| batch.num_rows() > 0);
    Ok(found)
}

/// How far a sum of floating-point numbers may be from the same sum in another order, as a share of it.
const TOLERANCE: f64 = 1e-9;

/// Compares the two numbers of a row; an absent one is a sum of no rows, which is zero.
fn agrees(batch: &RecordBatch) -> bool {
    let numbers = [0, 1].map(|index| {
        let column = batch.column(index).as_primitive_opt::<Float64Type>()?;
        column.iter().next().flatten()
    });
    let [expected, found] = numbers.map(|number| number.unwrap_or(0.0));
    (expected - found).abs() <= TOLERANCE * expected.abs()
}
