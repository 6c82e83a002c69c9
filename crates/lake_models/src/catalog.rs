//! What tables there are and what is in them, told by the declarations alone: no lake is needed.
//!
//! The columns of a model follow from planning its statement over empty inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::datasource::MemTable;
use lake::entities::{DELIVERER_LOCATION, FLEET_EVENT, REJECTED};
use lake::entity::{Entity, TableSchema};

use crate::declaration::Model;
use crate::error::ModelError;
use crate::run::schema_of;
use crate::session;

/// A table of the lake, as declared.
#[derive(Debug, Clone)]
pub struct Definition {
    /// `raw`, `treated` or `final`.
    pub layer: &'static str,
    /// Its name, unique in its layer.
    pub name: String,
    /// One sentence.
    pub about: String,
    /// Its columns.
    pub schema: TableSchema,
    /// Columns rows are sorted by in a file.
    pub order: Vec<String>,
}

impl Definition {
    /// Returns `layer.name`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.layer, self.name)
    }

    /// Returns its folder below the lake's root.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.layer, self.name)
    }
}

/// Returns the tables of raw and those the models write, in the order they are made.
///
/// # Errors
/// [`ModelError`] of the first model whose statement cannot be planned: an input that no model before it
/// writes, an unknown column.
pub async fn catalog(models: &[Model]) -> Result<Vec<Definition>, ModelError> {
    let mut tables = vec![
        raw(&DELIVERER_LOCATION, "Every stored position, as stored."),
        raw(
            &FLEET_EVENT,
            "Every fleet event, its data as the JSON text that was received.",
        ),
        raw(
            &REJECTED,
            "Every dead letter: the bytes that were received, and why they were refused.",
        ),
    ];
    let mut known: BTreeMap<String, TableSchema> = tables
        .iter()
        .map(|table| (table.full_name(), table.schema.clone()))
        .collect();
    for model in models {
        let schema = planned(model, &known).await?;
        known.insert(model.full_name(), schema.clone());
        tables.push(Definition {
            layer: model.layer.as_str(),
            name: model.name.clone(),
            about: model.about.clone(),
            schema,
            order: model.order.clone(),
        });
    }
    Ok(tables)
}

fn raw<R>(entity: &Entity<R>, about: &str) -> Definition {
    let order = entity
        .cluster_by
        .iter()
        .copied()
        .chain([entity.time_column]);
    Definition {
        layer: "raw",
        name: entity.table.as_str().to_owned(),
        about: about.to_owned(),
        schema: entity.schema(),
        order: order.map(str::to_owned).collect(),
    }
}

async fn planned(
    model: &Model,
    known: &BTreeMap<String, TableSchema>,
) -> Result<TableSchema, ModelError> {
    let failed = |source| ModelError::Run {
        model: model.full_name(),
        source: Box::new(source),
    };
    let context = session::bare().map_err(failed)?;
    for name in model.reads() {
        let schema = known.get(name).ok_or_else(|| ModelError::Declaration {
            file: model.full_name(),
            detail: format!("it reads {name}, which no model before it writes"),
        })?;
        let columns = schema
            .file
            .fields()
            .iter()
            .map(|field| field.as_ref().clone());
        let columns = columns.chain(schema.partitions.iter().cloned());
        let all = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
        let empty = MemTable::try_new(all, vec![Vec::new()]).map_err(failed)?;
        context
            .register_table(name, Arc::new(empty))
            .map_err(failed)?;
    }
    let frame = context.sql(&model.sql).await.map_err(failed)?;
    schema_of(model, &frame)
}
