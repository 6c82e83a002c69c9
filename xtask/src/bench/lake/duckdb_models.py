#!/usr/bin/env python3
"""Runs the lake's models on DuckDB and prints what each took.

usage: duckdb_models.py JOB LAKE OUTPUT MODEL...

JOB is what `lake_ingest models --engine spark --job` writes. The SQL is unchanged; the functions of Spark's SQL that
DuckDB lacks are made beforehand. Each result is written as Parquet, sorted as declared, in Hive partitions, and read from
there by the models after it.
"""

import sys
import time
from pathlib import Path

import duckdb
import h3

sys.path.insert(0, str(Path(__file__).parents[4] / "deploy" / "spark"))
import models

FUNCTIONS = """
CREATE MACRO unix_micros(t) AS epoch_us(t);
"""


def view(name, folder):
    # Not a checkpoint of the Delta log, which ends in .parquet as well.
    files = f"{folder}/*=*/*.parquet"
    return f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)"


def main():
    job, lake, output = (Path(word) for word in sys.argv[1:4])
    duck = duckdb.connect()
    duck.sql("SET TimeZone = 'UTC'")
    duck.sql("SET preserve_insertion_order = false")
    duck.sql(f"SET temp_directory = '{output}-spill'")
    duck.sql(FUNCTIONS)
    cell = lambda lon, lat, resolution: h3.latlng_to_cell(lat, lon, resolution)
    duck.create_function("h3_longlatash3string", cell, ["DOUBLE", "DOUBLE", "INTEGER"], "VARCHAR")
    for layer in models.LAYERS:
        duck.sql(f"CREATE SCHEMA {layer}")
    duck.sql(view("raw.deliverer_location", lake / "raw" / "deliverer_location"))
    for name, sql in models.models(job):
        if name not in sys.argv[4:]:
            continue
        keys = models.header(sql)
        layer, table = name.split(".")
        folder = output / layer / table
        folder.mkdir(parents=True)
        partition = keys["partition"][0]
        order = [partition] + [column for column in models.names(keys["order"]) if column != partition]
        order = ", ".join(f'"{column}"' for column in order)
        begun = time.monotonic()
        duck.sql(f"CREATE TEMP VIEW result AS {sql}")
        options = f'FORMAT parquet, COMPRESSION zstd, PARTITION_BY ("{partition}"), WRITE_PARTITION_COLUMNS false'
        rows = duck.execute(f"COPY (SELECT * FROM result ORDER BY {order}) TO '{folder}' ({options})").fetchone()[0]
        took = time.monotonic() - begun
        duck.sql("DROP VIEW result")
        duck.sql(view(name, folder))
        print(f"{name}: {rows} rows, {took:.2f} s", flush=True)


if __name__ == "__main__":
    main()
