#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/leak.py PROGRAM [COUNT] - containers made, started, deleted: nothing may remain

Counted before and after: mounts, control groups, processes, files of the state, slab memory of
namespaces and mounts.  10,000 containers take some minutes.
"""
import os
import subprocess
import sys
import time

from oci import Box


def mine(box):
    """Processes with our state directory in their words, dead ones of ours."""
    found = 0
    for p in os.listdir("/proc"):
        try:
            if p.isdigit():
                with open("/proc/%s/cmdline" % p) as f:
                    found += box.root in f.read()
        except OSError:
            pass
    return found


def slabs():
    """Objects alive, of the kinds that a container has."""
    try:
        with open("/proc/slabinfo") as f:
            lines = [x.split() for x in f]
    except OSError:
        return {}
    return {x[0]: int(x[1]) for x in lines if x[0] in ("mnt_cache", "net_namespace", "pid_namespace",
                                                      "cgroup_namespace", "uts_namespace")}


def counts(box):
    with open("/proc/self/mountinfo") as f:
        mounts = len(f.readlines())
    used = subprocess.run(["du", "-s", box.root], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True).stdout.split()
    return {"mounts": mounts, "groups of ours": sum(
        "insula-oci.t%d-" % os.getpid() in x for d, dirs, _ in os.walk("/sys/fs/cgroup")
        for x in dirs), "processes": mine(box), "state": int(used[0]) if used else 0,
        "descriptors": len(os.listdir("/proc/self/fd"))}


def round_of(box, n):
    for _ in range(n):
        name = box.name()
        for command in (["create", "--bundle", box.bundle, name], ["start", name],
                        ["delete", "--force", name]):
            subprocess.run([box.program, "--root", box.root, *command], check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def main():
    total = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    box = Box(sys.argv[1])
    try:
        box.config["process"]["args"] = ["sleep", "1000"]
        box.write()
        round_of(box, 100)  # what the first ones leave in caches is no leak
        time.sleep(1)
        before, slab = counts(box), slabs()
        t = time.monotonic()
        round_of(box, total)
        took = time.monotonic() - t
        time.sleep(2)  # network namespaces end a little later
        after, slab_after = counts(box), slabs()
    finally:
        box.close()
    print("%d containers in %.0f s" % (total, took))
    print("before:", before, slab)
    print("after: ", after, slab_after)
    grown = {k: slab_after[k] - slab[k] for k in slab if slab_after[k] - slab[k] > total / 10}
    grown.update({k: after[k] - before[k] for k in before if after[k] > before[k]})
    if grown:
        print("LEFT BEHIND", grown)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
