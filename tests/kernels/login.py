#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Boots a Debian from its disk up to the login prompt: bash, perl, dpkg, then agetty on the console.

    tests/kernels/login.py VMM KERNELS DISK [--engine soft] [--timeout 300]

KERNELS is the folder that tests/kernels/fetch filled (cloud). DISK is root.ext4 of the image deb:bookworm, in the
folder that `insula image list` names below the cache's images; what is written to it is dropped. Exit status 1 if
there was no prompt.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

MODULES = ["virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_blk"]
INIT = r"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for m in MODULES; do $b insmod /$m.ko; done
$b mount -t ext4 /dev/vda /disk
$b mount -t devtmpfs dev /disk/dev
$b mount -t proc proc /disk/proc
$b chroot /disk /bin/bash -c "echo bash \$BASH_VERSION; perl -e 'print 6*7, qq(\\n)'; dpkg -l bash | tail -1"
exec $b chroot /disk /usr/sbin/agetty --noclear -L ttyS0 115200 vt100
"""


def make_initrd(kernels, work):
    root = os.path.join(work, "root")
    for folder in ("bin", "dev", "disk"):
        os.makedirs(os.path.join(root, folder))
    shutil.copy(os.path.join(kernels, "root-amd64", "bin", "busybox"), os.path.join(root, "bin"))
    for folder, _, names in os.walk(os.path.join(kernels, "cloud", "lib", "modules")):
        for name in set(names) & {m + ".ko" for m in MODULES}:
            shutil.copy(os.path.join(folder, name), root)
    with open(os.path.join(root, "init"), "w") as f:
        f.write(INIT.replace("MODULES", " ".join(MODULES)))
    os.chmod(os.path.join(root, "init"), 0o755)
    path = os.path.join(work, "initrd")
    with open(path, "wb") as f:
        subprocess.run("find . | cpio -o -H newc -R 0:0 --quiet", shell=True, cwd=root, stdout=f,
                       check=True)
    return path


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def boot(o, work):
    """What the console said, and the VMM's CPU seconds if it ended with the prompt."""
    description = {
        "version": 1, "name": "login", "machine": "q35", "engine": o.engine, "cpus": 1,
        "memory": 512 << 20, "kernel": os.path.join(o.kernels, "cloud", "vmlinuz"),
        "initrd": make_initrd(o.kernels, work), "append": "console=ttyS0 panic=-1",
        "disks": [{"path": os.path.abspath(o.disk), "format": "raw", "overlay": True}],
        "serial": {"type": "stdio"}, "on_reboot": "exit",
    }
    path = os.path.join(work, "vm.json")
    with open(path, "w") as f:
        json.dump(description, f)
    child = subprocess.Popen([o.vmm, "--description", path], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    killer = threading.Timer(o.timeout, child.kill)
    killer.start()
    output, seconds = b"", None
    while seconds is None:
        some = os.read(child.stdout.fileno(), 4096)
        if not some:
            break
        output += some
        if output.endswith(b" login: "):
            seconds = cpu_seconds(child.pid)
    killer.cancel()
    child.terminate()
    child.wait()
    return output.decode("latin-1"), seconds


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("vmm")
    ap.add_argument("kernels")
    ap.add_argument("disk")
    ap.add_argument("--engine", default="soft")
    ap.add_argument("--timeout", type=int, default=300)
    o = ap.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        output, seconds = boot(o, work)
    if seconds is None:
        print("no prompt; last lines:\n    " + "\n    ".join(output.splitlines()[-15:]))
        return 1
    good = "\n42\r" in output and "ii  bash" in output
    print(f"login prompt after {time.monotonic() - start:.0f} s, {seconds:.1f} s of CPU time" +
          ("" if good else "; but perl or dpkg did not say what they should"))
    return not good


if __name__ == "__main__":
    sys.exit(main())
