#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots Debian's own kernels on insula-vmm and waits for their init's GUEST-OK and a clean power-off.

    tests/kernels/boot.py VMM KERNELS [--engine soft] [--compare] [NAME...]

KERNELS is the folder that tests/kernels/fetch filled. --compare also boots each under QEMU's TCG, for the
table in docs. Exit status 1 if one did not come up; 77 if none is there.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1 << 20
# name: kernel folder, architecture of the initrd, CPUs, memory, extra command line
CASES = {
    "cloud": ("cloud", "amd64", 1, 512, ""),
    "cloud-4cpu": ("cloud", "amd64", 4, 512, ""),
    "cloud-6g": ("cloud", "amd64", 1, 6144, ""),
    "cloud-noacpi": ("cloud", "amd64", 1, 512, "acpi=off"),
    "cloud-noapic": ("cloud", "amd64", 1, 512, "acpi=off noapic nolapic"),
    "generic": ("generic", "amd64", 1, 1024, ""),
    "rt-2cpu": ("rt", "amd64", 2, 1024, ""),
    "686": ("686", "i386", 1, 512, ""),
    "686-pae-5g": ("686-pae", "i386", 1, 5120, ""),
    "backports": ("backports", "amd64", 1, 1024, ""),
    "backports-cloud": ("backports-cloud", "amd64", 1, 512, ""),
}


def run(command, timeout):
    """Output, exit status and seconds. Without ACPI a guest cannot switch off: its last word ends it."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    killer = threading.Timer(timeout, child.kill)
    killer.start()
    output, status = "", None
    for line in child.stdout:
        output += line.decode("latin-1")
        if b"reboot: System halted" in line:
            status = "halted"
            child.kill()
    child.wait()
    killer.cancel()
    if status is None:
        status = "time-out" if child.returncode == -9 else child.returncode
    return output, status, time.monotonic() - start


def insula(o, case):
    folder, arch, cpus, memory, extra = CASES[case]
    description = {
        "version": 1, "name": case, "machine": o.machine, "engine": o.engine, "cpus": cpus,
        "memory": memory * MIB, "kernel": os.path.join(o.kernels, folder, "vmlinuz"),
        "initrd": os.path.join(o.kernels, "initrd-" + arch),
        "append": "console=ttyS0 panic=-1 " + extra, "serial": {"type": "stdio"},
        "on_reboot": "exit",
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(description, f)
        f.flush()
        return run([o.vmm, "--description", f.name], o.timeout)


def qemu(o, case):
    folder, arch, cpus, memory, extra = CASES[case]
    return run(["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", str(cpus),
                "-m", str(memory), "-nographic", "-no-reboot",
                "-kernel", os.path.join(o.kernels, folder, "vmlinuz"),
                "-initrd", os.path.join(o.kernels, "initrd-" + arch),
                "-append", "console=ttyS0 panic=-1 " + extra], o.timeout)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("vmm")
    ap.add_argument("kernels")
    ap.add_argument("names", nargs="*", default=[])
    ap.add_argument("--engine", default="soft")
    ap.add_argument("--machine", default="q35")
    ap.add_argument("--timeout", type=int, default=240)
    ap.add_argument("--compare", action="store_true")
    o = ap.parse_intermixed_args()
    ran = failed = 0
    for case in o.names or CASES:
        folder, _, cpus, memory, _ = CASES[case]
        if not os.path.exists(os.path.join(o.kernels, folder, "vmlinuz")):
            continue
        ran += 1
        output, status, seconds = insula(o, case)
        seen = re.search(r"CPUS (\d+)", output)
        mem = re.search(r"MEMORY (\d+)", output)
        end = "halted" if "acpi=off" in CASES[case][4] else 0
        ok = "GUEST-OK" in output and status == end and seen and int(seen[1]) == cpus
        # 32-bit kernels without high memory aside, most of the memory must be there.
        ok = ok and mem and int(mem[1]) > memory * 1024 * 0.8
        up = re.search(r"UP ([\d.]+)", output)
        line = "%-16s %s  %.1f s, kernel to init %s s" % (case, "ok" if ok else "FAILED", seconds,
                                                          up[1] if up else "-")
        if o.compare:
            qout, _, qseconds = qemu(o, case)
            qup = re.search(r"UP ([\d.]+)", qout)
            line += "; QEMU TCG %s %.1f s, to init %s s" % (
                "ok" if "GUEST-OK" in qout else "FAILED", qseconds, qup[1] if qup else "-")
        print(line, flush=True)
        if not ok:
            failed += 1
            print("  exit status %s; last lines:\n    %s" %
                  (status, "\n    ".join(output.splitlines()[-15:])), flush=True)
    return 77 if not ran else failed > 0


if __name__ == "__main__":
    sys.exit(main())
