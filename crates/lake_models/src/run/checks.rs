//! What a model declares about its result, checked before anything of it is published.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use arrow::util::pretty::pretty_format_batches;
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
    for check in &model.checks {
        let (declared, offending) = match check {
            Check::NotNull(columns) => {
                let nulls: Vec<_> = columns.iter().map(|c| format!("\"{c}\" IS NULL")).collect();
                let sql = format!("SELECT * FROM {RESULT} WHERE {}", nulls.join(" OR "));
                (format!("not_null: {}", columns.join(", ")), sql)
            }
            Check::Unique(columns) => {
                let quoted: Vec<_> = columns.iter().map(|c| format!("\"{c}\"")).collect();
                let keys = quoted.join(", ");
                let sql = format!(
                    "SELECT {keys}, COUNT(*) AS rows FROM {RESULT} GROUP BY {keys} HAVING COUNT(*) > 1"
                );
                (format!("unique: {}", columns.join(", ")), sql)
            }
            Check::Accepted(condition) => {
                let sql = format!("SELECT * FROM {RESULT} WHERE ({condition}) IS NOT TRUE");
                (format!("accepted: {condition}"), sql)
            }
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
        let frame = context.sql(&offending).await.map_err(failed)?;
        let frame = frame.limit(0, Some(NAMED_ROWS)).map_err(failed)?;
        let found = frame.collect().await.map_err(failed)?;
        let holds = match check {
            Check::Same { .. } => found.iter().all(agrees),
            _ => found.iter().all(|batch| batch.num_rows() == 0),
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
