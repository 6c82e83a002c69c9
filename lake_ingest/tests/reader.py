#!/usr/bin/env python3
"""Reads a lake with other makers' programs and holds it against what was stored.

usage: reader.py LAKE STORED [--partial]

LAKE is a folder or s3://bucket/prefix, reached as AWS's variables say. The tests number what they store: positions
0 to STORED - 1, every third with a fleet event, every fifth with a dead letter. The `deltalake` package reads the Delta
logs, DuckDB the Parquet files as they lie there (those of a bucket are copied first), and each number must be there
exactly once by both. With --partial, of a lake whose run was killed, rows may be missing, yet none may be there twice
or be one that was never stored. Prints the rows of each table as JSON; exits 1 and names the first table that is
wrong.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import duckdb
from deltalake import DeltaTable
from pyarrow import fs

lake, stored, partial = sys.argv[1], int(sys.argv[2]), "--partial" in sys.argv
in_bucket = lake.startswith("s3://")

# Table -> which numbers are in it, and where a row has its number.
TABLES = {
    "raw/deliverer_location": (1, "seq"),
    "raw/fleet_event": (3, "CAST(entity_id AS BIGINT)"),
    "raw/rejected": (5, "log_seq"),
    "treated/deliverer_location": (1, "seq"),
    # Here a row has no number of its own; its time holds it, in milliseconds.
    "final/vehicle_position_data": (1, "epoch_ms(updated_at) % 86400000 - 43200000"),
}


def options():
    if not in_bucket:
        return None
    return {"AWS_ALLOW_HTTP": "true", "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]}


def folder():
    if not in_bucket:
        return Path(lake)
    service = fs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"),
        scheme="http",
        region=os.environ["AWS_REGION"],
    )
    copy = Path(tempfile.mkdtemp(dir=os.environ["READER_TEMPORARY"]))
    fs.copy_files(lake.removeprefix("s3://"), str(copy), source_filesystem=service)
    return copy


def by_delta(table):
    if not DeltaTable.is_deltatable(f"{lake}/{table}", storage_options=options()):
        return None
    return DeltaTable(f"{lake}/{table}", storage_options=options()).to_pyarrow_table()


def check(view, table, numbers, step):
    twice = [number for number, times in Counter(numbers).items() if times > 1]
    if twice:
        fail(f"{table} by {view}: {len(twice)} rows are there twice, among them {min(twice)}")
    expected = set(range(0, stored, step))
    if strange := set(numbers) - expected:
        fail(f"{table} by {view}: {len(strange)} rows were never stored, among them {min(strange)}")
    if not partial and (missing := expected - set(numbers)):
        fail(f"{table} by {view}: {len(missing)} rows are missing, among them {min(missing)}")


def fail(what):
    print(what, file=sys.stderr, flush=True)
    os._exit(1)


def main():
    here, found, db = folder(), {}, duckdb.connect()
    for table, (step, number) in TABLES.items():
        rows = by_delta(table)
        numbers = [] if rows is None else [n for (n,) in db.sql(f"SELECT {number} FROM rows").fetchall()]
        check("deltalake", table, numbers, step)
        found[table] = len(numbers)
        # A replaced file leaves a moment after the log does not name it any more; raw replaces nothing.
        if partial and not table.startswith("raw/"):
            continue
        files = [str(file) for file in (here / table).rglob("*.parquet") if "_delta_log" not in file.parts]
        plain = f"SELECT {number} FROM read_parquet({files}, hive_partitioning = true)"
        check("DuckDB", table, [n for (n,) in db.sql(plain).fetchall()] if files else [], step)
    print(json.dumps(found), flush=True)
    # Not through the interpreter's end: threads that pyarrow's S3 client leaves behind abort it there.
    os._exit(0)


if __name__ == "__main__":
    main()
