#!/usr/bin/env python3
"""Reads a lake with other makers' programs and compares it with the events it was made from.

usage: readers.py LAKE [EVENTS.jsonl.gz [RADIUS_M]]

DuckDB, pyarrow and, where they are installed, Polars and chdb (ClickHouse) read the Hive folders of every table as
plain Parquet; the `deltalake` package, Polars and chdb read the Delta logs. All must agree in rows and sums of
every partition with each other, and in rows with the events, if given. The driven metres are computed anew from
the events, here and in no other way than by the formula, and must agree with the lake to 1e-9, in total and for each
vehicle. With another radius than the lake's they must not: that is how this check is checked. Prints what was
compared; exits 1 at the first disagreement.
"""

import gzip
import json
import math
import os
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as dataset


def optional(package, what):
    try:
        return __import__(package)
    except ImportError:
        print(f"{package} is not installed: {what}")
        return None


chdb = optional("chdb", "ClickHouse does not read the lake")
deltalake = optional("deltalake", "the Delta logs are not read")
polars = optional("polars", "Polars does not read the lake")

RADIUS_M = float(sys.argv[3]) if len(sys.argv) > 3 else 6371008.8
TOLERANCE = 1e-9


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found}, expected {expected}")
    print(f"{what}: {found}")


def close(what, found, expected, quiet=False):
    error = abs(found - expected) / max(abs(expected), 1e-300)
    if expected == 0:
        error = abs(found)
    if not error <= TOLERANCE:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}, relative error {error:.3g}")
    if not quiet:
        print(f"{what}: {found!r}, relative error {error:.3g}")


# Table -> partition column, and a column to sum up where it has a number.
TABLES = {
    "raw/deliverer_location": ("event_date", "lat"),
    "raw/fleet_event": ("event_date", "writer_seq"),
    "treated/deliverer_location": ("event_date", "lat"),
    "treated/operating_period": ("event_date", "writer_seq"),
    "treated/vehicle_event": ("event_date", "lat"),
    "treated/vehicle_life": ("event_date", None),
    "final/deliverer_location_aggregated": ("date", "count_distinct_deliverers"),
    "final/delivery_trip": ("date", "distance_m"),
    "final/operating_period_distance": ("date", "driven_m"),
    "final/speed_by_hour_and_cell": ("date", "mean_speed_mps"),
    "final/travel_time_between_zones": ("date", "mean_s"),
    "final/vehicle_break": ("date", None),
    "final/vehicle_day": ("date", "moving_s"),
    "final/vehicle_operation_distance": ("date", "driven_m"),
    "final/vehicle_operation_metadata": ("date", None),
    "final/vehicle_position_data": ("date", "driven_meters"),
}


def of_sql(run, source, partition, column):
    sums = f"sum({column})" if column else "0"
    rows = run(f"SELECT {partition} AS part, count(*) AS n, {sums} AS total FROM {source} GROUP BY {partition}")
    return {str(part): (int(n), float(total)) for part, n, total in rows}


def of_arrow(source, partition, column):
    table = source.to_table(columns=[partition] + ([column] if column else []))
    if pa.types.is_dictionary(table[partition].type):
        table = table.set_column(0, partition, table[partition].cast(pa.string()))
    aggregates = [(partition, "count")] + ([(column, "sum")] if column else [])
    groups = table.group_by(partition).aggregate(aggregates).to_pylist()
    return {str(g[partition]): (g[f"{partition}_count"], float(g[f"{column}_sum"] if column else 0)) for g in groups}


def of_polars(source, partition, column):
    total = polars.col(column).sum() if column else polars.lit(0)
    rows = source.group_by(partition).agg(polars.len().alias("n"), total.alias("total")).collect().rows()
    return {str(part): (n, float(total)) for part, n, total in rows}


def clickhouse(sql):
    """Rows as ClickHouse gives them, all text."""
    return [line.split("\t") for line in str(chdb.query(sql, "TSV")).splitlines()]


def readings(folder, partition, column):
    """(engine, partition -> rows and sum) of every engine there is."""
    plain = str(folder / f"{partition}=*" / "**" / "*.parquet")
    db = duckdb.connect()
    source = f"read_parquet('{plain}', hive_partitioning = true)"
    yield "DuckDB", of_sql(lambda sql: db.sql(sql).fetchall(), source, partition, column)
    hive = dataset.dataset(folder, format="parquet", partitioning="hive")
    yield "pyarrow", of_arrow(hive, partition, column)
    if polars:
        yield "Polars", of_polars(polars.scan_parquet(plain, hive_partitioning=True), partition, column)
    if chdb:
        setting = " SETTINGS use_hive_partitioning = 1"
        run = lambda sql: clickhouse(sql + setting)
        yield "ClickHouse", of_sql(run, f"file('{plain}', Parquet)", partition, column)
    if deltalake:
        delta = deltalake.DeltaTable(str(folder))
        yield "deltalake", of_arrow(delta.to_pyarrow_dataset(), partition, column)
        if polars:
            yield "Polars, Delta", of_polars(polars.scan_delta(str(folder)), partition, column)
    if chdb:
        yield "ClickHouse, Delta", of_sql(clickhouse, f"deltaLakeLocal('{folder}')", partition, column)


def read_everywhere(lake):
    """Rows of each table, as every engine counts them."""
    counts = {}
    for table, (partition, column) in TABLES.items():
        if not any((lake / table).glob(f"{partition}=*")):
            counts[table] = 0
            print(f"{table}: no rows")
            continue
        found = dict(readings(lake / table, partition, column))
        (first, expected), *others = found.items()
        for engine, got in others:
            is_same = got.keys() == expected.keys() and all(
                got[p][0] == expected[p][0] and math.isclose(got[p][1], expected[p][1], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
                for p in got
            )
            if not is_same:
                sys.exit(f"{table}: {engine} finds {got}, {first} {expected}")
        counts[table] = sum(n for n, _ in expected.values())
        print(f"{table}: {counts[table]} rows in {len(expected)} partitions by {'; '.join(found)}")
    return counts


def haversine_m(lat1, lon1, lat2, lon2):
    lat1, lon1, lat2, lon2 = map(math.radians, (lat1, lon1, lat2, lon2))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * RADIUS_M * math.asin(min(1.0, math.sqrt(h)))


def read_events(path):
    lines, points = 0, defaultdict(list)
    with gzip.open(path, "rt") as events:
        for line in events:
            if not line.strip():
                continue
            event = json.loads(line)
            lines += 1
            location = event["data"].get("location") or {}
            if event["event"] == "update" and location.get("lat") is not None and location.get("lng") is not None:
                at = datetime.fromisoformat(location.get("at", event["at"]).replace("Z", "+00:00"))
                points[event["data"]["id"]].append((at, location["lat"], location["lng"]))
    return lines, points


def main():
    lake = Path(sys.argv[1]).resolve()
    # ClickHouse reads Delta tables below its own folder only, which is the working one.
    os.chdir(lake)
    counts = read_everywhere(lake)
    if len(sys.argv) > 2:
        compare(lake, counts, sys.argv[2])


def compare(lake, counts, events):
    lines, points = read_events(events)
    updates = sum(len(track) for track in points.values())
    dates = len({point[0].date() for track in points.values() for point in track})
    steps = {}
    for vehicle, track in points.items():
        track.sort()
        steps[vehicle] = math.fsum(haversine_m(*a[1:], *b[1:]) for a, b in zip(track, track[1:]))
    total = math.fsum(steps.values())

    db = duckdb.connect()
    expected = {
        "raw/fleet_event": lines,
        "raw/deliverer_location": updates,
        "treated/deliverer_location": updates,
        "final/vehicle_position_data": updates,
        "final/deliverer_location_aggregated": dates,
    }
    for table, rows in expected.items():
        check(f"{table} by the events", counts[table], rows)

    glob = str(lake / "final/vehicle_position_data/date=*/*.parquet")
    found = dict(db.sql(f"SELECT vehicle_id, sum(driven_meters) FROM '{glob}' GROUP BY 1").fetchall())
    check("vehicles", len(found), len(steps))
    for vehicle, expected in steps.items():
        close(vehicle, found[vehicle], expected, quiet=True)
    close("driven metres by DuckDB", math.fsum(found.values()), total)
    hive = dataset.dataset(lake / "final/vehicle_position_data", format="parquet", partitioning="hive")
    metres = hive.to_table(columns=["driven_meters"])["driven_meters"].to_pylist()
    close("driven metres by pyarrow", math.fsum(metres), total)


if __name__ == "__main__":
    main()
