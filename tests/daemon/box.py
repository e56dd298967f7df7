# SPDX-License-Identifier: Apache-2.0
"""tests/daemon/box.py - an insulad with directories of its own, and small guests for it"""
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

PATIENCE = 120  # seconds, on a busy host


class Failed(Exception):
    pass


def check(good, *what):
    if not good:
        raise Failed(" ".join(str(w) for w in what))


def wait_for(fn, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = fn()
        if value:
            return value
        time.sleep(0.01)
    raise Failed("did not come: " + what)


# A flat multiboot image: says "up" on the serial port, then does what its kind is.
SAY = b"".join(b"\x66\xba\xf8\x03\xb0" + bytes([c]) + b"\xee" for c in b"up\n")
KINDS = {
    "idle": b"\xfa\xf4\xeb\xfc",                         # cli; hlt; jmp back
    "busy": b"\xeb\xfe",                                 # jmp itself
    "crash": b"\x0f\x01\x1d\x00\x20\x10\x00\xcc",        # lidt of zeroes; int3: a triple fault
    "off": b"\x66\xba\x04\x06\x66\xb8\x00\x34\x66\xef\xf4",  # PM1a control: S5
}


def kernel(path, kind):
    load, flags = 0x100000, 0x10000
    code = SAY + KINDS[kind]
    header = struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, load, load,
                         0, 0, load + 32)
    with open(path, "wb") as f:
        f.write((header + code).ljust(0x2100, b"\0"))
    return path


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("insula", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


class Box:
    """Directories, an insulad started on demand, and what is left at the end."""

    def __init__(self, insula):
        self.insula_path = os.path.abspath(insula)
        self.bin = os.path.dirname(self.insula_path)
        self.top = tempfile.mkdtemp(prefix="insula-box.")
        self.run_dir = self.top + "/run"
        self.data = self.top + "/data/insula"
        self.sock = self.run_dir + "/insulad.sock"
        self.env = dict(os.environ, INSULA_RUN_DIR=self.run_dir, XDG_DATA_HOME=self.top + "/data",
                        HOME=self.top)
        self.env.pop("INSULA_SOCKET", None)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop_all()
        shutil.rmtree(self.top, ignore_errors=True)

    def kernel(self, kind):
        path = f"{self.top}/{kind}"
        return path if os.path.exists(path) else kernel(path, kind)

    def popen(self, *args, **kwargs):
        return subprocess.Popen([self.insula_path, *args], env=self.env, **kwargs)

    def cli(self, *args, stdin=b"", status=0):
        r = subprocess.run([self.insula_path, *args], env=self.env, input=stdin,
                           capture_output=True, timeout=PATIENCE)
        check(status is None or r.returncode == status, "insula", *args, "- status", r.returncode,
              "not", status, r.stderr.decode(errors="replace"))
        self.stderr = r.stderr.decode(errors="replace")
        return r.stdout.decode(errors="replace")

    def create(self, name, kind="idle", *options):
        """Of the software engine: choosing one takes a second."""
        self.cli("create", "--name", name, "--engine", "soft", "--machine", "micro"
                 if kind == "idle" else "q35", "--memory", "32M", "--net", "none", "--kernel",
                 self.kernel(kind), *options)

    def request(self, method, path, body=None, status=200, headers={}):
        c = Unix(self.sock)
        c.request(method, path, body if body is None or isinstance(body, (bytes, str))
                  else json.dumps(body), headers)
        r = c.getresponse()
        data = r.read()
        c.close()
        check(r.status == status, method, path, "- status", r.status, "not", status, data)
        self.headers = r.headers
        kind = r.headers.get("Content-Type", "")
        return json.loads(data) if kind == "application/json" else data

    def wait_job(self, job):
        while job["state"] == "running":
            job = self.request("GET", f"/v1/jobs/{job['id']}?wait=5000")
        return job

    def machines(self):
        return {m["name"]: m for m in json.loads(self.cli("list", "--all", "--json"))}

    def daemon_pid(self):
        """The one that holds the lock: the kernel tells who listens."""
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(self.sock)
        except OSError:
            return None
        with s:
            return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def processes(self, word=None):
        """Those whose files are ours: their command lines and environments name our directory."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = open(f"/proc/{pid}/cmdline", "rb").read()
                mine = self.run_dir.encode() in line  # a jailed VMM shows no environment
                mine = mine or self.run_dir.encode() in open(f"/proc/{pid}/environ", "rb").read()
            except OSError:
                continue
            if mine and line and (not word or word.encode() in line):
                found[int(pid)] = line.replace(b"\0", b" ").decode(errors="replace")
        return found

    def groups(self):
        """Control groups of the machines of any insulad, by UUID."""
        root = "/sys/fs/cgroup"
        trees = [root] + [f"{root}/{d}" for d in os.listdir(root) if os.path.isdir(f"{root}/{d}")]
        return {n.split(".", 1)[1] for tree in trees for n in os.listdir(tree)
                if n.startswith("insula-vm.")}

    def kill_daemon(self, sig=signal.SIGKILL):
        pid = self.daemon_pid()
        if pid:
            os.kill(pid, sig)
            wait_for(lambda: not alive(pid), "insulad's end")
        return pid

    def stop_all(self):
        self.kill_daemon(signal.SIGTERM)
        for pid in self.processes():
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def check_nothing_left(self):
        """After all machines were deleted and insulad ended."""
        files = [os.path.join(d, f) for d, _, names in os.walk(self.top) for f in names]
        dirs = [os.path.join(d, n) for d, names, _ in os.walk(self.top) for n in names]
        known = ("insula.db", "insula.db-wal", "insulad.lock", "insulad.log", "autostarted",
                 *KINDS)
        check(all(os.path.basename(f) in known for f in files), "files left:", files)
        check({os.path.basename(d) for d in dirs} <=
              {"run", "vm", "data", "insula", "guests", "machines", "cgroup"}, "left:", dirs)
        left = self.processes()
        left.pop(os.getpid(), None)
        check(not left, "processes left:", left)
        mounts = open("/proc/self/mountinfo").read()
        check(self.top not in mounts, "mounts left:", mounts)
        sockets = open("/proc/net/unix").read()
        check(self.top not in sockets, "sockets left")


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
