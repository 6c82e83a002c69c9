#!/usr/bin/env python3
"""Holds the Postman collection and the API's OpenAPI document to each other.

Every operation of the document must have a request in the collection, and every request outside the
folder "Errors" must be an operation. Also looks for what makes a collection useless unattended: a
request without tests, an address that is not {{base_url}}, a duplicate name.

    tools/check_postman.py http://127.0.0.1:8080/openapi.json
    tools/check_postman.py openapi.json --control     also checks that a missing request is noticed
"""

import argparse
import copy
import json
import re
import sys
import urllib.request
from pathlib import Path

COLLECTION = Path(__file__).resolve().parent.parent / "deploy/postman/lastmile.postman_collection.json"
METHODS = {"get", "post", "put", "patch", "delete"}


def shape(path):
    """Returns a path with its parameters unnamed and without a slash at its end."""
    segments = ["{}" if re.search(r"\{.*\}|^:", segment) else segment for segment in path.split("/")]
    return "/".join(segments).rstrip("/") or "/"


def requests(items, folder=""):
    """Yields (folder, item) for every request."""
    for item in items:
        if "item" in item:
            yield from requests(item["item"], item["name"])
        else:
            yield folder, item


def described(document):
    """Returns every operation of an OpenAPI document as (METHOD, path shape)."""
    return {
        (method.upper(), shape(path))
        for path, operations in document["paths"].items()
        for method in operations
        if method in METHODS
    }


def problems(collection, document):
    """Returns what is wrong, as a list of sentences."""
    found = []
    operations = described(document)
    asked, names = set(), set()
    for folder, item in requests(collection["item"]):
        name, request = item["name"], item["request"]
        raw = request["url"]["raw"]
        if name in names:
            found.append(f"two requests are called {name!r}")
        names.add(name)
        if not raw.startswith("{{base_url}}/"):
            found.append(f"{name!r} asks {raw}, which does not begin with {{{{base_url}}}}/")
            continue
        path = shape(raw.removeprefix("{{base_url}}").split("?")[0])
        method = "GET" if request["method"] == "HEAD" else request["method"]
        skipped = any("skipRequest" in "\n".join(event["script"]["exec"]) for event in item.get("event", []))
        tested = any(event["listen"] == "test" and "pm.test(" in "\n".join(event["script"]["exec"]) for event in item.get("event", []))
        if not tested and not skipped:
            found.append(f"{name!r} has no test")
        if folder == "Errors":
            continue
        if (method, path) not in operations:
            found.append(f"{name!r} asks {method} {path}, which the API does not describe")
        asked.add((method, path))
    found += [f"no request asks {method} {path}" for method, path in sorted(operations - asked)]
    return found


def controls(collection, document):
    """Returns which defects were not noticed, as a list of sentences."""
    missed = []
    for _, item in list(requests(collection["item"])):
        request = item["request"]
        key = ("GET" if request["method"] == "HEAD" else request["method"], shape(request["url"]["raw"].removeprefix("{{base_url}}").split("?")[0]))
        without = copy.deepcopy(collection)

        def drop(items, key=key):
            kept = []
            for child in items:
                if "item" in child:
                    child["item"] = drop(child["item"])
                else:
                    its = child["request"]
                    at = shape(its["url"]["raw"].removeprefix("{{base_url}}").split("?")[0])
                    if ("GET" if its["method"] == "HEAD" else its["method"], at) == key:
                        continue
                kept.append(child)
            return kept

        without["item"] = drop(without["item"])
        if key in described(document) and not problems(without, document):
            missed.append(f"the collection without {key} was accepted")
    more = copy.deepcopy(document)
    more["paths"]["/api/v1/brand-new"] = {"get": {}}
    if not problems(collection, more):
        missed.append("a new route without a request was accepted")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("openapi", help="address or file of the OpenAPI document")
    parser.add_argument("--collection", type=Path, default=COLLECTION)
    parser.add_argument("--control", action="store_true", help="also check that defects are noticed")
    arguments = parser.parse_args()
    collection = json.loads(arguments.collection.read_text(encoding="utf-8"))
    if "://" in arguments.openapi:
        with urllib.request.urlopen(arguments.openapi, timeout=30) as answer:
            document = json.load(answer)
    else:
        document = json.loads(Path(arguments.openapi).read_text(encoding="utf-8"))
    found = problems(collection, document)
    if arguments.control:
        found += controls(collection, document)
    for sentence in found:
        print(f"{arguments.collection.name}: {sentence}", file=sys.stderr)
    count = sum(1 for _ in requests(collection["item"]))
    print(f"{count} requests, {len(described(document))} operations, {len(found)} problem(s)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
