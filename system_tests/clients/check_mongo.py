#!/usr/bin/env python3
"""Compares a publisher's ledger of acknowledged positions with the MongoDB database they are stored in.

Reads the collections with pymongo and shares no code with the pipeline. The database is
LASTMILE_MONGODB_DATABASE of MONGODB_URI. With --lake it also places every row into the windows that the
offload recorded, and reads the lake's files with DuckDB and its Delta log: each row must be there once.
Prints one JSON object and exits with 0 whatever it finds: what is right is for the caller to say.

    check_mongo.py LEDGER [--lake FOLDER]
"""

import argparse
import json
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path

import pymongo

EXAMPLES = 10
HOUR_US = 3_600_000_000
# Between the parts of an _id.
SEPARATOR = "\x1f"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
TABLE = "deliverer_location"


def read_ledger(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            yield entry["order_id"], entry["deliverer_id"], entry["event_time_us"], entry["seq"]


def micros(moment):
    since = moment.replace(tzinfo=timezone.utc) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def event_time_us(document):
    """Reads an instant: a BSON date holds milliseconds, what is below stands beside it."""
    return micros(document["event_time"]) // 1_000 * 1_000 + document.get("event_time_us", 0)


def identity(document):
    return document.get("order_id"), document["deliverer_id"], event_time_us(document), document.get("seq")


def greatest(identities, key):
    """Returns the greatest (event time, counter) of each order or deliverer."""
    last = {}
    for one in identities:
        recency = one[2:]
        last[one[key]] = max(last.get(one[key], recency), recency)
    return last


def wrong_last(collection, identities, key):
    """Counts the orders or deliverers whose last position is not their greatest, or is nobody's."""
    stored = {document["_id"]: (event_time_us(document), document.get("seq")) for document in collection.find()}
    expected = greatest(identities, key)
    return sum(stored.get(name) != expected.get(name) for name in stored.keys() | expected.keys())


def unproven(rows, writers):
    """Returns complaints about rows that their writer has not committed: the lake would never take them."""
    committed = {writer["_id"]: writer["committed"][TABLE] for writer in writers}
    above = sum(seq > committed.get(writer, 0) for writer, seq in rows)
    twice = len(rows) - len(set(rows))
    complaints = [f"{above} rows are above their writer's committed sequence"] if above else []
    return complaints + ([f"{twice} rows share writer and sequence with another"] if twice else [])


def lead_complaints(documents, lists, carried):
    """Returns complaints about rows that no list, or nothing their deliverer carried, leads to."""
    named = {}
    for one in lists:
        writer, first = one["_id"].rsplit(SEPARATOR, 1)
        named.update(((writer, int(first) + i), name) for i, name in enumerate(one["rows"].split("\n")))
    unlisted = sum(named.get((document["w"], document["s"])) != document["_id"] for document in documents)
    noted = {tuple(one["_id"].split(SEPARATOR)[:3]) for one in carried}
    hours = {
        (document["deliverer_id"], f"{event_time_us(document) // HOUR_US:07x}", document["order_id"])
        for document in documents
        if "order_id" in document
    }
    complaints = [f"{unlisted} rows are in no list of their writer"] if unlisted else []
    return complaints + ([f"{len(hours - noted)} hours of orders lead from no deliverer"] if hours - noted else [])


def window_complaints(rows, windows):
    """Returns complaints about rows that are not in exactly one recorded window of their writer."""
    by_writer = defaultdict(list)
    for window in windows:
        if window["table"] == TABLE:
            by_writer[window["writer_id"]].append((window["to"], window["after"], window["state"]))
    complaints = []
    for writer, ranges in by_writer.items():
        ranges.sort()
        for before, (to, after, state) in zip([(0, 0, "")] + ranges, ranges):
            if after != before[0] or to < after:
                complaints.append(f"window {after}..{to} of {writer} does not follow {before[0]}")
            if state == "planned":
                complaints.append(f"window {after}..{to} of {writer} is {state}")
    outside = 0
    for writer, seq in rows:
        ranges = by_writer[writer]
        at = bisect_left(ranges, (seq,))
        outside += not (at < len(ranges) and ranges[at][1] < seq <= ranges[at][0])
    return complaints + ([f"{outside} rows are in no window"] if outside else [])


def lake_complaints(folder, stored):
    import duckdb
    from deltalake import DeltaTable

    table = folder / "raw" / TABLE
    rows = duckdb.sql(
        "select order_id, deliverer_id, epoch_us(event_time), seq from read_parquet($glob)",
        params={"glob": f"{table}/*=*/**/*.parquet"},
    ).fetchall()
    lake = Counter(rows)
    complaints = []
    if lake != stored:
        missing, more = sum((stored - lake).values()), sum((lake - stored).values())
        complaints.append(f"of {sum(stored.values())} stored rows the lake lacks {missing} and has {more} more")
    files = DeltaTable(str(table)).file_uris()
    committed = duckdb.sql("select count(*) from read_parquet($files)", params={"files": files}).fetchall()[0][0]
    if committed != len(rows):
        complaints.append(f"the Delta log knows {committed} rows, the files hold {len(rows)}")
    return complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--lake", type=Path)
    arguments = parser.parse_args()
    acked = set(read_ledger(arguments.ledger))
    with pymongo.MongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=30_000) as client:
        database = client[os.environ["LASTMILE_MONGODB_DATABASE"]]
        documents = list(database.positions.find())
        counted = database.positions.count_documents({})
        writers, windows = list(database.writers.find()), list(database.lake_windows.find())
        lead = lead_complaints(documents, database.position_lists.find(), database.carried.find())
        stored = Counter(identity(document) for document in documents)
        wrong = wrong_last(database.last_positions, stored, 0) + wrong_last(database.last_by_deliverer, stored, 1)
    rows = [(document["w"], document["s"]) for document in documents]
    damage = unproven(rows, writers) + lead
    if arguments.lake:
        damage += window_complaints(rows, windows) + lake_complaints(arguments.lake, stored)
    lost = sorted(acked - stored.keys(), key=lambda one: one[2:])
    result = {
        "acked": len(acked),
        "stored": sum(stored.values()),
        "counted": counted,
        "lost": len(lost),
        "counted_twice": sum(stored.values()) - len(stored),
        "never_acked": len(stored.keys() - acked),
        "wrong_last": wrong,
        "damage": damage,
        "examples": [json.dumps(one) for one in lost[:EXAMPLES]],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
