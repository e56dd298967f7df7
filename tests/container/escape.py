#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/escape.py PROGRAM CASE - known ways out of a container, each shown to fail

Each case first does what the attacker of the CVE did, from the image, the configuration or inside.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time

from oci import CAPS, Skip, cgroup_dirs, expect, main, wait_for

ALL_CAPS = CAPS + ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN",
                   "CAP_SYS_RAWIO"]


def symlinks_in_mount_targets(box):
    """A mount whose place in the image is a link to the host's directories."""
    victim = box.top + "/victim"
    os.mkdir(victim)
    up = "../" * 20
    for i, link in enumerate((victim, up + victim, "/proc/self/root" + victim,
                              "/proc/1/root" + victim)):
        path = box.rootfs + "/l%d" % i
        os.symlink(link, path)
        for kind, options in (("tmpfs", []), ("none", ["bind"])):
            box.config["mounts"] = box.config["mounts"][:6] + [
                {"destination": "/l%d/new/dir" % i, "type": kind, "source": box.bundle,
                 "options": options}]
            box.run("true", check=False)
            expect(os.listdir(victim) == [], link, os.listdir(victim))
    os.symlink(up + victim + "/dangling", box.rootfs + "/d")
    box.config["mounts"][6:] = [{"destination": "/d", "source": box.bundle + "/config.json",
                                 "options": ["bind"]}]
    expect("ociVersion" in box.sh("cat /d"))  # below the root, where the link leads there
    expect(os.listdir(victim) == [])


def mount_race(box):
    """CVE-2021-30465: a directory of a shared volume exchanged for a link while it is mounted on."""
    victim, volume = box.top + "/victim", box.top + "/volume"
    os.makedirs(victim)
    os.makedirs(volume)
    stop = []

    def exchange():
        os.mkdir(volume + "/a")
        os.symlink(victim, volume + "/b")
        libc = __import__("ctypes").CDLL(None)
        while not stop:
            libc.renameat2(-100, (volume + "/a").encode(), -100, (volume + "/b").encode(), 2)

    t = threading.Thread(target=exchange)
    t.start()
    box.config["mounts"] += [
        {"destination": "/v", "source": volume, "options": ["bind"]},
        {"destination": "/v/a/in", "type": "tmpfs", "source": "x"},
        {"destination": "/v/a/file", "source": box.bundle + "/config.json", "options": ["bind"]}]
    box.config["process"]["args"] = ["true"]
    try:
        for _ in range(40):
            box.run(check=False)
            expect(os.listdir(victim) == [], os.listdir(victim))
    finally:
        stop.append(1)
        t.join()


def program_overwrite(box):
    """CVE-2019-5736: the runtime's own program, reached as /proc/self/exe, and written to.

    A program of the image is a link to /proc/self/exe: exec runs the runtime itself, inside. There it
    waits for its input, while somebody else in the container opens it through /proc, and writes to
    what he holds once it has ended and is not busy any more.
    """
    program = box.top + "/insula-oci"
    shutil.copy(box.program, program)  # should it succeed, not the one that was built
    box.program = program
    with open(program, "rb") as f:
        before = hashlib.sha256(f.read()).digest()
    box.config["process"]["capabilities"] = {k: ALL_CAPS for k in
                                             ("bounding", "effective", "permitted")}
    os.symlink("/proc/self/exe", box.rootfs + "/bin/again")
    script = ("while :; do for p in /proc/[0-9]*; do "
              "if tr '\\0' ' ' < $p/cmdline | grep -q '[-]-resources'; then "
              "exec 9< $p/exe && echo HELD && break 2; fi; done; done; "
              "for i in $(seq 100); do echo evil > /proc/self/fd/9 && echo WRITTEN && break; "
              "sleep 0.02; done; echo END")
    name = box.start("sh", "-c", script)
    inside = subprocess.Popen([program, "--root", box.root, "exec", name, "again", "update",
                               "--resources", "-", "x"], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: "HELD" in box.out(), "the attacker's hold")
    inside.stdin.close()
    inside.wait()
    wait_for(lambda: "END" in box.out() or "WRITTEN" in box.out(), "the attack's end")
    expect("WRITTEN" not in box.out(), box.out())
    with open(program, "rb") as f:
        expect(hashlib.sha256(f.read()).digest() == before, "the program was changed")
    # Before the user's program runs, nobody inside without CAP_SYS_PTRACE can look at ours at all.
    box.config["process"]["capabilities"] = {k: CAPS for k in
                                             ("bounding", "effective", "permitted")}
    name = box.start("sh", "-c", "while :; do for p in /proc/[0-9]*; do "
                     "case \"$(readlink $p/exe)\" in *insula*) echo SEEN;; esac; done; done")
    for _ in range(20):
        box.call("exec", name, "true")
    box.call("delete", "--force", name)
    expect("SEEN" not in box.out(), box.out())


def leaked_descriptors(box):
    """CVE-2024-21626: a descriptor of the host left open, and the working directory in it."""
    for fd in list(range(3, 30)):
        for tail in ("", "/..", "/../../.."):
            box.config["process"]["cwd"] = "/proc/self/fd/%d%s" % (fd, tail)
            r = box.sh("pwd; ls -d ../../../etc/debian_version", check=False)
            expect("debian_version" not in r.stdout, fd, r)
    box.config["process"]["cwd"] = "/"
    # Descriptors that the caller of the runtime left open do not get in either.
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    out = box.sh("ls /proc/self/fd", close_fds=False)
    os.close(leak)
    expect(len(out.split()) == 4, out)
    name = box.start("sh", "-c", "ls -l /proc/1/fd; sleep 100")
    for fd in range(3, 30):
        r = box.call("exec", "--cwd", "/proc/self/fd/%d" % fd, name, "ls", "-d",
                     "../../../etc/debian_version", check=False)
        expect("debian_version" not in r.stdout, fd, r)
    for line in box.out().split("\n"):
        expect(" 3 -> " not in line or "/proc/" in line, box.out())


def proc_redirection(box):
    """CVE-2019-19921, CVE-2025-52881: labels and sysctls written into a /proc of the image's own."""
    real = box.rootfs + "/real"
    os.makedirs(real + "/sys/net/ipv4")
    with open(real + "/sys/net/ipv4/ip_forward", "w") as f:
        f.write("untouched")
    shutil.rmtree(box.rootfs + "/proc")
    os.symlink("/real", box.rootfs + "/proc")
    r = box.run("true", check=False)
    expect(r.returncode == 1 and "/proc" in r.stderr and "no directory" in r.stderr, r)
    os.unlink(box.rootfs + "/proc")
    os.mkdir(box.rootfs + "/proc")
    # A bind mount over parts of /proc: what the runtime writes goes to the kernel all the same.
    box.config["mounts"] += [{"destination": "/proc/sys/net/ipv4", "type": "none",
                              "source": real + "/sys/net/ipv4", "options": ["bind"]}]
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    box.config["linux"]["maskedPaths"] = []
    box.run("true")
    with open(real + "/sys/net/ipv4/ip_forward") as f:
        expect(f.read() == "untouched")


def masks_through_links(box):
    """CVE-2025-31133: /dev/null in the image is a link, so that the mask of /proc/kcore is not one."""
    box.config["mounts"] = [m for m in box.config["mounts"]
                            if not m["destination"].startswith("/dev")]
    with open(box.rootfs + "/etc/secret", "w") as f:
        f.write("secret")
    os.symlink("/etc/secret", box.rootfs + "/dev/null")
    box.config["linux"]["maskedPaths"] = ["/proc/keys", "/proc/timer_list"]
    r = box.sh("cat /proc/keys /proc/timer_list", check=False)
    expect(r.stdout == "", r)
    # And a masked path that is itself a link: the mask lies where it leads, inside.
    os.symlink("../" * 20 + "etc/hostname", box.rootfs + "/masked")
    before = os.stat("/etc/hostname").st_ino if os.path.exists("/etc/hostname") else 0
    box.config["linux"]["maskedPaths"] = ["/masked"]
    box.run("true", check=False)
    if before:
        expect(os.stat("/etc/hostname").st_ino == before)


def console_through_links(box):
    """CVE-2025-52565: /dev/console in the image is a link when the terminal is bound there."""
    victim = box.top + "/victim"
    with open(victim, "w") as f:
        f.write("untouched")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/dev"]
    os.makedirs(box.rootfs + "/dev/pts", exist_ok=True)
    os.symlink("../" * 20 + victim, box.rootfs + "/dev/console")
    box.config["process"]["terminal"] = True
    import pty
    box.config["process"]["args"] = ["sh", "-c", "cat /proc/self/mountinfo; echo out > /dev/console"]
    box.write()
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(box.program, [box.program, "--root", box.root, "run", "--bundle", box.bundle,
                               box.name()])
    text = b""
    try:
        while True:
            text += os.read(fd, 4096)
    except OSError:
        pass
    os.waitpid(pid, 0)
    with open(victim) as f:
        expect(f.read() == "untouched")
    # It lies where the link leads inside, so that it shows inside.
    expect(any(x.split()[4] == victim and " devpts " in x
               for x in text.decode().split("\n") if x.count(" ") > 8), text.decode())
    # A ptmx of the image's that makes no terminals is found out.
    os.unlink(box.rootfs + "/dev/console")
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/dev/pts"]
    for name in os.listdir(box.rootfs + "/dev"):
        p = box.rootfs + "/dev/" + name
        shutil.rmtree(p) if os.path.isdir(p) and not os.path.islink(p) else os.unlink(p)
    os.symlink("/etc/passwd", box.rootfs + "/dev/ptmx")
    box.write()
    expect(box.run(check=False).returncode == 1)


def host_devices(box):
    """The host's disk by a node of one's own; the device rules forbid it."""
    box.config["process"]["capabilities"] = {k: ALL_CAPS for k in
                                             ("bounding", "effective", "permitted")}
    disks = [x.split() for x in open("/proc/partitions").readlines()[2:]]
    if not disks:
        raise Skip("no disks")
    major, minor = disks[0][:2]
    r = box.sh("mknod /tmp/disk b %s %s && head -c 1 /tmp/disk; mknod /tmp/mem c 1 1; "
               "head -c 1 /tmp/mem; mount -t ext4 /tmp/disk /root" % (major, minor), check=False)
    expect(r.stdout == "" and r.stderr.count("not permitted") >= 2, r)


def release_agent(box):
    """CVE-2022-0492: release_agent of a control group of version 1, a program that the host runs."""
    mark = box.top + "/owned"
    box.config["process"]["capabilities"] = {k: CAPS for k in
                                             ("bounding", "effective", "permitted")}
    for ns in (True, False):
        if not ns:
            box.config["linux"]["namespaces"] = [
                n for n in box.config["linux"]["namespaces"] if n["type"] != "cgroup"]
        r = box.sh("for d in /sys/fs/cgroup /sys/fs/cgroup/*; do echo '#!/bin/sh\ntouch %s' > /x; "
                   "chmod 755 /x; echo %s/x > $d/release_agent && echo WRITTEN; "
                   "echo 1 > $d/notify_on_release && echo WRITTEN; "
                   "done; mkdir /tmp/c; timeout 1 mount -t cgroup -o memory x /tmp/c && echo MOUNTED; "
                   "timeout 1 unshare -Ur mount -t cgroup -o memory x /tmp/c && echo MOUNTED"
                   % (mark, box.rootfs), check=False)
        expect("WRITTEN" not in r.stdout and "MOUNTED" not in r.stdout, r)
        expect(not os.path.exists(mark))


def out_of_the_root(box):
    """chroot, "..", and what is left of the host's mounts."""
    box.config["process"]["capabilities"] = {k: ALL_CAPS for k in
                                             ("bounding", "effective", "permitted")}
    r = box.sh("mkdir -p /tmp/j; cd /; ls -d ../../../../etc/debian_version;"
               "ls -d /proc/1/root/etc/debian_version /proc/*/cwd/../../etc/debian_version;"
               "cat /proc/self/mountinfo; umount -l / ; ls -d /etc/debian_version;"
               "chroot /tmp/j ls", check=False)
    expect("debian_version\n" not in r.stdout, r.stdout)
    # Each mount hangs below the container's root.
    for line in [x.split() for x in r.stdout.split("\n") if x.count(" ") > 8]:
        expect(line[4].startswith("/") and box.top not in line[4], line)


def cgroup_path_and_id(box):
    """Names that become paths."""
    for bad in ("..", ".", "a/b", "../x", "", "a\0b"[:1] + "/", ".new", "x" * 300):
        box.write()
        r = box.call("run", "--bundle", box.bundle, bad, check=False)
        expect(r.returncode == 1, bad)
        expect(box.call("delete", "--force", bad, check=False).returncode == 1, bad)
    box.config["linux"]["cgroupsPath"] = "/../../../tmp/x"
    expect(box.run("true", check=False).returncode == 1)
    box.config["linux"]["cgroupsPath"] = None
    box.config["linux"]["resources"] = {"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]}
    expect(box.run("true", check=False).returncode == 1)
    box.config["linux"]["resources"] = {"unified": {"../cgroup.procs": "1"}}
    expect(box.run("true", check=False).returncode == 1)
    box.config["linux"]["resources"] = {}
    with open("/proc/sys/kernel/core_pattern") as f:
        pattern = f.read().strip()  # as it is: nothing changes should it be written
    for bad in ("net.../../kernel/core_pattern", "net/../kernel/core_pattern",
                "net.//.kernel.core_pattern", "kernel/core_pattern"):
        box.config["linux"]["sysctl"] = {bad: pattern}
        r = box.run("true", check=False)
        expect(r.returncode == 1 and "in no namespace" in r.stderr, bad, r)


CASES = {f.__name__: f for f in (
    symlinks_in_mount_targets, mount_race, program_overwrite, leaked_descriptors, proc_redirection,
    masks_through_links, console_through_links, host_devices, release_agent, out_of_the_root,
    cgroup_path_and_id)}

if __name__ == "__main__":
    sys.exit(main(CASES, *sys.argv[1:]))
