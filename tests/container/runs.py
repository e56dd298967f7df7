#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/runs.py INSULA CASE - insula run with images of registries"""
import hashlib
import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time

import images
from images import Place, Server, case
from oci import SKIP, Skip, expect, wait_for
from registry import Image, busybox_layer, directory, entry, layer

insula = images.insula
images.CASES.clear()
SCRIPT = "id; pwd; echo $WORD $HOME; cat /etc/second; cat /gone/a; ls /emptied; exit 9"


def box(*more, **config):
    config.setdefault("Env", ["PATH=/bin", "WORD=from-the-image"])
    return Image(busybox_layer(), *more, config=config)


def run(p, ref, *command, options=(), status=0, **kw):
    r = subprocess.run([insula, "run", *options, ref] + (["--", *command] if command else []),
                       env=p.env, capture_output=True, text=True, timeout=300,
                       stdin=subprocess.DEVNULL, **kw)
    expect(r.returncode == status, "status", r.returncode, r.stdout, r.stderr)
    return r.stdout


def start(p, ref, *command, options=()):
    """Returns once the command said UP."""
    c = subprocess.Popen([insula, "run", *options, ref, "--", *command], env=p.env,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    expect(c.stdout.readline() == b"UP\n")
    return c


def layers():
    return (layer(directory("gone"), entry("gone/a", b"old\n"), directory("emptied"),
                  entry("emptied/x", b"x"), entry("etc/second", b"one\n")),
            layer(entry("gone/.wh.a"), directory("emptied"), entry("emptied/.wh..wh..opq"),
                  entry("emptied/y", b"y"), entry("etc/second", b"two\n")))


@case
def container(p):
    ref = Server(box(*layers(), Cmd=["sh", "-c", SCRIPT], User="user", WorkingDir="/tmp")).ref
    out = run(p, ref, status=9)
    expect(out == "uid=1000(user) gid=1000(user) groups=2000(extra)\n/tmp\n"
           "from-the-image /tmp\ntwo\ny\n", out)
    expect(run(p, ref, "sh", "-c", "id -u; pwd; echo $WORD", options=[
        "--user", "0", "--workdir", "/etc", "--env", "WORD=mine"]) == "0\n/etc\nmine\n")
    run(p, ref, "no-such-program", status=127)
    run(p, ref, "sh", "-c", "kill -9 $$ & kill -9 $!; exit 3", status=3)
    run(p, ref, options=["--user", "nobody-knows"], status=125)
    # Nothing that one writes is there for the next, nor in the layers.
    run(p, ref, "sh", "-c", "echo x >/new; rm /etc/second", options=["--user", "root"])
    expect(run(p, ref, "sh", "-c", "ls /new; cat /etc/second", options=["--user", "root"],
               ) == "two\n")
    expect(os.listdir(p.top + "/cache/insula/tmp") == [])


@case
def machine(p):
    """The same image as a machine says the same as the container."""
    kernels = "/var/cache/insula/kernels"
    if not os.path.isdir(kernels):
        raise Skip("no kernel in the cache")
    os.makedirs(p.top + "/cache/insula")
    shutil.copytree(kernels, p.top + "/cache/insula/kernels", symlinks=True)
    ref = Server(box(*layers(), Cmd=["sh", "-c", SCRIPT], User="user", WorkingDir="/tmp")).ref
    there = run(p, ref, status=9)
    expect("two\ny\n" in there and there == run(p, ref, options=["--isolation", "vm"], status=9))
    options = ["--user", "2000:2000", "--env", "WORD=mine"]
    words = ["sh", "-c", "id; echo $WORD; pwd"]
    expect(run(p, ref, *words, options=options)
           == run(p, ref, *words, options=options + ["--isolation", "vm"]))


@case
def entry_point(p):
    ref = Server(box(Entrypoint=["echo", "said"], Cmd=["nothing"])).ref
    expect(run(p, ref) == "said nothing\n")
    expect(run(p, ref, "this") == "said this\n")


@case
def streams(p):
    ref = Server(box()).ref
    data = os.urandom(3 << 20)
    r = subprocess.run([insula, "run", ref, "--", "cat"], input=data, env=p.env,
                       capture_output=True, timeout=60)
    expect(r.stdout == data, r.stderr)
    master, slave = pty.openpty()
    c = subprocess.Popen([insula, "run", ref, "--", "sh", "-c", "tty; read x; echo got $x"],
                         env=p.env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    os.write(master, b"word\n")
    text = b""
    while b"got word" not in text:
        text += os.read(master, 4096)
    expect(b"/dev/pts/0" in text or b"/dev/console" in text, text)
    expect(c.wait() == 0)


@case
def shares_and_ports(p):
    ref = Server(box()).ref
    os.mkdir(p.top + "/shared")
    with open(p.top + "/shared/f", "w") as f:
        f.write("of the host\n")
    expect(run(p, ref, "sh", "-c", "cat /mnt/f; echo back >/mnt/g; echo x >/ro/x || echo refused",
               options=["--share", p.top + "/shared:/mnt", "--share", p.top + "/shared:/ro:ro"])
           == "of the host\nrefused\n")
    with open(p.top + "/shared/g") as f:
        expect(f.read() == "back\n")
    if not shutil.which("slirp4netns"):
        raise Skip("no slirp4netns")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        run(p, ref, "true", options=["--publish", "%d:80" % port], status=116)
    c = start(p, ref, "sh", "-c", "echo UP; echo hello | nc -l -p 80",
              options=["--publish", "%d:80" % port])
    def ask():
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            return s.recv(100)
    expect(wait_for(ask, "an answer") == b"hello\n")
    c.kill()
    c.wait()
    wait_for(lambda: not remains(p), "the end")
    run(p, ref, "true")


@case
def limits(p):
    ref = Server(box()).ref
    run(p, ref, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1", options=["--memory", "32M"],
        status=137)
    run(p, ref, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1",
        options=["--memory", "256M"])


@case
def kept_in(p):
    """What a container may not do."""
    ref = Server(box()).ref
    for bad in ("mount -t tmpfs x /tmp", "mknod /x b 8 0 && head -c1 /x", "echo x >/proc/sysrq-trigger",
                "unshare -U true", "chroot / mount -t proc p /proc", "cat /proc/kcore",
                "hostname other", "echo 1 >/sys/fs/cgroup/memory/cgroup.procs"):
        run(p, ref, "sh", "-c", "(%s) 2>/dev/null && exit 1; exit 0" % bad)
    expect("tap0" not in run(p, ref, "ip", "link", options=["--net", "none"]))


@case
def signals(p):
    ref = Server(box()).ref
    c = start(p, ref, "sh", "-c", "trap 'exit 5' TERM; echo UP; while :; do sleep 0.1; done")
    c.send_signal(signal.SIGTERM)
    expect(c.wait(20) == 5)


def cgroup_left(p):
    """Control groups of containers of @p's cache."""
    begin = "insula-" + hashlib.sha256((p.top + "/cache/insula").encode()).hexdigest()[:8]
    return [d + "/" + x for d, dirs, _ in os.walk("/sys/fs/cgroup") for x in dirs
            if x.startswith(begin)]


def remains(p):
    """Processes, mounts and control groups of containers in @p's cache."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                line = f.read()
        except OSError:
            continue
        if p.top.encode() in line or b"marker-of-runs" in line:
            found.append(line)
    with open("/proc/mounts") as f:
        return found + [m for m in f if p.top in m]


@case
def killed(p):
    """kill -9 of the command, or of the monitor: all of it goes, and the next run clears the rest."""
    ref = Server(box()).ref
    run(p, ref, "true")
    expect(cgroup_left(p) == [], cgroup_left(p))
    for who in "command", "monitor":
        c = start(p, ref, "sh", "-c", "echo UP; sleep 1000 marker-of-runs 2>/dev/null || sleep 1000")
        with open("/proc/%d/task/%d/children" % (c.pid, c.pid)) as f:
            children = f.read().split()
        os.kill(c.pid if who == "command" else int(children[0]), signal.SIGKILL)
        c.wait(20)
        wait_for(lambda: not remains(p), "the end of all: %s" % remains(p))
        run(p, ref, "true")
        expect(os.listdir(p.top + "/cache/insula/tmp") == [])
        expect(cgroup_left(p) == [], cgroup_left(p))


@case
def without_overlayfs(p):
    """On a file system that overlayfs takes no upper layer on: fuse-overlayfs, or a copy."""
    if "NESTED" not in os.environ:
        for d in "lower", "upper", "work", "cache", "bin":
            os.mkdir(p.top + "/" + d)
        script = ("cd %s && mount -t overlay o -o lowerdir=lower,upperdir=upper,workdir=work cache"
                  ' && cd - >/dev/null && exec "$@"' % p.top)
        r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", sys.executable, *sys.argv],
                           env=dict(os.environ, NESTED=p.top))
        expect(r.returncode == 0)
        return
    p.env["XDG_CACHE_HOME"] = os.environ["NESTED"] + "/cache"
    ref = Server(box(*layers())).ref
    script = "cat /etc/second; ls /gone /emptied; grep -c fuse /proc/mounts; touch /new"
    if shutil.which("fuse-overlayfs"):
        out = run(p, ref, "sh", "-c", script)
        expect(out == "two\n/emptied:\ny\n\n/gone:\n1\n", out)
    # None of that name, but all else.
    for d in os.environ["PATH"].split(":"):
        for name in os.listdir(d) if os.path.isdir(d) else []:
            link = os.environ["NESTED"] + "/bin/" + name
            if name != "fuse-overlayfs" and not os.path.lexists(link):
                os.symlink(d + "/" + name, link)
    p.env["PATH"] = os.environ["NESTED"] + "/bin"
    out = run(p, ref, "sh", "-c", script.replace("; touch", " || touch"))
    expect(out == "two\n/emptied:\ny\n\n/gone:\n0\n", out)


@case
def in_use(p):
    """An image that runs stays, whatever is removed meanwhile."""
    ref = Server(box()).ref
    c = start(p, ref, "sh", "-c", "echo UP; while ! test -e /tmp/x; do sleep 0.1; done")
    p.call("image", "remove", ref, status=125, words="in use")
    p.call("image", "prune")
    expect(len(p.store("layers")) == 1)
    c.kill()
    c.wait()
    wait_for(lambda: not remains(p), "the end")
    run(p, ref, "true")
    p.call("image", "remove", ref)
    expect(p.store("layers") == [])


@case
def rootless(p):
    """As nobody, with subordinate ids: owners, root inside, no cache of root's."""
    if "ROOTLESS" not in os.environ:
        with open(p.top + "/subids", "w") as f:
            f.write("65534:200000:65536\n")
        os.chmod(p.top, 0o755)
        script = ("for f in subuid subgid; do touch /etc/$f; mount --bind %s/subids /etc/$f; done;"
                  'exec "$@"' % p.top)
        r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", sys.executable, *sys.argv],
                           env=dict(os.environ, ROOTLESS="1"))
        if r.returncode == SKIP:
            raise Skip("see above")
        expect(r.returncode == 0)
        return
    if not shutil.which("newuidmap"):
        raise Skip("no newuidmap")
    os.chown(p.top, 65534, 65534)
    p.env.update(HOME=p.top, XDG_RUNTIME_DIR=p.top)
    who = dict(user=65534, group=65534, extra_groups=[])
    r = subprocess.run([insula, "version"], capture_output=True, **who)
    if r.returncode:
        raise Skip("nobody may not run it")
    ref = Server(box(*layers(), Cmd=["sh", "-c", SCRIPT], User="user", WorkingDir="/tmp")).ref
    # slirp4netns needs /dev/net/tun, which is everybody's on most hosts.
    net = [] if os.stat("/dev/net/tun").st_mode & 0o006 == 0o006 else ["--net", "none"]
    out = run(p, ref, status=9, options=net, **who)
    expect(out == "uid=1000(user) gid=1000(user) groups=2000(extra)\n/tmp\n"
           "from-the-image /tmp\ntwo\ny\n", out)
    expect(run(p, ref, "sh", "-c", "id -u; touch /x; stat -c %u /x", options=net + ["--user", "0"],
               **who) == "0\n0\n")
    run(p, ref, "sh", "-c", "mount -t tmpfs x /tmp", options=net + ["--user", "0"], status=1, **who)


if __name__ == "__main__":
    sys.exit(images.main(sys.argv[2]))
