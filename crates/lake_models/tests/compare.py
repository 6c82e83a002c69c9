"""Compares a table of a lake with the rows it should hold."""

import sys


def lake_rows(folder):
    import pyarrow as pa
    import pyarrow.dataset as dataset

    table = dataset.dataset(folder, format="parquet", partitioning="hive").to_table() if any(folder.glob("*=*")) else None
    if table is None:
        return []
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(index, field.name, table[field.name].cast(pa.int64()))
    return table.to_pylist()


def equal(found, expected):
    if isinstance(expected, float) and isinstance(found, float):
        return abs(found - expected) <= 1e-9 * max(abs(expected), 1.0)
    return found == expected


def compare(lake, table, key, expected):
    expected = list(expected)
    wanted = {tuple(row[c] for c in key): row for row in expected}
    if len(wanted) != len(expected):
        sys.exit(f"{table}: {key} is no key of what is expected")
    found = lake_rows(lake / table)
    if len(found) != len(wanted):
        sys.exit(f"{table}: {len(found)} rows, expected {len(wanted)}")
    for row in found:
        want = wanted.get(tuple(row[c] for c in key))
        if want is None:
            sys.exit(f"{table}: {row} is not expected")
        for column, value in want.items():
            if not equal(row[column], value):
                sys.exit(f"{table} {row}: {column} is {row[column]!r}, expected {value!r}")
    columns = len(expected[0]) if expected else 0
    print(f"{table}: {len(found)} rows agree in {columns} columns")
