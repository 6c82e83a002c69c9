#!/usr/bin/env python3
"""Tells whether every metric that a dashboard or an alert names is one that the programs have.

    tools/check_metrics.py            by the names registered in the sources
    tools/check_metrics.py FILE       and tells which of them FILE has, the `# TYPE` names of running programs:
                                      a metric with labels is announced only once it has a series

Reads deploy/grafana/dashboards/*.json and deploy/prometheus/alerts.yml. Exit status: 0 all exist, 1 some do not.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METRIC = re.compile(r"\b(?:broker|ingest_log|subscriber|api|lake_ingest|process|lastmile)_[a-z_]+\b")
SOURCES = ("broker", "subscriber", "api", "lake_ingest", "crates/service", "crates/ingest_log", "crates/lake")
# Names of jobs, which look like metrics.
JOBS = {"lake_ingest"}


def expressions():
    """Yields (where, PromQL)."""
    for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                yield f"{file.name}: {panel['title']}", target["expr"]
    for line in (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("expr:"):
            yield "alerts.yml", line.split("expr:", 1)[1]


def exists(name, announced):
    """A series is named as announced, with the suffix of its kind behind it."""
    return name in announced or any(
        name == known + suffix for known in announced for suffix in ("_total", "_bucket", "_sum", "_count")
    )


def registered():
    """Returns what stands as a metric's name in the sources."""
    names = set()
    for folder in SOURCES:
        for file in (ROOT / folder / "src").rglob("*.rs"):
            names.update(re.findall(rf'"({METRIC.pattern})"', file.read_text(encoding="utf-8")))
    return names


def main():
    known = registered()
    announced = set()
    if len(sys.argv) > 1:
        announced = {line.strip() for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()}
    named = 0
    unknown = []
    unseen = set()
    for where, expression in expressions():
        # What stands in quotation marks is a label's value.
        for name in METRIC.findall(re.sub(r'"[^"]*"', "", expression)):
            if name in JOBS:
                continue
            named += 1
            if not exists(name, known | announced):
                unknown.append(f"{where}: there is no metric {name}")
            elif announced and not exists(name, announced):
                unseen.add(name)
    print(*unknown, sep="\n", end="\n" if unknown else "")
    if unseen:
        print(f"metrics: registered, without a series yet: {' '.join(sorted(unseen))}")
    print(f"metrics: {named} named, {len(unknown)} unknown")
    return 1 if unknown or not named else 0


if __name__ == "__main__":
    sys.exit(main())
