# SPDX-License-Identifier: Apache-2.0
"""Machines for the tests of saved state: started by `insula run --name`, then by insula-vmm itself,
watched through their control socket and the agent."""
import array, json, os, select, shutil, socket, struct, subprocess, tempfile, time

PATIENCE = 60
EXEC, STDIN_EOF, STARTED, STDOUT, STDERR, EXIT, ERROR = 1, 3, 16, 17, 18, 19, 20


class Failed(Exception):
    pass


def check(good, *what):
    if not good:
        raise Failed(" ".join(str(w) for w in what))


def has_files(pid):
    """A process that ended has none, also before its parent asks for it."""
    try:
        return bool(os.listdir(f"/proc/{pid}/fd"))
    except FileNotFoundError:
        return False


def until(what, seconds=PATIENCE):
    end = time.time() + seconds
    while time.time() < end:
        value = what()
        if value:
            return value
        time.sleep(0.02)
    raise Failed(f"waited {seconds} s in vain")


class Control:
    """The control socket: one request, one answer; events are kept."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.s.settimeout(PATIENCE)
        self.rest, self.events = b"", []

    def call(self, command, arguments=None, fds=(), ok=True):
        line = json.dumps({"id": 1, "command": command, "arguments": arguments or {}}) + "\n"
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.s.sendmsg([line.encode()], ancillary)
        while True:
            while b"\n" not in self.rest:
                got = self.s.recv(65536)
                if not got:
                    raise Failed("the machine is gone during", command)
                self.rest += got
            line, self.rest = self.rest.split(b"\n", 1)
            answer = json.loads(line)
            if "event" in answer:
                self.events.append(answer)
            elif ok:
                check("return" in answer, command, answer)
                return answer["return"]
            else:
                check("error" in answer, command, "did not fail:", answer)
                return answer["error"]["message"]

    def close(self):
        self.s.close()


class Agent:
    """A command in the guest."""

    def __init__(self, vsock, argv, seconds=PATIENCE):
        self.end = time.time() + seconds
        self.s = self.connect(vsock)
        payload = json.dumps({"argv": argv, "env": [], "tty": False, "rows": 24, "cols": 80}).encode()
        self.s.sendall(struct.pack("<BI", EXEC, len(payload)) + payload + struct.pack("<BI", STDIN_EOF, 0))
        self.out = b""

    def connect(self, vsock):
        while time.time() < self.end:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(5)
            try:
                s.connect(vsock)
                s.sendall(b"CONNECT 1024\n")
                line = b""
                while not line.endswith(b"\n"):
                    got = s.recv(1)
                    if not got:
                        break
                    line += got
                if line.startswith(b"OK"):
                    s.settimeout(None)
                    return s
            except OSError:
                pass
            s.close()
            time.sleep(0.02)
        raise Failed("the guest's agent does not answer")

    def exactly(self, n):
        data = b""
        while len(data) < n:
            self.s.settimeout(max(0.1, self.end - time.time()))
            got = self.s.recv(n - len(data))
            if not got:
                raise Failed("the agent's connection broke")
            data += got
        return data

    def wait(self):
        """(exit status, output)"""
        while True:
            kind, n = struct.unpack("<BI", self.exactly(5))
            payload = self.exactly(n)
            if kind in (STDOUT, STDERR):
                self.out += payload
            elif kind == EXIT:
                self.s.close()
                return json.loads(payload).get("code", -1), self.out.decode(errors="replace")
            elif kind == ERROR:
                raise Failed("agent:", payload)


class Machine:
    """One insula-vmm with a description of its own in a directory of its own."""

    def __init__(self, vmm, description, directory, restore=None, options=()):
        self.dir, self.description = directory, dict(description)
        os.makedirs(directory, exist_ok=True)
        self.vsock, control = directory + "/vsock", directory + "/control"
        self.description["control"] = control
        self.description["serial"] = {"type": "file", "path": directory + "/console"}
        if "vsock" in description:
            self.description["vsock"] = {"cid": description["vsock"]["cid"], "socket": self.vsock}
        path = directory + "/description.json"
        json.dump(self.description, open(path, "w"))
        args = [vmm, "--description", path, *options]
        if restore:
            args += ["--restore", restore]
        ready, theirs = os.pipe()
        args += ["--ready-fd", str(theirs)]
        self.errors = open(directory + "/errors", "w+b")
        begin = time.time()
        self.p = subprocess.Popen(args, pass_fds=[theirs], stdin=subprocess.DEVNULL,
                                  stdout=self.errors, stderr=self.errors)
        os.close(theirs)
        got = os.read(ready, 16)
        os.close(ready)
        self.start_ms = (time.time() - begin) * 1000
        if got != b"ready\n":
            self.p.wait()
            raise Failed("insula-vmm:", self.error_text())
        self.control = Control(control)

    def error_text(self):
        self.errors.flush()
        return open(self.dir + "/errors", errors="replace").read()[-2000:].strip()

    def run(self, *argv, seconds=PATIENCE, status=0):
        code, out = Agent(self.vsock, list(argv), seconds).wait()
        check(code == status, argv, "ended with", code, out)
        return out.strip()

    def sh(self, text, **more):
        return self.run("sh", "-c", text, **more)

    def save(self, path, pause=False, ok=True, compress=False):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return self.control.call("save", {"pause": pause, "compress": compress}, [fd], ok=ok)
        finally:
            os.close(fd)

    def fork(self, insula, directories):
        """Machines that go on from here, one a directory; and the answer of the request."""
        common, children, mine = {}, [], []
        now = self.control.call("describe")
        d, sizes = now["description"], now["disk_sizes"]
        for key in ("kernel", "initrd"):
            if d.get(key):
                common[d[key]] = os.O_RDONLY
        for disk in d["disks"]:
            for path in chain(disk["path"]):
                common[path] = os.O_RDONLY
        give(self.control, {path: os.open(path, flags) for path, flags in common.items()})
        for n, directory in enumerate(directories):
            os.makedirs(directory, exist_ok=True)
            child = json.loads(json.dumps(d))
            child.update(name=os.path.basename(directory), control=directory + "/control",
                         serial={"type": "file", "path": directory + "/console"})
            for net in child.get("nets", []):
                net["publish"] = []
            fds = {directory + "/console": os.open(directory + "/console", os.O_RDWR | os.O_CREAT, 0o600),
                   directory + "/errors": os.open(directory + "/errors", os.O_RDWR | os.O_CREAT, 0o600),
                   child["control"]: listen(child["control"])}
            if "vsock" in child:
                child["vsock"]["socket"] = directory + "/vsock"
                fds[directory + "/vsock"] = listen(directory + "/vsock")
            for i, disk in enumerate(child["disks"]):
                overlay(insula, disk, sizes[i], f"{directory}/disk{i}.qcow2")
                fds[disk["path"]] = os.open(disk["path"], os.O_RDWR)
            give(self.control, fds, n)
            children.append({"description": child, "log": directory + "/errors"})
        fds = []
        for i, disk in enumerate(d["disks"]):
            overlay(insula, disk, sizes[i], f"{directories[0]}/parent{i}.qcow2")
            mine.append({"disk": i, "path": disk["path"]})
            fds.append(os.open(disk["path"], os.O_RDWR))
        answer = self.control.call("fork", {"children": children, "overlays": mine}, fds)
        for fd in fds:
            os.close(fd)
        made = []
        for child, how, directory in zip(children, answer["children"], directories):
            check("pid" in how, how, open(directory + "/errors").read())
            made.append(Forked(child["description"], directory, how["pid"]))
        return made, answer

    def stop(self):
        if self.p.poll() is None:
            try:
                self.control.call("stop")
            except (Failed, OSError):
                pass
            try:
                self.p.wait(10)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        self.control.close()


class Forked(Machine):
    """A machine that is nobody's child here."""

    def __init__(self, description, directory, pid):
        self.dir, self.description, self.pid = directory, description, pid
        self.vsock = directory + "/vsock"
        self.control = Control(description["control"])

    def error_text(self):
        return open(self.dir + "/errors", errors="replace").read()[-2000:].strip()

    def stop(self):
        try:
            self.control.call("stop")
        except (Failed, OSError):
            pass
        self.control.close()
        until(lambda: not has_files(self.pid), 20)


def listen(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(16)
    return s.detach()


def give(control, fds, child=None):
    """@fds are closed."""
    arguments = {"paths": list(fds)}
    if child is not None:
        arguments["child"] = child
    control.call("give", arguments, list(fds.values()))
    for fd in fds.values():
        os.close(fd)


def image(path):
    """Size and backing file of a qcow2 image, from its header: also while a machine has it."""
    head = open(path, "rb").read(65536)
    offset, length, size = (int.from_bytes(head[a:b], "big") for a, b in ((8, 16), (16, 20), (24, 32)))
    return size, head[offset:offset + length].decode()


def chain(path):
    """The image and what it is over."""
    paths = [path]
    while paths[-1].endswith(".qcow2") and image(paths[-1])[1]:
        paths.append(image(paths[-1])[1])
    return paths


def overlay(insula, disk, size, path):
    """@disk of a description goes on in a new image over the one it has."""
    subprocess.check_call([insula, "disk", "create", "--backing",
                           disk["path"] + ",format=" +
                           ("qcow2" if disk["path"].endswith(".qcow2") else "raw"), path, str(size)],
                          stdout=subprocess.DEVNULL)
    disk.update(path=path, format="qcow2")


def debian(insula, directory, options=()):
    """The description of a Debian machine as `insula run` makes it, with files of its own, not
    running: its disk is a private copy."""
    env = dict(os.environ, XDG_DATA_HOME=directory)
    p = subprocess.Popen([insula, "run", "--name", "m", *options, "deb:bookworm", "--", "sh", "-c",
                          "echo UP; sleep 1000000"], env=env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if not select.select([p.stdout], [], [], PATIENCE)[0] or os.read(p.stdout.fileno(), 16) != b"UP\n":
            raise Failed("the first run failed:", p.stderr.read()[-2000:])
        run = os.path.dirname(os.readlink(f"{directory}/insula/machines/m/control"))
        d = json.load(open(run + "/description.json"))
        if d.get("initrd", "").startswith(run):
            d["initrd"] = shutil.copy(d["initrd"], directory + "/initrd")
    finally:
        p.terminate()
        p.communicate()
    return d


def scratch():
    return tempfile.mkdtemp(prefix="insula-state-")
