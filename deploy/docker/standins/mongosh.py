#!/usr/bin/env python3
"""Stands in for mongosh in the health check of the mongo stand-in: 0 when a primary takes writes."""

import os
import sys

import pymongo

for argument in sys.argv[1:]:
    if argument.endswith(".js") and not os.access(argument, os.R_OK):
        sys.exit(f"{argument} cannot be read")
client = pymongo.MongoClient("mongodb://127.0.0.1:27017/?directConnection=true", serverSelectionTimeoutMS=4000)
hello = client.admin.command("hello")
sys.exit(0 if hello.get("setName") and hello.get("isWritablePrimary") else f"no primary yet: {hello}")
