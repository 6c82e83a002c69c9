#!/usr/bin/env python3
"""Checks a folder of Terraform without Terraform.

usage: check_terraform.py FOLDER

Every *.tf is HCL; variables, resources and data sources that are referred to are declared; every variable declared
is used; the values of tables.auto.tfvars.json are of the declared form, no column twice, no partition key also a
column. Prints what was checked; exits 1 at the first fault.
"""

import json
import re
import sys
from pathlib import Path

import hcl2


def fail(text):
    sys.exit(f"terraform: {text}")


def names(blocks):
    """The labels of blocks, as (type, name) or (name,)."""
    for block in blocks:
        for label, body in block.items():
            label = label.strip('"')
            if isinstance(body, dict):
                for inner, content in body.items():
                    if isinstance(content, dict):
                        yield (label, inner.strip('"'))
                yield (label,)


def main():
    folder = Path(sys.argv[1])
    text, declared = "", {"variable": set(), "resource": set(), "data": set()}
    for file in sorted(folder.glob("*.tf")):
        content = file.read_text()
        try:
            parsed = hcl2.loads(content)
        except Exception as error:
            fail(f"{file}: {error}")
        for kind, found in declared.items():
            found.update(names(parsed.get(kind, [])))
        # References are looked for in the text, without comments and names in quotes on a block's first line.
        text += re.sub(r"(?m)^\s*#.*$", "", content)
    variables = {label[0] for label in declared["variable"]}
    used = set(re.findall(r"\bvar\.(\w+)", text))
    if used - variables:
        fail(f"variables used and not declared: {sorted(used - variables)}")
    if variables - used:
        fail(f"variables declared and not used: {sorted(variables - used)}")
    data = set(re.findall(r"\bdata\.(\w+)\.(\w+)", text))
    if data - declared["data"]:
        fail(f"data sources used and not declared: {sorted(data - declared['data'])}")
    resources = set(re.findall(r"(?<!data\.)\b(aws_\w+)\.(\w+)", text)) - data
    if resources - declared["resource"]:
        fail(f"resources used and not declared: {sorted(resources - declared['resource'])}")
    tables = json.loads((folder / "tables.auto.tfvars.json").read_text())["tables"]
    for name, table in tables.items():
        fields = {"database", "name", "description", "folder", "columns", "partition_keys"}
        if set(table) != fields:
            fail(f"{name} has {sorted(table)}, not {sorted(fields)}")
        columns = [column["name"] for column in table["columns"] + table["partition_keys"]]
        if len(set(columns)) != len(columns):
            fail(f"{name} has a column twice")
        if not table["partition_keys"]:
            fail(f"{name} has no partition")
    print(f"terraform: {len(variables)} variables, {len(resources)} resources, {len(tables)} tables")


if __name__ == "__main__":
    main()
