//! What a log comes to: the table as of one version.

use std::collections::BTreeMap;

use super::action::{Add, Line, Metadata, Protocol, Remove, Txn};

/// Readers and writers of these versions understand all this lake writes.
pub(super) const PROTOCOL: Protocol = Protocol {
    min_reader_version: 1,
    min_writer_version: 2,
};

/// A table as of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of commits, that is, the version of the next one. 0: there is no table yet.
    pub commits: u64,
    /// The table itself; there is one from the first commit on.
    pub metadata: Option<Metadata>,
    /// The live files by path.
    pub files: BTreeMap<String, Add>,
    /// The last version of each application transaction.
    pub transactions: BTreeMap<String, i64>,
    /// Files that were live once, by path. Checkpoints name those of the last days: it tells other programs what they
    /// may delete.
    pub(super) removed: BTreeMap<String, Remove>,
    /// The version of the newest checkpoint this snapshot knows of.
    pub(super) checkpoint: Option<u64>,
}

impl Snapshot {
    /// Tells whether the table exists.
    pub fn exists(&self) -> bool {
        self.commits > 0
    }

    /// Returns the rows the live files state; those without a count add nothing.
    pub fn rows(&self) -> u64 {
        self.files.values().filter_map(Add::rows).sum()
    }

    /// Returns the bytes of the live files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|add| add.size).sum()
    }

    /// Returns the version of the newest checkpoint, as far as this snapshot knows.
    pub fn checkpoint(&self) -> Option<u64> {
        self.checkpoint
    }

    /// Returns when a file that was live was replaced, in milliseconds since the epoch; `None` when it is live, never was,
    /// or was for so long ago that the log forgot it.
    pub fn replaced_at_ms(&self, path: &str) -> Option<i64> {
        self.removed.get(path)?.deletion_timestamp
    }

    /// Applies a line of the log.
    ///
    /// # Errors
    /// What this version does not understand.
    pub(super) fn apply(&mut self, line: Line) -> Result<(), String> {
        if let Some(protocol) = line.protocol {
            let Protocol {
                min_reader_version: reader,
                min_writer_version: writer,
            } = protocol;
            if reader > PROTOCOL.min_reader_version || writer > PROTOCOL.min_writer_version {
                return Err(format!("it needs reader {reader} and writer {writer}"));
            }
        }
        if let Some(metadata) = line.meta_data {
            self.metadata = Some(metadata);
        }
        if let Some(txn) = line.txn {
            self.transactions.insert(txn.app_id, txn.version);
        }
        if let Some(remove) = line.remove {
            self.files.remove(&remove.path);
            self.removed.insert(remove.path.clone(), remove);
        }
        if let Some(add) = line.add {
            self.removed.remove(&add.path);
            self.files.insert(add.path.clone(), add);
        }
        Ok(())
    }

    /// Returns the lines that come to this snapshot; of removed files only those removed at or after `removed_since_ms`.
    pub(super) fn lines(&self, removed_since_ms: i64) -> Vec<Line> {
        let mut lines = vec![
            Line {
                protocol: Some(PROTOCOL),
                ..Line::default()
            },
            Line {
                meta_data: self.metadata.clone(),
                ..Line::default()
            },
        ];
        let transactions = self.transactions.iter();
        lines.extend(transactions.map(|(app_id, version)| Line {
            txn: Some(Txn {
                app_id: app_id.clone(),
                version: *version,
                last_updated: None,
            }),
            ..Line::default()
        }));
        let removed = self.removed.values();
        let recent = removed
            .filter(|remove| remove.deletion_timestamp.unwrap_or_default() >= removed_since_ms);
        lines.extend(recent.map(|remove| Line {
            remove: Some(Remove {
                data_change: false,
                ..remove.clone()
            }),
            ..Line::default()
        }));
        lines.extend(self.files.values().map(|add| Line {
            add: Some(Add {
                data_change: false,
                ..add.clone()
            }),
            ..Line::default()
        }));
        lines
    }
}
