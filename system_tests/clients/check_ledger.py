#!/usr/bin/env python3
"""Compares a publisher's ledger of acknowledged positions with the SQLite file of the stopped pipeline.

Standard library only; it shares no code with the pipeline and reads the file's tables directly. Prints
one JSON object and exits with 0 whatever it finds: what is right is for the caller to say.

    check_ledger.py LEDGER store.sqlite
"""

import argparse
import json
import sqlite3
from collections import Counter
from pathlib import Path

EXAMPLES = 10

POSITIONS = """
    SELECT o.order_id, d.deliverer_id, p.event_us, p.discriminator
    FROM positions p
    LEFT JOIN last_positions o ON o.order_ref = p.order_ref
    LEFT JOIN last_by_deliverer d ON d.deliverer_ref = p.deliverer_ref
"""


def read_ledger(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            yield entry["order_id"], entry["deliverer_id"], entry["event_time_us"], entry["seq"]


def greatest(identities, key):
    """Returns the greatest (event time, counter) of each order or deliverer."""
    last = {}
    for identity in identities:
        recency = identity[2:]
        last[identity[key]] = max(last.get(identity[key], recency), recency)
    return last


def wrong_last(connection, table, column, identities, key):
    """Counts the acknowledged orders or deliverers whose last position is not their greatest."""
    stored = {
        row[0]: row[1:]
        for row in connection.execute(f"SELECT {column}, event_us, discriminator FROM {table}")
    }
    return sum(stored.get(name) != recency for name, recency in greatest(identities, key).items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("store", type=Path)
    arguments = parser.parse_args()
    acked = set(read_ledger(arguments.ledger))
    connection = sqlite3.connect(f"{arguments.store.resolve().as_uri()}?mode=ro", uri=True)
    stored = Counter(tuple(row) for row in connection.execute(POSITIONS))
    lost = sorted(acked - stored.keys(), key=lambda identity: identity[2:])
    counted = connection.execute("SELECT positions FROM state").fetchone()[0]
    result = {
        "acked": len(acked),
        "stored": sum(stored.values()),
        "counted": counted,
        "lost": len(lost),
        "counted_twice": sum(stored.values()) - len(stored),
        "never_acked": len(stored.keys() - acked),
        "wrong_last": wrong_last(connection, "last_positions", "order_id", stored, 0)
        + wrong_last(connection, "last_by_deliverer", "deliverer_id", stored, 1),
        "damage": [row[0] for row in connection.execute("PRAGMA integrity_check(5)") if row[0] != "ok"],
        "examples": [json.dumps(identity) for identity in lost[:EXAMPLES]],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
