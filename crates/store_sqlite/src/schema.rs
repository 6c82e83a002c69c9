//! Opens the file: settings of a connection, the tables of a new file, the version of an old one.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::{Failure, Outcome};
use crate::sql;

/// How long a call waits for another process' transaction before it answers `Unavailable`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the file for writing, makes or checks its tables, and returns the writer's id.
pub(crate) fn open(path: &Path, cache_bytes: u64) -> Outcome<(Connection, String)> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut connection = Connection::open(path)?;
    prepare(&connection)?;
    connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "normal")?;
    // No commit copies the write-ahead log: `checkpoint` does, beside the commits.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    let cache_kib = i64::try_from(cache_bytes / 1024).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    create_or_check(&mut connection, path)?;
    // The names of the file and its write-ahead log must outlive a power loss as well.
    std::fs::File::open(folder)?.sync_all()?;
    let writer_id = connection.query_row(sql::STATE, [], |row| row.get(0))?;
    Ok((connection, writer_id))
}

/// Opens the file for reading.
pub(crate) fn open_reader(path: &Path) -> Outcome<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    // A commit elsewhere empties a reader's page cache; mapped pages need no reading again.
    connection.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    Ok(connection)
}

/// Opens the file, which must exist, for copying the write-ahead log into it.
pub(crate) fn open_copier(path: &Path) -> Outcome<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    // As the writer: with less, the copy would not be synced.
    connection.pragma_update(None, "synchronous", "normal")?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> Outcome<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn create_or_check(connection: &mut Connection, path: &Path) -> Outcome<()> {
    // Exclusive from here, so that of two processes one makes the tables and the other finds them.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let integer = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (application, version) = (integer("application_id")?, integer("user_version")?);
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && application == 0 {
        transaction.execute_batch(sql::SCHEMA)?;
        transaction.pragma_update(None, "application_id", sql::APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", sql::SCHEMA_VERSION)?;
    } else if application != sql::APPLICATION_ID {
        return Err(Failure::data(format!(
            "{} is an SQLite file of another program; name a new file",
            path.display()
        )));
    } else if version != sql::SCHEMA_VERSION {
        return Err(Failure::data(format!(
            "{} has schema version {version} and this program knows {}; use the program that wrote it, \
             or a newer one",
            path.display(),
            sql::SCHEMA_VERSION
        )));
    }
    transaction.commit()?;
    Ok(())
}
