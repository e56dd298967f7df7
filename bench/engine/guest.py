# SPDX-License-Identifier: Apache-2.0
"""What the benchmark's guests consist of; made once into BUILD/bench/guest, again when something changed."""
import json
import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODULES = ("virtio_pci", "virtio_blk")
IMAGE = "deb:bookworm"


class Failed(Exception):
    pass


def run(command, **more):
    """@command's output; its errors in our words."""
    try:
        r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, **more)
    except FileNotFoundError:
        raise Failed("%s is missing: tools/deps build run bench" % command[0])
    if r.returncode:
        raise Failed("%s: exit status %d: %s" % (" ".join(command), r.returncode,
                                                 r.stderr.decode("latin-1").strip()[-500:]))
    return r.stdout


class Guest:
    """Paths: kernel, initrd, the disk image, the same image as a folder, data for the programs."""

    def __init__(self, build):
        self.build = build
        self.dir = os.path.join(build, "bench/guest")
        self.kernels = os.path.join(build, "kernels")
        self.kernel = os.path.join(self.kernels, "cloud/vmlinuz")
        self.initrd = os.path.join(self.dir, "initrd")
        self.tree = os.path.join(self.dir, "tree")
        self.data = os.path.join(self.dir, "data")
        self.image = self.version = None

    def program(self, name):
        return os.path.join(self.build, "bench/engine/bench_" + name)


def module_files(folder):
    """The modules' files, each behind those that it depends on."""
    files, order = {}, []
    for path, _, names in os.walk(folder):
        for n in names:
            if n.endswith(".ko"):
                files[n[:-3].replace("-", "_")] = os.path.join(path, n)

    def add(name):
        if name not in files:
            raise Failed("%s: no module %s.ko" % (folder, name))
        for d in run(["/sbin/modinfo", "-F", "depends", files[name]]).decode().strip().split(","):
            if d:
                add(d.replace("-", "_"))
        if files[name] not in order:
            order.append(files[name])

    for name in MODULES:
        add(name)
    return order


def make_initrd(g):
    root = os.path.join(g.dir, "initrd.d")
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(os.path.join(root, "modules"))
    os.makedirs(os.path.join(root, "dev"))
    shutil.copy(g.program("init"), os.path.join(root, "init"))
    shutil.copy(g.program("rows"), os.path.join(root, "rows"))
    modules = module_files(os.path.join(g.kernels, "cloud/lib/modules"))
    for path in modules:
        shutil.copy(path, os.path.join(root, "modules"))
    with open(os.path.join(root, "modules.list"), "w") as f:
        f.writelines("/modules/%s\n" % os.path.basename(m) for m in modules)
    names = sorted(os.path.relpath(os.path.join(at, n), root) for at, ds, fs in os.walk(root) for n in ds + fs)
    with open(g.initrd + ".new", "wb") as f:
        r = subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root, stdout=f,
                           input="\n".join(names).encode())
    if r.returncode:
        raise Failed("cpio: exit status %d" % r.returncode)
    os.rename(g.initrd + ".new", g.initrd)


def is_older(path, sources):
    return not os.path.exists(path) or any(os.path.getmtime(s) > os.path.getmtime(path) for s in sources)


def make(build, with_programs, say):
    g = Guest(build)
    for path in (g.program("init"), os.path.join(build, "bin/insula-vmm")):
        if not os.path.exists(path):
            raise Failed("%s is missing: run make first" % path)
    if not os.path.exists(g.kernel):
        say("fetching Debian's cloud kernel")
        run([os.path.join(ROOT, "tests/kernels/fetch"), g.kernels, "cloud"])
    g.version = os.listdir(os.path.join(g.kernels, "cloud/lib/modules"))[0]
    os.makedirs(g.dir, exist_ok=True)
    if is_older(g.initrd, [g.program("init"), g.program("rows"), g.kernel, __file__]):
        make_initrd(g)
    return g
