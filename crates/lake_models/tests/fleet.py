#!/usr/bin/env python3
"""Prints the messages of an invented fleet, the same each time: {"topic": ..., "payload": ...} a line.

Three days of two organisations with vehicles that register late, twice or never; operating periods that are moved,
deleted, wrong or over midnight; breaks that overlap or touch; and orders that stop, are handed over, begin in the
middle or use an id again. Nothing comes in order, and some of it twice.
"""

import json
import math
import random
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def generate():
    rng = random.Random(20260101)
    first_day = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
    stamp = lambda us: (EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
    at = lambda day, hours: first_day + int((day * 24 + hours) * 3_600_000_000)

    lines = []

    def tell(topic, payload):
        lines.append(json.dumps({"topic": topic, "payload": payload}))

    def event(organization, on, what, us, data):
        tell(f"fleet/{organization}/events", {"event": what, "on": on, "at": stamp(us), "data": data, "organization_id": organization})

    def period(us, name, start, finish, organization="red", **more):
        event(organization, "operating_period", "create", us, {"id": name, "start": stamp(start), "finish": stamp(finish), **more})

    for day in range(3):
        period(at(0, 0.1), f"day-{day}", at(day, 8), at(day, 16))
        period(at(0, 0.1), f"day-{day}", at(day, 7), at(day, 15), "blue")
        period(at(0, 0.1), f"lunch-{day}", at(day, 12), at(day, 12.5), kind="break")
    period(at(0, 0.2), "night", at(0, 20), at(1, 4))
    period(at(0, 0.2), "late break", at(0, 23.8), at(1, 0.3), kind="break", vehicle_id="red-0")
    period(at(0, 0.2), "long lunch", at(1, 12.25), at(1, 13), kind="break", vehicle_id="red-1")
    period(at(0, 0.2), "touching lunch", at(1, 13), at(1, 13.1), kind="break", vehicle_id="red-1")
    period(at(0, 0.2), "of a stranger", at(1, 9), at(1, 9.5), kind="break", vehicle_id="stranger")
    period(at(0, 0.2), "cancelled break", at(1, 10), at(1, 11), kind="break")
    event("red", "operating_period", "delete", at(1, 9), {"id": "cancelled break"})
    period(at(0, 0.2), "cancelled", at(0, 9), at(0, 12))
    event("red", "operating_period", "delete", at(2, 9), {"id": "cancelled"})
    period(at(0, 0.3), "moved", at(1, 9), at(1, 12))
    period(at(0, 0.4), "moved", at(1, 10), at(1, 18))
    event("red", "operating_period", "delete", at(0, 0.2), {"id": "back again"})
    period(at(0, 0.5), "back again", at(2, 17), at(2, 19))
    period(at(0, 0.5), "only red-2", at(2, 18), at(2, 20), vehicle_id="red-2")
    period(at(0, 0.5), "backwards", at(2, 20), at(2, 18))
    period(at(0, 0.5), "of no known kind", at(2, 1), at(2, 2), kind="party")
    event("red", "operating_period", "create", at(0, 0.5), {"id": "open", "start": at(2, 21) // 1_000_000})
    event("blue", "operating_period", "create", at(0, 0.5), {"id": "numbers", "start": at(2, 16) // 1_000_000, "finish": at(2, 17) / 1_000})

    vehicles = [("red", f"red-{n}") for n in range(6)] + [("blue", f"blue-{n}") for n in range(4)]
    for organization, vehicle in vehicles:
        if vehicle != "red-5":
            event(organization, "vehicle", "register", at(0, rng.uniform(0.1, 9)), {"id": vehicle})
    event("red", "vehicle", "register", at(0, 9.5), {"id": "red-1"})
    event("red", "vehicle", "deregister", at(1, 11), {"id": "red-2"})
    event("red", "vehicle", "register", at(1, 11.75), {"id": "red-2"})
    event("red", "vehicle", "deregister", at(1, 14), {"id": "red-2"})
    event("red", "vehicle", "deregister", at(1, 14.2), {"id": "red-2"})
    event("red", "vehicle", "deregister", at(1, 10.5), {"id": "red-5"})
    event("blue", "vehicle", "deregister", at(0, 12.000001), {"id": "blue-0"})

    def drive(us, until, pause):
        lat, lon, heading = 52.5 + rng.uniform(-0.05, 0.05), 13.4 + rng.uniform(-0.05, 0.05), rng.uniform(0, 6.28)
        while us < until:
            yield us, round(lat, 6), round(lon, 6)
            seconds = rng.choice((5, 10, 10, 30, rng.uniform(1, 90), pause))
            heading += rng.uniform(-0.5, 0.5)
            speed = rng.choice((0, 0, 0.3, 8, 12, 15))
            lat += seconds * speed * math.cos(heading) / 111_000
            lon += seconds * speed * math.sin(heading) / 67_000
            us += int(seconds * 1_000) * 1_000

    for organization, vehicle in [*vehicles, ("red", "stranger")]:
        for day in range(3):
            begin, end = at(day, rng.uniform(5, 11)), at(day, rng.uniform(12, 20))
            if vehicle in ("red-0", "blue-1"):
                end = at(day + 1, 1)
            for us, lat, lon in drive(begin, end, 400):
                location = {"lat": lat, "lng": lon, "at": stamp(us)}
                if rng.random() < 0.02:
                    location = {"lat": None, "lng": None, "at": None}
                elif rng.random() < 0.05:
                    location["at"] = us / 1_000
                event(organization, "vehicle", "update", us, {"id": vehicle, "location": location})
                if rng.random() < 0.01:
                    # Two places at one instant.
                    twin = {"lat": lat + 0.0001, "lng": lon, "at": stamp(us)}
                    event(organization, "vehicle", "update", us + 1_000, {"id": vehicle, "location": twin})

    def deliver(order, deliverers, begin, states=("start", "on_the_way", "arrived"), minutes=20):
        points = list(drive(begin, begin + minutes * 60_000_000, 70))
        for number, (us, lat, lon) in enumerate(points):
            state = states[0] if number == 0 else states[-1] if number >= len(points) - 2 else states[1]
            deliverer = deliverers[number * len(deliverers) // len(points)]
            payload = {"order_id": order, "deliverer_id": deliverer, "timestamp": stamp(us), "lat": lat, "lon": lon}
            if state is not None:
                payload["delivery_state"] = state
            tell(f"deliveries/{deliverer}/location", payload)

    for number in range(20):
        deliver(f"order-{number}", [f"deliverer-{number % 4}"], at(0, 8 + number))
    for day in range(3):
        deliver("used again", ["deliverer-5"], at(day, 14))
    deliver("handed over", ["deliverer-6", "deliverer-7"], at(0, 10))
    deliver("over midnight", ["deliverer-6"], at(1, 23.9))
    deliver("not there yet", ["deliverer-8"], at(2, 9), ("start", "on_the_way", "on_the_way"))
    deliver("joined late", ["deliverer-8"], at(2, 11), ("on_the_way", "on_the_way", "arrived"))
    deliver("says nothing", ["deliverer-8"], at(2, 13), (None, None, None))
    deliver("odd", ["deliverer-8"], at(2, 15), ("start", "lost", "arrived"))
    deliver("one point", ["deliverer-8"], at(2, 17), minutes=0.001)
    lines += rng.sample(lines, 100)
    rng.shuffle(lines)
    print("\n".join(lines))


if __name__ == "__main__":
    generate()
