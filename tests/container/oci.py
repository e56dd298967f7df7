# SPDX-License-Identifier: Apache-2.0
"""tests/container/oci.py - a bundle with a busybox root file system, and insula-oci run on it"""
import contextlib
import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIP = 77
CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_SETGID",
        "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT"]
BASE = {
    "ociVersion": "1.1.0",
    "root": {"path": "rootfs"},
    "hostname": "box",
    "process": {
        "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"],
        "env": ["PATH=/bin", "TERM=xterm"],
        "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")},
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


class Skip(Exception):
    pass


def expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what))


def wait_for(fn, what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = fn()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("did not come: " + what)


class Box:
    """A bundle and a state directory of their own, gone at the end with every container in it."""

    def __init__(self, program, uid=0):
        self.program = os.path.abspath(program)
        self.top = tempfile.mkdtemp(prefix="insula-oci-test.")
        self.root = self.top + "/run"
        self.bundle = self.top + "/bundle"
        self.uid = uid
        self.config = copy.deepcopy(BASE)
        self.count = 0
        self.make_rootfs()
        if uid:
            for d, _, files in os.walk(self.top):
                for name in [d] + [os.path.join(d, f) for f in files]:
                    os.chown(name, uid, uid, follow_symlinks=False)

    def make_rootfs(self):
        busybox = shutil.which("busybox")
        if not busybox:
            raise Skip("no busybox")
        rootfs = self.bundle + "/rootfs"
        for d in ("bin", "proc", "sys", "dev", "etc", "tmp", "root", "run", "var"):
            os.makedirs(rootfs + "/" + d)
        os.chmod(rootfs + "/tmp", 0o1777)
        shutil.copy(busybox, rootfs + "/bin/busybox")
        for name in subprocess.check_output([busybox, "--list"], text=True).split():
            if name != "busybox":
                os.symlink("busybox", rootfs + "/bin/" + name)
        with open(rootfs + "/etc/passwd", "w") as f:
            f.write("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")

    @property
    def rootfs(self):
        return self.bundle + "/rootfs"

    def name(self):
        self.count += 1
        return "t%d-%d" % (os.getpid(), self.count)

    def write(self, config=None):
        with open(self.bundle + "/config.json", "w") as f:
            json.dump(config or self.config, f)

    def call(self, *args, check=True, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("timeout", 60)
        if self.uid:
            kw.update(user=self.uid, group=self.uid, extra_groups=[])
        r = subprocess.run([self.program, "--root", self.root, *args], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, **kw)
        if check and r.returncode:
            raise AssertionError("%s: status %d: %s" % (" ".join(args), r.returncode, r.stderr))
        return r

    def run(self, *command, check=True, options=(), **kw):
        """`run` of a command; its standard output."""
        if command:
            self.config["process"]["args"] = list(command)
        self.write()
        r = self.call("run", "--bundle", self.bundle, *options, self.name(), check=check, **kw)
        return r.stdout if check else r

    def sh(self, script, **kw):
        return self.run("sh", "-c", script, **kw)

    def create(self, *command, options=(), check=True, **kw):
        if command:
            self.config["process"]["args"] = list(command)
        self.write()
        name = self.name()
        # Not our pipes: the container would keep them open.
        with open(self.top + "/out", "a") as out, open(self.top + "/err", "a+") as err:
            at = err.seek(0, 2)
            arguments = dict(stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60)
            if self.uid:
                arguments.update(user=self.uid, group=self.uid, extra_groups=[])
            arguments.update(kw)
            r = subprocess.run([self.program, "--root", self.root, "create", "--bundle",
                                self.bundle, *options, name], **arguments)
            err.seek(at)
            self.error = err.read()
        if check and r.returncode:
            raise AssertionError("create: status %d: %s" % (r.returncode, self.error))
        return name if check else r

    def start(self, *command, **kw):
        name = self.create(*command, **kw)
        self.call("start", name)
        return name

    def state(self, name):
        return json.loads(self.call("state", name).stdout)

    def status(self, name):
        return self.state(name)["status"]

    def out(self):
        with open(self.top + "/out") as f:
            return f.read()

    def listed(self):
        return json.loads(self.call("list", "--format", "json").stdout)

    def close(self):
        for c in self.listed():
            self.call("delete", "--force", c["id"], check=False)
        shutil.rmtree(self.top, ignore_errors=True)


def cgroup_dirs(name):
    """Directories of control groups with this name, anywhere."""
    found = []
    for d, dirs, _ in os.walk("/sys/fs/cgroup"):
        found += [d + "/" + x for x in dirs if name in x]
    return found


def cgroup_file(controller, path, file):
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        raise Skip("control groups of version 2")
    p = "/sys/fs/cgroup/%s%s/%s" % (controller, path, file)
    if not os.path.isdir("/sys/fs/cgroup/" + controller):
        raise Skip("no controller " + controller)
    with open(p) as f:
        return f.read().strip()


V2 = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\""


def main(cases, program, wanted, version="host"):
    """With version "v2": where control groups are of version 2, if only with the controllers that
    the host's version 1 leaves - on most hybrid hosts none, but devices, freezing and killing."""
    if version == "v2" and os.geteuid() == 0 and "OCI_V2" not in os.environ and not \
            os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        os.environ["OCI_V2"] = "1"
        os.execvp("unshare", ["unshare", "-m", "sh", "-c", V2, "sh", sys.executable, *sys.argv])
    if wanted not in cases:
        sys.exit("no case '%s'; there are: %s" % (wanted, " ".join(cases)))
    if os.geteuid() != 0:
        print("skipped: needs root")
        return SKIP
    fn = cases[wanted]
    try:
        box = Box(program, getattr(fn, "uid", 0))
    except Skip as e:
        print("skipped:", e)
        return SKIP
    try:
        fn(box)
    except Skip as e:
        print("skipped:", e)
        return SKIP
    finally:
        box.close()
    return 0
