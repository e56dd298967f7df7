#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/firmware.py BUILD [RUNS] [DISK] - from process start to what firmware shows first, beside QEMU's TCG

BIOS: SeaBIOS has started GRUB from a CD ("Booting from 0000:7c00" on port 402h). UEFI: OVMF's Shell> on
the serial line, with an empty variable store. With DISK, a raw image that talks to the serial line as
that of tests/pc/disk.py (build/pc/debian.img of `make check-pc`): by BIOS from virtio to its boot loader's
menu, and to login. Both sides take turns, both under nice.
"""
import json, os, shutil, statistics, subprocess, sys, tempfile, time

VMM = os.path.join(sys.argv[1], "bin/insula-vmm")
RUNS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
ISO = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
OVMF = "/usr/share/OVMF/OVMF_%s_4M.fd"
DISK = sys.argv[3] if len(sys.argv) > 3 else None
PATIENCE = 900
temp = tempfile.mkdtemp(prefix="insula-bench-")
log, variables = os.path.join(temp, "log"), os.path.join(temp, "vars.fd")
QEMU = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "256", "-display", "none", "-net", "none"]


def insula(kind):
    d = {"firmware": kind, "memory": 256 << 20}
    if kind == "disk":
        d = {"firmware": "bios", "memory": 1 << 30, "disks": [{"path": DISK, "format": "raw", "overlay": True}]}
    if kind == "bios":
        d["disks"] = [{"cdrom": True, "path": ISO}]
    d["firmware_log" if kind == "bios" else "serial"] = {"type": "file", "path": log}
    path = os.path.join(temp, "vm.json")
    with open(path, "w") as f:
        json.dump(d, f)
    return [VMM, "--description", path]


def qemu(kind):
    if kind == "bios":
        return QEMU + ["-boot", "d", "-cdrom", ISO, "-chardev", f"file,id=log,path={log}",
                       "-device", "isa-debugcon,iobase=0x402,chardev=log"]
    if kind == "disk":
        return QEMU + ["-m", "1024", "-serial", f"file:{log}",
                       "-drive", f"file={DISK},format=raw,if=virtio,snapshot=on"]
    shutil.copy(OVMF % "VARS", variables)
    return QEMU + ["-serial", f"file:{log}",
                   "-drive", "if=pflash,format=raw,readonly=on,file=" + OVMF % "CODE",
                   "-drive", f"if=pflash,format=raw,file={variables}"]


def measure(command, *patterns):
    """Seconds until each of the patterns, which come in this order."""
    times = []
    if os.path.exists(log):
        os.unlink(log)
    start = time.monotonic()
    p = subprocess.Popen(["nice", "-n", "12", *command], stderr=subprocess.DEVNULL)
    try:
        while len(times) < len(patterns):
            if os.path.exists(log) and patterns[len(times)] in open(log, "rb").read():
                times.append(time.monotonic() - start)
                continue
            if time.monotonic() - start > PATIENCE or p.poll() is not None:
                raise SystemExit(f"no {patterns[len(times)]} from {command[0]}")
            time.sleep(0.01)
        return times
    finally:
        p.kill()
        p.wait()


def main():
    for kind, *patterns in (("bios", b"Booting from 0000:7c00"), ("uefi", b"Shell> "),
                            ("disk", b"GNU GRUB", b"login: ")):
        if kind == "disk" and not DISK:
            continue
        times = [(measure(insula(kind), *patterns), measure(qemu(kind), *patterns)) for _ in range(RUNS)]
        for i, pattern in enumerate(patterns):
            ours, theirs = (statistics.median(t[side][i] for t in times) for side in (0, 1))
            print(f"{kind}, {pattern.decode()}: insula {ours:.2f} s, QEMU TCG {theirs:.2f} s, median of "
                  f"{RUNS}: {ours / theirs:.2f}", flush=True)
    shutil.rmtree(temp)


if __name__ == "__main__":
    main()
