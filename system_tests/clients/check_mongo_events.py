#!/usr/bin/env python3
"""Compares the sample of fleet events with the MongoDB database it was published into.

Reads the sample (gzip, one JSON object per line) and the collections with pymongo; shares no code with the
pipeline. The database is LASTMILE_MONGODB_DATABASE of MONGODB_URI. Prints one JSON object; exit status 1
when anything differs.

    check_mongo_events.py SAMPLE.jsonl.gz
"""

import argparse
import gzip
import json
import os
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pymongo

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def micros(text):
    since = datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def stored_micros(document, field):
    """Reads an instant: a BSON date holds milliseconds, what is below stands beside it."""
    since = document[field].replace(tzinfo=timezone.utc) - EPOCH
    millis = (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000
    return millis * 1_000 + document.get(f"{field}_us", 0)


def read_sample(path):
    """Returns (events, points), each with how often it occurs; an event that occurs twice is one event."""
    events, points = Counter(), Counter()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            data = event["data"]
            key = (event["organization_id"], event["on"], event["event"], data["id"], micros(event["at"]))
            events[(*key, json.dumps(data, sort_keys=True))] += 1
            location = data.get("location")
            if location is not None:
                points[(data["id"], micros(location["at"]), location["lat"], location["lng"])] += 1
    return events, points


def stored_events(database):
    return Counter(
        (
            event["organization_id"],
            event["on"],
            event["event"],
            event["entity_id"],
            stored_micros(event, "at"),
            json.dumps(json.loads(event["data"]), sort_keys=True),
        )
        for event in database.fleet_events.find()
    )


def stored_points(database):
    return Counter(
        (point["deliverer_id"], stored_micros(point, "event_time"), point["lat"], point["lon"])
        for point in database.positions.find()
    )


def last_points(points):
    """Returns the time of each vehicle's newest point."""
    last = {}
    for vehicle, time, _lat, _lon in points:
        last[vehicle] = max(last.get(vehicle, time), time)
    return last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sample", type=Path)
    arguments = parser.parse_args()
    events, points = read_sample(arguments.sample)
    with pymongo.MongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=10_000) as client:
        database = client[os.environ["LASTMILE_MONGODB_DATABASE"]]
        found_events, found_points = stored_events(database), stored_points(database)
        found_last = {
            document["deliverer_id"]: stored_micros(document, "event_time")
            for document in database.last_by_deliverer.find()
        }
        rejected = database.rejected.count_documents({})
    wrong = []
    for name, found, expected in (
        ("the fleet events", found_events, events),
        ("the positions", found_points, points),
        ("the last positions of vehicles", found_last, last_points(points)),
        ("the number of dead letters", rejected, 0),
    ):
        if found != expected:
            differing = f"{len(found)} for {len(expected)}" if hasattr(found, "__len__") else found
            wrong.append(f"{name} are not the sample's: {differing}")
    print(json.dumps({"events": sum(found_events.values()), "positions": sum(found_points.values()), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
