#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/life.py PROGRAM CASE - the life cycle of containers"""
import array
import json
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import time

from oci import (BASE, Skip, cgroup_dirs, expect, main, wait_for)


def lifecycle(box):
    box.config["annotations"] = {"org.example.key": "value"}
    name = box.create("sleep", "100")
    s = box.state(name)
    expect(s["status"] == "created" and s["id"] == name and s["pid"] > 0, s)
    expect(s["bundle"] == box.bundle and s["annotations"] == {"org.example.key": "value"}, s)
    box.call("start", name)
    expect(box.status(name) == "running")
    expect(box.call("start", name, check=False).returncode == 1, "started twice")
    expect(box.call("delete", name, check=False).returncode == 1, "deleted while running")
    expect([c["id"] for c in box.listed()] == [name])
    pids = json.loads(box.call("ps", "--format", "json", name).stdout)
    expect(pids == [s["pid"]], pids)
    box.call("kill", name, "KILL")
    wait_for(lambda: box.status(name) == "stopped", "stopped")
    expect(box.call("kill", name, check=False).returncode == 1, "killed when dead")
    box.call("delete", name)
    expect(box.call("state", name, check=False).returncode == 1)
    expect(box.listed() == [] and cgroup_dirs(name) == [], cgroup_dirs(name))
    box.call("delete", "--force", name)  # of nothing, is fine


def created_is_not_running(box):
    name = box.create("sh", "-c", "echo ran > /tmp/ran")
    time.sleep(0.2)
    expect(not os.path.exists(box.rootfs + "/tmp/ran"))
    expect(box.call("create", "--bundle", box.bundle, name, check=False).returncode == 1)
    box.call("start", name)
    wait_for(lambda: os.path.exists(box.rootfs + "/tmp/ran"), "the program")


def kill_created(box):
    name = box.create("sleep", "100")
    box.call("kill", name, "TERM")
    wait_for(lambda: box.status(name) == "stopped", "stopped")
    box.call("delete", name)


def delete_force(box):
    name = box.start("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    box.call("delete", "--force", name)
    expect(box.listed() == [] and cgroup_dirs(name) == [])


def exit_status(box):
    expect(box.sh("exit 7", check=False).returncode == 7)
    expect(box.sh("kill -9 $$", check=False).returncode in (137, 0))
    expect(box.sh("echo hello").strip() == "hello")
    expect(box.sh("cat", input="through\n", stdin=None) == "through\n")


def program_errors(box):
    for command, words in (("nosuch", "executable file not found in $PATH"),
                           ("/bin/nosuch", "No such file or directory"),
                           ("/etc/passwd", "Permission denied")):
        r = box.run(command, check=False)
        expect(r.returncode == 1 and words in r.stderr, r)
    with open(box.rootfs + "/bin/bad", "w") as f:
        f.write("#!/no/such/interpreter\n")
    os.chmod(box.rootfs + "/bin/bad", 0o755)
    name = box.create("bad")
    r = box.call("start", name, check=False)
    expect(r.returncode == 1 and "No such file" in r.stderr, r)
    wait_for(lambda: box.status(name) == "stopped", "stopped")
    box.call("delete", name)


def bad_configs(box):
    for change, words in (
            ({"ociVersion": "2.0.0"}, "ociVersion"), ({"root": {}}, "root.path"),
            ({"root": {"path": "nosuch"}}, "root.path"), ({"process": None}, "process"),
            ({"mounts": [{"type": "tmpfs"}]}, "mounts[0].destination"),
            ({"hooks": {"prestart": [{"path": "x"}]}}, "hooks.prestart[0].path")):
        box.config = dict(BASE, **change)
        r = box.run(check=False)
        expect(r.returncode == 1 and words in r.stderr, change, r)
        expect(box.listed() == [])


def log_json(box):
    log = box.top + "/log.json"
    r = box.call("--log", log, "--log-format", "json", "start", "nosuch", check=False)
    with open(log) as f:
        line = json.loads(f.read())
    expect(r.returncode == 1 and line["level"] == "error" and "nosuch" in line["msg"] and
           line["time"], line)


def hooks(box):
    """All kinds, in order, each with the state on its standard input."""
    log = box.top + "/hooks"
    inside = "/tmp/hooks"

    def hook(kind, file):
        # awk is not there; the state goes into the log as it is, on one line.
        script = "echo %s $(cat | tr -d '\\n ') $(hostname) >> %s" % (kind, file)
        return [{"path": "/bin/sh", "args": ["sh", "-c", script],
                 "env": ["PATH=/bin:/usr/bin"], "timeout": 20}]

    box.config["hooks"] = {k: hook(k, log) for k in
                           ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    box.config["hooks"]["startContainer"] = hook("startContainer", inside)
    name = box.create("sh", "-c", "echo program >> /tmp/hooks; sleep 100")
    with open(log) as f:
        lines = [x.split() for x in f]
    expect([x[0] for x in lines] == ["prestart", "createRuntime", "createContainer"], lines)
    pid = box.state(name)["pid"]
    for x in lines:
        s = json.loads(x[1])
        status = "created" if x[0] == "prestart" else "creating"
        expect(s["id"] == name and s["status"] == status and s["pid"] == pid and
               s["bundle"] == box.bundle, s)
    expect(lines[0][2] != "box" and lines[2][2] == "box", "namespaces of hooks", lines)
    expect(not os.path.exists(box.rootfs + inside))
    box.call("start", name)
    wait_for(lambda: os.path.exists(box.rootfs + inside) and
             len(open(box.rootfs + inside).readlines()) == 2, "program")
    with open(box.rootfs + inside) as f:
        lines = [x.split() for x in f]
    expect(lines[0][0] == "startContainer" and json.loads(lines[0][1])["status"] == "created")
    expect(lines[1] == ["program"], lines)
    box.call("delete", "--force", name)
    with open(log) as f:
        lines = [x.split() for x in f]
    expect([x[0] for x in lines[3:]] == ["poststart", "poststop"], lines)
    expect(json.loads(lines[3][1])["status"] == "running")
    expect(json.loads(lines[4][1])["status"] == "stopped")


def hook_failures(box):
    for kind in ("prestart", "createRuntime", "createContainer"):
        box.config["hooks"] = {kind: [{"path": "/bin/false"}]}
        expect(box.create("true", check=False).returncode == 1, kind)
        expect(kind in box.error and box.listed() == [], box.error)
    box.config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"],
                                              "timeout": 1}]}
    expect(box.create("true", check=False).returncode == 1 and "1 s" in box.error, box.error)
    for kind, path in (("startContainer", "/bin/false"), ("poststart", "/bin/false")):
        box.config["hooks"] = {kind: [{"path": path}]}
        name = box.create("sleep", "100")
        expect(box.call("start", name, check=False).returncode == 1)
        wait_for(lambda: box.status(name) == "stopped", "stopped")
        box.call("delete", name)
    box.config["hooks"] = {"poststop": [{"path": "/bin/false"}]}
    name = box.start("sleep", "100")
    r = box.call("delete", "--force", name)
    expect("poststop" in r.stderr and box.listed() == [])


def exec_(box):
    name = box.start("sleep", "100")

    def run(*args, **kw):
        return box.call("exec", *args, **kw).stdout.strip()

    expect(run(name, "hostname") == "box")
    expect(run(name, "sh", "-c", "echo $$ >&2; cat /proc/1/cmdline").startswith("sleep"))
    expect(run("--cwd", "/tmp", name, "pwd") == "/tmp")
    expect(run("--env", "A=b", name, "sh", "-c", "echo $A $TERM") == "b xterm")
    expect(run("--user", "1000:1000", name, "sh", "-c", "id -u; id -g; echo $HOME") ==
           "1000\n1000\n/tmp")
    expect("NoNewPrivs:\t1" in run("--no-new-privs", name, "cat", "/proc/self/status"))
    expect(run(name, "sh", "-c", "cat /proc/self/cgroup") ==
           run(name, "cat", "/proc/1/cgroup"), "control group")
    expect(box.call("exec", name, "sh", "-c", "exit 9", check=False).returncode == 9)
    r = box.call("exec", name, "nosuch", check=False)
    expect(r.returncode == 127 and "not found" in r.stderr, r)
    process = dict(BASE["process"], args=["sh", "-c", "echo $X"], env=["PATH=/bin", "X=json"])
    with open(box.top + "/process.json", "w") as f:
        json.dump(process, f)
    expect(run("--process", box.top + "/process.json", name) == "json")
    pid_file = box.top + "/pid"
    with open(box.top + "/out", "a") as out:
        subprocess.run([box.program, "--root", box.root, "exec", "--detach", "--pid-file", pid_file,
                        name, "sleep", "50"], check=True, stdin=subprocess.DEVNULL, stdout=out,
                       stderr=out, timeout=20)
    with open(pid_file) as f:
        pid = int(f.read())
    expect(sorted(json.loads(box.call("ps", "--format", "json", name).stdout)) ==
           sorted([box.state(name)["pid"], pid]))
    expect(str(pid) in box.call("ps", name).stdout)
    box.call("kill", "--all", name, "KILL")
    wait_for(lambda: box.status(name) == "stopped", "stopped")
    expect(box.call("exec", name, "true", check=False).returncode == 1)


def pause(box):
    name = box.start("sh", "-c", "while :; do date +%s%N > /tmp/now; sleep 0.01; done")
    wait_for(lambda: os.path.exists(box.rootfs + "/tmp/now"), "the program")
    try:
        box.call("pause", name)
    except AssertionError as e:
        raise Skip(str(e)) if "no freezer" in str(e) else e
    expect(box.status(name) == "paused")
    expect(box.call("exec", name, "true", check=False).returncode == 1)
    with open(box.rootfs + "/tmp/now") as f:
        before = f.read()
    time.sleep(0.2)
    with open(box.rootfs + "/tmp/now") as f:
        expect(f.read() == before, "it ran while paused")
    box.call("resume", name)
    expect(box.status(name) == "running")
    wait_for(lambda: open(box.rootfs + "/tmp/now").read() != before, "life")
    box.call("pause", name)
    box.call("delete", "--force", name)


def receive_fd(server):
    conn, _ = server.accept()
    _, ancillary, _, _ = conn.recvmsg(4096, socket.CMSG_SPACE(64))
    fds = array.array("i")
    fds.frombytes(ancillary[0][2][:4])
    return fds[0]


def read_all(fd):
    data = b""
    while True:
        try:
            part = os.read(fd, 4096)
        except OSError:
            return data.decode()
        if not part:
            return data.decode()
        data += part


def console_socket(box):
    path = box.top + "/console"
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    box.config["process"]["terminal"] = True
    box.config["process"]["consoleSize"] = {"height": 33, "width": 77}
    expect(box.create("true", check=False).returncode == 1 and "console" in box.error, box.error)
    name = box.create("sh", "-c", "tty; stty size; echo x > /dev/console; ls -l /dev/console",
                      options=["--console-socket", path])
    fd = receive_fd(server)
    box.call("start", name)
    text = read_all(fd)
    expect("/dev/pts/0\r\n33 77\r\nx\r\n" in text and "136," in text, repr(text))
    box.call("delete", "--force", name)
    box.config["process"]["terminal"] = False
    name = box.start("sleep", "100")
    box.call("exec", "--tty", "--detach", "--console-socket", path, name, "sh", "-c",
             "tty && echo fine")
    expect("fine" in read_all(receive_fd(server)))


def terminal(box):
    """run and exec as the terminal themselves."""
    box.config["process"]["terminal"] = True
    box.config["process"]["args"] = ["sh", "-c", "tty; read x; echo got $x; exit 3"]
    box.write()
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(box.program, [box.program, "--root", box.root, "run", "--bundle", box.bundle,
                               box.name()])
    os.write(fd, b"word\n")
    text = read_all(fd)
    expect("/dev/pts/0" in text and "got word" in text, repr(text))
    expect(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3)


def notify_socket(box):
    path = box.top + "/notify"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(path)
    server.settimeout(20)
    os.environ["NOTIFY_SOCKET"] = path
    script = ("import os,socket\n")
    # busybox has no client for it: the test sends from outside, where the container would.
    name = box.create("sh", "-c", "echo $NOTIFY_SOCKET; ls -l $NOTIFY_SOCKET; sleep 100")
    starter = subprocess.Popen([box.program, "--root", box.root, "start", name])
    inside = wait_for(lambda: os.path.exists(box.root + "/" + name + "/notify/notify.sock"),
                      "the socket")
    del os.environ["NOTIFY_SOCKET"]
    wait_for(lambda: "notify.sock\n" in box.out() and "srwx" in box.out(), "the variable")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.sendto(b"STATUS=no\n", box.root + "/" + name + "/notify/notify.sock")
    client.sendto(b"MAINPID=1\nREADY=1\n", box.root + "/" + name + "/notify/notify.sock")
    text = server.recv(4096).decode()
    expect(text == "READY=1\nMAINPID=%d\n" % box.state(name)["pid"], text)
    expect(starter.wait(20) == 0)


def pid_file(box):
    name = box.create("sleep", "100", options=["--pid-file", box.top + "/pid"])
    with open(box.top + "/pid") as f:
        expect(int(f.read()) == box.state(name)["pid"])


def preserve_fds(box):
    r, w = os.pipe()
    os.set_inheritable(w, True)
    fds = {3: w}

    def place():
        os.dup2(w, 3)

    box.config["process"]["args"] = ["sh", "-c", "ls /proc/self/fd; echo kept >&3"]
    box.write()
    out = subprocess.run([box.program, "--root", box.root, "run", "--bundle", box.bundle,
                          "--preserve-fds", "1", box.name()], preexec_fn=place, close_fds=False,
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    os.close(w)
    expect(os.read(r, 100) == b"kept\n")
    # 0, 1, 2, the one that was kept, and the directory that ls reads
    expect(len(out.split()) == 5, out)
    expect(box.run("true", check=False, options=["--preserve-fds", "50"]).returncode == 1)


def signals_forwarded(box):
    box.config["process"]["args"] = ["sh", "-c", "trap 'exit 5' TERM; echo up; "
                                     "while :; do sleep 0.1; done"]
    box.write()
    p = subprocess.Popen([box.program, "--root", box.root, "run", "--bundle", box.bundle,
                          box.name()], stdout=subprocess.PIPE, text=True)
    expect(p.stdout.readline() == "up\n")
    p.send_signal(signal.SIGTERM)
    expect(p.wait(20) == 5)


def leftovers(box):
    """Nothing of us anywhere: processes, control groups, files of the state."""
    found = []
    for d in os.listdir("/proc"):
        try:
            if d.isdigit() and os.readlink("/proc/%s/root" % d).startswith(box.top):
                found.append("process " + d)
            elif d.isdigit():
                with open("/proc/%s/cmdline" % d) as f:
                    if box.root in f.read():
                        found.append("process " + d)
        except OSError:
            pass
    found += cgroup_dirs("t%d-" % os.getpid())
    for d, dirs, files in os.walk(box.root):
        found += [d + "/" + x for x in dirs + files if x != ".new"]
    return found


def killed_runtime(box):
    """kill -9 of create, start, run, delete at random moments; the next command clears it away."""
    rng = random.Random(int(os.environ.get("SEED", "1")))
    box.config["process"]["args"] = ["sleep", "1000"]
    box.write()
    for i in range(40):
        name = box.name()
        for command in (["create", "--bundle", box.bundle, name], ["start", name],
                        ["delete", "--force", name]):
            p = subprocess.Popen([box.program, "--root", box.root, *command],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
            if rng.random() < 0.6:
                time.sleep(rng.random() * 0.02)
                p.kill()
            p.wait(20)
        box.call("list")
        box.call("delete", "--force", name)
    box.call("list")
    wait_for(lambda: not leftovers(box), "nothing left, but " + str(leftovers(box)))


def at_once(box):
    """Containers made, run, deleted side by side; a name goes to one only."""
    box.config["process"]["args"] = ["sleep", "1000"]
    box.write()
    n = int(os.environ.get("COUNT", "24"))
    names = [box.name() for _ in range(n)]

    def all_of(*command):
        ps = [subprocess.Popen([box.program, "--root", box.root, *command, x],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
              for x in names]
        return [p.wait(300) for p in ps]

    expect(all_of("create", "--bundle", box.bundle) == [0] * n)
    expect(all_of("start") == [0] * n)
    expect(len([c for c in box.listed() if c["status"] == "running"]) == n)
    expect(all_of("delete", "--force") == [0] * n)
    one = [subprocess.Popen([box.program, "--root", box.root, "create", "--bundle", box.bundle,
                             "same"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL) for _ in range(8)]
    expect(sorted(p.wait(60) for p in one) == [0] + [1] * 7)
    box.call("delete", "--force", "same")
    wait_for(lambda: not leftovers(box), "nothing left, but " + str(leftovers(box)))


def spec_and_features(box):
    bundle = box.bundle
    box.call("spec", "--bundle", bundle)
    with open(bundle + "/config.json") as f:
        c = json.load(f)
    c["process"]["terminal"] = False
    c["process"]["args"] = ["hostname"]
    box.config = c
    expect(box.run().strip() == "insula")
    f = json.loads(box.call("features").stdout)
    expect(f["ociVersionMin"] == "1.0.0" and "startContainer" in f["hooks"] and
           "rro" in f["mountOptions"] and f["linux"]["cgroup"]["v2"] and
           f["linux"]["mountExtensions"]["idmap"]["enabled"])
    expect("insula-oci version" in box.call("--version").stdout)
    r = box.call("checkpoint", "x", check=False)
    expect(r.returncode == 1 and "CRIU" in r.stderr)


def events(box):
    name = box.start("sleep", "100")
    e = json.loads(box.call("events", "--stats", name).stdout)
    expect(e["type"] == "stats" and e["id"] == name, e)
    expect(e["data"]["pids"].get("current", 1) == 1, e)


CASES = {f.__name__.rstrip("_"): f for f in (
    lifecycle, created_is_not_running, kill_created, delete_force, exit_status, program_errors,
    bad_configs, log_json, hooks, hook_failures, exec_, pause, console_socket, terminal,
    notify_socket, pid_file, preserve_fds, signals_forwarded, killed_runtime, at_once,
    spec_and_features, events)}

if __name__ == "__main__":
    sys.exit(main(CASES, *sys.argv[1:]))
