#!/usr/bin/env python3
"""Runs deploy/spark/models.py model by model and prints what each took.

usage: spark_models.py JOB OUTPUT MODEL...
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4] / "deploy" / "spark"))
import models
from pyspark.sql import SparkSession


class Timed:
    """Standard output that adds to each line how long it was in coming."""

    def __init__(self, under):
        self.under, self.last = under, time.monotonic()

    def write(self, text):
        if text.endswith(" rows"):
            now = time.monotonic()
            text, self.last = f"{text}, {now - self.last:.2f} s", now
        self.under.write(text)

    def flush(self):
        self.under.flush()


def main():
    job, output, *selected = sys.argv[1:]
    spark = SparkSession.builder.appName("lastmile models").getOrCreate()
    sys.stdout = Timed(sys.stdout)
    job = Path(job)
    for file in job.glob("*/*.sql"):
        if f"{file.parent.name}.{file.stem}" not in selected:
            file.unlink()
    models.run(spark, job, output)
    spark.stop()


if __name__ == "__main__":
    main()
