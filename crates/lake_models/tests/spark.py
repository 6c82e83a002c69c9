#!/usr/bin/env python3
"""Runs every model on Spark over a lake's raw tables and compares all rows with those the lake has.

usage: spark.py LAKE MODELS [--wrong]

Spark runs them as users have it run them, by deploy/spark/models.py: the SQL is that of the files, unchanged, and each
model reads what Spark itself made of the models before it. Numbers must agree to 1e-9 of their value or of one unit,
everything else exactly. With `--wrong` the earth is taken smaller by a part in a million, which must be noticed. Exits 1
at the first difference.
"""

import os
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path

os.environ["TZ"] = "UTC"
os.environ["PYSPARK_PYTHON"] = sys.executable

import pyarrow as pa
import pyarrow.dataset as dataset
from pyspark.sql import SparkSession

sys.path.insert(0, str(Path(__file__).parents[3] / "deploy" / "spark"))
import models

RAW = ("deliverer_location", "fleet_event")


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
    output, job = Path(home.name) / "output", Path(home.name) / "job"
    shutil.copytree(folder, job)
    for file in job.glob("*/*.sql") if "--wrong" in sys.argv else ():
        file.write_text(file.read_text().replace("6371008.8", "6371002.4"))
    known = [
        f"CREATE TABLE IF NOT EXISTS raw.{table} USING parquet LOCATION 'file://{lake}/raw/{table}';\nMSCK REPAIR TABLE raw.{table};\n"
        for table in RAW
    ]
    (job / "tables.sql").write_text("".join(known))
    builder = SparkSession.builder.master("local[2]").appName("lastmile models")
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": home.name,
        "spark.local.dir": home.name,
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    print(f"Spark {spark.version}", flush=True)
    try:
        models.run(spark, job, f"file://{output}", select=["final"])
        sys.exit("Spark ran the final layer without the treated one")
    except ValueError as error:
        if "is left out" not in str(error):
            raise
    written = dict(models.run(spark, job, f"file://{output}"))
    ran = dict(models.models(job))
    if set(written) != set(ran):
        sys.exit(f"Spark did not run {sorted(set(ran) - set(written))}")
    for name, sql in ran.items():
        layer, table = name.split(".")
        partition = models.header(sql)["partition"][0]
        if not any((lake / layer / table).glob(f"{partition}=*")):
            if written[name]:
                sys.exit(f"{name}: the lake has no rows, Spark {written[name]}")
            print(f"{name}: no rows", flush=True)
            continue
        hive = dataset.partitioning(pa.schema([pa.field(partition, pa.string())]), flavor="hive")
        both = [dataset.dataset(root / layer / table, format="parquet", partitioning=hive) for root in (lake, output)]
        compare(name, *map(rows, both))
    spark.stop()


if __name__ == "__main__":
    main()
