#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/daemon_list.py INSULA [MACHINES] - `insula list --all` with 1,000 machines defined

Makes that many machines in a store of its own, then runs the command 50 times; prints one line of
JSON with milliseconds, and of `insula show` and the API's answer beside it.
"""
import json
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/daemon"))
from box import Box, check  # noqa: E402


def times(fn, n=50):
    taken = []
    for _ in range(n):
        start = time.perf_counter()
        fn()
        taken.append((time.perf_counter() - start) * 1000)
    return {"median": round(statistics.median(taken), 2), "p95": round(sorted(taken)[-n // 20], 2),
            "worst": round(max(taken), 2)}


def command(box, *args):
    r = subprocess.run([box.insula_path, *args], env=box.env, capture_output=True)
    check(r.returncode == 0, r.stderr)
    return r.stdout


def main():
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with Box(sys.argv[1]) as box:
        box.cli("list")
        config = {"kernel": box.kernel("idle"), "engine": "soft", "memory": 32 << 20}
        start = time.perf_counter()
        for i in range(n):
            box.wait_job(box.request("POST", "/v1/machines", {
                "name": f"machine-{i:04}", "config": config,
                "labels": {"number": str(i), "of": "bench"}}, 202))
        made = (time.perf_counter() - start) * 1000 / n
        check(command(box, "list", "--all").count(b"\n") == n + 1, "lines")
        box.kill_daemon()
        start = time.perf_counter()
        command(box, "list", "--all")
        first = (time.perf_counter() - start) * 1000
        print(json.dumps({
            "machines": n,
            "create_ms_each": round(made, 2),
            "list_all_ms": times(lambda: command(box, "list", "--all")),
            "list_ms": times(lambda: command(box, "list")),
            "show_ms": times(lambda: command(box, "show", "machine-0500"
                                             if n > 500 else "machine-0000")),
            "api_list_all_ms": times(lambda: box.request("GET", "/v1/machines?all")),
            "list_all_that_starts_insulad_ms": round(first, 1)}))


main()
