#!/usr/bin/env python3
"""Reads a lake with other makers' programs and compares it with the events it was made from.

usage: readers.py LAKE EVENTS.jsonl.gz [RADIUS_M]

DuckDB and pyarrow read the Hive folders as plain Parquet; the `deltalake` package, where it is installed, reads
the Delta logs. All must agree in counts with each other and with the events. The driven metres are computed anew
from the events, here and in no other way than by the formula, and must agree with the lake to 1e-9, in total
and for each vehicle. With another radius than the lake's they must not: that is how this check is checked. Prints what was compared; exits 1 at the first disagreement.
"""

import gzip
import json
import math
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow.dataset as dataset

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
    lake, events = Path(sys.argv[1]), sys.argv[2]
    lines, points = read_events(events)
    updates = sum(len(track) for track in points.values())
    dates = len({point[0].date() for track in points.values() for point in track})
    steps = {}
    for vehicle, track in points.items():
        track.sort()
        steps[vehicle] = math.fsum(haversine_m(*a[1:], *b[1:]) for a, b in zip(track, track[1:]))
    total = math.fsum(steps.values())

    db = duckdb.connect()
    tables = {
        "raw/fleet_event": ("event_date", lines),
        "raw/deliverer_location": ("event_date", updates),
        "treated/deliverer_location": ("event_date", updates),
        "final/vehicle_position_data": ("date", updates),
        "final/deliverer_location_aggregated": ("date", dates),
    }
    try:
        from deltalake import DeltaTable
    except ImportError:
        DeltaTable = None
        print("deltalake is not installed: the Delta logs are not read")
    for table, (partition, expected) in tables.items():
        glob = str(lake / table / f"{partition}=*" / "**" / "*.parquet")
        source = f"read_parquet('{glob}', hive_partitioning = true)"
        check(f"{table} by DuckDB", db.sql(f"SELECT count(*) FROM {source}").fetchall()[0][0], expected)
        hive = dataset.dataset(lake / table, format="parquet", partitioning="hive")
        check(f"{table} by pyarrow", hive.count_rows(), expected)
        if DeltaTable is not None:
            rows = DeltaTable(str(lake / table)).to_pyarrow_dataset().count_rows()
            check(f"{table} by deltalake", rows, expected)

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
