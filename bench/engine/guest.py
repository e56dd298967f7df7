# SPDX-License-Identifier: Apache-2.0
"""What the benchmark's guests consist of, in BUILD/bench/guest: small things made for every run, the Debian once."""
import json
import os
import random
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODULES = ("virtio_pci", "virtio_blk")
IMAGE = "deb:bookworm"
PACKAGES = ("bzip2", "gcc", "libc6-dev", "lua5.4", "make", "openssl", "python3-minimal", "sqlite3", "xz-utils",
            "zstd")


class Failed(Exception):
    pass


def run(command, **more):
    """@command's output; its errors in our words."""
    try:
        r = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, **more)
    except FileNotFoundError:
        raise Failed("%s is missing: tools/deps build run bench installs it" % command[0])
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
        self.initrd_programs = self.initrd + "-programs"
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


def make_cpio(path, put):
    """An initramfs at @path of the files that @put(root) puts into a folder, all of them root's."""
    root = path + ".d"
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(os.path.join(root, "dev"))
    put(root)
    names = sorted(os.path.relpath(os.path.join(at, n), root) for at, ds, fs in os.walk(root) for n in ds + fs)
    with open(path + ".new", "wb") as f:
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root, stdout=f,
                       input="\n".join(names).encode(), check=True)
    os.rename(path + ".new", path)
    shutil.rmtree(root)


def make_initrds(g, with_programs):
    def put_rows(root):
        shutil.copy(g.program("init"), os.path.join(root, "init"))
        shutil.copy(g.program("rows"), os.path.join(root, "rows"))

    def put_programs(root):
        shutil.copy(g.program("init"), os.path.join(root, "init"))
        shutil.copy(g.program("programs"), os.path.join(root, "programs"))
        shutil.copytree(g.data, os.path.join(root, "data"))
        os.makedirs(os.path.join(root, "modules"))
        modules = module_files(os.path.join(g.kernels, "cloud/lib/modules"))
        with open(os.path.join(root, "modules.list"), "w") as f:
            for path in modules:
                shutil.copy(path, os.path.join(root, "modules"))
                f.write("/modules/%s\n" % os.path.basename(path))

    make_cpio(g.initrd, put_rows)
    if with_programs:
        make_cpio(g.initrd_programs, put_programs)


def make_text(path, size):
    """Words of a made-up language, always the same."""
    r = random.Random(1)
    words = ["".join(r.choice("abcdefghijklmnoprstuvwxyz") for _ in range(r.randint(2, 9))) for _ in range(5000)]
    out, n = [], 0
    while n < size:
        line = " ".join(r.choices(words, k=r.randint(4, 14))) + "\n"
        out.append(line)
        n += len(line)
    with open(path, "w") as f:
        f.write("".join(out))


def make_sql(path):
    with open(path, "w") as f:
        f.write("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INTEGER);\nBEGIN;\n")
        f.writelines("INSERT INTO t VALUES (%d, 'name %d', %d);\n" % (i, i * 7919 % 20000, i * 31 % 997)
                     for i in range(20000))
        f.write("COMMIT;\nCREATE INDEX i ON t (name);\n"
                "SELECT n % 10, count(*), sum(n), max(name) FROM t GROUP BY 1 ORDER BY 1;\n")


def make_data(g, rows):
    """What the programs work on: /mnt to them, on the host as in the guests."""
    text = os.path.join(g.data, "text")
    if not os.path.exists(text + ".xz") or os.path.getmtime(text + ".xz") < os.path.getmtime(__file__):
        shutil.rmtree(g.data, ignore_errors=True)
        os.makedirs(g.data)
        make_text(text, 8000000)
        make_sql(os.path.join(g.data, "sql"))
        run(["xz", "-k", "-3", text])
    for part in ("commands", "src", "make"):
        shutil.rmtree(os.path.join(g.data, part), ignore_errors=True)
    os.makedirs(os.path.join(g.data, "commands"))
    for r in rows:
        with open(os.path.join(g.data, "commands", r.name), "w") as f:
            f.write(r.command + "\n")
    for layer in ("base", "device", "bus", "guest"):
        shutil.copytree(os.path.join(ROOT, "src", layer), os.path.join(g.data, "src", layer))
    made = os.path.join(g.data, "make")
    os.makedirs(made)
    for n in ("integers.c", "floats.c", "memory.c", "calls.c", "rows.c", "rows.h"):
        shutil.copy(os.path.join(HERE, n), made)
    with open(os.path.join(made, "Makefile"), "w") as f:
        f.write("CFLAGS = -O2 -D_GNU_SOURCE\nall.a: integers.o floats.o memory.o calls.o rows.o\n"
                "\tar rcD $@ $^\n")


def make_image(g, say):
    """Debian with the programs, as Insula makes images; its files again as a folder for the host."""
    name = "+".join((IMAGE, *PACKAGES))
    insula = os.path.join(g.build, "bin/insula")
    say("making the image with the programs, if it is not there")
    run([insula, "image", "build", name])
    g.image = json.loads(run([insula, "image", "inspect", "--json", name]))["root"]
    stamp = os.path.join(g.dir, "tree.of")
    of = "%s %d" % (g.image, os.stat(g.image).st_mtime_ns)
    if os.path.exists(stamp) and open(stamp).read() == of:
        return
    say("unpacking it for the host")
    shutil.rmtree(g.tree, ignore_errors=True)
    os.makedirs(g.tree)
    run(["/sbin/debugfs", "-R", "rdump / " + g.tree, g.image])
    with open(stamp, "w") as f:
        f.write(of)


def make(build, programs, say):
    """Everything that guests with these @programs (rows of the table) need; @say tells what takes time."""
    g = Guest(build)
    for path in [g.program(n) for n in ("init", "rows", "programs")] + [os.path.join(build, "bin/insula-vmm")]:
        if not os.path.exists(path):
            raise Failed("%s is missing: run make first" % path)
    if not os.path.exists(g.kernel):
        say("fetching Debian's cloud kernel")
        run([os.path.join(ROOT, "tests/kernels/fetch"), g.kernels, "cloud"])
    g.version = os.listdir(os.path.join(g.kernels, "cloud/lib/modules"))[0]
    os.makedirs(g.dir, exist_ok=True)
    if programs:
        make_image(g, say)
        make_data(g, programs)
    make_initrds(g, bool(programs))
    return g
