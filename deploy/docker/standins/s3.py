#!/usr/bin/env python3
"""Stands in for `minio server DIR --address :PORT`: moto's S3, kept in DIR across an orderly stop.

What a kill leaves is what the last orderly stop wrote: never kill it where objects matter.
"""

import os
import pickle
import signal
import sys
import threading

import boto3
from moto.server import ThreadedMotoServer

_, command, folder, _, address = sys.argv
if command != "server":
    sys.exit(f"only `server` is known here, not {command}")
port = int(address.rpartition(":")[2])
path = os.path.join(folder, "objects.pickle")
server = ThreadedMotoServer(ip_address="0.0.0.0", port=port, verbose=False)
server.start()
s3 = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{port}",
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
if os.path.exists(path):
    with open(path, "rb") as file:
        for bucket, objects in pickle.load(file).items():
            s3.create_bucket(Bucket=bucket)
            for key, body in objects:
                s3.put_object(Bucket=bucket, Key=key, Body=body)
    print(f"loaded {path}", flush=True)

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
signal.signal(signal.SIGINT, lambda *_: stop.set())
print(f"listening on port {port}", flush=True)
stop.wait()

kept = {}
for bucket in s3.list_buckets()["Buckets"]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
    kept[bucket["Name"]] = [
        (entry["Key"], s3.get_object(Bucket=bucket["Name"], Key=entry["Key"])["Body"].read())
        for page in pages
        for entry in page.get("Contents", [])
    ]
with open(path + ".new", "wb") as file:
    pickle.dump(kept, file)
os.replace(path + ".new", path)
print(f"wrote {sum(map(len, kept.values()))} objects to {path}", flush=True)
server.stop()
