#!/usr/bin/env python3
"""Drops the database LASTMILE_MONGODB_DATABASE of MONGODB_URI: a test's own, at its end."""

import os

import pymongo

with pymongo.MongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=10_000) as client:
    client.drop_database(os.environ["LASTMILE_MONGODB_DATABASE"])
