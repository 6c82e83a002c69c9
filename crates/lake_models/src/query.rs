//! One SQL statement over every table of the lake.
//!
//! Tables are named `layer.name`, and by their bare name where only one layer has it. The lake cannot be changed
//! from here: anything but a query is refused. The whole answer is held in memory; use `LIMIT`, or
//! [`limited`] for questions of people one does not know.

pub mod limited;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::{DataFrame, SessionContext};
use lake::Root;
use lake::storage::Storage;
use store::LakeTable;

use crate::declaration::Model;
use crate::error::ModelError;
use crate::session::{load, raw_name, session};

/// The answer to a query.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

/// Answers a query.
///
/// # Errors
/// [`ModelError::Query`], which lists the tables there are, or [`ModelError::Lake`].
pub async fn query(root: &Root, models: &[Model], sql: &str) -> Result<Rows, ModelError> {
    let storage = root.open();
    let tables = tables(root, &storage, models).await?;
    let listed = listed(&tables);
    let context = session(&storage);
    let answered = async move {
        let context = context?;
        register(&context, &tables)?;
        let frame = plan(&context, sql).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await?;
        Ok(Rows { schema, batches })
    };
    answered.await.map_err(|source| ModelError::Query {
        tables: listed,
        source: Box::new(source),
    })
}

/// The tables of a lake by their full names.
type Tables = Vec<(String, Arc<dyn TableProvider>)>;

/// Reads the log of every table there is.
async fn tables(
    root: &Root,
    storage: &Arc<dyn Storage>,
    models: &[Model],
) -> Result<Tables, ModelError> {
    let mut names: Vec<String> = LakeTable::ALL.into_iter().map(raw_name).collect();
    names.extend(models.iter().map(Model::full_name));
    let mut tables: Tables = Vec::new();
    for name in names {
        let loaded = load(storage, &name).await?;
        if let Some(provider) = loaded.provider(root, |_| true)? {
            tables.push((name, provider));
        }
    }
    Ok(tables)
}

fn listed(tables: &Tables) -> Vec<String> {
    tables.iter().map(|(name, _)| name.clone()).collect()
}

/// Makes the tables known, by their bare names too where these are clear.
fn register(context: &SessionContext, tables: &Tables) -> datafusion::error::Result<()> {
    let mut bare: BTreeMap<&str, Vec<&Arc<dyn TableProvider>>> = BTreeMap::new();
    for (name, provider) in tables {
        context.register_table(name.as_str(), provider.clone())?;
        if let Some((_, short)) = name.split_once('.') {
            bare.entry(short).or_default().push(provider);
        }
    }
    for (name, providers) in bare {
        if let [provider] = providers.as_slice() {
            context.register_table(name, Arc::clone(provider))?;
        }
    }
    Ok(())
}

/// Plans a query; whatever else the text asks for is refused.
async fn plan(context: &SessionContext, sql: &str) -> datafusion::error::Result<DataFrame> {
    let only_queries = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    context.sql_with_options(sql, only_queries).await
}

impl Rows {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Tells whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns each column's name, and whether it holds numbers.
    pub fn columns(&self) -> Vec<(&str, bool)> {
        let fields = self.schema.fields().iter();
        fields
            .map(|field| (field.name().as_str(), field.data_type().is_numeric()))
            .collect()
    }

    /// Returns every value as text, row by row; an absent one is empty.
    ///
    /// # Errors
    /// [`ModelError::Arrow`] when a type has no text.
    pub fn cells(&self) -> Result<Vec<Vec<String>>, ModelError> {
        let options = FormatOptions::default();
        let mut rows = Vec::with_capacity(self.len());
        for batch in &self.batches {
            let columns = batch.columns().iter();
            let formatters = columns
                .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
                .collect::<Result<Vec<_>, _>>()
                .map_err(ModelError::arrow("printing a value"))?;
            for row in 0..batch.num_rows() {
                rows.push(
                    formatters
                        .iter()
                        .map(|f| f.value(row).to_string())
                        .collect(),
                );
            }
        }
        Ok(rows)
    }

    /// Writes CSV with a header.
    ///
    /// # Errors
    /// [`ModelError::Arrow`], also when the writer fails.
    pub fn write_csv(&self, out: impl Write) -> Result<(), ModelError> {
        let mut writer = arrow::csv::WriterBuilder::new()
            .with_header(true)
            .build(out);
        if self.batches.is_empty() {
            let empty = RecordBatch::new_empty(self.schema.clone());
            writer
                .write(&empty)
                .map_err(ModelError::arrow("writing CSV"))?;
        }
        for batch in &self.batches {
            writer
                .write(batch)
                .map_err(ModelError::arrow("writing CSV"))?;
        }
        Ok(())
    }

    /// Writes one JSON array of objects.
    ///
    /// # Errors
    /// As [`Rows::write_csv`].
    pub fn write_json(&self, out: impl Write) -> Result<(), ModelError> {
        let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, arrow::json::writer::JsonArray>(out);
        for batch in &self.batches {
            writer
                .write(batch)
                .map_err(ModelError::arrow("writing JSON"))?;
        }
        writer.finish().map_err(ModelError::arrow("writing JSON"))
    }
}
