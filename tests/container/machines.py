#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/machines.py INSULA CASE - containers as machines of insulad"""
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))

import images
from box import Box, Failed, alive, check, wait_for
from oci import SKIP, Skip
from registry import Image, busybox_layer

insula = os.path.abspath(sys.argv[1])
CASES = {}
# Process 1 has no default actions: what shall end it by a signal says so itself.
SERVICE = "trap 'echo bye; exit 3' TERM; echo up $WORD; while :; do sleep 0.05; done"


def case(fn):
    CASES[fn.__name__] = fn
    return fn


class Cellar(Box):
    """A box with a cache of images and a registry of its own."""

    def __init__(self):
        super().__init__(insula)
        self.env.update(XDG_CACHE_HOME=self.top + "/cache", REGISTRY_AUTH_FILE=self.top + "/none")
        self.ref = self.serve()

    def serve(self, **config):
        config.setdefault("Env", ["PATH=/bin", "WORD=image"])
        return images.Server(Image(busybox_layer(), config=config)).ref

    def run(self, name, *command, options=(), ref=None, status=0):
        words = ["--", *command] if command else []
        return self.cli("run", "--detach", "--name", name, "--net", "none", *options,
                        ref or self.ref, *words, status=status)

    def service(self, name, *options):
        self.run(name, "sh", "-c", SERVICE, options=options)
        self.wait_log(name, "up")

    def exec(self, name, *command, status=0, options=(), stdin=b""):
        return self.cli("exec", *options, name, "--", *command, status=status, stdin=stdin)

    def state(self, name):
        return self.machines()[name]["state"]

    def wait_state(self, name, state):
        wait_for(lambda: self.state(name) == state, f"'{name}' {state}")

    def wait_log(self, name, text):
        wait_for(lambda: text in self.cli("logs", name), f"{text!r} in the log of '{name}'")

    def check_clean(self):
        """Every machine deleted: nothing of them is left, not in the cache either."""
        for name in self.machines():
            self.cli("delete", "--force", name)
        self.kill_daemon(signal.SIGTERM)
        wait_for(lambda: not set(self.processes()) - {os.getpid()}, "the end of all processes")
        check(not os.listdir(self.data + "/guests"), os.listdir(self.data + "/guests"))
        check(not os.listdir(self.data + "/machines"))
        check(not os.listdir(self.run_dir + "/vm"), os.listdir(self.run_dir + "/vm"))
        check(self.top not in open("/proc/self/mountinfo").read(), "mounts left")
        check(not self.groups() & self.seen, "control groups left:", self.groups() & self.seen)
        if "XDG_CACHE_HOME" in self.env:
            self.cli("image", "remove", self.ref, status=None)
            self.cli("image", "prune")
        pins = self.top + "/cache/insula/oci/pins"
        check(not os.path.exists(pins) or not os.listdir(pins), "pins left")

    def machines(self):
        found = super().machines()
        self.seen = getattr(self, "seen", set()) | {m["uuid"] for m in found.values()}
        return found


@case
def life(c):
    """Every command that machines have."""
    c.service("web", "--env", "WORD=mine")
    check(c.cli("logs", "web") == "up mine\n", c.cli("logs", "web"))
    m = c.machines()["web"]
    check(m["state"] == "running" and m["isolation"] == "container" and m["image"] == c.ref, m)
    check("web" in c.cli("list") and "no machine" in (c.cli("show", "nobody", status=120),
                                                       c.stderr)[1])
    c.cli("wait", "--for", "agent", "--timeout", "60", "web")
    check(c.exec("web", "sh", "-c", "hostname; echo $WORD; pwd") == "web\nmine\n/\n")
    check(c.exec("web", "cat", stdin=b"x" * 300000) == "x" * 300000)
    c.exec("web", "sh", "-c", "exit 7", status=7)
    c.exec("web", "no-such-program", status=127)
    c.exec("web", "sh", "-c", "kill -9 $$", status=137)
    check(c.exec("web", "id", "-u") == "0\n")
    # Everything in it ends with it; what it wrote stays.
    c.exec("web", "sh", "-c", "echo kept >/file; rm /etc/group")
    open(c.top + "/here", "w").write("copied\n")
    c.cli("cp", c.top + "/here", "web:/there")
    check(c.exec("web", "cat", "/there") == "copied\n")
    c.cli("cp", "web:/file", c.top + "/back")
    check(open(c.top + "/back").read() == "kept\n")
    stats = json.loads(c.cli("stats", "--json", "web"))[0]
    check(stats["cpu_ns"] > 0 and stats["processes"] >= 2 and
          0 < stats["resident"] < stats["memory"] == 1 << 30, stats)
    check("web" in c.cli("stats"))
    c.cli("pause", "web")
    check(c.state("web") == "paused")
    c.exec("web", "true", status=121)
    c.cli("resume", "web")
    check(c.exec("web", "echo", "again") == "again\n")
    c.cli("rename", "web", "site")
    c.cli("delete", "site", status=121)
    c.cli("shutdown", "site")
    check(c.state("site") == "stopped" and c.machines()["site"]["end"]["status"] == 3,
          c.machines()["site"])
    check(c.cli("logs", "site") == "up mine\nbye\n")
    c.cli("start", "site")
    check(c.exec("site", "sh", "-c", "cat /file /there; ls /etc/group", status=1) ==
          "kept\ncopied\n")
    pid = c.machines()["site"]["pid"]
    c.cli("reset", "site")
    wait_for(lambda: c.cli("logs", "site").count("up") == 3, "a new start")
    check(c.machines()["site"]["pid"] == pid)
    c.cli("reboot", "site")
    wait_for(lambda: c.cli("logs", "site").count("up") == 4, "another")
    c.cli("stop", "site")
    check(c.machines()["site"]["end"]["reason"] == "stop")
    c.cli("exec", "site", "--", "true", status=121)
    c.cli("show", "--xml", "site", status=121)
    c.cli("edit", "site", "--set", "isolation=vm", status=110)
    c.cli("edit", "site", "--set", "command=[\"sh\",\"-c\",\"echo other\"]")
    c.cli("start", "site")
    c.wait_state("site", "stopped")
    check(c.cli("logs", "site").endswith("other\n"))


@case
def image(c):
    """The image's own command, user and directory; an image in use stays."""
    ref = c.serve(Entrypoint=["sh", "-c", "id -un; pwd; echo $WORD; exit 5"], User="user",
                  WorkingDir="/tmp")
    c.run("one", ref=ref)
    c.wait_state("one", "stopped")
    check(c.cli("logs", "one") == "user\n/tmp\nimage\n", c.cli("logs", "one"))
    check(c.machines()["one"]["end"]["status"] == 5)
    check(c.cli("create", "--name", "two", "--user", "root", "--workdir", "/etc", ref) == "two\n")
    c.cli("start", "two")
    c.wait_state("two", "stopped")
    check(c.cli("logs", "two") == "root\n/etc\nimage\n", c.cli("logs", "two"))
    c.cli("image", "remove", ref, status=125)
    check("in use" in c.stderr, c.stderr)
    c.cli("image", "prune")
    c.cli("start", "one")
    c.cli("delete", "--force", "one", "two")
    c.cli("image", "remove", ref)
    c.run("bad", "no-such-program", status=127)
    check("no-such-program" in c.stderr and c.state("bad") == "stopped", c.stderr)
    c.run("lost", ref="127.0.0.1:1/no/such:1", status=111)
    c.cli("create", "--isolation", "vm", c.ref, status=110)
    check(c.cli("advise", "bad").startswith("container\n") and "already" in c.cli("advise", "bad"))
    c.cli("create", "--name", "vm", "--kernel", c.kernel("idle"))
    check(json.loads(c.cli("advise", "--json", "vm"))["isolation"] == "vm")
    c.cli("advise", "nobody", status=120)
    c.cli("create", "--isolation", "container", c.top, status=110)
    c.cli("create", "--firmware", "bios", c.ref, status=110)


@case
def terminal(c):
    """With --tty the console is a terminal; exec has one of its own."""
    c.run("t", "sh", "-c", "tty; read line; echo got $line; sleep 1000", options=["--tty"])
    c.wait_log("t", "/dev/")

    def on_terminal(*args):
        master, slave = pty.openpty()
        p = c.popen(*args, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        return p, master

    def read_until(fd, word):
        text = b""
        while word not in text:
            text += os.read(fd, 4096)
        return text

    p, master = on_terminal("console", "t")
    read_until(master, b"leaves it")
    os.write(master, b"words\n")
    read_until(master, b"got words")
    os.write(master, b"\x1d")
    check(p.wait(60) == 0)
    os.close(master)
    check(c.state("t") == "running" and "got words" in c.cli("logs", "t"))
    p, master = on_terminal("exec", "t", "--", "sh", "-c", "tty; stty size; read x; echo \"<$x>\"")
    read_until(master, b"/dev/pts/")
    os.write(master, b"typed\n")
    read_until(master, b"<typed>")
    check(p.wait(60) == 0)
    # The terminal hangs up: so does what runs on it.
    p, master = on_terminal("exec", "t", "--", "sleep", "12345")
    wait_for(lambda: "12345" in c.exec("t", "ps"), "the command")
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    wait_for(lambda: "sleep 12345" not in c.exec("t", "ps"), "its end")


@case
def limits(c):
    """Memory and CPUs; changed while it runs."""
    c.service("l", "--memory", "64M", "--cpus", "2")
    where = {}
    for tree in ("memory", "cpu", ""):
        path = f"/sys/fs/cgroup/{tree}/insula-vm.{c.machines()['l']['uuid']}"
        if os.path.isdir(path):
            where[tree] = path
    if "memory" not in where or "cpu" not in where:
        raise Skip("no controllers of version 1")

    def value(tree, name):
        return int(open(f"{where[tree]}/{name}").read())

    check(value("memory", "memory.limit_in_bytes") == 64 << 20)
    check(value("cpu", "cpu.cfs_quota_us") == 200000)
    c.cli("edit", "l", "--cpu-cap", "50", "--cpu-weight", "200", "--memory-limit", "48M")
    check(value("memory", "memory.limit_in_bytes") == 48 << 20)
    check(value("cpu", "cpu.cfs_quota_us") == 50000 and value("cpu", "cpu.shares") == 2048)
    # More than it may have: something in it is killed, and it alone.
    c.exec("l", "sh", "-c", "tail -c 100m /dev/zero | wc -c; tail /dev/zero", status=137)
    check(c.state("l") == "running")


@case
def network(c):
    """Published ports, shares, names resolved by the user-mode network."""
    os.mkdir(c.top + "/shared")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    c.cli("run", "--detach", "--name", "n", "--publish", f"{port}:7", "--share",
          f"{c.top}/shared:/mnt:ro", c.ref, "--", "nc", "-ll", "-p", "7", "-e", "echo", "served")
    open(c.top + "/shared/f", "w").write("of the host\n")
    check(c.exec("n", "cat", "/mnt/f") == "of the host\n")
    c.exec("n", "touch", "/mnt/g", status=1)

    def served():
        try:
            return socket.create_connection(("127.0.0.1", port), 5).makefile().read() == "served\n"
        except OSError:
            return False

    wait_for(served, "an answer")
    check("10.0.2.100" in c.exec("n", "ip", "addr"))
    # The port stays one container's.
    c.cli("run", "--detach", "--name", "again", "--publish", f"{port}:7", c.ref, status=116)
    c.cli("stop", "n")
    c.cli("start", "n")
    wait_for(served, "an answer after a new start")


@case
def policies(c):
    """Restart policies, autostart, events."""
    events = c.popen("events", "--json", stdout=-1)
    wait_for(lambda: c.daemon_pid(), "insulad")
    c.cli("create", "--name", "r", "--restart", "on-failure", "--net", "none", c.ref, "--", "sh",
          "-c", "echo try; test -e /done || { touch /done; exit 1; }; exec sleep 1000")
    c.cli("start", "r")
    wait_for(lambda: c.cli("logs", "r") == "try\ntry\n", "a second try")
    c.wait_state("r", "running")
    c.cli("create", "--name", "ok", "--restart", "on-failure", "--net", "none", c.ref, "--",
          "true")
    c.cli("start", "ok")
    c.wait_state("ok", "stopped")
    c.cli("stop", "r")
    c.cli("autostart", "r")
    c.kill_daemon(signal.SIGTERM)
    os.unlink(c.run_dir + "/autostarted")  # as the host's start does
    c.wait_state("r", "running")
    check(c.state("ok") == "stopped")
    out = events.communicate()[0].decode() if events.poll() is not None else ""
    if not out:
        events.terminate()
        out = events.communicate()[0].decode()
    kinds = [json.loads(line)["type"] for line in out.splitlines()]
    for kind in ("machine.created", "machine.started", "machine.stopped", "machine.restarting"):
        check(kind in kinds, kind, "not in", kinds)


def monitors(c, uuid):
    """Outer and inner process, in this order."""
    return sorted(p for p, line in c.processes("insula-monitor").items() if uuid in line)


@case
def daemon_ends(c):
    """insulad killed, ended, replaced: containers go on, and are found again."""
    c.service("a")
    c.service("b")
    c.cli("pause", "b")
    pids = {n: c.machines()[n]["pid"] for n in "ab"}
    session = c.popen("exec", "a", "--", "sh", "-c", "echo in; sleep 3; echo out", stdout=-1,
                      stderr=-3)
    check(session.stdout.readline() == b"in\n")
    for sig in (signal.SIGKILL, signal.SIGTERM):
        c.kill_daemon(sig)
        check(all(alive(p) for p in pids.values()))
        check({n: c.machines()[n]["pid"] for n in "ab"} == pids)
        check(c.state("a") == "running" and c.state("b") == "paused")
        check(c.exec("a", "echo", "here") == "here\n")
    c.cli("resume", "b")
    check(c.exec("b", "echo", "here") == "here\n")
    session.wait(60)
    # One that ends while nobody watches.
    c.kill_daemon()
    os.kill(pids["a"], signal.SIGTERM)
    wait_for(lambda: not alive(pids["a"]), "the end of the container")
    m = c.machines()["a"]
    check(m["state"] == "stopped" and m["end"]["status"] == 3, m)


@case
def killed_monitor(c):
    """kill -9 of either process of the monitor, also of a paused container."""
    for paused in (False, True):
        for which in (0, 1):
            c.service("k")
            uuid = c.machines()["k"]["uuid"]
            both = monitors(c, uuid)
            check(len(both) == 2, both)
            group = f"/sys/fs/cgroup/freezer/insula-vm.{uuid}"
            if paused:
                c.cli("pause", "k")
            os.kill(both[which], signal.SIGKILL)
            c.wait_state("k", "stopped")
            check(c.machines()["k"]["end"]["reason"] == "killed", c.machines()["k"])
            wait_for(lambda: not os.path.exists(group), "the end of its control group")
            check(not monitors(c, uuid))
            c.cli("start", "k")
            check(c.exec("k", "echo", "well") == "well\n")
            c.cli("delete", "--force", "k")
    c.check_clean()


@case
def size(c):
    """What insulad keeps running for a container: at most 2 MB."""
    c.service("s")
    pids = monitors(c, c.machines()["s"]["uuid"])

    def pss(pid):
        for line in open(f"/proc/{pid}/smaps_rollup"):
            if line.startswith("Pss:"):
                return int(line.split()[1])
        return 0

    c.exec("s", "true")
    total = sum(map(pss, pids))
    print("monitor:", total, "kB in", len(pids), "processes")
    check(total <= 2048, total, "kB")


@case
def log(c):
    """A container that says much: the log keeps the end, nobody waits."""
    c.run("m", "sh", "-c", "yes 0123456789abcde | head -c 5000000; echo the end; sleep 1000")
    wait_for(lambda: c.cli("logs", "m", "--bytes", "100").endswith("the end\n"), "the end", 120)
    path = f"{c.data}/guests/{c.machines()['m']['uuid']}/console.log"
    check(512 << 10 <= os.path.getsize(path) <= 1 << 20, os.path.getsize(path))


@case
def copies(c):
    """Snapshots and clones of files; both run afterwards, each with its own."""
    c.service("a")
    c.exec("a", "sh", "-c", "echo one >/file; rm /etc/group; mkdir /d; ln -s / /d/l; echo x >/gone;"
           "chown 1000:2000 /d; echo 0123 >/etc/machine-id; mkfifo /d/f; touch /d/k; chmod 4755 /d/k")

    def job(method, path, body=None):
        return c.wait_job(c.request(method, "/v1/machines/a" + path, body, status=202))

    check("is running" in job("POST", "/snapshots", {"name": "s"})["error"]["message"])
    check("is running" in job("POST", "/clone", {"name": "b"})["error"]["message"])
    c.cli("stop", "a")
    check(job("POST", "/snapshots", {"name": "s"})["state"] == "done")
    check("already" in job("POST", "/snapshots", {"name": "s"})["error"]["message"])
    for bad in ("..", "a/b", ".new", ""):
        check(job("POST", "/snapshots", {"name": bad})["state"] == "failed", bad)
    check(job("POST", "/clone", {"name": "b"})["state"] == "done")
    check(job("POST", "/clone", {"name": "b"})["state"] == "failed")
    c.cli("start", "a", "b")
    look = ("cat /file; ls /etc/group /gone 2>&1; readlink /d/l; stat -c '%u:%g %a' /d /d/k; "
            "test -p /d/f && echo fifo")
    before = c.exec("a", "sh", "-c", look)
    check("one" in before and "No such" in before and "1000:2000" in before and "4755" in before,
          before)
    check(c.exec("b", "sh", "-c", look) == before)
    check(c.exec("b", "sh", "-c", "hostname; cat /etc/machine-id") == "b\n")
    check(c.exec("a", "cat", "/etc/machine-id") == "0123\n")
    c.exec("b", "sh", "-c", "echo of-b >/file")
    c.exec("a", "sh", "-c", "echo two >/file; rm /gone; echo new >/new")
    check("is running" in job("POST", "/snapshots/s/restore", {})["error"]["message"])
    c.cli("stop", "a")
    listed = c.request("GET", "/v1/machines/a/snapshots")["snapshots"]
    check([s["name"] for s in listed] == ["s"], listed)
    # Cut off in the middle: what was half there is gone with the next insulad.
    guest = f"{c.data}/guests/{c.machines()['a']['uuid']}"
    os.makedirs(guest + "/kept/.new/upper/x")
    os.makedirs(guest + "/restoring/y")
    c.kill_daemon()
    c.machines()
    check(os.listdir(guest + "/kept") == ["s"] and not os.path.exists(guest + "/restoring"))
    check(job("POST", "/snapshots/s/restore", {})["state"] == "done")
    c.cli("start", "a")
    check(c.exec("a", "sh", "-c", look + "; ls /new 2>&1; :").startswith(before))
    check(c.exec("a", "sh", "-c", "ls /new 2>/dev/null; :") == "")
    check(c.exec("b", "cat", "/file") == "of-b\n")
    c.request("DELETE", "/v1/machines/a/snapshots/s")
    c.request("DELETE", "/v1/machines/a/snapshots/s", status=404)
    c.cli("create", "--name", "vm", "--kernel", c.kernel("idle"))
    r = c.wait_job(c.request("POST", "/v1/machines/vm/snapshots", {"name": "s"}, status=202))
    check(r["state"] == "failed", r)
    # The clone keeps the image.
    c.cli("delete", "--force", "a")
    c.cli("image", "remove", c.ref, status=125)
    c.cli("stop", "b")
    c.cli("start", "b")


def key_pair(c):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", c.top + "/key"],
                   check=True)
    return open(c.top + "/key.pub").read()


@case
def system(c):
    """A Debian with systemd: services, users, ssh, a reboot, nothing more than a container may."""
    if not shutil.which("ssh-keygen"):
        raise Skip("no ssh-keygen")
    c.env.pop("XDG_CACHE_HOME")  # the host's: a Debian takes minutes
    name = "deb:bookworm+dbus+openssh-server+systemd-sysv"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    subprocess.run([insula, "create", "--isolation", "container", "--name", "sys", "--publish",
                    f"{port}:22", name], env=c.env, check=True, stdout=-3, timeout=800)
    c.cli("start", "sys")

    def running():
        return c.exec("sys", "systemctl", "is-system-running", "--wait", status=None).strip()

    wait_for(lambda: running() == "running", "a system that runs", 240)
    c.wait_log("sys", "sys login:")
    check(c.exec("sys", "systemctl", "is-active", "ssh", "dbus", "multi-user.target") ==
          "active\nactive\nactive\n")
    check(c.exec("sys", "systemd-detect-virt", "--container", status=None) == "container-other\n")
    c.exec("sys", "useradd", "--create-home", "me")
    c.exec("sys", "sh", "-c", "mkdir -p ~me/.ssh; cat >~me/.ssh/authorized_keys; chown -R me: ~me",
           stdin=key_pair(c).encode())
    ssh = ["ssh", "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
           "-o", "BatchMode=yes", "-i", c.top + "/key", "-p", str(port), "me@127.0.0.1"]
    out = subprocess.run(ssh + ["id -un; hostname; cat /proc/1/comm"], capture_output=True,
                         text=True, timeout=100)
    check(out.stdout == "me\nsys\nsystemd\n", out)
    # A service of one's own, in a group of its own, which the next start brings up, too.
    c.exec("sys", "sh", "-c", "cat >/etc/systemd/system/own.service; systemctl enable --now own",
           stdin=b"[Service]\nExecStart=sleep 1000000\n[Install]\nWantedBy=multi-user.target\n")
    check("own.service" in c.exec("sys", "systemd-cgls", "--no-pager", status=None) or
          c.exec("sys", "systemctl", "is-active", "own") == "active\n")
    # No more than any container: no mounts, no modules, no clock, no limits lifted.
    for words in ("mount -t tmpfs x /mnt", "unshare -m true", "date -s 2000-01-01",
                  "mknod /dev/sda b 8 0 && head -c 1 /dev/sda", "echo 1 >/proc/sys/kernel/panic"):
        check(c.exec("sys", "sh", "-c", f"({words}) >/dev/null 2>&1 && echo did; :") == "", words)
    limits = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    check(c.exec("sys", "sh", "-c", f"echo -1 2>&- >{limits} && echo did; :") == "")
    c.cli("reboot", "sys")
    wait_for(lambda: c.cli("logs", "sys", "--bytes", "1M").count("sys login:") == 2, "a reboot",
             240)
    wait_for(lambda: running() == "running", "a system that runs again", 240)
    check(c.exec("sys", "systemctl", "is-active", "own") == "active\n")
    c.cli("shutdown", "sys")
    end = c.machines()["sys"]["end"]
    check(end["status"] == 0 and "Exiting container" in c.cli("logs", "sys"), end)


@case
def rootless(c):
    """As nobody, with subordinate ids: no limits, but everything else."""
    if not shutil.which("newuidmap"):
        raise Skip("no newuidmap")
    if "ROOTLESS" not in os.environ:
        with open(c.top + "/subids", "w") as f:
            f.write("65534:200000:65536\n")
        os.chmod(c.top, 0o755)
        script = ("for f in subuid subgid; do touch /etc/$f; mount --bind %s/subids /etc/$f; done;"
                  'exec "$@"' % c.top)
        r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "setpriv", "--reuid", "65534",
                            "--regid", "65534", "--clear-groups", sys.executable, *sys.argv],
                           env=dict(os.environ, ROOTLESS="1", HOME="/nonexistent"))
        if r.returncode == SKIP:
            raise Skip("see above")
        check(r.returncode == 0, "failed as nobody")
        return
    if subprocess.run([insula, "version"], capture_output=True).returncode:
        raise Skip("nobody may not run it")
    c.service("u")
    check(c.exec("u", "id", "-u") == "0\n")
    c.exec("u", "sh", "-c", "touch /of-root; su user -c 'touch /tmp/of-user' || :")
    c.kill_daemon()
    check(c.state("u") == "running" and c.exec("u", "stat", "-c", "%u", "/of-root") == "0\n")
    for pid in monitors(c, c.machines()["u"]["uuid"])[:1]:
        os.kill(pid, signal.SIGKILL)
    c.wait_state("u", "stopped")
    c.cli("start", "u")
    c.exec("u", "ls", "/of-root")
    c.cli("edit", "u", "--memory-limit", "64M", status=None)
    c.cli("stop", "u")
    c.cli("edit", "u", "--memory-limit", "64M")
    c.cli("start", "u", status=121)
    check("need root" in c.stderr, c.stderr)
    c.cli("edit", "u", "--memory-limit", "0")
    c.cli("start", "u")
    c.cli("pause", "u", status=125)
    check("freezer" in c.stderr or "control group" in c.stderr, c.stderr)


def main(wanted):
    if wanted not in CASES:
        sys.exit("no case '%s'; there are: %s" % (wanted, " ".join(CASES)))
    if os.geteuid() != 0 and "ROOTLESS" not in os.environ:
        print("skipped: needs root")
        return SKIP
    with Cellar() as c:
        try:
            CASES[wanted](c)
            c.check_clean()
        except Skip as e:
            print("skipped:", e)
            return SKIP
        except (Failed, subprocess.TimeoutExpired) as e:
            log = c.run_dir + "/insulad.log"
            if os.path.exists(log):
                print(open(log).read())
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[2]))
