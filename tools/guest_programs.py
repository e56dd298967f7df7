# SPDX-License-Identifier: Apache-2.0
"""Runs programs of this machine natively and in guests, and brings their output and status back.

Used by tools/x86-selftests and tools/qemu-tcg-tests. A guest is Debian's generic kernel, which unlike
the cloud one has 16-bit segments, with an initramfs of static busybox, the programs, and the libraries
they link. The guest writes each program's result as
a small tar to a raw disk at once, so that it arrives byte for byte, whatever the console says, and is
not lost when a later program brings the guest down. What the guest's console and log say is kept too.
"""
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VMM = os.environ.get("VMM") or os.path.join(ROOT, "build", "bin", "insula-vmm")
KERNELS = os.path.join(ROOT, "build", "kernels")
# The disk's driver and what it needs, in this order: modules in Debian's kernels.
MODULES = ["virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_blk"]
MEMORY = 2 << 30
DISK = 4 << 30  # sparse
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C"}
COMPLAINT = re.compile(r"BUG: |WARNING: |Oops: |Call Trace:|Kernel panic|rcu: INFO|soft lockup")

INIT = r"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mkdir -p /dev/shm
$b mount -t tmpfs -o mode=1777 shm /dev/shm
$b ifconfig lo up
for m in MODULES; do
	[ ! -e /modules/$m.ko ] || $b insmod /modules/$m.ko
done
sector=0
deliver() { # the files in /out
	$b tar c -C /out . > /tar
	$b dd if=/tar of=/dev/vda bs=512 seek=$sector conv=notrunc,fsync 2>/dev/null ||
		echo "@@ cannot write to the disk"
	sector=$((sector + $($b stat -c %s /tar) / 512))
	$b rm -rf /out /run/* /tar
	$b mkdir /out
}
now() {
	$b cut -d' ' -f1 /proc/uptime
}
while read -r name limit; do
	echo "@@ $name"
	start=$(now)
	cd /run
	$b env -i ENVIRONMENT $b timeout -s KILL $limit /programs/$name \
		< /dev/null > /out/$name.out 2> /out/$name.err
	echo "$? $start $(now)" > /out/$name.status
	cd /
	$b kill -9 -1 2>/dev/null
	deliver
done < /list
$b dmesg > /out/dmesg
deliver
echo "@@ done"
$b poweroff -f
"""


class Program:
    """A built program and the seconds it may take in a guest."""
    def __init__(self, path, limit=120):
        self.path, self.limit = path, limit
        self.name = os.path.basename(path)


class Result:
    """What became of a program. status: exit status as a shell tells it, "time-out" or "lost"."""
    def __init__(self, status, out=b"", err=b"", seconds=0.0):
        self.status, self.out, self.err, self.seconds = status, out, err, round(seconds, 1)

    def record(self):
        return {"status": self.status, "seconds": self.seconds, "bytes": len(self.out),
                "sha256": hashlib.sha256(self.out).hexdigest()}


def run_native(program):
    """The program on this machine."""
    with tempfile.TemporaryDirectory() as cwd, tempfile.TemporaryFile() as out, \
            tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = subprocess.Popen([program.path], cwd=cwd, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=err, start_new_session=True)
        try:
            status = child.wait(program.limit)
            status = 128 - status if status < 0 else status
        except subprocess.TimeoutExpired:
            status = "time-out"
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
        out.seek(0)
        err.seek(0)
        return Result(status, out.read(), err.read(), time.monotonic() - start)


def fetch_kernel(o):
    subprocess.run([os.path.join(ROOT, "tests", "kernels", "fetch"), o.kernels, o.kernel], check=True)


def libraries(path):
    """What the dynamic linker will look for, at the same paths; nothing for a static program."""
    done = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False)
    return set(re.findall(r"(/\S+) \(0x", done.stdout))


def make_initrd(o, work, programs):
    """An initramfs that runs @programs; its path."""
    root = os.path.join(work, "root")
    for folder in ("bin", "dev", "proc", "sys", "run", "out", "tmp", "modules", "programs"):
        os.makedirs(os.path.join(root, folder))
    shutil.copy(os.path.join(o.kernels, "root-amd64", "bin", "busybox"), os.path.join(root, "bin"))
    os.symlink("busybox", os.path.join(root, "bin", "sh"))
    for folder, _, names in os.walk(os.path.join(o.kernels, o.kernel, "lib", "modules")):
        for name in set(names) & {m + ".ko" for m in MODULES}:
            shutil.copy(os.path.join(folder, name), os.path.join(root, "modules"))
    for path in {p for program in programs for p in libraries(program.path)}:
        os.makedirs(root + os.path.dirname(path), exist_ok=True)
        shutil.copy(os.path.realpath(path), root + path)
    for program in programs:
        shutil.copy(program.path, os.path.join(root, "programs"))
    with open(os.path.join(root, "list"), "w") as f:
        f.writelines(f"{p.name} {p.limit}\n" for p in programs)
    init = INIT.replace("MODULES", " ".join(MODULES))
    init = init.replace("ENVIRONMENT", " ".join(f"{k}={v}" for k, v in ENVIRONMENT.items()))
    with open(os.path.join(root, "init"), "w") as f:
        f.write(init)
    os.chmod(os.path.join(root, "init"), 0o755)
    initrd = os.path.join(work, "initrd")
    with open(initrd, "wb") as f:
        subprocess.run("find . | cpio -o -H newc -R 0:0 --quiet", shell=True, cwd=root, stdout=f,
                       check=True)
    return initrd


def guest_command(o, where, work, initrd, disk):
    """The command that boots the guest. @where: "qemu", or an engine of Insula's."""
    kernel = os.path.join(o.kernels, o.kernel, "vmlinuz")
    append = "console=ttyS0 loglevel=1 panic=-1 vsyscall=xonly"
    if where == "qemu":
        return ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", str(o.cpus),
                "-m", str(MEMORY >> 20), "-nographic", "-no-reboot", "-kernel", kernel,
                "-initrd", initrd, "-append", append,
                "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
    description = {
        "version": 1, "name": "programs", "machine": "q35", "engine": where, "cpus": o.cpus,
        "memory": MEMORY, "kernel": kernel, "initrd": initrd, "append": append,
        "disks": [{"path": disk}], "serial": {"type": "stdio"}, "on_reboot": "exit",
    }
    path = os.path.join(work, "vm.json")
    with open(path, "w") as f:
        json.dump(description, f)
    return [VMM, "--description", path]


def read_results(disk, programs):
    """name: Result of what the guest delivered, and its kernel's log."""
    files, results = {}, {}
    with tarfile.open(disk, "r:", ignore_zeros=True) as tar:
        for member in tar:
            if member.isfile():
                files[os.path.basename(member.name)] = tar.extractfile(member).read()
    for name in (p.name for p in programs):
        if name + ".status" in files:
            status, start, end = files[name + ".status"].split()
            status = "time-out" if status == b"137" else int(status)
            results[name] = Result(status, files[name + ".out"], files[name + ".err"],
                                   float(end) - float(start))
    return results, files.get("dmesg", b"").decode("latin-1")


def run_guest(o, where, programs):
    """Boots a guest that runs @programs. Returns ({name: Result}, what its kernel complained of)."""
    with tempfile.TemporaryDirectory() as work:
        initrd = make_initrd(o, work, programs)
        disk = os.path.join(work, "disk")
        with open(disk, "wb") as f:
            f.truncate(DISK)
        command = guest_command(o, where, work, initrd, disk)
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        killer = threading.Timer(o.guest_limit, child.kill)
        killer.start()
        console = []
        for line in child.stdout:
            line = line.decode("latin-1").rstrip()
            console.append(line)
            if line.startswith("@@ ") and sys.stderr.isatty():
                print(f"\r\033[K{where}: {line[3:]}", end="", file=sys.stderr, flush=True)
        child.wait()
        killer.cancel()
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        results, log = read_results(disk, programs)
    complaints = [l for l in log.splitlines() if COMPLAINT.search(l)]
    if "@@ done" not in console:
        complaints.append(f"the guest ended early, status {child.returncode}")
        complaints += console[-15:]
    for program in programs:
        results.setdefault(program.name, Result("lost"))
    return results, complaints


def add_arguments(parser):
    parser.add_argument("--on", default="insula,qemu", help="guests: insula, qemu")
    parser.add_argument("--engine", default="soft", help="Insula's engine")
    parser.add_argument("--only", default="", help="names of programs, with commas")
    parser.add_argument("--limit", type=int, default=600, help="seconds a program may take in a guest")
    parser.add_argument("--guest-limit", type=int, default=7200, help="seconds for a guest")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--kernel", default="generic", help="guests' kernel, of those in --kernels")
    parser.add_argument("--kernels", default=KERNELS, help="what tests/kernels/fetch filled")
    parser.add_argument("--json", help="write all results here")
    parser.add_argument("--old", help="results of an earlier --json, for columns not run now")
    parser.add_argument("--markdown", help="write the table here")
    parser.add_argument("--keep", help="folder for the programs' output, by machine")


def guests(options):
    """The guests to run: pairs of a column's name and run_guest's @where."""
    names = {"insula": (f"Insula {options.engine}", options.engine), "qemu": ("QEMU TCG", "qemu")}
    for name in options.on.split(","):
        if name not in names:
            raise SystemExit(f"--on: no guest '{name}'")
        yield names[name]


def choose(programs, options):
    only = set(filter(None, options.only.split(",")))
    unknown = only - {p.name for p in programs}
    if unknown:
        raise SystemExit(f"--only: no program {', '.join(sorted(unknown))}")
    return [p for p in programs if not only or p.name in only]


def keep(options, column, results):
    """Leaves outputs in the folder of --keep, to look at differences."""
    if not options.keep:
        return
    folder = os.path.join(options.keep, column.replace(" ", "-"))
    os.makedirs(folder, exist_ok=True)
    for name, result in results.items():
        for kind, data in (("out", result.out), ("err", result.err)):
            with open(os.path.join(folder, f"{name}.{kind}"), "wb") as f:
                f.write(data)


def all_columns(table):
    """native, Insula's engines, QEMU: what the rows of @table have."""
    return ["native"] + sorted({c for row in table.values() for c in row} - {"native"})


def write_table(path, columns, rows):
    """A markdown table to the file @path, if given."""
    if path:
        with open(path, "w") as f:
            f.write("| %s |\n%s|\n" % (" | ".join(columns), "|---" * len(columns)))
            f.writelines("| %s |\n" % " | ".join(str(c) for c in row) for row in rows)
