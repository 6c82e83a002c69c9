#!/usr/bin/env python3
"""Reads tables whose first commits are gone, so that only their checkpoints tell, with other makers' programs.

usage: checkpoints.py LAKE

Prints for each table its files, rows and transactions by the `deltalake` package, and the rows and the sum of sequences
by it and by pyarrow over the plain files, as JSON. Then lets `deltalake` write a checkpoint of its own.
"""

import json
import sys
from pathlib import Path

import pyarrow.compute as compute
import pyarrow.dataset as dataset
from deltalake import DeltaTable

lake, found = Path(sys.argv[1]), {}
for log in sorted(lake.glob("raw/*/_delta_log")):
    table = DeltaTable(str(log.parent))
    rows = table.to_pyarrow_table()
    files = [str(file) for file in log.parent.rglob("*.parquet") if "_delta_log" not in file.parts]
    plain = dataset.dataset(files, format="parquet").to_table(columns=["writer_seq"])
    assert table.protocol().min_reader_version == 1, table.protocol()
    found[log.parent.name] = {
        "version": table.version(),
        "files": len(table.file_uris()),
        "rows": rows.num_rows,
        "plain_rows": plain.num_rows,
        "sum": compute.sum(rows["writer_seq"]).as_py(),
        "plain_sum": compute.sum(plain["writer_seq"]).as_py(),
    }
    table.create_checkpoint()
print(json.dumps(found))
