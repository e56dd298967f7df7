#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/daemon/crash.py INSULA [N [SEED]] - kill -9 of insulad, of a VMM or of a container's monitor,
of the command, at random points of N random operations

For each machine the test keeps the set of states that it may be in: after an operation that was
acknowledged the one that it promised, after one that was not either that or the one before.  What
`insula list` tells afterwards must be in the set, and files, links, sockets, processes, control
groups and mounts must be those of the machines that there are.  What forks and clones look through stays
as long as they do.
"""
import collections
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time

from box import Box, Failed, alive, check, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "container"))
import images
from registry import Image, busybox_layer

CAN_CONTAIN = os.geteuid() == 0 and shutil.which("busybox")

State = collections.namedtuple("State", "there name cpus runs snapshots")
NONE = frozenset()
GONE = State(False, None, None, False, NONE)
CAN_LIMIT = os.geteuid() == 0 and os.access("/sys/fs/cgroup/cpu", os.W_OK)
SETTLE = 2.0  # seconds until what a killed command asked for is surely through


def below(path):
    """The backing file that a qcow2 image names."""
    head = open(path, "rb").read(65536)
    if head[:4] != b"QFI\xfb":
        return None
    at, n = struct.unpack(">QI", head[8:20])
    return head[at:at + n].decode() if at else None


class Machine:
    def __init__(self, key):
        self.key = key
        self.container = False
        self.states = {GONE}
        self.settled = 0.0


class Test:
    def __init__(self, box, n, seed, image):
        self.box, self.n, self.image = box, n, image
        self.random = random.Random(seed)
        self.machines, self.names, self.counts = [], 0, collections.Counter()
        self.log = []
        self.seen = set()  # UUIDs
        self.memory = {}  # does the snapshot of that name hold memory?
        self.trees = []  # what images are made of: with it machines have a disk of their own

    # --- operations: arguments and what they promise ---

    def new_name(self):
        self.names += 1
        return f"m{self.names}"

    def pick(self, want):
        good = [m for m in self.machines if m.settled < time.monotonic() and len(m.states) == 1
                and want(next(iter(m.states)))]
        return self.random.choice(good) if good else None

    def choose(self):
        """(machine, arguments, change)"""
        ops = ["create"] * 3 + ["start"] * 4 + ["stop"] * 3 + ["delete", "delete --force", "rename",
                                                             "edit", "pause"]
        ops += ["snapshot create", "snapshot create", "snapshot restore", "snapshot delete", "fork",
                "fork", "clone", "clone --full", "snapshot create --disk-only"]
        tries = 0
        while True:
            tries += 1
            if tries % 100 == 0:  # all are unsettled
                time.sleep(SETTLE)
                self.verify("a pause")
            op = self.random.choice(ops)
            if op == "create":
                if sum(GONE not in m.states for m in self.machines) >= 8:
                    continue
                m = Machine(f"k{len(self.machines)}")
                self.machines.append(m)
                name = self.new_name()
                args = ["create", "--name", name, "--net", "none", "--label", f"key={m.key}"]
                if self.image and self.random.random() < 0.4:
                    args.append(self.image)  # sleeps
                    m.container = True
                else:
                    args += ["--engine", "soft", "--machine", "micro", "--memory", "64M",
                             "--kernel", self.box.kernel("idle"), *self.trees]
                if CAN_LIMIT and self.random.random() < 0.5:
                    args += ["--cpu-cap", "150", "--memory-limit", "1G"]
                return m, args, lambda s: State(True, name, 1, False, NONE)
            if op in ("fork", "clone", "clone --full"):
                chosen = self.choose_copy(op)
                if chosen:
                    return chosen
                continue
            if op.startswith("snapshot"):
                chosen = self.choose_snapshot(op)
                if chosen:
                    return chosen
                continue
            running = op in ("stop", "pause") or (op == "delete --force")
            m = self.pick(lambda s: s.there and (op in ("rename", "edit") or s.runs == running))
            if not m:
                continue
            name = next(iter(m.states)).name
            if op == "start":
                return m, ["start", name], lambda s: s._replace(runs=True)
            if op == "stop":
                return m, ["stop", name], lambda s: s._replace(runs=False)
            if op == "pause":
                return m, ["pause", name], lambda s: s
            if op.startswith("delete"):
                return m, [*op.split(), name], lambda s: GONE
            if op == "rename":
                new = self.new_name()
                return m, ["rename", name, new], lambda s: s._replace(name=new)
            cpus = self.random.randint(1, 64)
            return m, ["edit", name, "--cpus", str(cpus)], lambda s: s._replace(cpus=cpus)

    def choose_copy(self, op):
        """The copy is what changes."""
        source = self.pick(lambda s: s.there and (s.runs or op != "fork"))
        if not source or sum(GONE not in m.states for m in self.machines) >= 10:
            return None
        s = next(iter(source.states))
        if source.container and (op == "fork" or s.runs):
            return None
        m, name = Machine(f"k{len(self.machines)}"), self.new_name()
        m.container = source.container
        self.machines.append(m)
        return (m, [*op.split(), "--label", f"key={m.key}", s.name, name],
                lambda _: State(True, name, s.cpus, op == "fork", NONE))

    def choose_snapshot(self, op):
        m = self.pick(lambda s: s.there and (op.startswith("snapshot create") or s.snapshots) and
                      (s.runs or self.trees or not op.startswith("snapshot create")) and
                      (self.trees or "disk-only" not in op))
        if not m:
            return None
        s = next(iter(m.states))
        if m.container and op.startswith("snapshot create") and (s.runs or op != "snapshot create"):
            return None
        if op.startswith("snapshot create"):
            name = self.new_name()
            return m, [*op.split(), s.name, name], lambda s: s._replace(snapshots=s.snapshots | {name})
        name = self.random.choice(sorted(s.snapshots))
        if op == "snapshot delete":
            return m, [*op.split(), s.name, name], lambda s: s._replace(snapshots=s.snapshots - {name})
        return (m, [*op.split(), "--force", s.name, name],
                lambda s: s._replace(runs=self.memory[name]))

    def kill_something(self, what, command):
        self.victim = ""
        time.sleep(self.random.choice([0, self.random.uniform(0, 0.01),
                                       self.random.uniform(0, 0.12)]))
        if what == "insulad":
            pid = self.box.daemon_pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
        elif what == "command":
            command.kill()
        elif what == "vmm":
            vmms = self.guests()
            if vmms:
                pid = self.random.choice(sorted(vmms))
                self.victim = vmms[pid]
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                # Of a container's two processes each takes the other along.
                pids = [p for p, line in vmms.items() if p == pid or
                        ("insula-monitor" in line and line == self.victim)]
                wait_for(lambda: not any(map(alive, pids)), "the VMM's end")
            for m in self.machines:  # whichever it was
                m.states |= {s._replace(runs=False) for s in m.states if s.there}

    def guests(self):
        return {**self.box.processes("insula-vmm"), **self.box.processes("insula-monitor")}

    def step(self):
        m, args, change = self.choose()
        what = self.random.choice(["nothing", "nothing", "insulad", "insulad", "vmm", "command"])
        after = {change(s) for s in m.states}
        command = self.box.popen(*args, stdin=-3, stdout=-1, stderr=-1)
        if what == "vmm":
            # It may hit the machine before or after the operation.
            after |= {s._replace(runs=False) for s in after if s.there}
        self.kill_something(what, command)
        out, err = command.communicate(timeout=120)
        self.log.append(f"{time.time():.2f} {args} with a killed {what} {self.victim}: "
                        f"{command.returncode}\n")
        op = " ".join(args[:2]) if args[0] == "snapshot" else args[0]
        self.counts[f"{op} with a killed {what}" if what != "nothing" else op] += 1
        if command.returncode == 0:
            m.states = after | ({s._replace(runs=False) for s in after if s.there}
                                if what == "vmm" else set())
        else:
            check(what != "nothing", args, "failed:", err.decode())
            check(what == "command" or err, args, "failed without a word")
            m.states |= after
            if args[0] == "delete" or "restore" in args:  # forced, it stops first
                m.states |= {s._replace(runs=False) for s in m.states}
        if what == "command":
            m.settled = time.monotonic() + SETTLE
        self.verify(f"{args} with a killed {what}: {command.returncode} {err.decode().strip()}")

    # --- what is there ---

    def listed(self):
        found = {}
        for m in json.loads(self.box.cli("list", "--all", "--json")):
            check(m["labels"]["key"] not in found, "twice:", m)
            found[m["labels"]["key"]] = m
        return found

    def snapshots(self, name):
        found = json.loads(self.box.cli("snapshot", "list", "--json", name))
        self.memory.update({s["name"]: s["memory"] for s in found})
        return frozenset(s["name"] for s in found)

    def needed(self, listed):
        """Disk files that machines write to, or their snapshots hold, and all below those."""
        found = set()
        for m in listed:
            if m.get("isolation") == "container":
                continue
            d = f"{self.box.data}/guests/{m['uuid']}"
            tops = [os.readlink(d + "/disk")] if os.path.islink(d + "/disk") else ["disk.raw"]
            for name in os.listdir(d + "/snapshots") if os.path.isdir(d + "/snapshots") else ():
                if name.endswith(".json"):
                    tops.append(json.load(open(f"{d}/snapshots/{name}")).get("disk"))
            for top in filter(None, tops):
                path = f"{d}/{top}"
                while path and os.path.exists(path):
                    found.add(path)
                    path = below(path)
                check(not path or (not self.trees and top == "disk.raw"), path, "is not there, of", m)
        return found

    def verify(self, what):
        # A killed process is seen as gone within moments, not at once.
        wait_for(lambda: self.settled_processes(), "the right processes after " + what, 30)
        found = self.listed()
        for m in self.machines:
            got = found.pop(m.key, None)
            state = State(True, got["name"], got["cpus"], got["state"] != "stopped",
                          self.snapshots(got["name"])) if got else GONE
            check(state in m.states, what, "- machine", m.key, "is", state, "and may be", m.states,
                  got and got.get("end"))
            if m.settled < time.monotonic():
                m.states = {state}
        check(not found, what, "- nobody made", found)

    def settled_processes(self):
        """Files and processes are those of the machines that there are."""
        listed = self.listed().values()
        if not all(alive(m["pid"]) for m in listed if "pid" in m):
            return False  # its end is not seen yet
        if any(m.settled > time.monotonic() for m in self.machines):
            return True  # something may still be going on
        if any(m["state"] == "starting" for m in listed):
            return False
        everything = {m["uuid"] for m in listed}
        self.seen |= everything
        running = {m["uuid"] for m in listed if m["state"] != "stopped"}
        links = {n: os.readlink(f"{self.box.data}/machines/{n}")
                 for n in os.listdir(f"{self.box.data}/machines")}
        # Of a container there is an inner process, too, which dies a moment after the outer one.
        pids = {m["pid"] for m in listed if m["state"] != "stopped"}
        needed = self.needed(listed)
        gone = set(os.listdir(f"{self.box.data}/guests")) - everything
        for uuid in gone:  # of deleted machines: nothing but what is needed
            d = f"{self.box.data}/guests/{uuid}"
            if {f"{d}/{f}" for f in os.listdir(d)} - {d + "/deleted"} - needed or \
                    set(os.listdir(d)) <= {"deleted"}:
                return False
        return (everything <= set(os.listdir(f"{self.box.data}/guests")) and
                set(os.listdir(f"{self.box.run_dir}/vm")) == running and
                links == {m["name"]: "../guests/" + m["uuid"] for m in listed} and
                set(self.box.processes("insula-vmm")) <= pids <= set(self.guests()) and
                self.box.groups() & self.seen <= running)

    def use_disks(self):
        """Machines of an image that is next to nothing, if there is a kernel in the cache to make it."""
        tree = self.box.top + "/tree"
        os.makedirs(tree + "/usr/bin")
        try:
            self.box.cli("image", "build", tree)
            self.trees = [tree]
        except Failed as e:
            print("machines have no disks:", e)
            shutil.rmtree(tree)

    def run(self):
        self.use_disks()
        for i in range(self.n):
            self.step()
            if self.n >= 100 and i % 50 == 49:
                print(f"{i + 1} operations", flush=True)
        for m in self.machines:
            m.settled = 0.0
        time.sleep(SETTLE)
        self.verify("the end")
        for m in self.listed().values():
            self.box.cli("delete", "--force", m["uuid"])
        for tree in self.trees:
            self.box.cli("image", "remove", tree)
            shutil.rmtree(tree)
        self.box.kill_daemon(signal.SIGTERM)
        self.box.check_nothing_left()
        check(not self.box.groups() & self.seen, "control groups left")


def main():
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    print("seed", seed, flush=True)
    with Box(sys.argv[1]) as box, tempfile.TemporaryDirectory(prefix="insula-crash.") as cache:
        box.kernel("idle")
        image = None
        if CAN_CONTAIN:
            box.env.update(XDG_CACHE_HOME=cache, REGISTRY_AUTH_FILE=cache + "/none")
            image = images.Server(Image(busybox_layer(), config={
                "Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"]})).ref
        t = Test(box, n, seed, image)
        try:
            t.run()
            if image:
                box.cli("image", "remove", image, status=None)
                box.cli("image", "prune")
                check(not os.listdir(cache + "/insula/oci/layers"), "layers left")
        except Failed as e:
            print(open(f"{box.run_dir}/insulad.log").read())
            print("".join(t.log[-12:]))
            sys.exit(f"seed {seed}: {e}")
        for what, count in sorted(t.counts.items()):
            print(f"{count:5} {what}")


main()
