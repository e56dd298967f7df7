#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/e2e/run.py INSULA [CASE...] - real guests, from the command line as a person uses it

Without CASE, all of them, one after the other.  Exit status 77: the host cannot make images here.
The first run makes the images (network needed), later ones take them from the cache.
"""
import hashlib, http.server, json, os, pty, re, select, shutil, signal, socket
import subprocess, sys, tempfile, threading, time

INSULA = os.path.abspath(sys.argv[1])
IMAGE = "deb:bookworm"
PATIENCE = 400  # seconds for one guest on a slow, busy host
os.environ["PATH"] += ":/usr/sbin:/sbin"
temp = tempfile.mkdtemp(prefix="insula-e2e-")


class Failed(Exception):
    pass


def check(good, *what):
    if not good:
        raise Failed(" ".join(str(w) for w in what))


def command(*args, options=(), image=IMAGE):
    return [INSULA, "run", *options, image] + (["--", *args] if args else [])


def run(*args, options=(), image=IMAGE, stdin=b"", status=0):
    r = subprocess.run(command(*args, options=options, image=image), input=stdin,
                       capture_output=True, timeout=PATIENCE)
    check(r.returncode == status, "status", r.returncode, "not", status, r.stderr[-2000:],
          r.stdout[-2000:])
    return r.stdout.decode(errors="replace"), r.stderr.decode(errors="replace")


def start(*args, options=(), marker=b"UP", image=IMAGE):
    """A guest whose command prints @marker first; returns once it did."""
    p = subprocess.Popen(command(*args, options=options, image=image),
                         stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen, end = b"", time.time() + PATIENCE
    while marker not in seen:
        if not select.select([p.stdout], [], [], max(0, end - time.time()))[0]:
            p.kill()
            raise Failed("no", marker, "from the guest")
        chunk = os.read(p.stdout.fileno(), 4096)
        check(chunk, "the run ended early:", p.stderr.read()[-2000:] if not chunk else "")
        seen += chunk
    return p


def vmm_of(p):
    """The insula-vmm that belongs to @p."""
    children = open(f"/proc/{p.pid}/task/{p.pid}/children").read().split()
    check(len(children) == 1, "children", children)
    return int(children[0])


def finish(p, status):
    out, err = p.communicate(timeout=60)
    check(p.returncode == status, "status", p.returncode, "not", status, err[-2000:])
    return err.decode(errors="replace")


def case_exit_status():
    run("sh", "-c", "exit 7", status=7)


def case_not_found():
    err = run("no-such-program", status=127)[1]
    check(err.count("\n") == 1 and "no-such-program" in err, err)


def case_not_executable():
    run("/etc/passwd", status=126)


def case_killed():
    run("sh", "-c", "kill -9 $$", status=137)


def case_uname():
    out = run("uname", "-a")[0]
    check(re.match(r"Linux \S+ 6\.\S+ .*x86_64 GNU/Linux", out), out)


def case_cpuinfo():
    out = run("cat", "/proc/cpuinfo")[0]
    check(len(re.findall(r"^processor", out, re.M)) == 1, out)


def case_streams_env_workdir():
    out, err = run("sh", "-c", "echo out $A; echo err >&2; pwd; cat", stdin=b"in\n",
                   options=["--env", "A=b c", "--workdir", "/usr/lib"])
    check(out == "out b c\n/usr/lib\nin\n" and err == "err\n", out, err)


def case_pipe_100_mb():
    size = int(os.environ.get("INSULA_E2E_PIPE_MB", "100")) << 20
    block = os.urandom(1 << 20)
    path = os.path.join(temp, "pipe")
    with open(path, "wb") as f:
        for i in range(size >> 20):
            f.write(hashlib.sha256(block[:32] + bytes([i & 255])).digest() + block[32:])
    want = hashlib.sha256(open(path, "rb").read()).hexdigest()
    with open(path, "rb") as stdin:
        p = subprocess.Popen(command("cat"), stdin=stdin, stdout=subprocess.PIPE)
        got, total = hashlib.sha256(), 0
        while chunk := p.stdout.read(1 << 20):
            got.update(chunk)
            total += len(chunk)
    check(p.wait(60) == 0 and total == size and got.hexdigest() == want, p.returncode, total)


def case_shell_at_end_of_file():
    out = run(options=[])[0]
    check("root@insula" in out, out)


class Archive(http.server.BaseHTTPRequestHandler):
    """An empty, unsigned Debian archive: what apt-get update needs."""
    def do_GET(self):
        files = {"/dists/test/Release": b"Suite: test\nCodename: test\nComponents: main\n"
                                        b"Architectures: amd64\nMD5Sum:\n "
                                        + hashlib.md5(b"").hexdigest().encode()
                                        + b" 0 main/binary-amd64/Packages\nSHA256:\n "
                                        + hashlib.sha256(b"").hexdigest().encode()
                                        + b" 0 main/binary-amd64/Packages\n",
                 "/dists/test/main/binary-amd64/Packages": b""}
        body = files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")
        self.server.seen.append(self.path)

    def log_message(self, *args):
        pass


def case_apt_get_update():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://10.0.2.2:{server.server_port}"
    out = run("sh", "-c", "rm -f /etc/apt/sources.list.d/* && echo 'deb [trusted=yes] %s test main'"
              " >/etc/apt/sources.list && apt-get update && echo DONE" % url)[0]
    server.shutdown()
    check("DONE" in out and "/dists/test/Release" in server.seen, out, server.seen)


def case_python():
    out = run("python3", "-c", "print(sum(i * i for i in range(1000)))",
              image="deb:bookworm+python3")[0]
    check(out == "332833500\n", out)


def make_file(path, mib):
    digest = hashlib.sha256()
    with open(path, "wb") as f:
        for _ in range(mib):
            block = os.urandom(1 << 20)
            f.write(block)
            digest.update(block)
    return digest.hexdigest()


def case_share_200_mb():
    share = os.path.join(temp, "share")
    os.mkdir(share)
    want = make_file(share + "/big", 200)
    out = run("sh", "-c", "sha256sum /mnt/big; echo written >/mnt/new",
              options=["--share", share + ":/mnt"])[0]
    check(out.startswith(want), out)
    check(open(share + "/new").read() == "written\n", "not written through")


def case_share_read_only():
    share = os.path.join(temp, "share-ro")
    os.mkdir(share)
    run("sh", "-c", "! touch /mnt/x", options=["--share", share + ":/mnt:ro"])
    check(not os.listdir(share), os.listdir(share))


def case_share_owners():
    """Root's shares: files of any owner can be written and given away."""
    if os.geteuid() != 0:
        return
    shared = os.path.join(temp, "owners")
    os.mkdir(shared)
    with open(os.path.join(shared, "f"), "w") as f:
        f.write("old\n")
    os.chown(os.path.join(shared, "f"), 1000, 1000)
    os.chown(shared, 1000, 1000)
    run("sh", "-c", "echo new >> /s/f && echo x > /s/g && chown 1234:1234 /s/g",
        options=["--share", shared + ":/s"])
    with open(os.path.join(shared, "f")) as f:
        check(f.read() == "old\nnew\n", "what the guest wrote")
    check(os.stat(os.path.join(shared, "f")).st_uid == 1000, "the owner stays")
    check(os.stat(os.path.join(shared, "g")).st_uid == 1234, "the owner given")


def case_disk_200_mb():
    disk = os.path.join(temp, "disk.raw")
    want = make_file(disk, 200)
    out = run("sha256sum", "/dev/vdb", options=["--disk", disk + ",readonly"])[0]
    check(out.startswith(want), out)


def case_disk_left_clean():
    disk = os.path.join(temp, "clean.raw")
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", disk, "32M"], check=True)
    run("sh", "-c", "mount /dev/vdb /mnt && echo kept >/mnt/file", options=["--disk", disk])
    subprocess.run(["e2fsck", "-fn", disk], check=True, stdout=subprocess.DEVNULL)
    r = subprocess.run(["debugfs", "-R", "cat file", disk], capture_output=True, text=True)
    check(r.stdout == "kept\n", r.stdout)


def case_disk_qcow2():
    base, disk = f"{temp}/base.qcow2", f"{temp}/disk.qcow2"
    subprocess.run([INSULA, "disk", "create", base, "1G"], check=True)
    subprocess.run([INSULA, "disk", "create", "--backing", "base.qcow2", disk], check=True)
    out = run("sh", "-c", "mkfs.ext4 -q /dev/vdb && mount -o discard /dev/vdb /mnt && head -c 50M "
              "/dev/urandom >/mnt/gone && sync && rm /mnt/gone && head -c 20M /dev/urandom "
              ">/mnt/file && sha256sum /mnt/file", options=["--disk", disk])[0]
    r = subprocess.run([INSULA, "disk", "check", "--json", disk], capture_output=True)
    found = json.loads(r.stdout)
    check(r.returncode == 0 and found["corruptions"] == found["leaks"] == 0, found)
    check(run("sh", "-c", "mount -o ro /dev/vdb /mnt && sha256sum /mnt/file",
              options=["--disk", disk + ",readonly"])[0] == out, "the file changed")


def case_disk_in_use():
    disk = os.path.join(temp, "busy.raw")
    open(disk, "wb").truncate(1 << 20)
    p = start("sh", "-c", "echo UP; sleep 1000", options=["--disk", disk])
    err = run("true", options=["--disk", disk], status=115)[1]
    check(err.count("\n") == 1, err)
    p.terminate()
    finish(p, 143)


def case_port_taken():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        err = run("true", options=["--publish", f"{port}:80"], status=116)[1]
        check(err.count("\n") == 1 and str(port) in err, err)


def case_publish():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    script = ("import socket; s = socket.create_server(('', 80)); print('UP', flush=True);"
              "c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()")
    p = start("python3", "-c", script, options=["--publish", f"{port}:80"],
              image="deb:bookworm+python3")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as c:
        c.sendall(b"hello")
        check(c.recv(100) == b"HELLO", "no answer")
    finish(p, 0)


def case_two_cpus_busy():
    script = ("for i in 1 2; do (i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done) & done; wait;"
              "nproc; grep '^cpu[01] ' /proc/stat")
    out = run("sh", "-c", script, options=["--cpus", "2"])[0]
    lines = out.splitlines()
    check(lines[0] == "2" and len(lines) == 3, out)
    for line in lines[1:]:
        check(int(line.split()[1]) > 20, "an idle CPU:", out)


def case_poweroff():
    run("sh", "-c", "poweroff; sleep 1000", status=0)


def case_reboot():
    run("sh", "-c", "reboot; sleep 1000", status=0)


def case_panic():
    err = run("sh", "-c", "echo c >/proc/sysrq-trigger", status=118)[1]
    check("Kernel panic" in err and err.count("\n") == 1, err)


def case_sigint():
    p = start("sh", "-c", "trap 'exit 9' INT; echo UP; while :; do sleep 0.1; done")
    p.send_signal(signal.SIGINT)
    finish(p, 9)


def case_sigterm():
    p = start("sh", "-c", "echo UP; exec sleep 1000")
    p.terminate()
    finish(p, 143)


def case_reader_stuck():
    """Nobody reads what the command writes: three signals end it all the same."""
    p = start("sh", "-c", "echo UP; exec yes")
    for _ in range(3):
        time.sleep(1)
        p.terminate()
    check(p.wait(30) == 143, p.returncode)
    p.stdout.close()
    p.stderr.close()


def case_ctrl_c_and_escape():
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(INSULA, command())
    seen, step, end = b"", 0, time.time() + PATIENCE
    while time.time() < end:
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            seen += os.read(fd, 4096)
        except OSError:
            break
        if step == 0 and b"# " in seen:
            os.write(fd, b"sleep 1000 || echo interrupted; tty\r")
            step, seen = 1, b""
        elif step == 1 and b"tty" in seen:
            time.sleep(2)
            os.write(fd, b"\x03")
            step, seen = 2, b""
        elif step == 2 and b"# " in seen:
            os.write(fd, b"stty size; tty\r")
            step, seen = 3, b""
        elif step == 3 and b"/dev/pts/" in seen:
            os.write(fd, b"\x1d")
            step = 4
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    check(step == 4 and status == 0, step, status, seen)


def case_vmm_killed():
    p = start("sh", "-c", "echo UP; exec sleep 1000")
    os.kill(vmm_of(p), signal.SIGKILL)
    err = finish(p, 125)
    check("signal 9" in err and err.count("\n") == 1, err)


def case_cli_killed():
    p = start("sh", "-c", "echo UP; exec sleep 1000")
    vmm = vmm_of(p)
    p.kill()
    p.wait()
    for _ in range(100):
        if not os.path.exists(f"/proc/{vmm}") or " Z " in open(f"/proc/{vmm}/stat").read():
            break
        time.sleep(0.1)
    else:
        raise Failed("insula-vmm outlived its insula")
    run("true")  # the next run sweeps what the killed one could not


def building(where):
    """An image being made in the cache @where, at its longest step."""
    env = dict(os.environ, XDG_CACHE_HOME=where)
    p = subprocess.Popen([INSULA, "image", "build", IMAGE], env=env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in p.stderr:
        if "unpacking packages" in line:
            return p
    raise Failed("the build ended early:", p.wait())


def check_nothing_made(where):
    mounts = open("/proc/self/mountinfo").read()
    check(where not in mounts, "mounted:", mounts)
    check(not os.listdir(where + "/insula/images"), "a half-made image")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            args = open(f"/proc/{pid}/cmdline").read()
        except OSError:
            continue
        check(where + "/insula/tmp" not in args, "still runs:", pid, args)


def case_build_interrupted():
    where = os.path.join(temp, "cache-int")
    p = building(where)
    p.send_signal(signal.SIGINT)
    check(p.wait(60) == 130, p.returncode)
    check_nothing_made(where)
    check(not os.listdir(where + "/insula/tmp"), os.listdir(where + "/insula/tmp"))


def case_build_killed():
    where = os.path.join(temp, "cache-kill")
    p = building(where)
    p.kill()
    p.wait()
    time.sleep(2)
    check_nothing_made(where)
    # The next one, whatever it does, clears away.
    subprocess.run([INSULA, "image", "list"], env=dict(os.environ, XDG_CACHE_HOME=where),
                   check=True, stdout=subprocess.DEVNULL)
    check(not os.listdir(where + "/insula/tmp"), os.listdir(where + "/insula/tmp"))


def case_corrupt_kernel():
    path = os.path.join(temp, "kernel")
    with open(path, "wb") as f:
        f.write(b"no kernel" * 1000)
    r = subprocess.run([INSULA, "run", "--kernel", path], capture_output=True, timeout=PATIENCE,
                       stdin=subprocess.DEVNULL)
    check(r.returncode == 112 and r.stderr.count(b"\n") == 1, r)


def case_kernel_alone():
    image = json.loads(subprocess.run([INSULA, "image", "inspect", IMAGE], check=True,
                                      capture_output=True).stdout)
    r = subprocess.run([INSULA, "run", "--kernel", image["kernel"], "--append",
                        "console=ttyS0 panic=-1"], capture_output=True, timeout=PATIENCE,
                       stdin=subprocess.DEVNULL)
    check(b"Kernel panic" in r.stdout and r.returncode in (0, 118), r)


def case_named_machine():
    name = f"e2e-{os.getpid()}"
    os.environ["XDG_DATA_HOME"] = temp
    run("sh", "-c", "hostname >/root/kept", options=["--name", name])
    out = run("cat", "/root/kept", options=["--name", name])[0]
    check(out == name + "\n", out)
    p = start("sh", "-c", "echo UP; exec sleep 1000", options=["--name", name])
    run("true", options=["--name", name], status=119)
    p.terminate()
    finish(p, 143)


def case_image_never_written():
    image = json.loads(subprocess.run([INSULA, "image", "inspect", IMAGE], check=True,
                                      capture_output=True).stdout)
    before = os.stat(image["root"])
    run("sh", "-c", "echo dirt >/root/dirt; sync")
    after = os.stat(image["root"])
    check(before.st_mtime_ns == after.st_mtime_ns and before.st_blocks == after.st_blocks, after)
    run("test", "-e", "/root/dirt", status=1)


def case_directory_and_tar():
    tree = os.path.join(temp, "tree")
    image = json.loads(subprocess.run([INSULA, "image", "inspect", IMAGE], check=True,
                                      capture_output=True).stdout)
    os.mkdir(tree)
    subprocess.run(["debugfs", "-R", f"rdump / {tree}", image["root"]], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shutil.rmtree(tree + "/usr/lib/modules", ignore_errors=True)
    with open(tree + "/mark", "w") as f:
        f.write("directory\n")
    check(run("cat", "/mark", image=tree)[0] == "directory\n", "directory")
    with open(tree + "/mark", "w") as f:
        f.write("changed since\n")
    check(run("cat", "/mark", image=tree)[0] == "changed since\n", "a changed directory")
    subprocess.run(["tar", "-C", tree, "-cf", temp + "/tree.tar", "."], check=True)
    check(run("cat", "/mark", image=temp + "/tree.tar")[0] == "changed since\n", "tar")
    for name in tree, temp + "/tree.tar":
        subprocess.run([INSULA, "image", "remove", name], check=True)


def case_raw_disk():
    disk = os.path.join(temp, "root.raw")
    image = json.loads(subprocess.run([INSULA, "image", "inspect", IMAGE], check=True,
                                      capture_output=True).stdout)
    subprocess.run(["cp", "--sparse=always", image["root"], disk], check=True)
    check(run("echo", "from a disk", image=disk)[0] == "from a disk\n", "raw disk")
    subprocess.run([INSULA, "image", "remove", disk], check=True)


def leftovers():
    for base in "/run/insula/run", os.environ.get("XDG_RUNTIME_DIR", "/x") + "/insula/run":
        if os.path.isdir(base):
            for d in os.listdir(base):
                # One that is locked belongs to another run on this host.
                if subprocess.run(["flock", "-n", f"{base}/{d}/lock", "true"]).returncode == 0:
                    return d
    return None


cases = {n[5:]: f for n, f in list(globals().items()) if n.startswith("case_")}


def main():
    wanted = sys.argv[2:] or list(cases)
    if wanted == ["--list"]:
        print("\n".join(cases))
        return 0
    if not shutil.which("mmdebstrap"):
        print("mmdebstrap is missing: no images here")
        return 77
    r = subprocess.run([INSULA, "image", "build", IMAGE], stdout=subprocess.DEVNULL)
    check(r.returncode == 0, "the image cannot be made")
    failures = 0
    for name in wanted:
        began = time.time()
        try:
            cases[name]()
            check(leftovers() is None, "left behind:", leftovers())
            print(f"ok    {name} ({time.time() - began:.1f} s)", flush=True)
        except (Failed, subprocess.SubprocessError, OSError) as e:
            failures += 1
            print(f"FAIL  {name} ({time.time() - began:.1f} s): {e}", flush=True)
    shutil.rmtree(temp, ignore_errors=True)
    return 1 if failures else 0


sys.exit(main())
