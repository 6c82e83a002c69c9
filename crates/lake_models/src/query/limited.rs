//! One query of somebody one does not know: memory, rows and bytes bounded, nothing reached but the lake's tables.
//!
//! Owns these limits and the form of the answer. Invariants:
//! - What the engine keeps for sorts, joins and aggregations comes from a pool of this query's own, and never goes
//!   to disk; a query that needs more fails with [`Refusal::Memory`].
//! - An answer has at most the rows and bytes allowed, in whole rows, and says whether there was more.
//! - The functions that make one value of any length asked for are not there; everything else the engine knows
//!   reads its arguments and nothing else: no function reads a file or asks the network, and no path is a table.
//!
//! What this module does not do: it measures no time (drop the future, it stops at the next batch), and it does
//! not bound what the engine allocates beside its pool; a process with a limit of its own does.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures_util::TryStreamExt;
use lake::Root;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::declaration::Model;
use crate::error::{ModelError, storage_kind};
use crate::session::session;

/// Functions that make one value as long as they are told, before any bound can see it.
const UNBOUNDED: [&str; 9] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
];

/// What one query may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most rows of the answer.
    pub rows: usize,
    /// Most bytes of the answer.
    pub bytes: usize,
    /// Bytes of the engine's pool.
    pub memory: usize,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `{"columns":[{"name","type"}],"rows":[[…]],"truncated":…,"elapsed_ms":…}`
    #[default]
    Json,
    /// Comma-separated values with a header.
    Csv,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As written.
    pub body: Vec<u8>,
    /// How many rows it has.
    pub rows: usize,
    /// Whether there were more.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The text is no query, or not one over these tables.
    #[error("{detail}")]
    Invalid {
        /// What the engine says.
        detail: String,
        /// What may be queried.
        tables: Vec<String>,
    },
    /// It needs more memory than one query may have.
    #[error("the query needs more than its {limit} bytes of memory")]
    Memory {
        /// The limit in bytes.
        limit: usize,
    },
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] ModelError),
}

/// Answers a query within limits.
///
/// # Errors
/// A [`Refusal`].
///
/// # Cancel safety
/// Dropping it ends the query.
pub async fn answer(
    root: &Root,
    models: &[Model],
    sql: &str,
    form: Form,
    limits: Limits,
) -> Result<Answer, Refusal> {
    let started = Instant::now();
    let storage = root.open();
    let tables = super::tables(root, &storage, models).await?;
    let listed = super::listed(&tables);
    let context = session(&storage).and_then(|context| bounded(&context, limits.memory));
    let answered = async {
        let context = context?;
        super::register(&context, &tables)?;
        ask(&context, sql, form, limits, started).await
    };
    answered
        .await
        .map_err(|error| refusal(error, listed, limits.memory))
}

/// Gives a session a small pool of its own, no disk, and none of the [`UNBOUNDED`] functions.
fn bounded(context: &SessionContext, memory: usize) -> Result<SessionContext, DataFusionError> {
    let registry = Arc::clone(&context.runtime_env().object_store_registry);
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(memory, 1.0)
        .with_disk_manager_builder(no_disk)
        .with_object_store_registry(registry)
        .build_arc()?;
    let state = SessionStateBuilder::new_from_existing(context.state())
        .with_runtime_env(runtime)
        .build();
    let context = SessionContext::new_with_state(state);
    for name in UNBOUNDED {
        context.deregister_udf(name);
    }
    Ok(context)
}

async fn ask(
    context: &SessionContext,
    sql: &str,
    form: Form,
    limits: Limits,
    started: Instant,
) -> Result<Answer, DataFusionError> {
    let mut frame = super::plan(context, sql).await?;
    // EXPLAIN must stay the root of its plan; its answers are short.
    let explains = matches!(
        frame.logical_plan(),
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)
    );
    if !explains {
        // One more than wanted tells whether there are more, and the engine need not make all of them.
        frame = frame.limit(0, Some(limits.rows.saturating_add(1)))?;
    }
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let mut writing = Writing::new(form, &schema, limits)?;
    let mut batches = frame.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        if !writing.batch(&batch)? {
            break;
        }
    }
    Ok(writing.finish(started))
}

/// An answer being written.
struct Writing {
    form: Form,
    limits: Limits,
    answer: Answer,
}

impl Writing {
    fn new(form: Form, schema: &SchemaRef, limits: Limits) -> Result<Self, ArrowError> {
        let body = match form {
            Form::Csv => csv(&RecordBatch::new_empty(Arc::clone(schema)), true)?,
            Form::Json => {
                let fields = schema.fields().iter();
                let columns = fields.map(
                    |field| json!({"name": field.name(), "type": type_name(field.data_type())}),
                );
                let columns: serde_json::Value = columns.collect();
                format!("{{\"columns\":{columns},\"rows\":[").into_bytes()
            }
        };
        let answer = Answer {
            body,
            rows: 0,
            truncated: false,
        };
        Ok(Self {
            form,
            limits,
            answer,
        })
    }

    /// Writes rows; `false` when there is no room for the next.
    fn batch(&mut self, batch: &RecordBatch) -> Result<bool, ArrowError> {
        let options = EncoderOptions::default().with_explicit_nulls(true);
        let schema = batch.schema();
        let mut encoders = Vec::new();
        if self.form == Form::Json {
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                encoders.push(make_encoder(field, column.as_ref(), &options)?);
            }
        }
        for row in 0..batch.num_rows() {
            if self.answer.rows == self.limits.rows {
                self.answer.truncated = true;
                return Ok(false);
            }
            let before = self.answer.body.len();
            let body = &mut self.answer.body;
            match self.form {
                Form::Csv => body.extend(csv(&batch.slice(row, 1), false)?),
                Form::Json => {
                    body.extend_from_slice(if self.answer.rows == 0 { b"[" } else { b",[" });
                    for (at, encoder) in encoders.iter_mut().enumerate() {
                        if at > 0 {
                            body.push(b',');
                        }
                        if encoder.is_null(row) {
                            body.extend_from_slice(b"null");
                        } else {
                            encoder.encode(row, body);
                        }
                    }
                    body.push(b']');
                }
            }
            if body.len() > self.limits.bytes {
                body.truncate(before);
                self.answer.truncated = true;
                return Ok(false);
            }
            self.answer.rows += 1;
        }
        Ok(true)
    }

    fn finish(mut self, started: Instant) -> Answer {
        if self.form == Form::Json {
            let truncated = self.answer.truncated;
            let elapsed_ms = started.elapsed().as_millis();
            let end = format!("],\"truncated\":{truncated},\"elapsed_ms\":{elapsed_ms}}}");
            self.answer.body.extend(end.into_bytes());
        }
        self.answer
    }
}

fn csv(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, ArrowError> {
    let mut body = Vec::new();
    arrow::csv::WriterBuilder::new()
        .with_header(header)
        .build(&mut body)
        .write(batch)?;
    Ok(body)
}

/// Names a type as the lake's own tables do, and as the engine does where these have no such type.
fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
        DataType::Boolean => "boolean",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Date32 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamp",
        DataType::Timestamp(_, None) => "timestamp_ntz",
        DataType::Dictionary(_, values) => return type_name(values),
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Tells a client's fault from ours.
fn refusal(error: DataFusionError, tables: Vec<String>, limit: usize) -> Refusal {
    let root = error.find_root();
    if matches!(root, DataFusionError::ResourcesExhausted(_)) {
        return Refusal::Memory { limit };
    }
    let ours = matches!(
        root,
        DataFusionError::IoError(_)
            | DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::Internal(_)
            | DataFusionError::External(_)
    );
    if ours || storage_kind(&error).is_some() {
        return Refusal::Lake(ModelError::Query {
            tables,
            source: Box::new(error),
        });
    }
    Refusal::Invalid {
        detail: error.strip_backtrace(),
        tables,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> (SessionContext, SessionContext) {
        let root = Root::from_folder("nowhere");
        let open = session(&root.open()).unwrap();
        let closed = bounded(&open, 1 << 20).unwrap();
        (open, closed)
    }

    #[tokio::test]
    async fn what_is_refused_would_have_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.parquet");
        let sql = format!("COPY (SELECT 1 AS n) TO '{}'", file.display());
        let (open, closed) = sessions();
        let refused = super::super::plan(&closed, &sql).await.unwrap_err();
        assert!(refused.to_string().contains("COPY"), "{refused}");
        assert!(!file.exists());
        // The control: without the check the engine does it.
        let done = open.sql(&sql).await.unwrap();
        done.collect().await.unwrap();
        assert!(file.exists());
    }

    #[tokio::test]
    async fn functions_without_bound_are_there_and_taken_away() {
        let (open, closed) = sessions();
        for name in UNBOUNDED {
            assert!(open.state().scalar_functions().contains_key(name), "{name}");
            assert!(
                !closed.state().scalar_functions().contains_key(name),
                "{name}"
            );
        }
        let refused = super::super::plan(&closed, "SELECT repeat('x', 9)").await;
        assert!(refused.unwrap_err().to_string().contains("repeat"));
    }

    #[test]
    fn types_are_named_as_the_tables_name_theirs() {
        let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for (data_type, name) in [
            (text, "string"),
            (DataType::Int64, "long"),
            (DataType::UInt64, "UInt64"),
        ] {
            assert_eq!(type_name(&data_type), name);
        }
    }
}
