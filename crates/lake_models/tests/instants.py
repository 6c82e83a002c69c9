"""Instants as microseconds since 1970, of every form in which they are sent."""

from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICRO = timedelta(microseconds=1)


def micros(value):
    """The instant as microseconds: of a text, or of an epoch number by its size."""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        unit = 1e6 if value < 1e11 else 1e3 if value < 1e14 else 1
        return round(value * unit)
    try:
        at = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (at - EPOCH) // MICRO


def date(us):
    return (EPOCH + us * MICRO).date().isoformat()


def hour(us):
    return us - us % 3_600_000_000
