#!/usr/bin/env python3
"""Reads a lake in a bucket with other makers' programs and compares counts and sums with what is given.

usage: readers_s3.py ENDPOINT BUCKET/PREFIX EXPECTED

EXPECTED is JSON: table -> [partition column, summed column, rows, sum]. pyarrow reads the Hive folders as plain
Parquet, the `deltalake` package the Delta logs, both straight from the service. Exits 1 at the first difference.
"""

import json
import math
import os
import sys

import pyarrow.compute as compute
import pyarrow.dataset as dataset
from deltalake import DeltaTable
from pyarrow import fs

endpoint, root, expected = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
KEYS = {"access_key": "tester", "secret_key": "hunter2"}
service = fs.S3FileSystem(
    endpoint_override=endpoint.removeprefix("http://"), scheme="http", region="us-east-1", **KEYS
)
options = {
    "AWS_ENDPOINT_URL": endpoint,
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": KEYS["access_key"],
    "AWS_SECRET_ACCESS_KEY": KEYS["secret_key"],
}


def check(engine, table, rows, total, expected_rows, expected_total):
    if rows != expected_rows or not math.isclose(total, expected_total, rel_tol=1e-12, abs_tol=1e-9):
        sys.exit(f"{engine} {table}: {rows} rows, sum {total!r}; expected {expected_rows}, {expected_total!r}")
    print(f"{engine} {table}: {rows} rows, sum {total!r}")


for table, (partition, column, rows, total) in expected.items():
    paths = fs.FileSelector(f"{root}/{table}", recursive=True)
    files = [f.path for f in service.get_file_info(paths) if f"/{partition}=" in f.path and f.path.endswith(".parquet")]
    plain = dataset.dataset(files, filesystem=service, format="parquet").to_table(columns=[column])
    check("pyarrow", table, plain.num_rows, compute.sum(plain[column]).as_py(), rows, total)
    delta = DeltaTable(f"s3://{root}/{table}", storage_options=options).to_pyarrow_table(columns=[column])
    check("deltalake", table, delta.num_rows, compute.sum(delta[column]).as_py(), rows, total)
# Not through the interpreter's end: threads that pyarrow's S3 client leaves behind abort it there.
sys.stdout.flush()
os._exit(0)
