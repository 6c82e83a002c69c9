#!/usr/bin/env bash
# Runs the lake's models on EMR, as one step of a cluster that runs already.
#
#   deploy/spark/emr_step.sh CLUSTER_ID s3://bucket/prefix [NAME...]
#
# CLUSTER_ID is like j-1ABC2DEF3GHIJ; the lake is what lake_ingest is told with --lake; NAMEs are layers or models,
# all of them unless given. The job is put below the lake's prefix at spark-job/, results go to spark/. Needs lake_ingest
# and the AWS command line in PATH; the cluster's role needs the write policy of deploy/terraform, and its nodes the
# Python package h3 (a bootstrap action: `sudo python3 -m pip install h3`) for the models by H3 cell.
set -euo pipefail
if [ "$#" -lt 2 ]; then
  sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
cluster=$1 lake=${2%/}
shift 2
job=$(mktemp -d)
trap 'rm -rf "$job"' EXIT
lake_ingest models --lake "$lake" --engine spark --job "$job"
aws s3 cp --recursive --only-show-errors "$job" "$lake/spark-job/"
# The step fetches the job to the master, where the driver runs, and submits it.
run="rm -rf /tmp/lastmile-job && aws s3 cp --recursive --only-show-errors $lake/spark-job/ /tmp/lastmile-job"
run="$run && spark-submit --deploy-mode client /tmp/lastmile-job/models.py --job /tmp/lastmile-job --output $lake/spark"
for name in "$@"; do run="$run --select $name"; done
steps=$(python3 -c 'import json, sys
step = {"Type": "CUSTOM_JAR", "Name": "lastmile models", "ActionOnFailure": "CONTINUE", "Jar": "command-runner.jar"}
print(json.dumps([step | {"Args": ["bash", "-c", sys.argv[1]]}]))' "$run")
aws emr add-steps --cluster-id "$cluster" --steps "$steps"
