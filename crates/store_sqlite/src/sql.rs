//! Every SQL text of this store. Values are always bound, never written into a text.

/// Tells a file of this project from other SQLite files ("lstm").
pub(crate) const APPLICATION_ID: i32 = 0x6c73_746d;

/// Version of [`SCHEMA`]; a file of a newer one is refused.
pub(crate) const SCHEMA_VERSION: i32 = 1;

/// Sequences in a segment, as a shift: 2^15 index entries are about 200 pages, which stay in cache
/// and are written once per batch at most.
pub(crate) const SEGMENT_SHIFT: u32 = 15;

/// Times are microseconds since the epoch, angles degrees, lengths metres, speeds metres per second.
/// Columns of floats have no type: with the type REAL, -0 would come back as 0.
pub(crate) const SCHEMA: &str = "
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    writer_id TEXT NOT NULL,
    positions_seq INTEGER NOT NULL DEFAULT 0,
    fleet_events_seq INTEGER NOT NULL DEFAULT 0,
    rejected_seq INTEGER NOT NULL DEFAULT 0,
    positions INTEGER NOT NULL DEFAULT 0,
    fleet_events INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    orders INTEGER NOT NULL DEFAULT 0,
    deliverers INTEGER NOT NULL DEFAULT 0
);
INSERT INTO state (id, writer_id) VALUES (1, lower(hex(randomblob(16))));

CREATE TABLE last_positions (
    order_ref INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL UNIQUE,
    first_segment INTEGER NOT NULL,
    last_segment INTEGER NOT NULL,
    deliverer_ref INTEGER,
    event_us INTEGER, discriminator INTEGER, received_us INTEGER,
    lat, lon, delivery_state TEXT, speed_mps, heading_deg,
    accuracy_m, altitude_m, battery, source TEXT
);
CREATE TABLE last_by_deliverer (
    deliverer_ref INTEGER PRIMARY KEY,
    deliverer_id TEXT NOT NULL UNIQUE,
    first_segment INTEGER NOT NULL,
    last_segment INTEGER NOT NULL,
    order_ref INTEGER,
    event_us INTEGER, discriminator INTEGER, received_us INTEGER,
    lat, lon, delivery_state TEXT, speed_mps, heading_deg,
    accuracy_m, altitude_m, battery, source TEXT
);

-- order_ref is 0 where there is no order, so that such rows are told apart by the unique index too.
CREATE TABLE positions (
    seq INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    order_ref INTEGER NOT NULL,
    deliverer_ref INTEGER NOT NULL,
    event_us INTEGER NOT NULL, discriminator INTEGER NOT NULL, received_us INTEGER NOT NULL,
    lat NOT NULL, lon NOT NULL, delivery_state TEXT, speed_mps, heading_deg,
    accuracy_m, altitude_m, battery, source TEXT NOT NULL
);
CREATE UNIQUE INDEX positions_once ON positions (event_us, discriminator, deliverer_ref, order_ref);
CREATE INDEX positions_of_order ON positions (segment, order_ref, event_us);
CREATE INDEX positions_of_deliverer ON positions (segment, deliverer_ref, event_us);
CREATE TABLE segments (
    segment INTEGER PRIMARY KEY,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL
);

CREATE TABLE fleet_events (
    seq INTEGER PRIMARY KEY,
    organization_id TEXT NOT NULL, subject TEXT NOT NULL, action TEXT NOT NULL,
    entity_id TEXT NOT NULL, at_us INTEGER NOT NULL, received_us INTEGER NOT NULL,
    data TEXT NOT NULL, discriminator INTEGER NOT NULL
);
CREATE UNIQUE INDEX fleet_events_once
    ON fleet_events (at_us, discriminator, entity_id, organization_id, subject, action);
CREATE INDEX fleet_events_of_entity ON fleet_events (entity_id);
CREATE INDEX fleet_events_of_action ON fleet_events (action);

CREATE TABLE rejected (
    seq INTEGER PRIMARY KEY,
    reason TEXT NOT NULL, detail TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    received_us INTEGER NOT NULL, item INTEGER NOT NULL, log_seq INTEGER,
    identity BLOB NOT NULL UNIQUE
);

CREATE TABLE cursors (source TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (
    name TEXT PRIMARY KEY, holder TEXT NOT NULL, until_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE lake_windows (
    lake_table TEXT NOT NULL, writer_id TEXT NOT NULL, after_seq INTEGER NOT NULL,
    to_seq INTEGER NOT NULL, state TEXT NOT NULL, row_count INTEGER,
    PRIMARY KEY (lake_table, writer_id, after_seq)
) WITHOUT ROWID;
";

/// Both answer: whether it was busy, pages in the write-ahead log, those of them copied into the file.
pub(crate) const LOOK_AT_LOG: &str = "PRAGMA main.wal_checkpoint(NOOP)";
pub(crate) const COPY_LOG: &str = "PRAGMA main.wal_checkpoint(PASSIVE)";

pub(crate) const STATE: &str = "SELECT writer_id, positions_seq, fleet_events_seq, rejected_seq, \
    positions, fleet_events, rejected, orders, deliverers FROM state WHERE id = 1";
pub(crate) const SAVE_STATE: &str = "UPDATE state SET positions_seq = ?1, fleet_events_seq = ?2, \
    rejected_seq = ?3, positions = ?4, fleet_events = ?5, rejected = ?6, orders = ?7, \
    deliverers = ?8 WHERE id = 1";

pub(crate) const FIND_ORDER: &str = "SELECT order_ref FROM last_positions WHERE order_id = ?1";
pub(crate) const ADD_ORDER: &str = "INSERT INTO last_positions (order_id, first_segment, \
    last_segment) VALUES (?1, ?2, ?2)";
pub(crate) const FIND_DELIVERER: &str =
    "SELECT deliverer_ref FROM last_by_deliverer WHERE deliverer_id = ?1";
pub(crate) const ADD_DELIVERER: &str = "INSERT INTO last_by_deliverer (deliverer_id, \
    first_segment, last_segment) VALUES (?1, ?2, ?2)";

pub(crate) const ADD_POSITION: &str = "INSERT INTO positions (seq, segment, order_ref, \
    deliverer_ref, event_us, discriminator, received_us, lat, lon, delivery_state, speed_mps, \
    heading_deg, accuracy_m, altitude_m, battery, source) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
    ON CONFLICT DO NOTHING";
pub(crate) const WIDEN_SEGMENT: &str = "INSERT INTO segments VALUES (?1, ?2, ?3) \
    ON CONFLICT DO UPDATE SET first_us = min(first_us, excluded.first_us), \
    last_us = max(last_us, excluded.last_us)";

macro_rules! set_last {
    ($table:literal, $key:literal, $other:literal, $guard:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET last_segment = ?2, ",
            $other,
            " = ?3, event_us = ?4, \
            discriminator = ?5, received_us = ?6, lat = ?7, lon = ?8, delivery_state = ?9, \
            speed_mps = ?10, heading_deg = ?11, accuracy_m = ?12, altitude_m = ?13, \
            battery = ?14, source = ?15 WHERE ",
            $key,
            " = ?1 AND ",
            $guard
        )
    };
}
macro_rules! newer {
    ($table:literal, $key:literal, $other:literal) => {
        set_last!($table, $key, $other, "(event_us, discriminator) < (?4, ?5)")
    };
}
macro_rules! first {
    ($table:literal, $key:literal, $other:literal) => {
        set_last!($table, $key, $other, "event_us IS NULL")
    };
}
macro_rules! seen {
    ($table:literal, $key:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET last_segment = ?2 WHERE ",
            $key,
            " = ?1 AND last_segment < ?2"
        )
    };
}

/// The three ways a batch may touch a row of last positions.
pub(crate) struct LastSql {
    /// Overwrites an older last position.
    pub(crate) newer: &'static str,
    /// Sets the first last position.
    pub(crate) first: &'static str,
    /// Only notes that there are rows in a newer segment.
    pub(crate) seen: &'static str,
}
pub(crate) const LAST_OF_ORDER: LastSql = LastSql {
    newer: newer!("last_positions", "order_ref", "deliverer_ref"),
    first: first!("last_positions", "order_ref", "deliverer_ref"),
    seen: seen!("last_positions", "order_ref"),
};
pub(crate) const LAST_OF_DELIVERER: LastSql = LastSql {
    newer: newer!("last_by_deliverer", "deliverer_ref", "order_ref"),
    first: first!("last_by_deliverer", "deliverer_ref", "order_ref"),
    seen: seen!("last_by_deliverer", "deliverer_ref"),
};

/// The columns [`crate::rows::position`] reads, in its order.
macro_rules! position_columns {
    ($row:literal) => {
        concat!(
            "o.order_id, d.deliverer_id, ",
            $row,
            ".event_us, ",
            $row,
            ".discriminator, ",
            $row,
            ".received_us, ",
            $row,
            ".lat, ",
            $row,
            ".lon, ",
            $row,
            ".delivery_state, ",
            $row,
            ".speed_mps, ",
            $row,
            ".heading_deg, ",
            $row,
            ".accuracy_m, ",
            $row,
            ".altitude_m, ",
            $row,
            ".battery, ",
            $row,
            ".source"
        )
    };
}

pub(crate) const GET_LAST_OF_ORDER: &str = concat!(
    "SELECT ",
    position_columns!("o"),
    " FROM last_positions o \
    CROSS JOIN last_by_deliverer d ON d.deliverer_ref = o.deliverer_ref \
    WHERE o.order_id = ?1 AND o.event_us IS NOT NULL"
);
pub(crate) const GET_LAST_OF_DELIVERER: &str = concat!(
    "SELECT ",
    position_columns!("d"),
    " FROM last_by_deliverer d \
    LEFT JOIN last_positions o ON o.order_ref = d.order_ref \
    WHERE d.deliverer_id = ?1 AND d.event_us IS NOT NULL"
);

pub(crate) const RANGE_OF_ORDER: &str =
    "SELECT order_ref, first_segment, last_segment FROM last_positions WHERE order_id = ?1";
pub(crate) const RANGE_OF_DELIVERER: &str = "SELECT deliverer_ref, first_segment, last_segment \
    FROM last_by_deliverer WHERE deliverer_id = ?1";
pub(crate) const SEGMENTS: &str = "SELECT segment, first_us FROM segments \
    WHERE segment BETWEEN ?1 AND ?2 AND last_us >= ?3 AND first_us < ?4 ORDER BY first_us, segment";

macro_rules! history {
    ($index:literal, $key:literal) => {
        concat!(
            "SELECT ",
            position_columns!("p"),
            ", p.seq FROM positions p INDEXED BY ",
            $index,
            " CROSS JOIN last_by_deliverer d ON d.deliverer_ref = p.deliverer_ref \
            LEFT JOIN last_positions o ON o.order_ref = p.order_ref \
            WHERE p.segment = ?1 AND p.",
            $key,
            " = ?2 AND p.event_us >= ?3 \
            AND (p.event_us > ?3 OR p.seq > ?4) AND p.event_us < ?5 \
            ORDER BY p.event_us, p.seq LIMIT ?6"
        )
    };
}
pub(crate) const HISTORY_OF_ORDER: &str = history!("positions_of_order", "order_ref");
pub(crate) const HISTORY_OF_DELIVERER: &str = history!("positions_of_deliverer", "deliverer_ref");

pub(crate) const ADD_FLEET_EVENT: &str = "INSERT INTO fleet_events (seq, organization_id, \
    subject, action, entity_id, at_us, received_us, data, discriminator) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";

macro_rules! fleet_events {
    ($lead:literal) => {
        concat!(
            "SELECT organization_id, subject, action, entity_id, at_us, received_us, data, seq \
            FROM fleet_events WHERE ",
            $lead,
            " AND seq > ?1 \
            AND (?2 IS NULL OR organization_id = ?2) AND (?3 IS NULL OR subject = ?3) \
            AND (?4 IS NULL OR entity_id = ?4) AND (?5 IS NULL OR action = ?5) \
            ORDER BY seq LIMIT ?6"
        )
    };
}
/// All filters are optional in each; they differ in the index that leads.
pub(crate) const FLEET_EVENTS: &str = fleet_events!("TRUE");
pub(crate) const FLEET_EVENTS_OF_ENTITY: &str = fleet_events!("entity_id = ?4");
pub(crate) const FLEET_EVENTS_OF_ACTION: &str = fleet_events!("action = ?5");
/// Few among many updates, hence worth a sort.
pub(crate) const FLEET_EVENTS_OF_PERIODS: &str = fleet_events!("action IN ('create', 'delete')");

pub(crate) const ADD_REJECT: &str = "INSERT INTO rejected (seq, reason, detail, topic, payload, \
    received_us, item, log_seq, identity) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
    ON CONFLICT DO NOTHING";

pub(crate) const CURSOR: &str = "SELECT next FROM cursors WHERE source = ?1";
pub(crate) const MOVE_CURSOR: &str = "INSERT INTO cursors VALUES (?1, ?2) \
    ON CONFLICT DO UPDATE SET next = max(next, excluded.next)";

/// As [`crate::rows::position_of`] reads it, after the numbers of the ids, which are looked up once for many rows.
pub(crate) const SCAN_POSITIONS: &str = "SELECT order_ref, deliverer_ref, event_us, discriminator, \
    received_us, lat, lon, delivery_state, speed_mps, heading_deg, accuracy_m, altitude_m, battery, \
    source, seq FROM positions WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
pub(crate) const GET_ORDER_IDS: &str =
    "SELECT order_ref, order_id FROM last_positions WHERE order_ref >= ?1 AND order_ref < ?2";
pub(crate) const GET_DELIVERER_IDS: &str = "SELECT deliverer_ref, deliverer_id FROM last_by_deliverer \
    WHERE deliverer_ref >= ?1 AND deliverer_ref < ?2";
pub(crate) const SCAN_FLEET_EVENTS: &str = "SELECT organization_id, subject, action, entity_id, \
    at_us, received_us, data, seq FROM fleet_events \
    WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
pub(crate) const SCAN_REJECTED: &str = "SELECT reason, detail, topic, payload, received_us, item, \
    log_seq, seq FROM rejected WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";

pub(crate) const LAST_WINDOW: &str = "SELECT after_seq, to_seq, state, row_count FROM lake_windows \
    WHERE lake_table = ?1 AND writer_id = ?2 ORDER BY after_seq DESC LIMIT 1";
pub(crate) const GET_WINDOW: &str = "SELECT after_seq, to_seq, state, row_count FROM lake_windows \
    WHERE lake_table = ?1 AND writer_id = ?2 AND after_seq = ?3";
pub(crate) const PLAN_WINDOW: &str =
    "INSERT INTO lake_windows VALUES (?1, ?2, ?3, ?4, 'planned', NULL)";
pub(crate) const ADVANCE_WINDOW: &str = "UPDATE lake_windows SET state = ?4, row_count = ?5 \
    WHERE lake_table = ?1 AND writer_id = ?2 AND after_seq = ?3";

pub(crate) const PURGE_POSITIONS: &str = "DELETE FROM positions WHERE seq IN \
    (SELECT seq FROM positions WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)";
pub(crate) const PURGE_FLEET_EVENTS: &str = "DELETE FROM fleet_events WHERE seq IN \
    (SELECT seq FROM fleet_events WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)";
pub(crate) const PURGE_REJECTED: &str = "DELETE FROM rejected WHERE seq IN \
    (SELECT seq FROM rejected WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)";
/// Forgets segments before the first row left; with no row left, before the newest segment.
pub(crate) const DROP_SEGMENTS: &str = "DELETE FROM segments WHERE segment < \
    ifnull((SELECT segment FROM positions ORDER BY seq LIMIT 1), ?1)";

pub(crate) const TAKE_LEASE: &str = "INSERT INTO leases VALUES (?1, ?2, ?3) \
    ON CONFLICT DO UPDATE SET holder = excluded.holder, until_us = excluded.until_us \
    WHERE holder = excluded.holder OR until_us <= ?4";
pub(crate) const RELEASE_LEASE: &str = "DELETE FROM leases WHERE name = ?1 AND holder = ?2";
