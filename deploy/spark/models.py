#!/usr/bin/env python3
"""Runs the lake's models on Spark, for lakes one machine has outgrown.

usage: spark-submit models.py --job FOLDER --output URL [--select NAME]... [--from D] [--to D]

FOLDER is what `lake_ingest models --engine spark --job FOLDER` writes: the models' SQL, which is that DataFusion runs,
unchanged, and tables.sql, which says where raw is. `lake_ingest models --engine spark` writes it and submits this file;
emr_step.sh does so on EMR.

Each model is written as Parquet in Hive partitions to OUTPUT/layer/name. OUTPUT is not the lake itself: the tables there
have Delta logs, whose only writer is `lake_ingest`. With --from and --to only those partitions are replaced. The checks a
model declares must hold before its result takes the place of the one before.

The one function Spark lacks outside Databricks, h3_longlatash3string, is registered from the `h3` package where that
is installed; without it the models that use it fail, and say so.

Exit status: 0, or 1 when a model or a check failed; the tables before it stand.
"""

import argparse
import sys
from pathlib import Path

LAYERS = ("raw", "treated", "final")
NAMED_ROWS = 5
TOLERANCE = 1e-9


def header(text):
    """Key -> values of the `-- key: value` lines at the beginning."""
    keys = {}
    for line in text.splitlines():
        key, colon, value = line.removeprefix("-- ").partition(": ")
        if not line.startswith("-- ") or not colon or not key.replace("_", "").islower() or " " in key:
            break
        keys.setdefault(key, []).append(value.strip())
    return keys


def names(values):
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def models(folder):
    """(name, sql) of every model, each after those it reads."""
    waiting = {}
    for file in sorted(Path(folder).glob("*/*.sql")):
        text = file.read_text(encoding="utf-8")
        keys = header(text)
        waiting[keys["model"][0]] = text, set(names(keys["inputs"] + keys.get("lookups", [])))
    while waiting:
        ready = [name for name, (_, reads) in waiting.items() if not reads & waiting.keys()]
        if not ready:
            raise ValueError(f"these models read each other: {', '.join(waiting)}")
        yield ready[0], waiting.pop(ready[0])[0]


def offending(spark, keys, view):
    """(check, rows) of each check that does not hold."""
    quoted = lambda columns: [f"`{column}`" for column in columns]
    for value in keys.get("not_null", []):
        nulls = " OR ".join(f"{column} IS NULL" for column in quoted(names([value])))
        yield f"not_null: {value}", spark.sql(f"SELECT * FROM {view} WHERE {nulls}")
    for value in keys.get("unique", []):
        key = ", ".join(quoted(names([value])))
        sql = f"SELECT {key}, COUNT(*) AS rows FROM {view} GROUP BY {key} HAVING COUNT(*) > 1"
        yield f"unique: {value}", spark.sql(sql)
    for value in keys.get("accepted", []):
        yield f"accepted: {value}", spark.sql(f"SELECT * FROM {view} WHERE ({value}) IS NOT TRUE")
    for value in keys.get("references", []):
        column, target = (part.strip() for part in value.split("->"))
        table, target = target.rsplit(".", 1)
        sql = (
            f"SELECT * FROM {view} WHERE `{column}` IS NOT NULL AND NOT EXISTS "
            f"(SELECT 1 FROM {table} AS target WHERE target.`{target}` = {view}.`{column}`)"
        )
        yield f"references: {value}", spark.sql(sql)
    pairs = [("COUNT(*)", query) for query in keys.get("same_rows", [])]
    pairs += [tuple(part.strip() for part in value.split("==", 1)) for value in keys.get("same", [])]
    for aggregate, query in pairs:
        expected = f"COALESCE(CAST(({query}) AS DOUBLE), 0)"
        found = f"COALESCE(CAST({aggregate} AS DOUBLE), 0)"
        numbers = f"SELECT {expected} AS expected, {found} AS found FROM {view}"
        sql = f"SELECT * FROM ({numbers}) WHERE ABS(expected - found) > {TOLERANCE} * ABS(expected)"
        yield f"same: {aggregate} == {query}", spark.sql(sql)


def check(spark, name, keys, view):
    for what, rows in offending(spark, keys, view):
        rows = rows.limit(NAMED_ROWS).collect()
        if rows:
            listed = "\n".join(f"  {row.asDict()}" for row in rows)
            raise ValueError(f"{name}: the check {what} does not hold, for example:\n{listed}")


def register(spark):
    try:
        import h3
    except ImportError:
        return
    cell = lambda lon, lat, resolution: (
        None if lon is None or lat is None else h3.latlng_to_cell(lat, lon, int(resolution))
    )
    spark.udf.register("h3_longlatash3string", cell, "string")


def statements(text):
    for statement in text.split(";\n"):
        lines = [line for line in statement.splitlines() if not line.startswith("--")]
        if any(line.strip() for line in lines):
            yield "\n".join(lines)


def exists(spark, location):
    path = spark._jvm.org.apache.hadoop.fs.Path(location)
    return path.getFileSystem(spark._jsc.hadoopConfiguration()).exists(path)


def run(spark, job, output, select=(), first=None, last=None):
    """Runs the models and returns (name, rows written) of each."""
    job = Path(job)
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    spark.conf.set("spark.sql.sources.partitionOverwriteMode", "dynamic" if first or last else "static")
    register(spark)
    for layer in LAYERS:
        spark.sql(f"CREATE DATABASE IF NOT EXISTS {layer}")
    for statement in statements((job / "tables.sql").read_text(encoding="utf-8")):
        spark.sql(statement)
    written = []
    for name, sql in models(job):
        keys = header(sql)
        layer, table = name.split(".")
        location = f"{output}/{layer}/{table}"
        if not select or name in select or layer in select:
            partition = keys["partition"][0]
            # Computed once: the checks and the files are of the same rows.
            result = spark.sql(sql).persist()
            view = f"result_of_{layer}_{table}"
            result.createOrReplaceTempView(view)
            check(spark, name, keys, view)
            bounds = [f"`{partition}` >= DATE '{first}'"] if first else []
            bounds += [f"`{partition}` <= DATE '{last}'"] if last else []
            kept = result.where(" AND ".join(bounds)) if bounds else result
            order = [partition] + [column for column in names(keys["order"]) if column != partition]
            rows = kept.count()
            files = kept.repartition(partition).sortWithinPartitions(*order)
            files.write.mode("overwrite").partitionBy(partition).parquet(location)
            result.unpersist()
            written.append((name, rows))
            print(f"{name}: {rows} rows", flush=True)
            schema = result.schema
        else:
            # What is left out was written by a run before; without it what reads it would come out empty.
            if not exists(spark, location):
                raise ValueError(f"{name} is left out and {location} is not there; run it once")
            schema = spark.sql(sql).schema
        # The schema is stated: there may be no file to find it in, and types of partitions are not guessed.
        spark.sql(f"DROP TABLE IF EXISTS {name}")
        columns = ", ".join(f"`{field.name}` {field.dataType.simpleString()}" for field in schema)
        partition = keys["partition"][0]
        spark.sql(f"CREATE TABLE {name} ({columns}) USING parquet PARTITIONED BY (`{partition}`) LOCATION '{location}'")
        spark.sql(f"MSCK REPAIR TABLE {name}")
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--job", required=True, help="folder with tables.sql, treated/*.sql and final/*.sql")
    parser.add_argument("--output", required=True, help="where results go, beside the lake's own tables: a URL")
    parser.add_argument("--select", action="append", default=[], help="a layer or a model; may be repeated [default: all]")
    parser.add_argument("--from", dest="first", metavar="DATE", help="first date to replace")
    parser.add_argument("--to", dest="last", metavar="DATE", help="last date to replace")
    options = parser.parse_args()
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("lastmile models").getOrCreate()
    try:
        run(spark, options.job, options.output.rstrip("/"), options.select, options.first, options.last)
    except Exception as error:
        sys.exit(f"failed: {error}")
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
