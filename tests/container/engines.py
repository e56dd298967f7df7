#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/engines.py PROGRAM [podman|containerd] - as the runtime of podman and of containerd

Debian's podman and containerd, unchanged, with storage of their own in a temporary directory and an
image made from busybox.  Prints a line a check; the exit status is 1 if one failed.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from oci import Box, expect, wait_for

failed = []


def check(name, fn):
    try:
        fn()
        print("ok   ", name, flush=True)
    except (AssertionError, subprocess.TimeoutExpired, OSError) as e:
        failed.append(name)
        print("FAIL ", name, "-", str(e)[:600].replace("\n", " | "), flush=True)


class Engine:
    def __init__(self, command, env):
        self.command, self.env = command, env

    def __call__(self, *args, status=0, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        r = subprocess.run([*self.command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=120, env=self.env, **kw)
        expect(r.returncode == status, " ".join(args), "status", r.returncode, r.stderr)
        return r.stdout.strip()


def podman(program, box):
    top = box.top + "/podman"
    os.mkdir(top)
    with open(top + "/containers.conf", "w") as f:
        # Higher limits than ours take CAP_SYS_RESOURCE, which not every host gives.
        f.write('[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=4096:4096"]\n'
                '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n')
    p = Engine(["podman", "--root", top + "/root", "--runroot", top + "/run", "--runtime", program],
               dict(os.environ, CONTAINERS_CONF=top + "/containers.conf"))
    with open(top + "/image.tar", "wb") as f:
        subprocess.run(["tar", "-C", box.rootfs, "-c", "."], stdout=f, check=True)
    p("import", top + "/image.tar", "box")
    none = ("--network", "none")
    loop = ("sh", "-c", "echo started; trap 'exit 0' TERM; while :; do sleep 0.1; done")

    def run():
        expect(p("run", "--rm", *none, "box", "echo", "hello") == "hello")
        p("run", "--rm", *none, "box", "sh", "-c", "exit 3", status=3)
        p("run", "--rm", *none, "box", "nosuch", status=127)
        p("run", "--rm", *none, "box", "/etc/passwd", status=126)
        expect(p("run", "--rm", "-i", *none, "box", "cat", stdin=None, input="through") == "through")
        expect("/dev/pts/0" in p("run", "--rm", "-t", *none, "box", "tty"))

    def life():
        p("run", "-d", "--name", "a", *none, "box", *loop)
        wait_for(lambda: p("logs", "a") == "started", "the log")
        expect(p("exec", "a", "sh", "-c", "echo in; hostname") != "")
        p("exec", "a", "sh", "-c", "exit 4", status=4)
        p("exec", "a", "nosuch", status=127)
        expect("/dev/pts/0" in p("exec", "-t", "a", "tty"))
        expect(p("exec", "-u", "1000", "-w", "/tmp", "-e", "A=b", "a", "sh", "-c",
                 "id -u; pwd; echo $A").split() == ["1000", "/tmp", "b"])
        p("exec", "-d", "a", "sh", "-c", "echo detached > /tmp/d; sleep 100")
        wait_for(lambda: p("exec", "a", "sh", "-c", "cat /tmp/d || true") == "detached", "exec -d")
        expect("sleep 100" in p("top", "a"))
        p("pause", "a")
        expect(p("inspect", "-f", "{{.State.Status}}", "a") == "paused")
        p("unpause", "a")
        p("stop", "-t", "10", "a")
        expect(p("inspect", "-f", "{{.State.ExitCode}}", "a") == "0")
        p("start", "a")
        p("restart", "-t", "5", "a")
        p("kill", "a")
        p("wait", "a")
        p("rm", "a")
        p("run", "-d", "--name", "b", *none, "box", *loop)
        p("cp", "b:/etc/passwd", top + "/passwd")
        p("rm", "-f", "-t", "1", "b")

    def limits():
        p("run", "-d", "--name", "l", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50",
          "--cpu-shares", "512", *none, "box", *loop)
        s = json.loads(p("stats", "--no-stream", "--format", "json", "l"))[0]
        expect("67.11MB" in s["mem_usage"] and int(s["pids"]) >= 1, s)
        pid = p("inspect", "-f", "{{.State.Pid}}", "l")
        with open("/proc/%s/cgroup" % pid) as f:
            paths = dict(x.strip().split(":")[1:] for x in f)
        if "cpu" in paths:
            with open("/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us" % paths["cpu"]) as f:
                expect(f.read().strip() == "50000")
        p("rm", "-f", "-t", "1", "l")

    def volumes():
        p("volume", "create", "v")
        p("run", "--rm", "-v", "v:/data", *none, "box", "sh", "-c", "echo kept > /data/f")
        expect(p("run", "--rm", "-v", "v:/data:ro", *none, "box", "cat", "/data/f") == "kept")
        p("run", "--rm", "-v", "v:/data:ro", *none, "box", "touch", "/data/g", status=1)
        expect(p("run", "--rm", "-v", box.rootfs + ":/host:ro", *none, "box", "ls", "/host/bin/sh")
               == "/host/bin/sh")
        p("run", "--rm", "--read-only", *none, "box", "touch", "/x", status=1)
        p("run", "--rm", "--read-only", *none, "box", "touch", "/tmp/x")
        p("run", "--rm", "--tmpfs", "/scratch:size=1m", *none, "box", "touch", "/scratch/x")

    def ports():
        p("run", "-d", "--name", "w", "-p", "127.0.0.1:18099:80", "box", "sh", "-c",
          "echo page > /index.html; httpd -f -h /")

        def fetch():
            try:
                return urllib.request.urlopen("http://127.0.0.1:18099/", timeout=2).read() == b"page\n"
            except OSError:
                return False
        try:
            wait_for(fetch, "the page")
        finally:
            p("rm", "-f", "-t", "1", "w")

    def pods():
        p("pod", "create", "--name", "pod", "--share", "net,ipc,uts", *none)
        p("run", "-d", "--pod", "pod", "--name", "one", "box", "sh", "-c",
          "echo page > /index.html; httpd -f -p 8080 -h /")
        wait_for(lambda: p("run", "--rm", "--pod", "pod", "box", "sh", "-c",
                           "wget -qO- http://127.0.0.1:8080/ || true") == "page", "the neighbour")
        p("pod", "stop", "-t", "2", "pod")
        p("pod", "rm", "-f", "pod")

    def health():
        p("run", "-d", "--name", "h", "--health-cmd", "test -e /tmp/fine", "--health-interval",
          "disable", *none, "box", *loop)
        p("healthcheck", "run", "h", status=1)
        p("exec", "h", "touch", "/tmp/fine")
        p("healthcheck", "run", "h")
        p("rm", "-f", "-t", "1", "h")

    def security():
        expect(p("run", "--rm", "--cap-drop", "all", *none, "box", "grep", "CapEff",
                 "/proc/self/status").split()[1] == "0" * 16)
        expect("Seccomp:\t2" in p("run", "--rm", *none, "box", "cat", "/proc/self/status"))
        out = p("run", "--rm", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", *none,
                "box", "cat", "/proc/self/uid_map")
        expect(out.split() == ["0", "100000", "65536"], out)
        p("run", "--rm", "--privileged", *none, "box", "mount", "-t", "tmpfs", "x", "/tmp")
        p("run", "--rm", *none, "box", "mount", "-t", "tmpfs", "x", "/tmp", status=1)
        expect(p("run", "--rm", "--sysctl", "kernel.shmmax=65536", *none, "box", "cat",
                 "/proc/sys/kernel/shmmax") == "65536")
        expect(p("run", "--rm", "--user", "1000:1000", *none, "box", "id", "-u") == "1000")
        expect(p("run", "--rm", "--init", *none, "box", "cat", "/proc/1/comm") != "cat")

    def many_runs():
        for _ in range(5):
            p("run", "--rm", *none, "box", "true")
        expect(p("ps", "-aq") == "")

    for fn in (run, life, limits, volumes, ports, pods, health, security, many_runs):
        check("podman " + fn.__name__, fn)
    subprocess.run([*p.command, "rm", "-af", "-t", "0"], env=p.env, capture_output=True)
    subprocess.run([*p.command, "system", "reset", "-f"], env=p.env, capture_output=True)


def containerd(program, box):
    top = box.top + "/containerd"
    os.mkdir(top)
    os.mkdir(top + "/bin")
    # The shim looks for "runc" where it is told.
    with open(top + "/config.toml", "w") as f:
        f.write('version = 2\nroot = "%s/root"\nstate = "%s/state"\n[grpc]\naddress = "%s/sock"\n'
                '[ttrpc]\naddress = "%s/ttrpc"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                % (top, top, top, top))
    with open(top + "/log", "w") as log:
        daemon = subprocess.Popen(["containerd", "-c", top + "/config.toml"], stdout=log, stderr=log)
    c = Engine(["ctr", "-a", top + "/sock"], dict(os.environ))
    try:
        wait_for(lambda: os.path.exists(top + "/sock"), "containerd")
        image = top + "/image"
        os.makedirs(image)
        make_archive(box, image, top + "/image.tar")
        c("image", "import", "--snapshotter", "native", top + "/image.tar")
        run = ("run", "--runc-binary", program, "--snapshotter", "native")

        def once():
            expect(c(*run, "--rm", "box:1", "a", "/bin/echo", "hello") == "hello")
            c(*run, "--rm", "box:1", "b", "/bin/sh", "-c", "exit 3", status=3)
            c(*run, "--rm", "box:1", "c", "/bin/nosuch", status=1)

        def life():
            c(*run, "-d", "box:1", "d", "/bin/sh", "-c", "while :; do sleep 0.1; done")
            expect(c("task", "exec", "--exec-id", "x", "d", "/bin/echo", "inside") == "inside")
            c("task", "exec", "--exec-id", "y", "d", "/bin/sh", "-c", "exit 4", status=4)
            expect("d" in c("task", "ls") and "RUNNING" in c("task", "ls"))
            expect(len(c("task", "ps", "d").split("\n")) >= 2)
            c("task", "pause", "d")
            expect("PAUSED" in c("task", "ls"))
            c("task", "resume", "d")
            c("task", "metrics", "d")
            c("task", "kill", "-s", "KILL", "d")
            wait_for(lambda: "STOPPED" in c("task", "ls"), "the end")
            c("task", "rm", "d")
            c("container", "rm", "d")

        def options():
            expect(c(*run, "--rm", "--memory-limit", str(64 << 20), "--env", "A=b", "--cwd", "/tmp",
                     "box:1", "e", "/bin/sh", "-c", "echo $A; pwd").split() == ["b", "/tmp"])
            expect("NoNewPrivs:\t1" in c(*run, "--rm", "box:1", "f", "/bin/cat",
                                         "/proc/self/status"))
            expect("Seccomp:\t2" in c(*run, "--rm", "--seccomp", "box:1", "g", "/bin/cat",
                                      "/proc/self/status"))

        for fn in (once, life, options):
            check("containerd " + fn.__name__, fn)
    finally:
        daemon.terminate()
        daemon.wait()


def make_archive(box, image, out):
    """The archive of an OCI image by hand: one layer."""
    import hashlib
    blobs = image + "/blobs/sha256"
    os.makedirs(blobs)

    def add(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(blobs + "/" + digest, "wb") as f:
            f.write(data)
        return "sha256:" + digest, len(data)

    layer = subprocess.run(["tar", "-C", box.rootfs, "-c", "."], stdout=subprocess.PIPE,
                           check=True).stdout
    diff, size = add(layer)
    config, csize = add(json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff]}}).encode())
    m = "application/vnd.oci.image."
    manifest, msize = add(json.dumps({
        "schemaVersion": 2, "mediaType": m + "manifest.v1+json",
        "config": {"mediaType": m + "config.v1+json", "digest": config, "size": csize},
        "layers": [{"mediaType": m + "layer.v1.tar", "digest": diff, "size": size}]}).encode())
    with open(image + "/oci-layout", "w") as f:
        json.dump({"imageLayoutVersion": "1.0.0"}, f)
    with open(image + "/index.json", "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [
            {"mediaType": m + "manifest.v1+json", "digest": manifest, "size": msize,
             "annotations": {"io.containerd.image.name": "box:1",
                             "org.opencontainers.image.ref.name": "1"},
             "platform": {"architecture": "amd64", "os": "linux"}}]}, f)
    subprocess.run(["tar", "-C", image, "-cf", out, "."], check=True)


def main():
    program = os.path.abspath(sys.argv[1]) if "/" in sys.argv[1] else shutil.which(sys.argv[1])
    box = Box(program)
    try:
        for name, fn in (("podman", podman), ("containerd", containerd)):
            if name in sys.argv[2:] or len(sys.argv) == 2:
                if not shutil.which(name):
                    print("skipped:", name, "is not installed")
                    continue
                fn(program, box)
    finally:
        box.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
