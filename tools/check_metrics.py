#!/usr/bin/env python3
"""Tells whether every metric that a dashboard or an alert names is one that the programs announce.

    tools/check_metrics.py FILE     FILE: names of metrics, one a line, from the `# TYPE` lines of /metrics

Reads deploy/grafana/dashboards/*.json and deploy/prometheus/alerts.yml. Exit status: 0 all exist, 1 some do not.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
METRIC = re.compile(r"\b(?:broker|ingest_log|subscriber|api|lake_ingest|process|lastmile)_[a-z_]+\b")
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


def main():
    announced = {line.strip() for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines() if line.strip()}
    named = 0
    unknown = []
    for where, expression in expressions():
        # What stands in quotation marks is a label's value.
        for name in METRIC.findall(re.sub(r'"[^"]*"', "", expression)):
            if name in JOBS:
                continue
            named += 1
            if not exists(name, announced):
                unknown.append(f"{where}: there is no metric {name}")
    print(*unknown, sep="\n", end="\n" if unknown else "")
    print(f"metrics: {named} named, {len(unknown)} unknown, {len(announced)} announced")
    return 1 if unknown or not named else 0


if __name__ == "__main__":
    sys.exit(main())
