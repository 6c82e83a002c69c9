//! DataFusion set up over a lake: memory bounded, spilling to disk, one schema per layer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::available_parallelism;

use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::prelude::{SessionConfig, SessionContext};
use lake::delta::{Snapshot, Table, arrow_schema};
use lake::entity::TableSchema;
use lake::storage::{ObjectKey, Storage};
use lake::{LakeError, Root, entities};
use store::LakeTable;

use crate::error::ModelError;
use crate::functions;
use crate::memory::Pools;
use crate::object_store::LakeStore;
use crate::table::{FileTable, LiveFile, Place, of_file};

/// Memory for sorts and aggregations; beyond it they spill to the system's temporary folder.
const SPILLING: usize = 512 << 20;
/// Memory for joins and merges; who needs more fails. A sort merges what it holds by keys that may be as large as the
/// rows, and at the same time what it spilled, so this is twice the other.
const FIXED: usize = 2 * SPILLING;
/// Most parts that are worked on beside each other: what sorts of two need to merge what they spilled, 10,000,000
/// positions among them, was seen to fit into the memory, and that of four not.
const MAX_PARTS: usize = 2;
/// What each sort keeps of it for merging. DataFusion's default of 10 MiB is too little for rows as wide as ours.
const MERGE_RESERVATION: usize = 32 << 20;

/// The name of the catalog.
const CATALOG: &str = "lake";

/// The layers, which are the schemas.
const LAYERS: [&str; 3] = ["raw", "treated", "final"];

/// Makes a session with empty schemas that can read the lake's files.
pub(crate) fn session(storage: &Arc<dyn Storage>) -> Result<SessionContext, DataFusionError> {
    let context = bare()?;
    let store = Arc::new(LakeStore::new(storage.clone()));
    context.register_object_store(Place::Bucket.url().as_ref(), store);
    Ok(context)
}

/// Returns settings under which memory is counted as it is used.
///
/// Text as views shares its buffers between batches, and each batch is counted with the whole of them: a merge of
/// sorted runs, which holds batches of all, was refused at many times what it held.
pub(crate) fn config() -> SessionConfig {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config
}

/// Makes a session with empty schemas and no lake.
pub(crate) fn bare() -> Result<SessionContext, DataFusionError> {
    let cores = available_parallelism().map_or(1, usize::from);
    let config = config()
        .with_default_catalog_and_schema(CATALOG, "public")
        .with_target_partitions(cores.min(MAX_PARTS))
        .with_sort_spill_reservation_bytes(MERGE_RESERVATION)
        .with_information_schema(true);
    let pool = Arc::new(Pools::new(SPILLING, FIXED));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool);
    let context = SessionContext::new_with_config_rt(config, runtime.build_arc()?);
    functions::register(&context);
    if let Some(catalog) = context.catalog(CATALOG) {
        for layer in LAYERS {
            catalog.register_schema(layer, Arc::new(MemorySchemaProvider::new()))?;
        }
    }
    Ok(context)
}

/// Returns `raw.name`.
pub(crate) fn raw_name(table: LakeTable) -> String {
    format!("raw.{}", table.as_str())
}

/// Returns the declared schema of a raw table; `None` for other tables.
pub(crate) fn raw(full_name: &str) -> Option<TableSchema> {
    let named = |table: &LakeTable| raw_name(*table) == full_name;
    let table = LakeTable::ALL.into_iter().find(named)?;
    Some(match table {
        LakeTable::DelivererLocation => entities::DELIVERER_LOCATION.schema(),
        LakeTable::FleetEvent => entities::FLEET_EVENT.schema(),
        LakeTable::Rejected => entities::REJECTED.schema(),
    })
}

/// Makes a table that has no row.
pub(crate) fn without_rows(
    schema: &TableSchema,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    Ok(Arc::new(FileTable::new(Place::Folder, schema, &[])?))
}

/// A table of the lake as of now.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) table: Table,
    pub(crate) snapshot: Snapshot,
}

/// Reads the log of `layer.name`.
pub(crate) async fn load(
    storage: &Arc<dyn Storage>,
    full_name: &str,
) -> Result<Loaded, ModelError> {
    let folder = ObjectKey::new(full_name.replacen('.', "/", 1));
    let folder = folder.ok_or_else(|| ModelError::Declaration {
        file: full_name.to_owned(),
        detail: "is no table name".to_owned(),
    })?;
    let table = Table::new(storage.clone(), folder);
    let snapshot = table.load().await?;
    Ok(Loaded { table, snapshot })
}

impl Loaded {
    /// Makes the table DataFusion reads, of the files whose partition `keep` accepts; `None` while the table
    /// does not exist.
    pub(crate) fn provider(
        &self,
        root: &Root,
        keep: impl Fn(&BTreeMap<String, Option<String>>) -> bool,
    ) -> Result<Option<Arc<dyn TableProvider>>, ModelError> {
        let Some(metadata) = &self.snapshot.metadata else {
            return Ok(None);
        };
        let wrong = |detail: String| {
            ModelError::Lake(LakeError::Log {
                table: self.table.folder().to_string(),
                version: self.snapshot.commits,
                detail,
            })
        };
        let schema = arrow_schema(metadata)
            .ok_or_else(|| wrong("it has columns of types this lake never writes".to_owned()))?;
        let mut files = Vec::new();
        for add in self.snapshot.files.values() {
            if !keep(&add.partition_values) {
                continue;
            }
            let columns = schema.partitions.iter();
            let partition =
                columns.map(|column| add.partition_values.get(column.name()).cloned().flatten());
            let key = self.table.key(&add.path)?;
            files.push(LiveFile {
                location: location(root, &key).map_err(|error| wrong(error.to_string()))?,
                size: add.size,
                partition: partition.collect(),
            });
        }
        let place = if root.folder().is_some() {
            Place::Folder
        } else {
            Place::Bucket
        };
        let table =
            FileTable::new(place, &schema, &files).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Arc::new(table)))
    }
}

/// Names a file as DataFusion does.
fn location(root: &Root, key: &ObjectKey) -> Result<ObjectPath, DataFusionError> {
    match root.folder() {
        Some(folder) => of_file(&folder.join(key.as_str())),
        None => {
            ObjectPath::parse(key.as_str()).map_err(|error| DataFusionError::External(error.into()))
        }
    }
}
