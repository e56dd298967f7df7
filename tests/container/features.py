#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/features.py PROGRAM CASE - what a configuration asks for, seen from inside"""
import array
import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import time

from oci import BASE, CAPS, Skip, cgroup_file, expect, main, wait_for

NS = ("pid", "ipc", "uts", "mnt", "net", "cgroup")


def namespaces(box):
    lines = box.sh("for n in %s; do readlink /proc/self/ns/$n; done" % " ".join(NS)).split()
    for n, line in zip(NS, lines):
        expect(line != os.readlink("/proc/self/ns/" + n), n)
    expect("LOOPBACK,UP" in box.sh("ip addr show lo"))
    box.config["linux"]["namespaces"] = [{"type": "mount"}]
    del box.config["hostname"]
    lines = box.sh("for n in %s; do readlink /proc/self/ns/$n; done" % " ".join(NS)).split()
    for n, line in zip(NS, lines):
        expect((line != os.readlink("/proc/self/ns/" + n)) == (n == "mnt"), n)


def join_namespaces(box):
    first = box.start("sleep", "100")
    pid = box.state(first)["pid"]
    box.config["linux"]["namespaces"] = [
        {"type": "mount"}, {"type": "cgroup"}] + [
        {"type": t, "path": "/proc/%d/ns/%s" % (pid, f)}
        for t, f in (("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"))]
    del box.config["hostname"]
    out = box.sh("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; ps").split("\n")
    for n, line in zip(("net", "ipc", "uts", "pid"), out):
        expect(line == os.readlink("/proc/%d/ns/%s" % (pid, n)), n, line)
    expect("sleep 100" in "\n".join(out), out)
    box.config["linux"]["namespaces"][2]["path"] = "/proc/self/ns/uts"
    r = box.run("true", check=False)
    expect(r.returncode == 1 and "is no net namespace" in r.stderr, r)
    box.config["linux"]["namespaces"][2]["path"] = "/etc/passwd"
    expect(box.run("true", check=False).returncode == 1)


def no_mount_namespace(box):
    """Of the host's, or joined: a root of its own all the same, and nothing mounted for others."""
    holder = subprocess.Popen(["unshare", "-m", "sleep", "100"])
    wait_for(lambda: os.readlink("/proc/%d/ns/mnt" % holder.pid) !=
             os.readlink("/proc/self/ns/mnt"), "the namespace")
    with open("/proc/self/mountinfo") as f:
        before = f.read()
    try:
        for path in (None, "/proc/%d/ns/mnt" % holder.pid):
            box.config["linux"]["namespaces"] = [
                {"type": t} for t in ("pid", "ipc", "uts", "cgroup")]
            if path:
                box.config["linux"]["namespaces"].append({"type": "mount", "path": path})
            box.config["process"]["args"] = ["sh", "-c", "readlink /proc/self/ns/mnt; ls /etc"]
            box.write()
            r = box.call("run", "--bundle", box.bundle, box.name(), check=False)
            if "mount proc" in r.stderr or "make /proc" in r.stderr:
                raise Skip("this kernel mounts nothing on detached mounts")
            expect(r.stdout.split() == [os.readlink(path or "/proc/self/ns/mnt"), "passwd"], r)
            name = box.start("sleep", "100")
            expect(box.call("exec", name, "ls", "/etc").stdout == "passwd\n")
            box.call("delete", "--force", name)
        with open("/proc/self/mountinfo") as f:
            expect(f.read() == before, "mounts were left")
    finally:
        holder.kill()
        holder.wait()


def with_userns(box, base=100000):
    box.config["linux"]["namespaces"].append({"type": "user"})
    box.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": base, "size": 65536}]
    box.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": base, "size": 65536}]


def user_namespace(box):
    with_userns(box)
    os.chmod(box.top, 0o700)  # only the host's root comes here
    out = box.sh("cat /proc/self/uid_map; id -u; ls -ln /dev/null; cat /proc/self/setgroups")
    expect(out.split()[:4] == ["0", "100000", "65536", "0"] and "allow" in out, out)
    expect(box.sh("echo x > /dev/null && head -c 4 /dev/zero | wc -c").strip() == "4")
    name = box.start("sleep", "100")
    expect(box.call("exec", name, "id", "-u").stdout.strip() == "0")
    expect(box.call("exec", "--user", "1000", name, "id", "-u").stdout.strip() == "1000")
    pid = box.state(name)["pid"]
    expect(os.stat("/proc/%d" % pid).st_uid in (0, 100000))
    box.config["linux"]["uidMappings"] = box.config["linux"]["gidMappings"] = []
    box.config["linux"]["namespaces"] = [
        {"type": t} for t in ("mount", "pid", "cgroup", "uts")] + [
        {"type": t, "path": "/proc/%d/ns/%s" % (pid, f)} for t, f in
        (("user", "user"), ("network", "net"), ("ipc", "ipc"))]
    out = box.sh("readlink /proc/self/ns/user; readlink /proc/self/ns/net; id -u").split()
    expect(out == [os.readlink("/proc/%d/ns/user" % pid), os.readlink("/proc/%d/ns/net" % pid),
                   "0"], out)


def time_namespace(box):
    if not os.path.exists("/proc/self/ns/time"):
        raise Skip("no time namespaces")
    box.config["linux"]["namespaces"].append({"type": "time"})
    box.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0}}
    with open("/proc/uptime") as f:
        host = float(f.read().split()[0])
    expect(float(box.sh("cat /proc/uptime").split()[0]) >= host + 1000000)
    with_userns(box)
    expect(float(box.sh("cat /proc/uptime").split()[0]) >= host + 1000000)
    name = box.start("sleep", "100")
    expect(float(box.call("exec", name, "cat", "/proc/uptime").stdout.split()[0]) >= host + 1e6)


def limits(box):
    box.config["linux"]["cgroupsPath"] = "/t%d-limits/inner" % os.getpid()
    path = box.config["linux"]["cgroupsPath"]
    r = box.config["linux"]["resources"]
    r["memory"] = {"limit": 64 << 20, "reservation": 32 << 20}
    r["cpu"] = {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"}
    r["pids"] = {"limit": 20}
    try:
        name = box.start("sleep", "100")
        expect(cgroup_file("memory", path, "memory.limit_in_bytes") == str(64 << 20))
        expect(cgroup_file("memory", path, "memory.soft_limit_in_bytes") == str(32 << 20))
        expect(cgroup_file("cpu", path, "cpu.shares") == "512")
        expect(cgroup_file("cpu", path, "cpu.cfs_quota_us") == "50000")
        expect(cgroup_file("cpuset", path, "cpuset.cpus") == "0")
        expect(cgroup_file("pids", path, "pids.max") == "20")
        expect(str(box.state(name)["pid"]) in cgroup_file("pids", path, "cgroup.procs"))
        box.call("update", "--pids-limit", "30", "--memory", str(48 << 20), name)
        expect(cgroup_file("pids", path, "pids.max") == "30")
        expect(cgroup_file("memory", path, "memory.limit_in_bytes") == str(48 << 20))
        box.call("update", "--resources", "-", name, stdin=None,
                 input=json.dumps({"cpu": {"shares": 256}, "pids": {"limit": -1}}))
        expect(cgroup_file("cpu", path, "cpu.shares") == "256")
        expect(cgroup_file("pids", path, "pids.max") == "max")
        # A second container in a group that is in use would share its fate.
        r = box.create("true", check=False)
        expect(r.returncode == 1 and "has processes in it" in box.error, box.error)
        box.call("delete", "--force", name)
        box.config["linux"]["resources"]["pids"] = {"limit": 4}
        out = box.sh("for i in 1 2 3 4 5 6; do sleep 1 & done; wait", check=False)
        expect("fork" in out.stderr, out)
        for bad in ("/", "/../x", "/a/../../b"):
            box.config["linux"]["cgroupsPath"] = bad
            expect(box.run("true", check=False).returncode == 1, bad)
    finally:
        for d in os.listdir("/sys/fs/cgroup"):
            p = "/sys/fs/cgroup/%s/t%d-limits" % (d, os.getpid())
            if os.path.isdir(p):
                os.rmdir(p)


def v2_limits(box):
    """Where the tree of version 2 has its controllers: in a guest, or on a host without version 1."""
    try:
        with open("/sys/fs/cgroup/cgroup.controllers") as f:
            have = f.read().split()
    except OSError:
        have = []
    if "memory" not in have or "pids" not in have:
        raise Skip("no controllers of version 2")
    box.config["linux"]["cgroupsPath"] = "/t%d-limits/inner" % os.getpid()
    path = "/sys/fs/cgroup" + box.config["linux"]["cgroupsPath"]
    box.config["linux"]["resources"].update({
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0"},
        "pids": {"limit": 20}, "unified": {"memory.high": str(60 << 20)}})

    def value(file):
        with open(path + "/" + file) as f:
            return f.read().strip()

    try:
        name = box.start("sleep", "100")
        expect(value("memory.max") == str(64 << 20) and value("memory.low") == str(32 << 20))
        expect(not os.path.exists(path + "/memory.swap.max") or
               value("memory.swap.max") == str(32 << 20))
        expect(value("memory.high") == str(60 << 20))
        expect(value("cpu.weight") == "100" and value("cpu.max") == "50000 100000",
               value("cpu.weight"), value("cpu.max"))
        expect("cpuset" not in have or value("cpuset.cpus") == "0")
        expect(value("pids.max") == "20" and str(box.state(name)["pid"]) in value("cgroup.procs"))
        box.call("update", "--pids-limit", "-1", "--memory", str(48 << 20), name)
        expect(value("pids.max") == "max" and value("memory.max") == str(48 << 20))
        e = json.loads(box.call("events", "--stats", name).stdout)["data"]
        expect(e["memory"]["usage"]["limit"] == 48 << 20 and e["pids"]["current"] == 1, e)
        box.call("delete", "--force", name)
    finally:
        if os.path.isdir(os.path.dirname(path)):
            os.rmdir(os.path.dirname(path))


def memory_limit(box):
    box.config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    try:
        cgroup_file("memory", "/", "memory.limit_in_bytes")
    except FileNotFoundError:
        raise Skip("no controller memory")
    r = box.sh("dd if=/dev/zero of=/dev/null bs=64M count=1", check=False)
    expect(r.returncode != 0, r)
    expect(box.sh("dd if=/dev/zero of=/dev/null bs=1M count=1", check=False).returncode == 0)


def devices(box):
    box.config["linux"]["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5,
         "gid": 6},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600}]
    out = box.sh("stat -c '%n %a %u %g %t %T %F' /dev/mine /dev/pipe; head -c 3 /dev/mine | wc -c;"
                 "for l in ptmx fd stdin; do readlink /dev/$l; done; mknod /dev/kmsg2 c 1 11 && "
                 "cat /dev/kmsg2; mknod /dev/disk b 254 0 && head -c 1 /dev/disk | wc -c", check=False)
    lines = out.stdout.split("\n")
    expect(lines[0] == "/dev/mine 640 5 6 1 5 character special file", lines)
    expect(lines[1] == "/dev/pipe 600 0 0 0 0 fifo", lines)
    expect(lines[2:6] == ["3", "pts/ptmx", "/proc/self/fd", "/proc/self/fd/0"], lines)
    expect(out.stderr.count("Operation not permitted") == 2, out)


def capabilities(box):
    def sets():
        text = box.sh("grep ^Cap /proc/self/status")
        return {x.split()[0]: int(x.split()[1], 16) for x in text.strip().split("\n")}

    bit = {"CAP_CHOWN": 1, "CAP_KILL": 1 << 5, "CAP_SETUID": 1 << 7}
    c = box.config["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7, 8]}
    s = sets()
    expect(s["CapBnd:"] == sum(bit.values()) and s["CapInh:"] == bit["CAP_KILL"] and
           s["CapAmb:"] == s["CapPrm:"] == s["CapEff:"] == bit["CAP_KILL"], s)
    expect(box.sh("id -G").split() == ["1000", "7", "8"])
    box.config["process"]["user"] = {"uid": 0, "gid": 0}
    c["ambient"] = c["inheritable"] = []
    expect(sets()["CapEff:"] == sum(bit.values()))  # root gets what is bounded at exec
    box.config["process"]["capabilities"] = {}
    expect(set(sets().values()) == {0})
    box.config["process"]["capabilities"] = {"bounding": ["CAP_NOSUCH"]}
    r = box.run("true", check=False)
    expect(r.returncode == 0 and "CAP_NOSUCH" in r.stderr, r)


def process_settings(box):
    p = box.config["process"]
    p["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    p["oomScoreAdj"] = 321
    p["noNewPrivileges"] = True
    p["user"]["umask"] = 0o027
    p["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    p["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3}
    box.config["domainname"] = "example.org"
    box.config["linux"]["personality"] = {"domain": "LINUX32"}
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "123456"}
    out = box.sh("ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; umask; ionice;"
                 "cat /proc/sys/kernel/domainname; uname -m; cat /proc/sys/net/ipv4/ip_forward"
                 " /proc/sys/kernel/shmmax; grep NoNewPrivs /proc/self/status;"
                 "cut -d' ' -f19,41 /proc/self/stat").split("\n")
    expect(out[:12] == ["100", "200", "0", "321", "0027", "best-effort: prio 6", "example.org",
                        "i686", "1", "123456", "NoNewPrivs:\t1", "3 3"], out)
    box.config["linux"]["sysctl"] = {"kernel.core_pattern": "|/bin/evil"}
    r = box.run("true", check=False)
    expect(r.returncode == 1 and "core_pattern" in r.stderr, r)
    # The host's network namespace by its path is the host's all the same.
    with open("/proc/sys/net/core/somaxconn") as f:
        box.config["linux"]["sysctl"] = {"net.core.somaxconn": f.read().strip()}
    box.config["linux"]["namespaces"][4]["path"] = "/proc/self/ns/net"
    r = box.run("true", check=False)
    expect(r.returncode == 1 and "somaxconn" in r.stderr, r)
    p["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2
    expect(box.run("true", check=False).returncode == 1)


def seccomp(box):
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["mkdir", "mkdirat", "nosuchcall"], "action": "SCMP_ACT_ERRNO",
                      "errnoRet": 28},
                     {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                      "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]}
    script = "mkdir /tmp/d; kill -USR1 1; kill -0 $$ && echo signal 0; grep Seccomp: /proc/self/status"
    for no_new in (False, True):
        box.config["process"]["noNewPrivileges"] = no_new
        r = box.sh(script, check=False)
        expect("No space left" in r.stderr and "not permitted" in r.stderr and
               "signal 0" in r.stdout and "Seccomp:\t2" in r.stdout, r)
    name = box.start("sleep", "100")
    r = box.call("exec", name, "mkdir", "/tmp/e", check=False)
    expect("No space left" in r.stderr, r)
    box.config["linux"]["seccomp"]["syscalls"][0]["action"] = "SCMP_ACT_KILL_PROCESS"
    expect("Bad system call" in box.sh("mkdir /tmp/f", check=False).stderr or
           box.run("mkdir", "/tmp/f", check=False).returncode == 128 + 31)
    box.config["linux"]["seccomp"]["defaultAction"] = "SCMP_ACT_NOTIFY"
    expect(box.run("true", check=False).returncode == 1)


def seccomp_notify(box):
    path = box.top + "/agent"
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    got = {}

    def agent():
        conn, _ = server.accept()
        data, ancillary, _, _ = conn.recvmsg(65536, socket.CMSG_SPACE(64))
        fds = array.array("i")
        fds.frombytes(ancillary[0][2][:4])
        got["state"] = json.loads(data)
        got["link"] = os.readlink("/proc/self/fd/%d" % fds[0])
        os.close(fds[0])  # nobody answers: the calls fail with ENOSYS

    t = threading.Thread(target=agent)
    t.start()
    box.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "meta",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}
    r = box.sh("mkdir /tmp/d", check=False)
    t.join(20)
    expect("not implemented" in r.stderr, r)
    s = got["state"]
    expect("seccomp" in got["link"] and s["metadata"] == "meta" and s["fds"] == ["seccompFd"] and
           s["pid"] > 0 and s["state"]["status"] == "created", got)
    box.config["linux"]["seccomp"]["syscalls"][0]["names"].append("write")
    expect(box.run("true", check=False).returncode == 1)


def mounts(box):
    for d in ("src/sub", "tree", "tree/inner"):
        os.makedirs(box.top + "/" + d)
    for f in ("src/file", "bundle/relative"):
        with open(box.top + "/" + f, "w") as h:
            h.write(f)
    top = box.top
    box.config["mounts"] += [
        {"destination": "/ro", "source": top + "/src", "options": ["bind", "ro"]},
        {"destination": "/new/deep/file", "source": top + "/src/file", "options": ["bind"]},
        {"destination": "rel", "source": "relative", "type": "bind", "options": ["ro"]},
        {"destination": "/tmp/t", "type": "tmpfs", "source": "x",
         "options": ["noexec", "nosuid", "nodev", "mode=700", "size=1m"]},
        {"destination": "/tree", "source": top + "/tree", "options": ["rbind", "rro", "rprivate"]},
        {"destination": "/shared", "source": top + "/tree", "options": ["rbind", "rshared"]},
        {"destination": "/unbindable", "source": top + "/src", "options": ["bind", "unbindable"]},
        {"destination": "/noatime", "source": top + "/src", "options": ["bind", "noatime", "nodiratime"]},
    ]
    subprocess.run(["mount", "-t", "tmpfs", "x", top + "/tree/inner"], check=True)
    try:
        out = box.sh("cat /new/deep/file /rel; echo; touch /ro/x; touch /rel; touch /tree/inner/x;"
                     "stat -c %a /tmp/t; cat /proc/self/mountinfo", check=False)
    finally:
        subprocess.run(["umount", top + "/tree/inner"], check=True)
    lines = out.stdout.split("\n")
    expect(lines[0] == "src/filebundle/relative" and lines[1] == "700", lines)
    expect(out.stderr.count("Read-only file system") == 3, out.stderr)
    info = {x.split()[4]: x for x in lines[2:] if x}
    expect("noexec" in info["/tmp/t"] and "nosuid" in info["/tmp/t"] and "size=1024k" in info["/tmp/t"])
    expect("shared:" in info["/shared"] and "unbindable" in info["/unbindable"], info)
    expect("noatime,nodiratime" in info["/noatime"], info)
    expect("shared:" not in info["/tree"] and "master:" not in info["/tree"], info["/tree"])
    expect("master:" not in info["/"] or True)


def tmpcopyup(box):
    os.makedirs(box.rootfs + "/var/lib/x")
    with open(box.rootfs + "/var/lib/x/file", "w") as f:
        f.write("copied\n")
    os.chmod(box.rootfs + "/var/lib/x/file", 0o604)
    os.chown(box.rootfs + "/var/lib/x/file", 3, 4)
    os.symlink("/nowhere", box.rootfs + "/var/lib/link")
    box.config["mounts"].append({"destination": "/var/lib", "type": "tmpfs", "source": "tmpfs",
                                 "options": ["tmpcopyup", "ro"]})
    out = box.sh("cat /var/lib/x/file; stat -c '%a %u %g' /var/lib/x/file; readlink /var/lib/link;"
                 "touch /var/lib/y", check=False)
    expect(out.stdout.split() == ["copied", "604", "3", "4", "/nowhere"], out)
    expect("Read-only" in out.stderr, out)


def idmapped_mount(box):
    os.makedirs(box.top + "/src")
    with open(box.top + "/src/file", "w"):
        pass
    maps = {"uidMappings": [{"containerID": 0, "hostID": 7000, "size": 1000}],
            "gidMappings": [{"containerID": 0, "hostID": 8000, "size": 1000}]}
    box.config["mounts"].append(dict({"destination": "/m", "source": box.top + "/src",
                                      "options": ["bind", "idmap"]}, **maps))
    r = box.sh("stat -c '%u %g' /m/file", check=False)
    if "map ids" in r.stderr:
        raise Skip("the kernel or file system has none: " + r.stderr)
    expect(r.stdout.split() == ["7000", "8000"], r)
    # With a user namespace, and by its own mapping.
    del box.config["mounts"][-1]["uidMappings"], box.config["mounts"][-1]["gidMappings"]
    with_userns(box)
    expect(box.sh("stat -c '%u %g' /m/file; touch /m/new").split() == ["0", "0"])
    expect(os.stat(box.top + "/src/new").st_uid == 0)


def root_file_system(box):
    expect("Read-only" not in box.sh("touch /x", check=False).stderr)
    box.config["root"]["readonly"] = True
    expect("Read-only" in box.sh("touch /y", check=False).stderr)
    box.config["root"]["readonly"] = False
    for word in ("shared", "slave", "private", "unbindable"):
        box.config["linux"]["rootfsPropagation"] = word
        line = box.sh("grep ' / / \\| / rw' /proc/self/mountinfo; cat /proc/self/mountinfo")
        root = [x for x in line.split("\n") if x.split()[4:5] == ["/"]][0]
        expect(("shared:" in root) == (word == "shared") and
               ("unbindable" in root) == (word == "unbindable"), word, root)
    del box.config["linux"]["rootfsPropagation"]
    box.run("true", options=["--no-pivot"])
    r = box.sh("ls /; ls /proc/1/root/", options=["--no-pivot"])
    expect("bundle" not in r and "bin" in r, r)


def masked_and_read_only(box):
    out = box.sh("cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/vm/swappiness;"
                 "echo 1 > /proc/irq/default_smp_affinity", check=False)
    expect(out.stdout.split() == ["0", "0"] and out.stderr.count("Read-only") == 2, out)


def cgroup_mount(box):
    out = box.sh("cat /proc/self/cgroup; ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs ||"
                 "cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x",
                 check=False)
    expect("1\n" in out.stdout and out.stderr.count("Read-only") >= 1, out)
    expect(all(x.endswith(":/") for x in out.stdout.split("\n") if x.count(":") == 2), out)
    box.config["linux"]["namespaces"] = [
        n for n in box.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    out = box.sh("cat /proc/self/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs ||"
                 "cat /sys/fs/cgroup/cgroup.procs")
    expect("insula-oci." in out and "\n1\n" in out, out)


def rootless(box):
    box.config["linux"]["namespaces"] = [{"type": t} for t in ("pid", "ipc", "uts", "mount", "user",
                                                               "network")]
    uid = box.uid
    box.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    box.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    box.config["linux"]["resources"] = {}
    box.config["mounts"] = [m for m in box.config["mounts"] if m["type"] != "cgroup"]
    out = box.sh("id -u; cat /proc/self/uid_map; echo x > /dev/null; touch /made")
    expect(out.split() == ["0", "0", str(uid), "1"], out)
    expect(os.stat(box.rootfs + "/made").st_uid == uid)
    name = box.start("sleep", "100")
    expect(box.call("exec", name, "id", "-u").stdout.strip() == "0")
    expect(box.status(name) == "running")
    box.call("kill", name, "KILL")
    wait_for(lambda: box.status(name) == "stopped", "stopped")
    box.call("delete", name)


def rootless_ids(box):
    """More ids than one's own, by newuidmap, where /etc/subuid gives some to this user."""
    def given(file):
        with open(file) as f:
            for line in f:
                name, first, count = line.strip().split(":")
                if name in (str(box.uid), pwd.getpwuid(box.uid).pw_name):
                    return int(first), int(count)
        raise Skip("no ids for %d in %s" % (box.uid, file))

    try:
        (u, nu), (g, ng) = given("/etc/subuid"), given("/etc/subgid")
    except OSError as e:
        raise Skip(str(e))
    box.config["linux"]["namespaces"] = [{"type": t} for t in ("pid", "ipc", "uts", "mount", "user",
                                                               "network")]
    box.config["linux"]["resources"] = {}
    box.config["mounts"] = [m for m in box.config["mounts"] if m["type"] != "cgroup"]
    box.config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": box.uid, "size": 1},
                                          {"containerID": 1, "hostID": u, "size": nu}]
    box.config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": box.uid, "size": 1},
                                          {"containerID": 1, "hostID": g, "size": ng}]
    box.config["process"]["user"] = {"uid": 7, "gid": 8, "additionalGids": [9]}
    out = box.sh("id -u; id -g; id -G; touch /tmp/made").split()
    expect(out == ["7", "8", "8", "9"], out)
    st = os.stat(box.rootfs + "/tmp/made")
    expect((st.st_uid, st.st_gid) == (u + 6, g + 7), st)
    os.unlink(box.rootfs + "/tmp/made")
    box.config["linux"]["uidMappings"][1].update(hostID=0, size=10)  # of root and others
    r = box.run("true", check=False)
    expect(r.returncode == 1 and "newuidmap" in r.stderr, r)


rootless.uid = 54321
rootless_ids.uid = 65534  # nobody: newuidmap wants a user with a name


CASES = {f.__name__: f for f in (
    namespaces, join_namespaces, no_mount_namespace, user_namespace, time_namespace, limits, v2_limits, memory_limit, devices,
    capabilities, process_settings, seccomp, seccomp_notify, mounts, tmpcopyup, idmapped_mount,
    root_file_system, masked_and_read_only, cgroup_mount, rootless,
    rootless_ids)}

if __name__ == "__main__":
    sys.exit(main(CASES, *sys.argv[1:]))
