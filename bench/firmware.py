#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/firmware.py BUILD [RUNS] - from process start to what firmware shows first, beside QEMU's TCG

BIOS: SeaBIOS has started GRUB from a CD ("Booting from 0000:7c00" on port 402h). UEFI: OVMF's Shell> on
the serial line, with an empty variable store. Both sides take turns, both under nice.
"""
import json, os, shutil, statistics, subprocess, sys, tempfile, time

VMM = os.path.join(sys.argv[1], "bin/insula-vmm")
RUNS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
ISO = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
OVMF = "/usr/share/OVMF/OVMF_%s_4M.fd"
PATIENCE = 120
temp = tempfile.mkdtemp(prefix="insula-bench-")
log, variables = os.path.join(temp, "log"), os.path.join(temp, "vars.fd")
QEMU = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-m", "256", "-display", "none", "-net", "none"]


def insula(kind):
    d = {"firmware": kind, "memory": 256 << 20}
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
    shutil.copy(OVMF % "VARS", variables)
    return QEMU + ["-serial", f"file:{log}",
                   "-drive", "if=pflash,format=raw,readonly=on,file=" + OVMF % "CODE",
                   "-drive", f"if=pflash,format=raw,file={variables}"]


def measure(command, pattern):
    if os.path.exists(log):
        os.unlink(log)
    start = time.monotonic()
    p = subprocess.Popen(["nice", "-n", "12", *command], stderr=subprocess.DEVNULL)
    try:
        while not (os.path.exists(log) and pattern in open(log, "rb").read()):
            if time.monotonic() - start > PATIENCE or p.poll() is not None:
                raise SystemExit(f"no {pattern} from {command[0]}")
            time.sleep(0.01)
        return time.monotonic() - start
    finally:
        p.kill()
        p.wait()


def main():
    for kind, pattern in ("bios", b"Booting from 0000:7c00"), ("uefi", b"Shell> "):
        times = [(measure(insula(kind), pattern), measure(qemu(kind), pattern)) for _ in range(RUNS)]
        ours, theirs = (statistics.median(t[i] for t in times) for i in (0, 1))
        print(f"{kind}: insula {ours:.2f} s, QEMU TCG {theirs:.2f} s, median of {RUNS}: {ours / theirs:.2f}")
    shutil.rmtree(temp)


if __name__ == "__main__":
    main()
