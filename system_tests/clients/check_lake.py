#!/usr/bin/env python3
"""Checks a lake folder against the events it was made from, with code of its own.

Reads the sample of fleet events (gzip, one JSON object per line), computes what the lake must hold, and
reads the lake with DuckDB, with pyarrow and through its Delta logs. Prints one JSON object; exit status 1
when anything differs.

    check_lake.py LAKE_FOLDER SAMPLE.jsonl.gz
"""

import argparse
import gzip
import json
import math
import sys
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.dataset
from deltalake import DeltaTable

EARTH_RADIUS_M = 6371008.8
RELATIVE_TOLERANCE = 1e-9


def haversine_m(lat1, lon1, lat2, lon2):
    lat1, lon1, lat2, lon2 = map(math.radians, (lat1, lon1, lat2, lon2))
    half = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(half))


def driven_m(points):
    """Total metres of points (vehicle, time, lat, lon): along each vehicle's points in time order."""
    tracks = defaultdict(list)
    for vehicle, time, lat, lon in points:
        tracks[vehicle].append((time, lat, lon))
    legs = []
    for track in tracks.values():
        track.sort()
        legs += [haversine_m(*a[1:], *b[1:]) for a, b in zip(track, track[1:])]
    return math.fsum(legs)


def read_sample(path):
    """Returns (points, number of events by kind); times in whole microseconds of UTC."""
    points, kinds = [], defaultdict(int)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            kinds[event["event"]] += 1
            location = event["data"].get("location") or {}
            if event["event"] == "update" and location.get("lat") is not None:
                points.append((event["data"]["id"], micros(location["at"]), location["lat"], location["lng"]))
    return points, dict(kinds)


def micros(text):
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def parquet_files(folder):
    return sorted(str(path) for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts)


def raw_points(folder):
    """Reads the raw positions with pyarrow."""
    table = pyarrow.dataset.dataset(parquet_files(folder), format="parquet").to_table(
        columns=["deliverer_id", "event_time", "lat", "lon"]
    )
    vehicles = table["deliverer_id"].to_pylist()
    times = table["event_time"].cast(pyarrow.timestamp("us", tz="UTC")).cast("int64").to_pylist()
    return list(zip(vehicles, times, table["lat"].to_pylist(), table["lon"].to_pylist()))


def check(lake, sample):
    points, kinds = read_sample(sample)
    found, wrong = {}, []

    def expect(name, value, expected):
        found[name] = value
        close = isinstance(expected, float) and math.isclose(value, expected, rel_tol=RELATIVE_TOLERANCE)
        if value != expected and not close:
            wrong.append(f"{name} is {value}, expected {expected}")

    events = sum(kinds.values())
    positions, fleet = lake / "raw/deliverer_location", lake / "raw/fleet_event"
    for name, folder, rows in (("positions", positions, len(points)), ("fleet_events", fleet, events)):
        files = parquet_files(folder)
        if not files:
            wrong.append(f"{folder} holds no Parquet file")
            continue
        count = duckdb.sql("select count(*) from read_parquet($files)", params={"files": files}).fetchall()[0][0]
        expect(f"{name} by DuckDB", count, rows)
        expect(f"{name} by pyarrow", pyarrow.dataset.dataset(files, format="parquet").count_rows(), rows)
        expect(f"{name} by the Delta log", delta_rows(folder), rows)
    if wrong:
        return found, wrong

    expect("fleet events that are no updates", events_but_updates(fleet), events - kinds["update"])
    expected_m = driven_m(points)
    stored = raw_points(positions)
    expect("raw points are the sample's", sorted(stored) == sorted(points), True)
    expect("driven metres from raw", driven_m(stored), expected_m)
    files = DeltaTable(str(lake / "final/vehicle_position_data")).file_uris()
    total, rows = duckdb.sql(
        "select sum(driven_meters), count(*) from read_parquet($files)", params={"files": files}
    ).fetchall()[0]
    expect("driven metres by the final table", total, expected_m)
    expect("rows of the final table", rows, len(points))
    return found, wrong


def delta_rows(folder):
    files = DeltaTable(str(folder)).file_uris()
    return pyarrow.dataset.dataset(files, format="parquet").count_rows()


def events_but_updates(folder):
    return duckdb.sql(
        "select count(*) from read_parquet($glob, hive_partitioning = true) where event <> 'update'",
        params={"glob": f"{folder}/event_date=*/**/*.parquet"},
    ).fetchall()[0][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("lake", type=Path)
    parser.add_argument("sample", type=Path)
    arguments = parser.parse_args()
    found, wrong = check(arguments.lake, arguments.sample)
    print(json.dumps({"found": found, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
