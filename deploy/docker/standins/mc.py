#!/usr/bin/env python3
"""Stands in for `mc mb --ignore-existing ALIAS/BUCKET`, with the alias from MC_HOST_ALIAS."""

import os
import sys
from urllib.parse import urlsplit

import boto3

words = [word for word in sys.argv[1:] if not word.startswith("-")]
if words[0] != "mb":
    sys.exit(f"only `mb` is known here, not {words[0]}")
alias, bucket = words[1].split("/", 1)
url = urlsplit(os.environ[f"MC_HOST_{alias}"])
s3 = boto3.client(
    "s3",
    endpoint_url=f"{url.scheme}://{url.hostname}:{url.port}",
    region_name="us-east-1",
    aws_access_key_id=url.username,
    aws_secret_access_key=url.password,
)
s3.create_bucket(Bucket=bucket)
