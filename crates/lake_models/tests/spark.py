#!/usr/bin/env python3
"""Runs every model on Spark over a lake's raw tables and compares all rows with those the lake has.

usage: spark.py LAKE MODELS [--wrong]

The SQL is that of the files, unchanged; each model reads what Spark itself made of the models before it. The one
function Spark lacks outside Databricks, h3_longlatash3string, is registered from the `h3` package. Numbers must agree to
1e-9 of their value or of one unit, everything else exactly. With `--wrong` the earth is taken smaller by a part
in a million, which must be noticed. Exits 1 at the first difference.
"""

import os
import sys
import tempfile
from datetime import date
from pathlib import Path

os.environ["TZ"] = "UTC"
os.environ["PYSPARK_PYTHON"] = sys.executable

import h3
import pyarrow as pa
import pyarrow.dataset as dataset
from pyspark.sql import SparkSession

RAW = ("deliverer_location", "fleet_event")


def header(text):
    """Key -> values of the `-- key: value` lines."""
    keys = {}
    for line in text.splitlines():
        key, colon, value = line.removeprefix("-- ").partition(":")
        if not line.startswith("-- ") or not colon or not key.replace("_", "").islower() or " " in key:
            break
        keys.setdefault(key, []).append(value.strip())
    return keys


def models(folder):
    """(name, sql) of every model, each after those it reads."""
    waiting = {}
    for file in sorted(folder.glob("*/*.sql")):
        text = file.read_text()
        keys = header(text)
        reads = ",".join(keys["inputs"] + keys.get("lookups", []))
        waiting[keys["model"][0]] = text, {name.strip() for name in reads.split(",")}
    while waiting:
        name = next(name for name, (_, reads) in waiting.items() if not reads & waiting.keys())
        yield name, waiting.pop(name)[0]


def rows(source):
    """Column names, and rows in an order that a last bit of a computed number does not change."""
    table = source.to_table()
    columns = sorted(table.column_names)
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            micros = table[field.name].cast(pa.timestamp("us", field.type.tz)).cast(pa.int64())
            table = table.set_column(index, field.name, micros)
    inputs = [name for name in ("lat", "lon") if name in columns]
    exact = [name for name in columns if not pa.types.is_floating(table.schema.field(name).type)]
    found = []
    for row in table.to_pylist():
        row = {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}
        found.append((tuple((row[n] is not None, str(row[n])) for n in exact + inputs), row))
    found.sort(key=lambda pair: pair[0])
    return columns, [row for _, row in found]


def equal(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-9 * max(abs(a), 1.0)
    return a == b


def compare(name, ours, theirs):
    (our_columns, ours), (their_columns, theirs) = ours, theirs
    if our_columns != their_columns:
        sys.exit(f"{name}: the lake has the columns {our_columns}, Spark {their_columns}")
    if len(ours) != len(theirs):
        sys.exit(f"{name}: the lake has {len(ours)} rows, Spark {len(theirs)}")
    for our, their in zip(ours, theirs):
        for column in our_columns:
            if not equal(our[column], their[column]):
                sys.exit(f"{name}: {column} is {our[column]!r} in the lake and {their[column]!r} in Spark:\n{our}\n{their}")
    print(f"{name}: {len(ours)} rows agree in {len(our_columns)} columns", flush=True)


def main():
    lake, folder = Path(sys.argv[1]), Path(sys.argv[2])
    home = tempfile.TemporaryDirectory(prefix="lastmile-spark-")
    warehouse = Path(home.name)
    builder = SparkSession.builder.master("local[2]").appName("lastmile models")
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(warehouse),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.local.dir": str(warehouse),
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    print(f"Spark {spark.version}", flush=True)
    cell = lambda lon, lat, resolution: None if lon is None or lat is None else h3.latlng_to_cell(lat, lon, resolution)
    spark.udf.register("h3_longlatash3string", cell, "string")
    for layer in ("raw", "treated", "final"):
        spark.sql(f"CREATE DATABASE {layer}")
    for table in RAW:
        spark.read.parquet(str(lake / "raw" / table)).write.saveAsTable(f"raw.{table}")
    for name, sql in models(folder):
        if "--wrong" in sys.argv:
            sql = sql.replace("6371008.8", "6371002.4")
        spark.sql(sql).write.saveAsTable(name)
        layer, table = name.split(".")
        theirs = dataset.dataset(warehouse / f"{layer}.db" / table, format="parquet")
        partition = header(sql)["partition"][0]
        kept = pa.schema([pa.field(partition, pa.string())])
        if not any((lake / layer / table).glob(f"{partition}=*")):
            if theirs.count_rows():
                sys.exit(f"{name}: the lake has no rows, Spark {theirs.count_rows()}")
            print(f"{name}: no rows", flush=True)
            continue
        hive = dataset.partitioning(kept, flavor="hive")
        compare(name, rows(dataset.dataset(lake / layer / table, format="parquet", partitioning=hive)), rows(theirs))
    spark.stop()


if __name__ == "__main__":
    main()
