#!/usr/bin/env python3
"""Runs generated statements, from standard input, in an engine and prints the rows of the tables named.

usage: engines.py duckdb|clickhouse|spark|hive|glue LAYER.TABLE...

Prints `layer.table rows` for each; for Glue, `layer.table location`. Exits non-zero when a statement fails.
"""

import json
import os
import sys
import tempfile


def statements(text):
    for statement in text.split(";\n"):
        lines = [line for line in statement.splitlines() if not line.startswith("--")]
        if any(line.strip() for line in lines):
            yield "\n".join(lines)


def duckdb_rows(text, tables):
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(text)
    for table in tables:
        layer, name = table.split(".")
        yield table, connection.execute(f'SELECT count(*) FROM "{layer}"."{name}"').fetchone()[0]


def clickhouse_rows(text, tables):
    from chdb.session import Session

    # Files are read below the server's folder for them; here, everywhere.
    os.chdir("/")
    with tempfile.TemporaryDirectory() as folder:
        session = Session(folder)
        for statement in statements(text):
            session.query(statement)
        for table in tables:
            layer, name = table.split(".")
            yield table, int(str(session.query(f"SELECT count() FROM `{layer}`.`{name}`", "TSV")))
        session.close()


def spark_rows(text, tables, hive):
    from pyspark.sql import SparkSession

    with tempfile.TemporaryDirectory() as folder:
        builder = (
            SparkSession.builder.master("local[1]")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.warehouse.dir", f"{folder}/warehouse")
            .config("spark.driver.extraJavaOptions", f"-Dderby.system.home={folder}")
            .config("spark.driver.memory", "1g")
        )
        if hive:
            url = f"jdbc:derby:;databaseName={folder}/metastore;create=true"
            builder = builder.config("spark.hadoop.javax.jdo.option.ConnectionURL", url).enableHiveSupport()
        spark = builder.getOrCreate()
        for statement in statements(text):
            spark.sql(statement)
        for table in tables:
            layer, name = table.split(".")
            yield table, spark.sql(f"SELECT count(*) FROM `{layer}`.`{name}`").first()[0]
        spark.stop()


def glue_rows(text, tables):
    import boto3
    from moto import mock_aws

    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="eu-central-1")
    with mock_aws():
        glue = boto3.client("glue")
        declared = json.loads(text)["tables"]
        for database in sorted({table["database"] for table in declared.values()}):
            glue.create_database(DatabaseInput={"Name": database})
        # As deploy/terraform does.
        for table in declared.values():
            columns = [{"Name": c["name"], "Type": c["type"]} for c in table["columns"]]
            keys = [{"Name": c["name"], "Type": c["type"]} for c in table["partition_keys"]]
            glue.create_table(
                DatabaseName=table["database"],
                TableInput={
                    "Name": table["name"],
                    "Description": table["description"],
                    "TableType": "EXTERNAL_TABLE",
                    "PartitionKeys": keys,
                    "StorageDescriptor": {
                        "Columns": columns,
                        "Location": f"s3://example/fleet/{table['folder']}/",
                    },
                },
            )
        for name in tables:
            table = declared[name]
            found = glue.get_table(DatabaseName=table["database"], Name=table["name"])["Table"]
            assert len(found["PartitionKeys"]) == len(table["partition_keys"]) > 0
            yield name, found["StorageDescriptor"]["Location"]


def main():
    engine, tables = sys.argv[1], sys.argv[2:]
    text = sys.stdin.read()
    found = {
        "duckdb": lambda: duckdb_rows(text, tables),
        "clickhouse": lambda: clickhouse_rows(text, tables),
        "spark": lambda: spark_rows(text, tables, hive=False),
        "hive": lambda: spark_rows(text, tables, hive=True),
        "glue": lambda: glue_rows(text, tables),
    }[engine]()
    # Engines print what they like on the way.
    lines = [f"{name} {value}" for name, value in found]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
