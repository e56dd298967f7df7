#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/state.py BIN [N...] - save, restore and fork of a 1 GiB Debian guest, in milliseconds and MiB

Forks of N children at one instant (1, 10, 100); memory by what parent and children together use (Pss) more
than the parent alone before, five seconds after the fork.  A Markdown table.
"""
import os, shutil, statistics, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../tests/state")
from machine import Machine, debian, overlay, scratch

ROUNDS = 5
BIN = os.path.abspath(sys.argv[1])
COUNTS = [int(n) for n in sys.argv[2:]] or [1, 10, 100]
INSULA, VMM = BIN + "/insula", BIN + "/insula-vmm"
temp = scratch()


def pss(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/smaps_rollup") if line.startswith("Pss:")) / 1024


def row(what, values, unit="ms"):
    print(f"| {what} | {statistics.median(values):.1f} | {max(values):.1f} | {unit} |", flush=True)


def machine(description, name):
    d = dict(description)
    d["disks"] = [dict(disk) for disk in d["disks"]]
    os.makedirs(f"{temp}/{name}")
    overlay(INSULA, d["disks"][0], os.path.getsize(d["disks"][0]["path"]), f"{temp}/{name}/disk.qcow2")
    m = Machine(VMM, d, f"{temp}/{name}")
    m.sh("sync; sleep 1")
    return m


def save_and_restore(description):
    m = machine(description, "saved")
    saves = [m.save(temp + "/state", pause=True) for _ in range(ROUNDS)]
    m.save(temp + "/packed", pause=True, compress=True)
    d = m.control.call("describe")["description"]
    m.stop()
    row("save: guest stands still", [s["stall_ms"] for s in saves])
    row("save: file written", [s["total_ms"] for s in saves])
    for name in ("state", "packed"):
        restore(d, name)


def restore(d, name):
    """From a file in the host's cache."""
    ready, answered = [], []
    for i in range(ROUNDS):
        begin = time.time()
        back = Machine(VMM, d, f"{temp}/{name}{i}-back", restore=f"{temp}/{name}")
        try:
            ready.append(back.start_ms)
            back.sh("true")
            answered.append((time.time() - begin) * 1000)
        finally:
            back.stop()
    row(f"{name}: file", [os.stat(f"{temp}/{name}").st_blocks / 2048], "MiB")
    row(f"{name}: process started to guest running", ready)
    row(f"{name}: a command has run in the guest", answered)


def forks(description, n):
    m = machine(description, f"parent{n}")
    before = pss(m.p.pid)
    children, answer = m.fork(INSULA, [f"{temp}/fork{n}-{i}" for i in range(n)])
    try:
        time.sleep(5)
        shares = [pss(c.pid) for c in children]
        row(f"fork of {n}: parent stands still", [answer["stall_ms"]])
        row(f"fork of {n}: request to child running", [c["ms"] for c in answer["children"]])
        row(f"fork of {n}: more memory a child, idle", [(pss(m.p.pid) + sum(shares) - before) / n], "MiB")
        begin = time.time()
        for child in children:
            child.sh("true")
        row(f"fork of {n}: all have run a command", [(time.time() - begin) * 1000])
    finally:
        for child in children:
            child.stop()
        m.stop()


try:
    print("| | median | most | |\n|---|---|---|---|")
    description = debian(INSULA, temp)
    save_and_restore(description)
    for n in COUNTS:
        forks(description, n)
finally:
    shutil.rmtree(temp, ignore_errors=True)
