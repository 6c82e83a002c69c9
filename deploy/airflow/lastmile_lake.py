"""The lake, a day at a time: raw, then treated, then final, then a reconciliation of the day.

Written for Airflow 2.9 and later, run on 3.3. Each task calls `lake_ingest`, which holds a lease in the store while it works:
a task that meets another run ends with an error and is tried again. Every task may be run again at any time,
for any day, and changes nothing when there is nothing to do; that is what makes catching up and clearing safe.

Settings, as environment variables of the scheduler and the workers:

LASTMILE_LAKE_INGEST    the command [default: lake_ingest]; for example
                        `docker compose -f /srv/lastmile/docker-compose.yml run --rm lake_ingest` or
                        `kubectl run ... --`. Its own settings (MONGODB_URI, LASTMILE_LAKE, AWS_...) come from
                        the environment of the worker.
LASTMILE_LAKE_RETRIES   tries after a task's first [default: 3]
LASTMILE_LAKE_START     the first day to catch up from [default: 2026-01-01]
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:  # Airflow 2
    from airflow.operators.bash import BashOperator
from airflow.timetables.interval import CronDataIntervalTimetable

COMMAND = os.environ.get("LASTMILE_LAKE_INGEST", "lake_ingest")
START = datetime.fromisoformat(os.environ.get("LASTMILE_LAKE_START", "2026-01-01")).replace(tzinfo=timezone.utc)

with DAG(
    dag_id="lastmile_lake",
    description="Takes a day's history to the lake, runs the models and checks the day",
    doc_md=__doc__,
    # From midnight to midnight and a quarter: what was on its way at midnight has come. The run that begins then
    # is of the day before, in Airflow 2 and 3 alike.
    schedule=CronDataIntervalTimetable("15 0 * * *", timezone="UTC"),
    start_date=START,
    catchup=True,
    max_active_runs=1,
    tags=["lastmile"],
    default_args={
        "retries": int(os.environ.get("LASTMILE_LAKE_RETRIES", "3")),
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=15),
        "execution_timeout": timedelta(hours=6),
    },
) as dag:

    def lake(task_id: str, arguments: str) -> BashOperator:
        # The worker's environment, and what the command prints into the task's log.
        return BashOperator(task_id=task_id, bash_command=f"{COMMAND} {arguments}", append_env=True)

    raw = lake("raw", "offload --summary json")
    treated = lake("treated", "models --select treated --summary json")
    final = lake("final", "models --select final --summary json")
    # Compares the day's rows in store and lake, and computes its models anew.
    checks = lake("checks", "--date {{ data_interval_start | ds }} --summary json")
    raw >> treated >> final >> checks
