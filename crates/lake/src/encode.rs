//! Rows into files: pages of columns are put together, split by partition, sorted, and written as Parquet.
//!
//! Invariant: a chunk is a pure function of its rows, so the same window makes the same files. Memory is
//! about twice [`Chunk::bytes`] plus one encoded file at a time; the caller bounds the former.

mod page;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringBuilder, UInt32Array,
};
use arrow::compute::{SortOptions, concat, sort_to_indices};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use model::content_hash::ContentHash;
use twox_hash::XxHash64;

pub(crate) use self::page::Page;
use self::page::Part;
use crate::entity::{ColumnType, Entity};
use crate::error::LakeError;
use crate::parquet_file;
use crate::processors::on_every_processor;

/// A sum over keys that does not depend on their order; equal sets of keys have equal sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeySum(u64);

impl KeySum {
    /// Adds a row by its sequence and its time in microseconds.
    pub(crate) fn add(&mut self, writer_seq: u64, time_us: i64) {
        let hash = ContentHash::default()
            .chain(&writer_seq.to_le_bytes())
            .chain(&time_us.to_le_bytes());
        self.0 = self.0.wrapping_add(hash.finish());
    }

    /// Adds the keys of other rows.
    pub(crate) fn merge(&mut self, others: Self) {
        self.0 = self.0.wrapping_add(others.0);
    }

    /// Returns it as text.
    pub(crate) fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Returns the XXH64 of a file's bytes, by which damage is known before anything is decoded. It takes many bytes at a
/// time, [`hash_of`] one.
pub(crate) fn checksum_of(content: &[u8]) -> String {
    format!("{:016x}", XxHash64::oneshot(0, content))
}

/// Returns the hash of a file's bytes that names it, and that files of earlier versions state.
pub(crate) fn hash_of(content: &[u8]) -> String {
    format!("{:016x}", ContentHash::default().chain(content).finish())
}

/// One finished file of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedFile {
    /// The value of each partition column, outermost first.
    pub(crate) partition: Vec<String>,
    /// The Parquet file.
    pub(crate) content: Bytes,
    /// What [`checksum_of`] says of it.
    pub(crate) checksum: String,
    /// Rows in it.
    pub(crate) rows: u64,
    /// Sum over their keys, taken from the rows before they became columns.
    pub(crate) keys: KeySum,
}

/// Rows on their way into files.
pub(crate) struct Chunk<R: 'static> {
    entity: &'static Entity<R>,
    columns: Vec<Column>,
    partitions: BTreeMap<Vec<String>, Part>,
    rows: u32,
    bytes: usize,
}

/// Most rows of a chunk: row numbers have 32 bits.
pub(crate) const MAX_CHUNK_ROWS: u64 = 16_000_000;

impl<R> std::fmt::Debug for Chunk<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunk")
            .field("table", &self.entity.table)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<R> Chunk<R> {
    /// Begins an empty chunk.
    pub(crate) fn new(entity: &'static Entity<R>) -> Self {
        let columns = entity.columns.iter();
        Self {
            entity,
            columns: columns.map(|column| Column::new(column.holds)).collect(),
            partitions: BTreeMap::new(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Returns the number of rows in it.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.into()
    }

    /// Returns roughly the memory its columns take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the rows that follow.
    ///
    /// # Errors
    /// [`LakeError::Arrow`] when a column holds more distinct words than a dictionary can.
    pub(crate) fn push(&mut self, page: Page<R>) -> Result<(), LakeError> {
        let wrong = |source| failed(self.entity, source);
        let page = page.finish().map_err(wrong)?;
        for (column, array) in self.columns.iter_mut().zip(page.columns) {
            self.bytes += column.push(array).map_err(wrong)?;
        }
        for (name, part) in page.parts {
            let whole = self.partitions.entry(name).or_default();
            let before = self.rows;
            let rows = part.rows.into_iter();
            whole
                .rows
                .extend(rows.map(|(time, row)| (time, before + row)));
            whole.keys.merge(part.keys);
        }
        self.rows += page.rows;
        self.bytes += page.bytes;
        Ok(())
    }

    /// Sorts and writes the files, one for each partition, ordered by partition.
    ///
    /// # Errors
    /// [`LakeError::Arrow`] or [`LakeError::Parquet`], both defects of this program.
    pub(crate) fn finish(self) -> Result<Vec<EncodedFile>, LakeError> {
        if self.rows == 0 {
            return Ok(Vec::new());
        }
        let entity = self.entity;
        let arrow = |source| failed(entity, source);
        let arrays = on_every_processor(self.columns, |column| column.finish().map_err(arrow))?;
        let fields = arrays.iter().zip(entity.columns);
        let fields = fields.map(|(array, column)| {
            Field::new(column.name, array.data_type().clone(), column.optional)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let what = entity.folder();
        let cluster = entity
            .cluster_by
            .and_then(|name| schema.index_of(name).ok());
        let ranks = cluster.map(|index| Ranks::of(&arrays[index])).transpose();
        let ranks = ranks.map_err(arrow)?.flatten();
        let mut files = Vec::with_capacity(self.partitions.len());
        for (partition, part) in self.partitions {
            let (rows, keys) = (part.rows.len() as u64, part.keys);
            let order = ordered(part.rows, ranks.as_ref());
            let content = parquet_file::encode(&what, &schema, &arrays, &order)?;
            files.push(EncodedFile {
                partition,
                checksum: checksum_of(&content),
                content,
                rows,
                keys,
            });
        }
        Ok(files)
    }
}

fn failed<R>(entity: &Entity<R>, source: ArrowError) -> LakeError {
    LakeError::Arrow {
        what: entity.folder(),
        source,
    }
}

/// Returns the row numbers in the file's order: by rank, by time, then as stored.
fn ordered(rows: Vec<(i64, u32)>, ranks: Option<&Ranks>) -> UInt32Array {
    let placed = match ranks {
        None => vec![rows],
        Some(ranks) => {
            let mut placed = vec![Vec::new(); ranks.of_key.len().max(1)];
            for (time, row) in rows {
                placed[ranks.of_row(row)].push((time, row));
            }
            placed
        }
    };
    let sorted = placed.into_iter().flat_map(|mut rows| {
        // What devices report comes in order by and large.
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
        rows.into_iter().map(|(_, row)| row)
    });
    sorted.collect()
}

/// The place of each row's word among all words, in byte order.
struct Ranks {
    of_key: Vec<usize>,
    words: DictionaryArray<Int32Type>,
}

impl Ranks {
    /// Ranks the words of a dictionary column; `None` when the column is no dictionary.
    fn of(array: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let Some(words) = array.as_any().downcast_ref::<DictionaryArray<Int32Type>>() else {
            return Ok(None);
        };
        let sorted = sort_to_indices(words.values(), Some(SortOptions::default()), None)?;
        let mut of_key = vec![0; sorted.len()];
        for (rank, key) in sorted.values().iter().enumerate() {
            of_key[*key as usize] = rank;
        }
        Ok(Some(Self {
            of_key,
            words: words.clone(),
        }))
    }

    fn of_row(&self, row: u32) -> usize {
        self.words
            .key(row as usize)
            .map_or(0, |key| self.of_key[key])
    }
}

/// A column of a chunk, page after page.
enum Column {
    Words(Dictionary),
    Others(Vec<ArrayRef>),
}

/// The words of all pages, and the keys of each page's rows.
#[derive(Default)]
struct Dictionary {
    key_of: HashMap<Box<str>, i32>,
    words: StringBuilder,
    keys: Vec<ArrayRef>,
}

impl Column {
    fn new(holds: ColumnType) -> Self {
        match holds {
            ColumnType::Word => Self::Words(Dictionary::default()),
            _ => Self::Others(Vec::new()),
        }
    }

    /// Adds a page; returns roughly the bytes of the words that are new.
    fn push(&mut self, page: ArrayRef) -> Result<usize, ArrowError> {
        match self {
            Self::Words(dictionary) => match page.as_dictionary_opt() {
                Some(page) => dictionary.push(page),
                None => Err(ArrowError::SchemaError("a page without words".to_owned())),
            },
            Self::Others(pages) => {
                pages.push(page);
                Ok(0)
            }
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let (Self::Others(pages) | Self::Words(Dictionary { keys: pages, .. })) = &self;
        let pages: Vec<&dyn Array> = pages.iter().map(AsRef::as_ref).collect();
        let all = concat(&pages)?;
        Ok(match self {
            Self::Others(_) => all,
            Self::Words(mut dictionary) => {
                let words = Arc::new(dictionary.words.finish());
                let keys = all.as_primitive::<Int32Type>().clone();
                Arc::new(DictionaryArray::try_new(keys, words)?)
            }
        })
    }
}

impl Dictionary {
    fn push(&mut self, page: &DictionaryArray<Int32Type>) -> Result<usize, ArrowError> {
        let mut bytes = 0;
        let mut keys = Vec::with_capacity(page.values().len());
        for word in page.values().as_string::<i32>().iter().flatten() {
            let key = if let Some(key) = self.key_of.get(word) {
                *key
            } else {
                let key = i32::try_from(self.key_of.len());
                let key = key.map_err(|_| ArrowError::DictionaryKeyOverflowError)?;
                self.key_of.insert(word.into(), key);
                self.words.append_value(word);
                bytes += word.len() + 4;
                key
            };
            keys.push(key);
        }
        // Where there is no word, the key is any.
        let key = |of_page: i32| usize::try_from(of_page).ok().and_then(|at| keys.get(at));
        let renamed = page
            .keys()
            .unary(|of_page| key(of_page).copied().unwrap_or_default());
        self.keys.push(Arc::new(renamed as Int32Array));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use model::{DelivererId, Latitude, Longitude, Position, Source, UtcMicros};
    use proptest::prelude::*;
    use store::{Stored, Visitor};

    use super::*;
    use crate::entities::DELIVERER_LOCATION;

    fn row(writer_seq: u64, (deliverer, time_us, lat): (u8, i64, f64)) -> Stored<Position> {
        let time = UtcMicros::new(time_us).unwrap();
        let row = Position {
            order_id: None,
            deliverer_id: DelivererId::new(deliverer.to_string()).unwrap(),
            delivery_state: None,
            event_time: time,
            received_time: time,
            lat: Latitude::from_degrees(lat).unwrap(),
            lon: Longitude::from_degrees(lat).unwrap(),
            speed_mps: None,
            heading_deg: None,
            accuracy_m: None,
            altitude_m: None,
            battery: None,
            seq: None,
            source: Source::Native,
        };
        Stored { writer_seq, row }
    }

    proptest! {
        /// However the store's answer is cut into pages, the same rows make the same bytes.
        #[test]
        fn files_follow_from_the_rows_alone(
            rows in proptest::collection::vec((0_u8..5, 0..4 * 86_400_000_000_i64, -90.0..90.0_f64), 1..80),
            page in 1_usize..80,
        ) {
            let rows: Vec<_> = (1..).zip(rows).map(|(seq, row_of)| row(seq, row_of)).collect();
            let files = |page: usize| {
                let mut chunk = Chunk::new(&DELIVERER_LOCATION);
                for rows in rows.chunks(page) {
                    let mut page = Page::new(&DELIVERER_LOCATION, "w");
                    for row in rows {
                        page.visit(row);
                    }
                    chunk.push(page).unwrap();
                }
                chunk.finish().unwrap()
            };
            let whole = files(rows.len());
            prop_assert_eq!(whole.iter().map(|file| file.rows).sum::<u64>(), rows.len() as u64);
            prop_assert_eq!(whole, files(page));
        }
    }
}
