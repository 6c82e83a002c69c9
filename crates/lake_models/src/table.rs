//! A table of the lake as DataFusion sees it: exactly the live files of its log.
//!
//! Nothing is listed: files that no commit made live are not seen. Partition values come from the log too.

use std::path::Path;
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
use datafusion::physical_plan::empty::EmptyExec;
use lake::entity::TableSchema;

/// One live file.
#[derive(Debug, Clone)]
pub struct LiveFile {
    /// Where it is, below its table's [`Place`].
    pub location: ObjectPath,
    /// Bytes.
    pub size: u64,
    /// The value of each partition column, as text.
    pub partition: Vec<Option<String>>,
}

/// The storage a table's files are in, as DataFusion's sessions of this crate know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Files of this machine, named by absolute paths.
    Folder,
    /// The lake's bucket; objects are named by their keys.
    Bucket,
}

impl Place {
    /// Returns the name sessions know it by.
    ///
    /// # Panics
    /// Never: the names are written right.
    pub fn url(self) -> ObjectStoreUrl {
        match self {
            Self::Folder => ObjectStoreUrl::local_filesystem(),
            Self::Bucket => ObjectStoreUrl::parse("lake://bucket").expect("it is a URL"),
        }
    }
}

/// A set of Parquet files with one schema.
#[derive(Debug)]
pub struct FileTable {
    place: Place,
    schema: SchemaRef,
    scan: ScanSchema,
    files: Vec<PartitionedFile>,
}

impl FileTable {
    /// Makes a table of these files.
    ///
    /// # Errors
    /// When a partition value is not of its column's type.
    pub fn new(place: Place, schema: &TableSchema, files: &[LiveFile]) -> Result<Self> {
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
            place,
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
    scanned.object_meta.location = file.location.clone();
    Ok(scanned)
}

/// Names a file of [`Place::Folder`].
///
/// # Errors
/// When the path cannot be named.
pub fn of_file(path: &Path) -> Result<ObjectPath> {
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
        if self.files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema.project(columns)?),
                None => self.schema.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        // Filters reach the files through the optimizer, which pushes them into the source.
        let source = Arc::new(ParquetSource::new(self.scan.clone()));
        let mut groups = vec![Vec::new(); state.config().target_partitions().max(1)];
        let groups_len = groups.len();
        for (index, file) in self.files.iter().enumerate() {
            groups[index % groups_len].push(file.clone());
        }
        groups.retain(|group| !group.is_empty());
        let config = FileScanConfigBuilder::new(self.place.url(), source)
            .with_file_groups(groups.into_iter().map(FileGroup::new).collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
