#!/usr/bin/env python3
"""Runs the commands a README promises, as a reader would type them.

Takes every fenced block whose info string is `sh test`, in order, and runs each with `bash -euo
pipefail` from the root of the workspace. A block fails when a command in it fails or it takes longer
than its limit (`sh test timeout=300`; 180 seconds unless told). The development binaries are used
(LASTMILE_BUILD_PROFILE=dev), data goes to a temporary folder (LASTMILE_DATA) and, when the last block
has run or one has failed, `./stop.sh` is called so that nothing stays behind. Where the README names
`target/release/`, the binaries of LASTMILE_BIN_DIR are run when it is set.

A fence may expect output: the block after it with the info string `text expect` lists lines, each of
which must occur somewhere in the output of the block before it.

    tools/readme_commands.py README.md [--list]
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(.*?)\s*$")
DEFAULT_TIMEOUT_S = 180


def blocks(text):
    """Yields (line number, info words, body) of every fenced block."""
    inside, body = None, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if inside is None:
            if fence:
                inside, body = (fence.group(2), number, fence.group(3).split(), fence.group(1)), []
        elif fence and fence.group(2).startswith(inside[0]) and not fence.group(3):
            yield inside[1], inside[2], "\n".join(body) + "\n"
            inside = None
        else:
            body.append(line.removeprefix(inside[3]))
    if inside is not None:
        sys.exit(f"line {inside[1]}: the fence is never closed")


def commands(text):
    """Returns the blocks to run: dicts of line, script, timeout and expected lines."""
    found = []
    previous = None
    for line, info, body in blocks(text):
        if info[:2] == ["sh", "test"]:
            options = dict(word.split("=", 1) for word in info[2:])
            previous = {
                "line": line,
                "script": body,
                "timeout": float(options.get("timeout", DEFAULT_TIMEOUT_S)),
                "expected": [],
            }
            found.append(previous)
        elif info[:2] == ["text", "expect"]:
            if previous is None:
                sys.exit(f"line {line}: expected output without a block to run before it")
            previous["expected"] = [row.strip() for row in body.splitlines() if row.strip()]
    return found


def with_binaries(script, environment):
    """Replaces the folder of release binaries by the one given."""
    folder = environment.get("LASTMILE_BIN_DIR")
    return script.replace("target/release/", f"{folder.rstrip('/')}/") if folder else script


def run(block, root, environment):
    """Runs one block; returns what is wrong with it, or None.

    Output goes to a file rather than a pipe: a server started in the background would keep a pipe
    open after the block has ended.
    """
    with tempfile.TemporaryFile(mode="w+", errors="replace") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", with_binaries(block["script"], environment)],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout=block["timeout"])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        output.seek(0)
        text = output.read()
    print(text, end="" if text.endswith("\n") or not text else "\n")
    if status is None:
        return f"did not end within {block['timeout']:.0f} s"
    if status != 0:
        return f"ended with status {status}"
    absent = [row for row in block["expected"] if row not in text]
    return f"did not print {absent}" if absent else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--list", action="store_true", help="show the blocks without running them")
    arguments = parser.parse_args()
    if not arguments.file.is_file():
        print(f"SKIPPED {arguments.file} commands: there is no such file")
        return 0
    found = commands(arguments.file.read_text(encoding="utf-8"))
    if not found:
        print(f"SKIPPED {arguments.file} commands: no fenced block is tagged `sh test`")
        return 0
    root = arguments.file.resolve().parent
    # Readers have built with optimisation; the tests bring programs from elsewhere.
    programs = os.environ.get("LASTMILE_BIN_DIR")
    if programs:
        for block in found:
            block["script"] = block["script"].replace("target/release/", programs.rstrip("/") + "/")
    failures = []
    with tempfile.TemporaryDirectory(prefix="lastmile-readme-") as data:
        environment = {"LASTMILE_BUILD_PROFILE": "dev", **os.environ, "LASTMILE_DATA": data}
        for block in found:
            print(f"--- line {block['line']}:\n{block['script']}", flush=True)
            if arguments.list:
                continue
            start = time.monotonic()
            wrong = run(block, root, environment)
            print(f"--- line {block['line']}: {wrong or 'ok'} ({time.monotonic() - start:.1f} s)", flush=True)
            if wrong:
                failures.append(f"{arguments.file}:{block['line']}: {wrong}")
                break
        if not arguments.list and (root / "stop.sh").is_file():
            subprocess.run(["./stop.sh"], cwd=root, env=environment, check=False, stdin=subprocess.DEVNULL)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{len(found)} block(s), {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
