#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tests/unit/cli/cli_disk.py INSULA - insula disk: what it makes, says and refuses
import json, os, random, shutil, subprocess, sys, tempfile, time

insula = os.path.abspath(sys.argv[1])
failures = 0
temp = tempfile.mkdtemp(prefix="insula-disk-", dir="/var/tmp")
os.chdir(temp)


def check(name, good, detail=""):
    global failures
    if not good:
        failures += 1
        print(f"{name}: {detail}")


def disk(*args, status=0, words=""):
    r = subprocess.run([insula, "disk", *args], capture_output=True, text=True, timeout=100,
                       stdin=subprocess.DEVNULL)
    name = "insula disk " + " ".join(args)
    check(name, r.returncode == status, f"status {r.returncode}: {r.stderr}")
    check(name, words in r.stderr, f"no '{words}' in {r.stderr}")
    return r.stdout


def info(*args):
    return json.loads(disk("info", "--json", *args))


def same(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


# Three stretches of data, the last one at the very end.
random.seed(7)
with open("r.raw", "wb") as f:
    f.write(random.randbytes(300000))
    f.seek(5 << 20)
    f.write(b"text that compresses well " * 20000)
    f.seek((20 << 20) - 512)
    f.write(b"e" * 512)

disk("convert", "r.raw", "a.qcow2")
disk("convert", "a.qcow2", "a.raw")
check("convert", same("r.raw", "a.raw"), "copies differ")
for how in ("zlib", "zstd"):
    disk("convert", "--compress", "--compression", how, "r.raw", f"{how}.qcow2")
    disk("convert", f"{how}.qcow2", f"{how}.raw")
    check(how, same("r.raw", f"{how}.raw"), "copies differ")
    check(how, os.path.getsize(f"{how}.qcow2") < os.path.getsize("a.qcow2"), "is no smaller")
    check(how, info(f"{how}.qcow2")["compression"] == how, info(f"{how}.qcow2"))
disk("convert", "a.qcow2", "a.raw", status=114, words="File exists")
disk("convert", "--force", "a.qcow2", "a.raw")

# A chain, with names relative to the image.
os.mkdir("sub")
disk("create", "--backing", "../a.qcow2", "sub/b.qcow2")
i = info("sub/b.qcow2")
check("backing", i["size"] == 20 << 20 and i["backing"] == "../a.qcow2" and
      i["backing_format"] == "qcow2", i)
disk("convert", "sub/b.qcow2", "b.raw")
check("backing", same("r.raw", "b.raw"), "differs")
disk("create", "--backing", "nothing.qcow2", "c.qcow2", status=114, words="No such file")
check("create", not os.path.exists("c.qcow2"), "left behind")

# Sizes.
disk("create", "s.qcow2", "1G")
disk("create", "s.qcow2", "1G", status=114, words="File exists")
disk("resize", "s.qcow2", "+1G")
check("resize", info("s.qcow2")["size"] == 2 << 30, info("s.qcow2"))
disk("resize", "s.qcow2", "512M", status=114, words="--shrink")
disk("resize", "--shrink", "s.qcow2", "512M")
check("resize", info("s.qcow2")["size"] == 512 << 20, info("s.qcow2"))
disk("resize", "--shrink", "a.qcow2", "10M", status=114, words="data behind the new end")
disk("resize", "--shrink", "r.raw", "10M", status=114, words="data behind the new end")
disk("create", "s.raw", "1M")
disk("resize", "s.raw", "3M")
check("resize", os.path.getsize("s.raw") == 3 << 20, os.path.getsize("s.raw"))
disk("create", "--cluster-size", "3K", "x.qcow2", "1M", status=110, words="power of two")
disk("create", "--version", "2", "--refcount-bits", "8", "x.qcow2", "1M", status=114,
     words="16-bit")
disk("create", "x.qcow2", "1000", status=114, words="multiple of 512")

# Snapshots.
disk("snapshot", "create", "a.qcow2", "one")
disk("snapshot", "create", "a.qcow2", "one", status=114, words="already")
names = [s["name"] for s in json.loads(disk("snapshot", "list", "--json", "a.qcow2"))]
check("snapshot", names == ["one"], names)
disk("snapshot", "apply", "a.qcow2", "one")
disk("snapshot", "delete", "a.qcow2", "two", status=114, words="no snapshot 'two'")
disk("snapshot", "delete", "a.qcow2", "1")
disk("snapshot", "forget", "a.qcow2", "1", status=110, words="no such action")
found = json.loads(disk("check", "--json", "a.qcow2"))
check("check", found["corruptions"] == found["leaks"] == found["flags"] == 0, found)

# Damage: a cluster in use that is counted as free.
with open("a.qcow2", "r+b") as f:
    f.seek(48)
    table = int.from_bytes(f.read(8), "big")
    f.seek(table)
    block = int.from_bytes(f.read(8), "big")
    f.seek(block + 2 * 5)
    f.write(bytes(2))
disk("check", "a.qcow2", status=114)
disk("check", "--repair", "a.qcow2")
disk("check", "a.qcow2")
disk("convert", "--force", "a.qcow2", "a.raw")
check("repair", same("r.raw", "a.raw"), "differs")

# The name says the format, the content does not.
shutil.copy("a.qcow2", "named.img")
disk("info", "named.img", status=114, words="give its format")
check("format", info("--format", "qcow2", "named.img")["size"] == 20 << 20)
check("format", info("--format", "raw", "named.img")["size"] == os.path.getsize("named.img"))
disk("info", "--format", "vmdk", "named.img", status=114, words="not supported")

# In use.
p = subprocess.Popen([sys.executable, "-c", """
import fcntl, struct, time
f = open("a.qcow2", "r+b")
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
print("locked", flush=True)
time.sleep(100)"""], stdout=subprocess.PIPE)
p.stdout.readline()
disk("snapshot", "create", "a.qcow2", "two", status=115, words="in use")
disk("info", "a.qcow2", status=115, words="in use")
disk("create", "--force", "a.qcow2", "1M", status=115, words="in use")
p.kill()
p.wait()

# A copy that is stopped leaves nothing.
with open("big.raw", "wb") as f:
    for n in range(20 << 10):  # holes are quick
        f.seek(n << 20)
        f.write(b"x" * 4096)
p = subprocess.Popen([insula, "disk", "convert", "big.raw", "big.qcow2"],
                     stderr=subprocess.DEVNULL)
while p.poll() is None and not [n for n in os.listdir(".") if n.startswith("big.qcow2")]:
    time.sleep(0.01)
p.terminate()
check("cancel", p.wait(60) == 128 + 15, p.returncode)
check("cancel", not [n for n in os.listdir(".") if n.startswith("big.qcow2")], os.listdir("."))

# Other formats, where qemu-img is.
if shutil.which("qemu-img"):
    for f in ("vmdk", "vdi", "vhdx"):
        name = f"./-o nbd:{f} ;.{f}"
        disk("convert", "zstd.qcow2", name)
        disk("convert", name, f"{f}.raw")
        check(f, same("r.raw", f"{f}.raw"), "copies differ")
    # A list of extents may not lead out of its directory.
    with open("evil.vmdk", "w") as f:
        f.write('# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n'
                'createType="monolithicFlat"\nRW 8 FLAT "/etc/../etc/passwd" 0\n'
                'ddb.geometry.cylinders = "1"\nddb.geometry.heads = "1"\n'
                'ddb.geometry.sectors = "8"\nddb.adapterType = "ide"\n')
    disk("convert", "evil.vmdk", "evil.raw", status=114)
    check("evil", not os.path.exists("evil.raw"), "made")
shutil.rmtree(temp)
sys.exit(1 if failures else 0)
