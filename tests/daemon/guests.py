#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/daemon/guests.py INSULA CASE... - real guests under insulad, by the commands that people use"""
import json
import os
import pty
import re
import select
import signal
import socket
import sys
import threading
import time

from box import Box, Failed, check, wait_for

IMAGE = "deb:bookworm"


def up(box, name, *options):
    box.cli("create", "--name", name, *options, IMAGE)
    box.cli("start", name)
    box.cli("wait", "--for", "agent", name)


def case_exec(box):
    """A guest that boots is waited for; streams, status and signals are as of `insula run`."""
    box.cli("create", "--name", "e", "--start", IMAGE)
    check(box.cli("exec", "e", "--", "uname", "-n") == "e\n", "its name")
    check(box.cli("exec", "e", "--", "sh", "-c", "exit 7", status=7) == "", "its status")
    data = os.urandom(1 << 20)
    check(box.cli("exec", "e", "--", "md5sum", stdin=data).split()[1] == "-", "standard input")
    box.cli("exec", "--env", "A=b", "--workdir", "/usr", "e", "--", "sh", "-c",
            '[ "$A" = b ] && [ "$PWD" = /usr ]')
    box.cli("exec", "e", "--", "nosuchcommand", status=127)
    p = box.popen("exec", "e", "--", "sh", "-c", "echo on; sleep 100", stdin=-3, stdout=-1)
    check(p.stdout.readline() == b"on\n", "it runs")
    p.terminate()
    check(p.wait(60) == 143, "ended by the signal")
    # insulad ends beside a command that runs: the machine goes on.
    p = box.popen("exec", "e", "--", "sh", "-c", "echo on; sleep 100", stdin=-3, stdout=-1,
                  stderr=-1)
    check(p.stdout.readline() == b"on\n", "it runs")
    box.kill_daemon()
    check(p.wait(60) == 118, "the connection is lost", p.stderr.read())
    check(box.cli("exec", "e", "--", "cat", "/proc/uptime"), "it goes on")
    box.cli("exec", "e", "--", "sh", "-c", "echo kept > /root/file; sync")
    box.cli("shutdown", "e")
    check(json.loads(box.cli("show", "--json", "e"))["end"]["reason"] == "poweroff", "clean")
    box.cli("start", "e")
    check(box.cli("exec", "e", "--", "cat", "/root/file") == "kept\n", "its disk is kept")


def case_copy(box):
    up(box, "c")
    tree = box.top + "/tree"
    os.makedirs(tree + "/a")
    open(tree + "/a/b", "wb").write(os.urandom(3 << 20))
    os.symlink("/etc/passwd", tree + "/link")
    box.cli("cp", tree, "c:/root/new")
    box.cli("cp", tree + "/a/b", "c:/root/")
    box.cli("exec", "c", "--", "cmp", "/root/b", "/root/new/a/b")
    box.cli("cp", "c:/root/new", box.top)
    check(open(box.top + "/new/a/b", "rb").read() == open(tree + "/a/b", "rb").read(), "bytes")
    check(os.readlink(box.top + "/new/link") == "/etc/passwd", "a link in it stays one")
    box.cli("cp", "c:/etc/os-release", box.top + "/named")  # a link that is named is followed
    check("Debian" in open(box.top + "/named").read(), "a file under another name")
    check(box.cli("cp", "c:/nosuch", box.top, status=None) == "", "nothing")
    check(not [f for f in os.listdir(box.top) if f.startswith(".insula-cp")], "leftovers")
    box.cli("cp", "a", "b", status=110)
    # A guest whose tar lies: nothing is written outside of the target.
    evil = ("import tarfile,io,sys\nt=tarfile.open(fileobj=sys.stdout.buffer,mode='w|')\n"
            "def add(n,**k):\n i=tarfile.TarInfo(n)\n for a,b in k.items(): setattr(i,a,b)\n"
            " t.addfile(i,io.BytesIO(b'x'*i.size))\n"
            "add('../escaped',size=1)\nadd('/tmp/insula-escaped',size=1)\n"
            "add('l',type=tarfile.SYMTYPE,linkname='..')\nadd('l/escaped',size=1)\nadd('x',size=1)\n"
            "t.close()\n")
    import subprocess
    data = subprocess.run([sys.executable, "-c", evil], capture_output=True).stdout
    box.cli("exec", "c", "--", "sh", "-c", "cat > /root/evil.tar; printf '#!/bin/sh\\nexec cat "
            "/root/evil.tar\\n' > /usr/local/bin/tar; chmod +x /usr/local/bin/tar", stdin=data)
    os.mkdir(box.top + "/in")
    box.cli("cp", "c:/root/x", box.top + "/in", status=None)
    check(not os.path.exists(box.top + "/escaped") and not os.path.exists("/tmp/insula-escaped")
          and not os.path.exists(box.top + "/in/escaped"), "escaped")


def talk(fd, want, seconds=60):
    got, end = b"", time.monotonic() + seconds
    while want not in got:
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise Failed(f"no {want} in {got}")
        got += os.read(fd, 4096)
    return got


def case_console(box):
    up(box, "k", "--append", "console=ttyS0")
    box.cli("exec", "k", "--", "sh", "-c", "setsid sh -c 'exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1' "
            ">/dev/null 2>&1 </dev/null & sleep 1")
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(box.insula_path, ["insula", "console", "k"], box.env)
    talk(fd, b"leaves it")
    time.sleep(0.3)
    os.write(fd, b"echo $((6*7))x\r")
    talk(fd, b"42x")
    os.write(fd, b"\x1d")
    check(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "Ctrl-] leaves it")
    check("42x" in box.cli("logs", "k"), "the log has it too")
    check(json.loads(box.cli("show", "--json", "k"))["state"] == "running", "it goes on")


def case_reboot(box):
    up(box, "r")
    boot = box.cli("exec", "r", "--", "cat", "/proc/sys/kernel/random/boot_id")
    pid = box.machines()["r"]["pid"]
    box.cli("reboot", "r")
    again = wait_for(lambda: (b := box.cli("exec", "r", "--", "cat",
                              "/proc/sys/kernel/random/boot_id", status=None)) not in ("", boot)
                     and b, "another boot")
    check(again != boot and box.machines()["r"]["pid"] == pid, "the same process")
    box.cli("reset", "r")
    time.sleep(1)
    box.cli("wait", "--for", "agent", "r")


def case_detach(box):
    check(box.cli("run", "--detach", "--name", "d", IMAGE) == "d\n", "its name")
    box.cli("exec", "d", "--", "sh", "-c", "echo 1 > /root/kept; sync")
    box.cli("run", "--detach", "--name", "d", IMAGE, status=121)
    box.cli("shutdown", "d")
    box.cli("run", "--detach", "--name", "d", IMAGE)
    check(box.cli("exec", "d", "--", "cat", "/root/kept") == "1\n", "the same machine")
    box.cli("shutdown", "d")
    # And without --detach, with the same disk.
    check(box.cli("run", "--name", "d", IMAGE, "--", "cat", "/root/kept") == "1\n", "run")


def case_shares(box):
    os.mkdir(box.top + "/shared")
    open(box.top + "/shared/f", "w").write("shared\n")
    up(box, "s", "--share", box.top + "/shared:/mnt/x:ro", "--publish", "18099:80")
    check(box.cli("exec", "s", "--", "cat", "/mnt/x/f") == "shared\n", "the share")
    s = json.loads(box.cli("show", "--json", "s"))
    check(s["config"]["shares"][0]["readonly"] and s["config"]["publish"][0]["host"] == 18099, s)


def ask(box, name, text):
    return box.cli("exec", name, "--", "sh", "-c", text).strip()


IDENTITY = "hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address; cat /etc/ssh/ssh_host_x_key"
# Without sshd: what a guest with keys would have.
KEYS = ("echo 0123456789abcdef0123456789abcdef > /etc/machine-id; mkdir -p /etc/ssh; "
        "echo old > /etc/ssh/ssh_host_x_key; printf '#!/bin/sh\\ncat /proc/sys/kernel/random/uuid > /etc/ssh/ssh_host_x_key\\n' "
        "> /usr/local/bin/ssh-keygen; chmod +x /usr/local/bin/ssh-keygen; sync")


def case_snapshot(box):
    """Memory and disk go back together, from each form of a snapshot."""
    up(box, "s")
    ask(box, "s", "(while true; do sleep 1; done) > /dev/null 2>&1 < /dev/null & echo $! > /run/pid")
    for name, options in (("whole", ["--whole"]), ("more", []), ("packed", ["--compress"]),
                          ("disk", ["--disk-only"])):
        ask(box, "s", f"echo {name} > /root/f; echo {name} > /run/f; sync")
        box.cli("snapshot", "create", *options, "s", name)
    listed = {x["name"]: x for x in json.loads(box.cli("snapshot", "list", "--json", "s"))}
    check(listed["more"]["incremental"] and listed["packed"]["incremental"] and
          listed["more"]["bytes"] < listed["whole"]["bytes"] / 4 and not listed["disk"]["memory"], listed)
    uuid = ask(box, "s", "cat /sys/class/dmi/id/product_uuid")
    check(uuid == json.loads(box.cli("show", "--json", "s"))["uuid"], "SMBIOS has another UUID")
    ask(box, "s", "echo later > /root/f; sync")
    box.cli("snapshot", "delete", "s", "more")  # another one needs what it holds
    for name in ("packed", "whole"):
        box.cli("snapshot", "restore", "--force", "s", name)
        check(ask(box, "s", "cat /root/f /run/f; kill -0 $(cat /run/pid) && echo runs").split() ==
              [name, name, "runs"], "restored", name)
        check(abs(int(ask(box, "s", "date +%s")) - time.time()) < 3, "the clock")
    box.cli("stop", "s")
    box.cli("snapshot", "restore", "s", "disk")
    check(box.machines()["s"]["state"] == "stopped", "a disk does not run")
    box.cli("start", "s")
    check(ask(box, "s", "cat /root/f") == "disk", "the disk")
    box.cli("delete", "--force", "s")
    check(os.listdir(box.data + "/guests") == [], "files left")


def case_copies(box):
    """Forks and clones are machines of their own, whatever becomes of insulad and of their source."""
    up(box, "c")
    ask(box, "c", KEYS)
    seen = {tuple(ask(box, "c", IDENTITY).split())}
    made = box.cli("fork", "c", "f", "--count", "2").split()
    check(made == ["f-1", "f-2"], made)
    box.cli("clone", "c", "linked")  # of the disk as it is now
    box.cli("clone", "--full", "c", "full")
    for name in ("linked", "full"):
        box.cli("start", name)
    for name in (*made, "linked", "full"):
        words = tuple(ask(box, name, IDENTITY).split())
        check(len(words) == 4 and words[0] == name, words)
        check(all(a != b for other in seen for a, b in zip(words, other)), words, seen)
        seen.add(words)
        ask(box, name, f"echo {name} > /root/who; sync")
    check(ask(box, "c", "ls /root") == "", "a copy wrote to its source")
    box.kill_daemon()
    box.cli("delete", "--force", "c")
    for name in (*made, "linked"):
        box.cli("stop", name)
        box.cli("start", name)
        check(ask(box, name, "cat /root/who; hostname").split() == [name, name], name)
    box.cli("stop", "linked")
    box.cli("template", "linked")
    box.cli("start", "linked", status=121)
    box.cli("clone", "linked", "t")
    box.cli("start", "t")
    check(ask(box, "t", "cat /root/who; hostname").split() == ["linked", "t"], "of a template")
    box.cli("template", "--off", "linked")
    box.cli("start", "linked")
    ask(box, "linked", "echo changed > /root/who; sync")
    check(ask(box, "t", "echo 3 > /proc/sys/vm/drop_caches; cat /root/who") == "linked",
          "a clone sees what its template wrote later")
    for name in (*made, "linked", "full", "t"):
        box.cli("delete", "--force", name)
    check(os.listdir(box.data + "/guests") == [], "files left")


def case_backup(box):
    up(box, "b")
    files = [f"{box.top}/{i}.tar.zst" for i in range(3)]
    for i, path in enumerate(files):
        ask(box, "b", f"echo {i} > /root/f; dd if=/dev/urandom of=/root/big{i} bs=1M count=2 2>/dev/null; "
           "cd /root; md5sum big* > sums; sync")
        box.cli("backup", "create", "b", path, *(["--after", files[i - 1]] if i else []))
        if i == 1:
            box.cli("snapshot", "create", "b", "between")
    check(os.path.getsize(files[1]) < os.path.getsize(files[0]) / 2, "an increment is no smaller")
    box.cli("backup", "verify", *files)
    box.cli("backup", "create", "b", files[0], status=None)
    check("exists" in box.stderr, box.stderr)
    box.cli("backup", "create", "b", box.top + "/x", "--after", files[0], status=None)
    check("make a full backup" in box.stderr, box.stderr)
    for n in (1, 3):
        box.cli("backup", "restore", "--name", f"r{n}", *files[:n])
        box.cli("start", f"r{n}")
        check(ask(box, f"r{n}", "cat /root/f; cd /root; md5sum --quiet -c sums; hostname").split() ==
              [str(n - 1), f"r{n}"], n)
    for bad, words in ((lambda d: d[:-50], ""), (lambda d: d[:5000] + b"x" + d[5001:], ""),
                       (lambda d: b"", ""), (lambda d: d[:0] + b"x" * 5000, "")):
        open(box.top + "/bad", "wb").write(bad(open(files[1], "rb").read()))
        box.cli("backup", "verify", box.top + "/bad", status=None)
        check(box.stderr, "took what is damaged")
        box.cli("import", box.top + "/bad", "--name", "bad", status=None)
        check(box.stderr and "bad" not in box.machines(), "took what is damaged")
    box.cli("backup", "restore", "--name", "gap", files[0], files[2], status=None)
    check("does not follow" in box.stderr, box.stderr)
    box.cli("export", "b", box.top + "/e")
    box.cli("import", box.top + "/e", status=None)
    check("already" in box.stderr, box.stderr)
    # Cut off: the file is not there, and the next one can be made.
    p = box.popen("export", "b", box.top + "/cut", stdin=-3, stdout=-1, stderr=-1)
    time.sleep(0.5)
    box.kill_daemon()
    p.communicate()
    check(not os.path.exists(box.top + "/cut"), "half an export")
    box.cli("export", "b", box.top + "/cut")
    for name in ("b", "r1", "r3"):
        box.cli("delete", "--force", name)
    check(os.listdir(box.data + "/guests") == [], "files left")
    for name in (*files, box.top + "/bad", box.top + "/e", box.top + "/cut"):
        os.unlink(name)
def sh(box, name, command, **more):
    return box.cli("exec", name, "--", "sh", "-c", command, **more)


def disk(box, name, size=64 << 20):
    path = f"{box.top}/{name}"
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def wait_disks(box, name, want):
    """Of virtio, by the kernel's names."""
    wait_for(lambda: sh(box, name, "cd /sys/block; echo vd*").split() == want, f"disks {want}")


def case_hotplug(box):
    """Disks and cards come and go in a guest that runs; it stays so over insulad, a reset, a start."""
    up(box, "h", "--engine", "jit")
    a, b = disk(box, "a.raw"), box.top + "/b.qcow2"
    box.cli("disk", "create", "--backing", disk(box, "base.raw"), b)
    box.cli("disk", "attach", "h", a)
    wait_disks(box, "h", ["vda", "vdb"])
    sh(box, "h", "echo written > /dev/vdb; sync")
    box.kill_daemon()
    box.cli("disk", "attach", "h", b, "--bytes-per-second", "1G")  # and its backing file
    wait_disks(box, "h", ["vda", "vdb", "vdc"])
    check(sh(box, "h", "cat /sys/block/vd[bc]/serial") == "disk0disk1", "serial numbers")
    sh(box, "h", "echo second > /dev/vdc; sync")
    # One disk, one machine that writes.
    box.cli("disk", "attach", "h", a, status=None)
    check("already" in box.stderr, box.stderr)
    box.create("other", "idle")
    box.cli("start", "other")
    box.cli("disk", "attach", "other", a, status=121)
    check("in use by another machine" in box.stderr, box.stderr)
    check("disks" not in json.loads(box.cli("show", "--json", "other"))["config"], "put back")
    # It goes, the other stays; the slot is used again.
    box.cli("disk", "detach", "h", a)
    wait_disks(box, "h", ["vda", "vdc"])
    check(open(a, "rb").read(8) == b"written\n", "what was written is in the file")
    box.cli("disk", "attach", "other", a)
    box.cli("delete", "--force", "other")
    box.cli("nic", "attach", "h", "--mac", "52:54:00:99:88:77")
    wait_for(lambda: "52:54:00:99:88:77" in sh(box, "h", "ip -o link"), "the card")
    box.cli("nic", "detach", "h", "52:54:00:99:88:77")
    check("52:54:00:99:88:77" not in sh(box, "h", "ip -o link"), "the card has gone")
    # Over a reset, and a start: the definition has what is there.
    box.cli("reset", "h")
    time.sleep(1)
    box.cli("wait", "--for", "agent", "h")
    check(sh(box, "h", "cd /sys/block; cat vd?/serial") == "rootdisk1", "after a reset")
    # A guest that stands still cannot let go of anything.
    box.cli("pause", "h")
    box.cli("disk", "detach", "h", b, status=121)
    check("paused" in box.stderr, box.stderr)
    box.cli("resume", "h")
    # Nor one whose kernel listens no more.
    sh(box, "h", "echo mask > /sys/firmware/acpi/interrupts/gpe01")
    box.cli("disk", "detach", "h", b, "--timeout", "1", status=121)
    check("did not let go" in box.stderr, box.stderr)
    check(len(json.loads(box.cli("show", "--json", "h"))["config"]["disks"]) == 1, "it stays")
    sh(box, "h", "echo unmask > /sys/firmware/acpi/interrupts/gpe01; head -c 6 /dev/vd[bc]")
    box.cli("shutdown", "h")
    box.cli("start", "h")
    check(sh(box, "h", "head -c 7 /dev/vdb") == "second\n", "after a start")
    box.cli("disk", "detach", "h", b)
    wait_disks(box, "h", ["vda"])


def case_hotplug_interp(box):
    """The same, in short, on the interpreter and the small board."""
    up(box, "i", "--engine", "interp", "--machine", "micro")
    a = disk(box, "a.raw")
    box.cli("disk", "attach", "i", a)
    wait_disks(box, "i", ["vda", "vdb"])
    sh(box, "i", "echo written > /dev/vdb; sync")
    box.cli("disk", "detach", "i", a, "--timeout", "100")
    wait_disks(box, "i", ["vda"])
    check(open(a, "rb").read(8) == b"written\n", "the file")


def took(box, name, command):
    """Seconds by the guest's clock."""
    return float(sh(box, name, "read a b < /proc/uptime; " + command + "; read c d < /proc/uptime; "
                    "awk \"BEGIN { print $c - $a }\""))


def serve(server, n):
    peer, _ = server.accept()
    peer.sendall(bytes(n))
    peer.close()


def case_limits(box):
    """Memory, rates of disks and cards, changed while the guest runs.  It may be slower than a limit
    says, never faster."""
    a = disk(box, "a.raw")
    up(box, "l", "--memory", "768M", "--disk", a + ",bytes=2M", "--net-in", "400K")
    read = "dd if=/dev/%s of=/dev/null bs=64k count=%d iflag=direct 2>/dev/null"
    check(took(box, "l", read % ("vdb", 128)) > 3, "8 MiB at 2 MiB a second")
    box.cli("edit", "l", "--set", f'disks=[{{"path": "{a}", "rate": {{"ops": 20}}}}]')
    check(took(box, "l", read % ("vdb", 50)) > 2, "50 requests at 20 a second")
    box.cli("edit", "l", "--set", f'disks=[{{"path": "{a}"}}]', "--disk-ops", "20")
    check(took(box, "l", read % ("vda", 50)) > 2, "the image's disk")
    box.cli("edit", "l", "--disk-ops", "0")
    # From a server of ours beside the guest: its bash can speak HTTP well enough.
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(server, 2 << 20), daemon=True).start()
    check(took(box, "l", "bash -c 'cat < /dev/tcp/10.0.2.2/%d' | wc -c > /n" %
               server.getsockname()[1]) > 3, "2 MiB at 400 KiB a second")
    check(sh(box, "l", "cat /n").strip() == str(2 << 20), "all of it came")
    # The guest gives memory back, and gets it again.
    box.cli("edit", "l", "--memory", "400M")
    stats = wait_for(lambda: (s := json.loads(box.cli("stats", "--json", "l"))[0])["memory_actual"] ==
                     400 << 20 and s, "the balloon")
    check(stats["memory_target"] == 400 << 20 and stats["memory"] == 768 << 20, stats)
    meminfo = lambda key: int(sh(box, "l", f"awk '/{key}/ {{print $2}}' /proc/meminfo"))
    check(meminfo("MemAvailable") < 400 << 10, meminfo("MemAvailable"))
    box.cli("edit", "l", "--memory", "1G")
    wait_for(lambda: json.loads(box.cli("stats", "--json", "l"))[0]["memory_actual"] == 768 << 20,
             "its memory again")
    check(meminfo("MemAvailable") > 450 << 10, meminfo("MemAvailable"))
    box.cli("shutdown", "l")
    box.cli("start", "l")
    check(meminfo("MemTotal") > 900 << 10, "more, from the next start on")


def case_watchdog(box):
    """A guest whose agent is stopped is reset, and comes back."""
    up(box, "w", "--watchdog", "4")
    boot = box.cli("exec", "w", "--", "cat", "/proc/sys/kernel/random/boot_id")
    # The kernel hangs: its one CPU stays in a loop with interrupts off.
    box.cli("exec", "w", "--", "sh", "-c",
            "echo 1 > /proc/sys/kernel/sysrq; (sleep 1; echo c > /proc/sysrq-trigger) "
            "> /dev/null 2>&1 < /dev/null & echo 0 > /proc/sys/kernel/panic")
    p = box.popen("events", "--json", "--after", "0", stdout=-1)
    types = []
    for line in p.stdout:
        types.append(json.loads(line)["type"])
        if types[-1] in ("machine.hung", "machine.stopped"):
            break
    p.kill()
    check(types[-1] == "machine.hung", types)
    check(box.cli("exec", "w", "--", "cat", "/proc/sys/kernel/random/boot_id") != boot, "again")


def case_interrupted_create(box):
    """Ctrl-C while an image is made: neither machine nor files stay."""
    box.cli("list")
    tree = box.top + "/rootfs"
    os.makedirs(tree)
    for i in range(2000):
        open(f"{tree}/{i}", "wb").write(os.urandom(65536))
    box.env["XDG_CACHE_HOME"] = box.top + "/cache"
    box.kill_daemon(signal.SIGTERM)
    p = box.popen("create", "--name", "i", tree, stdin=-3, stderr=-1)
    time.sleep(1)
    p.send_signal(signal.SIGINT)
    p.wait(60)
    check(p.returncode == 130, p.returncode, p.stderr.read())
    wait_for(lambda: os.listdir(box.data + "/guests") == [], "the sweep")
    check(box.machines() == {}, "machines")


def main():
    for name in sys.argv[2:]:
        with Box(sys.argv[1]) as box:
            print(name, flush=True)
            globals()["case_" + name](box)
            for m in box.machines():
                box.cli("delete", "--force", m)
            box.kill_daemon(signal.SIGTERM)
            check(os.listdir(box.data + "/guests") == [] and not box.processes("insula-vmm"),
                  "leftovers")


main()
