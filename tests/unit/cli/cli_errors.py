#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tests/unit/cli/cli_errors.py INSULA - bad input gets one clear line and its own exit status
import json, os, re, subprocess, sys, tempfile

insula = sys.argv[1]
temp = tempfile.TemporaryDirectory()
env = dict(os.environ, XDG_CACHE_HOME=temp.name, XDG_DATA_HOME=temp.name, XDG_RUNTIME_DIR=temp.name)
failures = 0


def check(name, good, detail):
    global failures
    if not good:
        failures += 1
        print(f"{name}: {detail}")


def run(*args):
    return subprocess.run([insula, *args], env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)


def bad(status, words, *args):
    r = run(*args)
    lines = r.stderr.splitlines()
    name = "insula " + " ".join(args)
    check(name, r.returncode == status, f"status {r.returncode}, not {status}: {r.stderr}")
    check(name, len(lines) == 1 and lines[0].startswith("insula: error: "), f"said {lines}")
    check(name, words in r.stderr, f"no '{words}' in {lines}")
    check(name, r.stdout == "", f"stdout: {r.stdout}")


bad(110, "did you mean '--memory'", "run", "--memroy", "1G", "x")
bad(110, "needs a value", "run", "--memory")
bad(110, "which image", "run")
bad(110, "-- ls", "run", "deb:bookworm", "ls")
bad(110, "not one of auto, kvm, soft, jit, interp", "run", "--engine", "turbo", "x")
bad(110, "1 to 64", "run", "--cpus", "0", "x")
bad(110, "no IMAGE", "run", "--firmware", "bios", "deb:bookworm")
bad(110, "is for firmware", "run", "--boot", "cdrom", "deb:bookworm")
bad(110, "not disk, cdrom, network or menu", "run", "--firmware", "bios", "--boot", "usb")
bad(110, "not none, text or vnc", "run", "--firmware", "bios", "--display", "gtk")
bad(110, "need --machine q35", "run", "--machine", "micro", "--firmware", "uefi")
bad(112, "No such file", "run", "--firmware", "/none/bios.bin")
bad(114, "No such file", "run", "--cdrom", "/none.iso")
bad(114, "No such file", "run", "--disk", "/none/x.img,size=1M")
bad(110, "not size=SIZE", "run", "--disk", "x,bus=ide")
bad(114, "a disc must be raw", "run", "--cdrom", "disc.qcow2")
bad(114, "a disc must be raw", "insert", "nobody", "disc.qcow2")
bad(125, "no machine named 'nobody'", "keys", "nobody", "enter")
bad(125, "no machine named 'nobody'", "screenshot", "--text", "nobody")
bad(110, "which machine", "screenshot")
bad(110, "is none", "run", "--net", "none", "--publish", "80:80", "deb:bookworm")
bad(110, "did you mean 'doctor'", "docter")
bad(110, "build, list, inspect", "image", "destroy")
bad(111, "not found", "run", "no-such-image")
bad(111, "No such file", "run", "./nowhere")
bad(111, "not found", "image", "inspect", "no-such-image")
bad(111, "neither a directory", "run", insula + "-agent") if os.path.getsize(
    insula + "-agent") % 512 else None
bad(112, "No such file", "run", "--kernel", "/nowhere/vmlinuz")
bad(113, "more than this host", "run", "--memory", "999T", "x")
bad(113, "too little", "run", "--memory", "1M", "x")
bad(114, "No such file", "run", "--disk", "/nowhere.raw", "x")

bad(110, "not a size", "run", "--memory", " -5", "x")
bad(110, "too large", "run", "--memory", "9" * 30, "x")
for value in "80", "0:80", "80:99999", "a:b:80:80", "80:80/sctp":
    bad(110, "--publish", "run", "--publish", value, "x")
for value in "/tmp", "/tmp:mnt", "/tmp:/mnt:rx", "/nowhere:/mnt", insula + ":/mnt":
    bad(110, "--share", "run", "--share", value, "x")
if os.geteuid() != 0:
    bad(110, "Permission denied", "run", "--share", "/root:/mnt", "x")
# Names never make a second line, nor move the terminal's cursor.
bad(110, "/two?lines?[2J", "run", "--share", "/two\nlines\x1b[2J:/mnt", "x")
bad(110, "--env", "run", "--env", "=x", "x")
bad(110, "--name", "run", "--name", "a/b", "x")
bad(110, "format=vmdk", "run", "--disk", insula + ",format=vmdk", "x")
bad(114, "neither a file", "run", "--disk", "/tmp", "x")

# What insula-vmm finds wrong, through insula.
def file(name, content):
    path = os.path.join(temp.name, name)
    with open(path, "wb") as f:
        f.write(content)
    return path


kernel = bytearray(4096)
kernel[0x1f1], kernel[0x1fe:0x200], kernel[0x202:0x206] = 4, b"\x55\xaa", b"HdrS"
kernel[0x206:0x208] = b"\x0f\x02"
fifo = os.path.join(temp.name, "fifo")
os.mkfifo(fifo)
for path in "/dev/zero", "/tmp", fifo:
    bad(112, "not a regular file", "run", "--kernel", path)
    bad(112, "initrd", "run", "--kernel", insula, "--initrd", path)
for name, content, words in (("none", b"", "not a kernel"), ("zeros", bytes(100000), "not a kernel"),
                             ("head", bytes(kernel[:600]), "cut off"),
                             ("elf", b"\x7fELF\x02\x01\x01", "")):
    bad(112, name, "run", "--kernel", file(name, content))
    bad(112, words, "run", "--kernel", os.path.join(temp.name, name))
disk = file("disk", bytes(1 << 20))
args = "run", "--kernel", file("some", b"some")
bad(115, "in use", *args, "--disk", disk, "--disk", disk)
bad(114, "multiple of 512", *args, "--disk", file("odd", bytes(1000)))
bad(114, "is empty", *args, "--disk", file("empty", b""))
# Disks that are made, in the format that was said or is in the name; only if they are not there yet.
for name, options, made in (("new.qcow2", ",bus=ahci", b"QFI\xfb"), ("new.img", "", bytes(4)),
                            ("old.img", ",format=qcow2", b"QFI\xfb"), ("raw.qcow2", ",format=raw", bytes(4))):
    path = os.path.join(temp.name, name)
    for size in "1G", "2G":
        bad(112, "some", *args, "--disk", f"{path},size={size}{options}")
    check(name, open(path, "rb").read(4) == made, "another format")
    fmt = {b"QFI\xfb": "qcow2", bytes(4): "raw"}[made]
    info = json.loads(run("disk", "info", "--json", "--format", fmt, path).stdout)
    check(name, (info["format"], info["size"]) == (fmt, 1 << 30), info)
bad(114, "give its format", *args, "--disk", os.path.join(temp.name, "old.img"))
bad(114, "No such file", *args, "--disk", os.path.join(temp.name, "no/x.qcow2,size=1G"))

r = run("run", "--json", "no-such-image")
events = [json.loads(line) for line in r.stderr.splitlines()]
event = events[0]
check("--json", event["event"] == "error" and event["exit_status"] == 111, event)
check("--json", events[-1] == {"event": "exit", "status": 111}, events)
for args in ("help",), ("--help",), ("run", "--help"), ("help", "image", "build"), ("--version",):
    r = run(*args)
    check(" ".join(args), r.returncode == 0 and r.stdout and not r.stderr, r)
r = subprocess.run(["bash", "-n"], input=run("completion").stdout, text=True, capture_output=True)
check("completion", r.returncode == 0, r.stderr)
check("image list", run("image", "list", "--json").stdout.strip() == "[]", "not []")
check("leftovers", not os.path.isdir(temp.name + "/insula/run") or
      not os.listdir(temp.name + "/insula/run"), "run directories")

# The manual pages say what the program says.
man = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/man")
for command, page in (("run", "insula-run"), ("image build", "insula-image"),
                      ("image list", "insula-image"), ("doctor", "insula-doctor"),
                      *(("token " + c, "insula") for c in ("create", "list", "revoke")),
                      *((c, "insula-machine") for c in
                        ("create", "define", "list", "show", "edit", "rename", "delete", "start", "stop",
                         "shutdown", "reboot", "reset", "pause", "resume", "wait", "autostart",
                         "exec", "console", "cp", "logs", "stats", "top", "events",
                         "nic attach", "nic detach")),
                      *(("disk " + c, "insula-disk") for c in
                        ("create", "info", "check", "convert", "resize", "snapshot",
                         "attach", "detach", "remove")),
                      *(("pool " + c, "insula-disk") for c in ("create", "list", "show", "delete")),
                      *((c, "insula-snapshot") for c in
                        ("snapshot create", "snapshot list", "snapshot restore", "snapshot delete",
                         "fork", "clone", "template", "export", "import", "backup create",
                         "backup verify", "backup restore"))):
    text = open(f"{man}/{page}.1.scd").read()
    for option in re.findall(r"^  (--[a-z-]+)", run(*command.split(), "--help").stdout, re.M):
        check(page, option == "--help" or option in text, f"{option} of {command} is not there")
exits = open(os.path.join(man, "../../src/base/exit.h")).read()
for status in re.findall(r"= (11[0-9]|12[0-7]),", exits):
    check("insula-run", f"*{status}*" in open(f"{man}/insula-run.1.scd").read(),
          f"exit status {status} is not there")
sys.exit(1 if failures else 0)
