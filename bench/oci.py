#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/oci.py PROGRAM [RUNTIME...] - start to exit of `true` in a prepared bundle, runtimes in turn

Rounds alternate between the runtimes, so that what else the machine does hits all alike; the figure
is the median of the rounds.  Then, for PROGRAM alone, many containers at once.  Prints JSON lines.
As root.  Where control groups are hybrid, all run where the tree of version 2 is not mounted, for
crun refuses the mix.
"""
import json
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/container"))
from oci import Box  # noqa: E402

ROUNDS, RUNS = 7, 20
UNIFIED = "/sys/fs/cgroup/unified"


def once(runtime, box, name):
    subprocess.run([runtime, "--root", box.root + "." + os.path.basename(runtime), "run", "--bundle",
                    box.bundle, name], check=True, stdin=subprocess.DEVNULL)


def side_by_side(runtimes, box):
    times = {r: [] for r in runtimes}
    for k in range(ROUNDS):
        for r in runtimes:
            t = time.monotonic()
            for i in range(RUNS):
                once(r, box, "b%d-%d-%d" % (os.getpid(), k, i))
            times[r].append((time.monotonic() - t) / RUNS * 1000)
    for r in runtimes:
        print(json.dumps({"bench": "run true", "runtime": os.path.basename(r),
                          "ms": round(statistics.median(times[r]), 2),
                          "best": round(min(times[r]), 2)}), flush=True)


def resident(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        return next(int(x.split()[1]) for x in f if x.startswith("Pss:"))


def at_once(program, box, n):
    """Of containers that wait, then run: time, and what a waiting one costs."""
    box.config["process"]["args"] = ["sleep", "1000"]
    box.write()
    names = ["m%d-%d" % (os.getpid(), i) for i in range(n)]

    def each(*command):
        t = time.monotonic()
        for name in names:
            subprocess.run([program, "--root", box.root, *command, name], check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return round(time.monotonic() - t, 2)

    created = each("create", "--bundle", box.bundle)
    pss = [resident(json.loads(box.call("state", x).stdout)["pid"]) for x in names[::max(1, n // 20)]]
    started = each("start")
    running = len([c for c in box.listed() if c["status"] == "running"])
    print(json.dumps({"bench": "at once", "containers": n, "running": running,
                      "create_s": created, "start_s": started, "delete_s": each("delete", "--force"),
                      "waiting_pss_kib": round(statistics.median(pss))}), flush=True)


def main():
    runtimes = [os.path.abspath(sys.argv[1])] + sys.argv[2:]
    if os.path.ismount(UNIFIED) and not os.environ.get("OCI_BENCH_INSIDE"):
        script = "umount %s && exec \"$@\"" % UNIFIED
        os.execvpe("unshare", ["unshare", "-m", "sh", "-c", script, "sh", sys.executable,
                               *sys.argv], dict(os.environ, OCI_BENCH_INSIDE="1"))
    box = Box(runtimes[0])
    try:
        box.config["ociVersion"] = "1.0.2"
        box.config["process"]["args"] = ["true"]
        box.write()
        side_by_side(runtimes, box)
        at_once(runtimes[0], box, int(os.environ.get("COUNT", "500")))
    finally:
        box.close()


if __name__ == "__main__":
    main()
