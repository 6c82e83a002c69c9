//! A table of the lake as DataFusion sees it: exactly the live files of its log.
//!
//! Nothing is listed: files that no commit made live are not seen. Partition values come from the log too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema as ScanSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::physical_plan::ExecutionPlan;
use lake::entity::TableSchema;

/// One live file.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// The value of each partition column, as text.
    pub partition: Vec<Option<String>>,
}

/// A set of Parquet files with one schema.
#[derive(Debug)]
pub struct FileTable {
    schema: SchemaRef,
    scan: ScanSchema,
    files: Vec<PartitionedFile>,
}

impl FileTable {
    /// Makes a table of these files.
    ///
    /// # Errors
    /// When a path cannot be named or a partition value is not of its column's type.
    pub fn new(schema: &TableSchema, files: &[LiveFile]) -> Result<Self> {
        let partitions: Vec<FieldRef> = schema.partitions.iter().cloned().map(Arc::new).collect();
        let all = schema
            .file
            .fields()
            .iter()
            .cloned()
            .chain(partitions.clone());
        let all = Schema::new(all.collect::<Vec<_>>());
        let files = files
            .iter()
            .map(|file| partitioned(&partitions, file))
            .collect::<Result<_>>()?;
        Ok(Self {
            schema: Arc::new(all),
            scan: ScanSchema::builder(schema.file.clone())
                .with_table_partition_cols(partitions)
                .build(),
            files,
        })
    }
}

fn partitioned(columns: &[FieldRef], file: &LiveFile) -> Result<PartitionedFile> {
    let values = columns.iter().zip(&file.partition);
    let values = values.map(|(column, value)| match value {
        Some(value) => ScalarValue::try_from_string(value.clone(), column.data_type()),
        None => ScalarValue::try_from(column.data_type()),
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    let mut scanned = PartitionedFile::new("", file.size).with_partition_values(values);
    scanned.object_meta.location = object_path(&file.path)?;
    Ok(scanned)
}

fn object_path(path: &Path) -> Result<ObjectPath> {
    let absolute = std::path::absolute(path)?;
    ObjectPath::from_absolute_path(absolute).map_err(|e| DataFusionError::External(e.into()))
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Filters reach the files through the optimizer, which pushes them into the source.
        let source = Arc::new(ParquetSource::new(self.scan.clone()));
        let mut groups = vec![Vec::new(); state.config().target_partitions().max(1)];
        let groups_len = groups.len();
        for (index, file) in self.files.iter().enumerate() {
            groups[index % groups_len].push(file.clone());
        }
        groups.retain(|group| !group.is_empty());
        let url = ObjectStoreUrl::local_filesystem();
        let config = FileScanConfigBuilder::new(url, source)
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
