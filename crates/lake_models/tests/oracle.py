#!/usr/bin/env python3
"""Computes every model from the messages a lake was made from, in another way, and compares all rows.

usage: oracle.py LAKE MESSAGES RECEIVED [--wrong WHAT]

MESSAGES is what fleet.py prints, or gzipped door2door events; RECEIVED is when they are said to have come.
Nothing is taken from the models but what they say they mean: loops instead of SQL. Every row and column of a
table must be there and equal, numbers to 1e-9 of their value or of one unit. `--wrong` makes this program itself
err, which the comparison must notice; that is how it is checked: `radius` (6371000 m), `join` (operations by the
join of the pipelines this one replaces), `breaks` (without them), `order` (points by arrival). Exits 1 at the first
difference.
"""

import gzip
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from compare import compare
from instants import date, hour, micros

WRONG = sys.argv[sys.argv.index("--wrong") + 1] if "--wrong" in sys.argv else None
RADIUS_M = 6371000.0 if WRONG == "radius" else 6371008.8


def haversine_m(a, b):
    lat1, lon1, lat2, lon2 = map(math.radians, (*a, *b))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * RADIUS_M * math.asin(min(1.0, math.sqrt(h)))


# --- what was sent -----------------------------------------------------------------------------------------------


def read(path):
    """Events and native positions, each once."""
    events, positions, seen = [], [], set()
    with (gzip.open if path.endswith(".gz") else open)(path, "rt") as lines:
        for line in lines:
            message = json.loads(line)
            payload = message.get("payload", message)
            identity = json.dumps(payload)
            if identity in seen:
                continue
            seen.add(identity)
            (events if "event" in payload else positions).append(payload)
    return events, positions


def tracks(events, positions):
    """vehicle -> its points in order: (micros, lat, lon)."""
    points = defaultdict(list)
    for event in events:
        location = event["data"].get("location") or {}
        if event["event"] == "update" and location.get("lat") is not None and location.get("lng") is not None:
            at = micros(location.get("at") or event["at"])
            points[event["data"]["id"]].append((at, location["lat"], location["lng"]))
    for position in positions:
        points[position["deliverer_id"]].append((micros(position["timestamp"]), position["lat"], position["lon"]))
    if WRONG != "order":
        for track in points.values():
            track.sort()
    return points


def steps_of(track):
    """(at, previous at or None, metres, lat, lon) of each point."""
    previous = None
    for point in track:
        metres = haversine_m(previous[1:], point[1:]) if previous else 0.0
        yield point[0], previous and previous[0], metres, *point[1:]
        previous = point


# --- vehicles and periods ----------------------------------------------------------------------------------------


def periods(events):
    """All rows of treated.operating_period."""
    by_period = defaultdict(list)
    for event in events:
        if event["on"] == "operating_period":
            by_period[event["organization_id"], event["data"]["id"]].append(event)
    for (organization, period), events in by_period.items():
        events.sort(key=lambda e: (micros(e["at"]), e["event"]))
        for event in events:
            data, is_last = event["data"], event is events[-1]
            start, finish = micros(data.get("start")), micros(data.get("finish"))
            kind = data.get("kind", "operation")
            is_interval = start is not None and finish is not None and start < finish
            is_create = event["event"] == "create"
            yield {
                "organization_id": organization,
                "operating_period_id": period,
                "event": event["event"],
                "event_time": micros(event["at"]),
                "kind": kind,
                "vehicle_id": data.get("vehicle_id"),
                "operation_start": start,
                "operation_finish": finish,
                "superseded": not is_last,
                "in_force": is_last and is_create and is_interval and kind in ("operation", "break"),
                "invalid_interval": is_create and not is_interval,
                "unknown_kind": kind not in ("operation", "break"),
                "event_date": date(micros(event["at"])),
            }


def lives(events):
    """All rows of treated.vehicle_life."""
    by_vehicle = defaultdict(list)
    for event in events:
        if event["event"] in ("register", "deregister"):
            key = event["organization_id"], event["data"]["id"]
            by_vehicle[key].append((micros(event["at"]), event["event"] == "deregister"))
    for (organization, vehicle), changes in by_vehicle.items():
        row, since, is_registered, is_known = [], None, False, False
        for at, leaves in sorted(changes):
            if leaves and is_registered:
                row.append((since, at))
            elif leaves and not is_known:
                row.append((None, at))
            elif not leaves and not is_registered:
                since = at
            is_registered, is_known = not leaves, True
        if is_registered:
            row.append((since, None))
        for since, until in row:
            yield {
                "organization_id": organization,
                "vehicle_id": vehicle,
                "registered_at": since,
                "deregistered_at": until,
                "event_date": date(until if since is None else since),
            }


def operations(lives, periods):
    """All rows of final.vehicle_operation_metadata."""
    for life in lives:
        for period in periods:
            if not period["in_force"] or period["kind"] != "operation":
                continue
            if period["organization_id"] != life["organization_id"]:
                continue
            if period["vehicle_id"] not in (None, life["vehicle_id"]):
                continue
            start, finish = period["operation_start"], period["operation_finish"]
            since = -math.inf if life["registered_at"] is None else life["registered_at"]
            until = math.inf if life["deregistered_at"] is None else life["deregistered_at"]
            from_at, to_at = max(start, since), min(finish, until)
            if WRONG == "join":
                # A vehicle operates where one of its two events lies in the period; the start is the period's.
                if not (start <= since <= finish or start <= until <= finish):
                    continue
                from_at = start
            if from_at < to_at:
                yield {
                    "vehicle_id": life["vehicle_id"],
                    "operating_period_id": period["operating_period_id"],
                    "operation_start": from_at,
                    "operation_finish": to_at,
                    "organization_id": life["organization_id"],
                    "date": date(from_at),
                }


def breaks(lives, periods):
    """All rows of final.vehicle_break."""
    declared = defaultdict(set)
    for period in periods:
        if not period["in_force"] or period["kind"] != "break" or WRONG == "breaks":
            continue
        interval = period["operation_start"], period["operation_finish"]
        if period["vehicle_id"] is not None:
            declared[period["vehicle_id"]].add(interval)
            continue
        for life in lives:
            if life["organization_id"] == period["organization_id"]:
                declared[life["vehicle_id"]].add(interval)
    for vehicle, intervals in declared.items():
        merged = []
        for start, finish in sorted(intervals):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], finish)
            else:
                merged.append([start, finish])
        for start, finish in merged:
            yield {"vehicle_id": vehicle, "break_start": start, "break_finish": finish, "date": date(start)}


# --- ways --------------------------------------------------------------------------------------------------------


def share(at, previous, start, finish):
    """The share of the way from `previous` to `at` that lies in an interval."""
    if previous is None or previous == at:
        return 1.0 if start <= at < finish else 0.0
    return max(0, min(at, finish) - max(previous, start)) / (at - previous)


def vehicle_days(steps, operations, breaks, lives):
    for vehicle, track in steps.items():
        pauses = [(b["break_start"], b["break_finish"]) for b in breaks if b["vehicle_id"] == vehicle]
        active = [(o["operation_start"], o["operation_finish"]) for o in operations if o["vehicle_id"] == vehicle]
        known = [
            (-math.inf if l["registered_at"] is None else l["registered_at"],
             math.inf if l["deregistered_at"] is None else l["deregistered_at"])
            for l in lives if l["vehicle_id"] == vehicle
        ]
        days = defaultdict(list)
        for step in track:
            days[date(step[0])].append(step)
        for day, steps_of_day in days.items():
            row = dict.fromkeys(("driven_m", "break_m", "moving_s", "idle_s", "break_s"), 0.0)
            outside = unregistered = 0
            for at, previous, metres, *_ in steps_of_day:
                resting = sum(share(at, previous, *pause) for pause in pauses) if previous is not None else 0.0
                row["break_m"] += metres * resting
                row["driven_m"] += metres * (1 - resting)
                outside += not any(start <= at < finish for start, finish in active)
                unregistered += not any(start <= at < finish for start, finish in known)
                if previous is None or date(previous) != day:
                    continue
                seconds = (at - previous) / 1e6
                row["break_s"] += seconds * resting
                row["moving_s" if metres >= 0.5 * seconds else "idle_s"] += seconds * (1 - resting)
            yield {
                "vehicle_id": vehicle,
                "first_at": steps_of_day[0][0],
                "last_at": steps_of_day[-1][0],
                "positions": len(steps_of_day),
                "positions_outside_operations": outside,
                "positions_unregistered": unregistered,
                "date": day,
                **row,
            }


def operation_distances(steps, operations, breaks):
    rows = {}
    for operation in operations:
        start, finish = operation["operation_start"], operation["operation_finish"]
        pauses = [
            (max(b["break_start"], start), min(b["break_finish"], finish))
            for b in breaks
            if b["vehicle_id"] == operation["vehicle_id"] and b["break_start"] < finish and b["break_finish"] > start
        ]
        for at, previous, metres, *_ in steps.get(operation["vehicle_id"], ()):
            if at < start or (at if previous is None else previous) >= finish:
                continue
            key = date(at), operation["vehicle_id"], operation["operating_period_id"], start
            row = rows.setdefault(key, {**operation, "date": date(at), "positions": 0, "driven_m": 0.0, "break_m": 0.0})
            resting = sum(share(at, previous, *pause) for pause in pauses)
            row["positions"] += start <= at < finish
            row["driven_m"] += metres * (share(at, previous, start, finish) - resting)
            row["break_m"] += metres * resting
    return list(rows.values())


def period_distances(operations, distances):
    by_period = defaultdict(list)
    for operation in operations:
        by_period[operation["organization_id"], operation["operating_period_id"]].append(operation)
    for (organization, period), rows in by_period.items():
        own = [d for d in distances if (d["organization_id"], d["operating_period_id"]) == (organization, period)]
        vehicles = len({row["vehicle_id"] for row in rows})
        driven = math.fsum(d["driven_m"] for d in own)
        yield {
            "operating_period_id": period,
            "organization_id": organization,
            "vehicles": vehicles,
            "driven_m": driven,
            "average_driven_m": driven / vehicles,
            "break_m": math.fsum(d["break_m"] for d in own),
            "date": min(row["date"] for row in rows),
        }


# --- orders ------------------------------------------------------------------------------------------------------


def trips(positions):
    by_order = defaultdict(list)
    for p in positions:
        if p.get("order_id") is not None:
            by_order[p["order_id"]].append((micros(p["timestamp"]), p["lat"], p["lon"], p["deliverer_id"], p.get("delivery_state")))
    for order, points in by_order.items():
        points.sort(key=lambda p: p[:3])
        parts, has_arrived = [[]], False
        for point in points:
            if point[4] == "start" and has_arrived:
                parts.append([])
                has_arrived = False
            has_arrived |= point[4] == "arrived"
            parts[-1].append(point)
        for number, part in enumerate(parts, 1):
            states = [point[4] for point in part]
            first = states.index("start") if "start" in states else 0
            arrival = states.index("arrived") if "arrived" in states else None
            part = part[first : None if arrival is None else arrival + 1]
            metres, stops, stopped = [], 0, 0.0
            for deliverer in {point[3] for point in part}:
                own = [point for point in part if point[3] == deliverer]
                still = 0.0
                for a, b in zip(own, own[1:] + [None]):
                    if b is not None:
                        way, seconds = haversine_m(a[1:3], b[1:3]), (b[0] - a[0]) / 1e6
                        metres.append(way)
                        if seconds > 0 and way < 0.5 * seconds:
                            still += seconds
                            continue
                    if still >= 60:
                        stops, stopped = stops + 1, stopped + still
                    still = 0.0
            seconds, distance = (part[-1][0] - part[0][0]) / 1e6, math.fsum(metres)
            yield {
                "order_id": order,
                "trip": number,
                "deliverers": len({point[3] for point in part}),
                "positions": len(part),
                "started_at": part[0][0],
                "last_at": part[-1][0],
                "arrived_at": None if arrival is None else part[-1][0],
                "duration_s": None if arrival is None else seconds,
                "distance_m": distance,
                "stops": stops,
                "stopped_s": stopped,
                "mean_speed_mps": distance / seconds if seconds > 0 else None,
                "without_start": "start" not in states,
                "date": date(part[0][0]),
            }


def aggregated(events, positions):
    groups = defaultdict(lambda: (set(), set()))
    for vehicle, track in tracks(events, []).items():
        for point in track:
            groups[date(point[0]), None][1].add(vehicle)
    for p in positions:
        orders, deliverers = groups[date(micros(p["timestamp"])), p.get("delivery_state")]
        orders.add(p.get("order_id"))
        deliverers.add(p["deliverer_id"])
    for (day, state), (orders, deliverers) in groups.items():
        counts = {"count_orders": len(orders - {None}), "count_distinct_deliverers": len(deliverers)}
        yield {"date": day, "delivery_state": state, **counts}


# --- movement ----------------------------------------------------------------------------------------------------


def speeds(steps, cell):
    samples = defaultdict(list)
    for vehicle, track in steps.items():
        for at, previous, metres, lat, lon in track:
            if previous is not None and 0 < at - previous <= 300_000_000:
                samples[hour(at), cell(lat, lon, 8)].append((vehicle, metres / ((at - previous) / 1e6)))
    for (begin, where), found in samples.items():
        values = [speed for _, speed in found]
        yield {
            "hour_start": begin,
            "cell": where,
            "vehicles": len({vehicle for vehicle, _ in found}),
            "samples": len(found),
            "mean_speed_mps": statistics.fmean(values),
            "stddev_speed_mps": statistics.stdev(values) if len(values) > 1 else None,
            "date": date(begin),
        }


def travel_times(steps, cell):
    travels = defaultdict(list)
    for vehicle, track in steps.items():
        drives = []
        for at, previous, _, lat, lon in track:
            if previous is None or at - previous > 300_000_000 or date(previous) != date(at):
                drives.append([])
            zone = cell(lat, lon, 7)
            if drives[-1] and drives[-1][-1][0] == zone:
                drives[-1][-1][2] = at
            else:
                drives[-1].append([zone, at, at])
        for visits in drives:
            for i, (origin, _, left) in enumerate(visits):
                seen = set()
                for destination, entered, _ in visits[i + 1 :]:
                    if destination == origin or entered - left > 3_600_000_000:
                        break
                    if destination not in seen and entered > left:
                        travels[hour(left), origin, destination].append((vehicle, (entered - left) / 1e6))
                    seen.add(destination)
    for (begin, origin, destination), found in travels.items():
        times = [seconds for _, seconds in found]
        logs = [math.log(seconds) for seconds in times]
        yield {
            "hour_start": begin,
            "origin_zone": origin,
            "destination_zone": destination,
            "travels": len(times),
            "vehicles": len({vehicle for vehicle, _ in found}),
            "mean_s": statistics.fmean(times),
            "stddev_s": statistics.stdev(times) if len(times) > 1 else None,
            "least_s": min(times),
            "greatest_s": max(times),
            "geometric_mean_s": math.exp(statistics.fmean(logs)),
            "geometric_stddev": math.exp(statistics.stdev(logs)) if len(logs) > 1 else None,
            "date": date(begin),
        }


# --- every table -------------------------------------------------------------------------------------------------


def check(lake, path, received):
    import h3

    events, positions = read(path)
    received = micros(received)
    points = tracks(events, positions)
    steps = {vehicle: list(steps_of(track)) for vehicle, track in points.items()}
    of_vehicles = [event for event in events if event["on"] == "vehicle"]
    all_periods, all_lives = list(periods(events)), list(lives(events))
    all_operations = list(operations(all_lives, all_periods))
    all_breaks = list(breaks(all_lives, all_periods))
    distances = operation_distances(steps, all_operations, all_breaks)
    days = list(vehicle_days(steps, all_operations, all_breaks, all_lives))

    def vehicle_event(event):
        at, location = micros(event["at"]), event["data"].get("location") or {}
        lat, lon = location.get("lat"), location.get("lng")
        return {
            "organization_id": event["organization_id"],
            "vehicle_id": event["data"]["id"],
            "event": event["event"],
            "event_time": at,
            "located_at": micros(location.get("at")),
            "lat": lat,
            "lon": lon,
            "without_place": event["event"] == "update" and (lat is None or lon is None),
            "from_the_future": at > received + 300_000_000,
            "late": date(received) > date(at),
            "event_date": date(at),
        }

    event_key = "organization_id", "vehicle_id", "event", "event_time", "lat", "lon"
    compare(lake, "treated/vehicle_event", event_key, map(vehicle_event, of_vehicles))
    period_key = "organization_id", "operating_period_id", "event", "event_time"
    compare(lake, "treated/operating_period", period_key, all_periods)
    compare(lake, "treated/vehicle_life", ("organization_id", "vehicle_id", "registered_at"), all_lives)
    operation_key = "vehicle_id", "operating_period_id", "operation_start"
    compare(lake, "final/vehicle_operation_metadata", operation_key, all_operations)
    compare(lake, "final/vehicle_break", ("vehicle_id", "break_start"), all_breaks)
    moves = (
        {"vehicle_id": v, "updated_at": s[0], "previous_at": s[1], "driven_meters": s[2], "lat": s[3], "lon": s[4], "date": date(s[0])}
        for v, track in steps.items() for s in track
    )
    compare(lake, "final/vehicle_position_data", ("vehicle_id", "updated_at", "lat", "lon"), moves)
    compare(lake, "final/vehicle_operation_distance", ("date", *operation_key), distances)
    compare(lake, "final/operating_period_distance", ("organization_id", "operating_period_id"), period_distances(all_operations, distances))
    compare(lake, "final/vehicle_day", ("vehicle_id", "date"), days)
    compare(lake, "final/delivery_trip", ("order_id", "trip"), trips(positions))
    compare(lake, "final/deliverer_location_aggregated", ("date", "delivery_state"), aggregated(events, positions))
    compare(lake, "final/speed_by_hour_and_cell", ("hour_start", "cell"), speeds(steps, h3.latlng_to_cell))
    zones = "hour_start", "origin_zone", "destination_zone"
    compare(lake, "final/travel_time_between_zones", zones, travel_times(steps, h3.latlng_to_cell))
    global WRONG
    WRONG = "join"
    original = list(operations(all_lives, all_periods))
    print(
        f"operations: {len(all_operations)}, by the original pipelines' join {len(original)}; of those "
        f"{sum(o not in all_operations for o in original)} are other intervals; positions outside operations: "
        f"{sum(day['positions_outside_operations'] for day in days)} of {sum(map(len, steps.values()))}"
    )


if __name__ == "__main__":
    check(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
