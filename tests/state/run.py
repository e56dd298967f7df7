#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/state/run.py BIN [CASE...] [--rounds N] - saved and forked machines with real guests

BIN holds insula and insula-vmm.  Without CASE, all but `soak`, which goes on for N rounds: at random
instants of a guest at work it saves, restores or forks, and every machine's work must come out right.
"""
import argparse, hashlib, os, random, shutil, socket, subprocess, sys, threading, time

from machine import Agent, Control, Failed, Machine, check, debian, image, overlay, scratch, until

arguments = argparse.ArgumentParser()
arguments.add_argument("bin")
arguments.add_argument("case", nargs="*")
arguments.add_argument("--rounds", type=int, default=20)
args = arguments.parse_args()
INSULA, VMM = (os.path.abspath(args.bin) + "/" + name for name in ("insula", "insula-vmm"))
temp = scratch()

# A chain of checksums and files whose content depends on it; the last line is what it comes to.
STEPS = 60
WORK = f"""cd /root; rm -rf work; mkdir work; x=seed; i=0
while [ $i -lt {STEPS} ]; do
  i=$((i + 1))
  x=$(seq $i $((i + 20000)) | sha256sum - | cut -c1-64)$(echo $x | sha256sum | cut -c1-64)
  for k in 1 2 3; do echo $x; done > work/$i; [ $((i % 8)) = 0 ] && sync
  echo $i > step
done
cat work/* | sha256sum | cut -c1-64 > result"""


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def expected():
    x, files = "seed", {}
    for i in range(1, STEPS + 1):
        x = sha("".join(f"{k}\n" for k in range(i, i + 20001))) + sha(x + "\n")
        files[str(i)] = (x + "\n") * 3
    return sha("".join(files[name] for name in sorted(files)))


RESULT = expected()
_description = None


def description(engine="auto", cpus=1):
    """Of a machine with a disk of its own."""
    global _description
    if not _description:
        _description = debian(INSULA, temp)
    d = dict(_description, engine=engine, cpus=cpus)
    d["disks"] = [dict(disk) for disk in d["disks"]]
    return d


def own_disk(d, directory):
    os.makedirs(directory)
    size = os.path.getsize(d["disks"][0]["path"])
    overlay(INSULA, d["disks"][0], size, directory + "/own.qcow2")
    return d


def start_work(m):
    m.sh(f"rm -f /root/result; ({WORK}) >/root/log 2>&1 </dev/null &")


def check_work(m):
    until(lambda: m.sh("cat /root/result 2>/dev/null || true"), 120)
    result = m.sh("cat /root/result")
    check(result == RESULT, "the work comes to", result, "not", RESULT)
    check(m.sh("sync; echo 3 > /proc/sys/vm/drop_caches; cat /root/work/* | sha256sum | cut -c1-64")
          == RESULT, "files differ on the disk")


def check_clock(m):
    before = time.time()
    guest = int(m.sh("date +%s%3N")) / 1000
    # The guest's clock was set to the second when it began.
    check(before - 2 < guest < time.time() + 2, "the guest's clock is at", guest, "not", before)


def check_network(m):
    server = socket.create_server(("127.0.0.1", 0))
    answer = threading.Thread(target=lambda: server.accept()[0].sendall(b"hello\n"))
    answer.start()
    port = server.getsockname()[1]
    check(m.run("timeout", "20", "bash", "-c", f"read x </dev/tcp/10.0.2.2/{port}; echo $x") == "hello",
          "no connection to the host")
    answer.join()


def save_live(m, directory):
    """The guest goes on: its disks need overlays."""
    os.makedirs(directory)
    now = m.control.call("describe")
    disks = now["description"]["disks"]
    fds = [os.open(directory + "/state", os.O_RDWR | os.O_CREAT, 0o600)]
    overlays = []
    for i, disk in enumerate(disks):
        overlay(INSULA, disk, now["disk_sizes"][i], f"{directory}/top{i}.qcow2")
        overlays.append({"disk": i, "path": disk["path"]})
        fds.append(os.open(disk["path"], os.O_RDWR))
    saved = m.control.call("describe")["description"]
    answer = m.control.call("save", {"overlays": overlays}, fds)
    for fd in fds:
        os.close(fd)
    return saved, answer


def restore(saved, state, directory, engine=None):
    """On an overlay, so that it can be done again."""
    d = dict(saved, engine=engine or saved["engine"])
    d["disks"] = [dict(disk) for disk in d["disks"]]
    os.makedirs(directory)
    for i, disk in enumerate(d["disks"]):
        overlay(INSULA, disk, image(disk["path"])[0], f"{directory}/disk{i}.qcow2")
    return Machine(VMM, d, directory, restore=state)


def round_trip(name, engine="auto", to=None, cpus=1):
    m = Machine(VMM, own_disk(description(engine, cpus), f"{temp}/{name}"), f"{temp}/{name}")
    back = None
    try:
        start_work(m)
        time.sleep(random.uniform(0.2, 1.5))
        saved, answer = save_live(m, f"{temp}/{name}-saved")
        print("  stood still for", round(answer["stall_ms"], 2), "ms")
        back = restore(saved, f"{temp}/{name}-saved/state", f"{temp}/{name}-back", to)
        check_work(m)
        check_clock(back)
        check_work(back)
        check_clock(back)
        check_network(back)
    finally:
        for machine in filter(None, (m, back)):
            machine.stop()


def case_save_and_restore():
    round_trip("plain")


def case_two_cpus():
    round_trip("smp", cpus=2)


def case_jit_to_interp():
    round_trip("down", "soft", "interp")


def case_interp_to_jit():
    round_trip("up", "interp", "soft")


def case_time_passes():
    """Paused, saved, stopped; the clock is right in a machine that goes on later."""
    m = Machine(VMM, own_disk(description(), temp + "/late"), temp + "/late")
    try:
        check_clock(m)
        m.save(temp + "/late.state", pause=True)
        check(m.control.call("status")["state"] == "paused", "not paused")
        d = m.control.call("describe")["description"]
    finally:
        m.stop()
    time.sleep(4)
    back = Machine(VMM, d, temp + "/late-back", restore=temp + "/late.state")
    try:
        check_clock(back)
        check("soft lockup" not in back.sh("dmesg"), "the guest's watchdog barked")
        check_network(back)
    finally:
        back.stop()


def screen(m):
    try:
        return m.control.call("screen-text")["text"].lower()
    except Failed:
        return ""  # not in a text mode yet


def plug(m, path):
    with open(path, "wb") as f:
        f.truncate(16 << 20)
    fd = os.open(path, os.O_RDWR)
    slot = m.control.call("plug", {"disk": {"path": path, "format": "raw", "serial": os.path.basename(path)},
                                   "files": [path]}, [fd])["slot"]
    os.close(fd)
    return slot


def disks(m, want):
    until(lambda: sorted(m.sh("cd /sys/block; for d in vd?; do cat $d/serial; echo; done").split()) ==
          sorted(want))


def case_hotplug():
    """Cards that came and went before are in their slots after, and come and go on."""
    d = own_disk(description(), temp + "/hot")
    m = Machine(VMM, d, temp + "/hot")
    try:
        a, b = plug(m, temp + "/a"), plug(m, temp + "/b")
        m.control.call("plug", {"net": {"mac": "52:54:00:00:00:99"}})
        disks(m, ["root", "a", "b"])
        m.control.call("unplug", {"disk": temp + "/a"})
        m.sh("echo kept | dd of=/dev/vdc conv=notrunc 2>/dev/null; sync")
        m.save(temp + "/hot.state", pause=True)
        d = m.control.call("describe")["description"]
        gone, there = d["disks"][1:]
        check(gone["removed"] and "path" not in gone and gone["slot"] == a, gone)
        check(there["path"] == temp + "/b" and there["slot"] == b, there)
    finally:
        m.stop()
    back = Machine(VMM, d, temp + "/hot-back", restore=temp + "/hot.state")
    try:
        disks(back, ["root", "b"])
        check(back.sh("head -c 4 /dev/vdc") == "kept", "what was written")
        check("52:54:00:00:00:99" in back.sh("ip -o link"), "the card")
        check(plug(back, temp + "/c") == a, "the slot that is free")
        disks(back, ["root", "b", "c"])
        back.control.call("unplug", {"disk": temp + "/b"})
        back.control.call("unplug", {"net": "52:54:00:00:00:99"})
        disks(back, ["root", "c"])
        # The one that the machine began with goes as well, and its slot stays its own.
        check("no such disk" in back.control.call("unplug", {"disk": temp + "/b"}, ok=False), "twice")
        for bad in ({}, {"disk": {}, "net": {}}, {"disk": 3}, {"disk": {"path": "/x"}, "files": ["/x"]},
                    {"disk": {"path": "/dev/null", "bus": "ahci"}}, {"net": {}}, {"disk": {"slot": 77}}):
            back.control.call("plug", bad, ok=False)
        for bad in ({}, {"disk": 1}, {"net": "x"}, {"disk": temp + "/c", "timeout_ms": -1}):
            back.control.call("unplug", bad, ok=False)
        back.sh("true")
    finally:
        back.stop()


def case_pc():
    """A whole PC with firmware, screen and SATA disk: what it shows, and that it still does something."""
    disk = temp + "/pc.raw"
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    d = {"firmware": "bios", "memory": 64 << 20, "engine": "auto", "display": {"vga": True}, "name": "pc",
         "on_reboot": "restart", "disks": [{"path": disk, "format": "raw", "bus": "ahci"}]}
    m = Machine(VMM, d, temp + "/pc")
    try:
        until(lambda: "bootable" in screen(m))
        before = screen(m)
        m.save(temp + "/pc.state", pause=True)
    finally:
        m.stop()
    back = Machine(VMM, d, temp + "/pc-back", restore=temp + "/pc.state")
    try:
        check(screen(back) == before, "the screen shows", screen(back), "not", before)
        back.control.call("reset")
        until(lambda: "bootable" not in screen(back))
        until(lambda: "bootable" in screen(back))
    finally:
        back.stop()


def case_no_tables_yet():
    d = {"firmware": "bios", "memory": 64 << 20, "engine": "auto", "name": "pc",
         "disks": [{"path": temp + "/nvme.raw", "format": "raw", "bus": "nvme"}]}
    with open(temp + "/nvme.raw", "wb") as f:
        f.truncate(1 << 20)
    m = Machine(VMM, d, temp + "/nvme")
    try:
        words = m.save(temp + "/nvme.state", pause=True, ok=False)
        check("nvme" in words and "cannot be saved yet" in words, words)
        check(m.control.call("status")["state"] == "running", "it stands still")
    finally:
        m.stop()


def case_refused():
    """What cannot be saved, and files that are none."""
    d = own_disk(description(), temp + "/refused")
    m = Machine(VMM, d, temp + "/refused")
    try:
        words = m.save(temp + "/no.state", ok=False)
        check("needs an overlay" in words, words)
        m.save(temp + "/refused.state", pause=True)
        d = m.control.call("describe")["description"]
    finally:
        m.stop()
    good = open(temp + "/refused.state", "rb").read(1 << 20)
    for what, data in (("cut short", good[:5000]), ("not a snapshot", b"x" * 8192),
                       ("checksum", good[:5000] + b"!" + good[5001:])):
        open(temp + "/bad.state", "wb").write(data)
        try:
            Machine(VMM, d, temp + "/refused-back", restore=temp + "/bad.state").stop()
            raise Failed("took what is", what)
        except Failed as e:
            check(what in str(e), e)
    d["memory"] += 1 << 20
    try:
        Machine(VMM, d, temp + "/refused-back", restore=temp + "/refused.state").stop()
        raise Failed("took another machine's state")
    except Failed as e:
        check("memory" in str(e), e)


def forks(name, n, engine="auto"):
    m = Machine(VMM, own_disk(description(engine), f"{temp}/{name}"), f"{temp}/{name}")
    made = []
    try:
        start_work(m)
        time.sleep(random.uniform(0.2, 1.0))
        made, answer = m.fork(INSULA, [f"{temp}/{name}{i}" for i in range(n)])
        print("  parent stood still for", round(answer["stall_ms"], 2), "ms; forks ran after",
              [round(c["ms"]) for c in answer["children"]], "ms")
        for i, k in enumerate(made):
            k.sh(f"echo {i} > /root/who; sync")
        for k in made + [m]:
            check_work(k)
            check_clock(k)
        for i, k in enumerate(made):
            check(k.sh("cat /root/who") == str(i), "a fork sees another's disk")
            check_network(k)
        check(m.sh("ls /root") and "who" not in m.sh("ls /root"), "the parent sees a fork's disk")
    finally:
        for k in made:
            k.stop()
        m.stop()


def case_fork():
    forks("fork", 3)


def case_fork_interp():
    forks("forki", 2, "interp")


def case_fork_of_fork():
    m = Machine(VMM, own_disk(description(), temp + "/first"), temp + "/first")
    machines = [m]
    try:
        for generation in range(3):
            made, _ = machines[-1].fork(INSULA, [f"{temp}/generation{generation}"])
            machines += made
            made[0].sh(f"echo {generation} >> /root/line; sync")
        check(machines[-1].sh("cat /root/line").split() == ["0", "1", "2"], "lost a generation")
        check(m.sh("ls /root/line 2>/dev/null || echo none") == "none", "the first sees the last")
    finally:
        for k in reversed(machines):
            k.stop()


def case_generation():
    """A guest with the driver is told that it is another machine, and draws new random numbers."""
    kernels = os.path.dirname(os.path.abspath(args.bin)) + "/kernels/"
    for board, kernel in (("q35", "generic"), ("micro", "backports-cloud")):
        if not os.path.exists(f"{kernels}{kernel}/vmlinuz"):
            raise Skipped("tests/kernels/fetch fetches the kernels")
        d = {"name": "g", "machine": board, "engine": "soft", "memory": 512 << 20, "sandbox": True,
             "kernel": f"{kernels}{kernel}/vmlinuz", "initrd": kernels + "initrd-amd64", "append":
             "console=ttyS0 random.trust_cpu=on rdinit=/bin/busybox -- sleep 1000",
             "uuid": "9f3c1d9e-7a43-4b0e-8d2a-0123456789ab"}
        m = Machine(VMM, d, f"{temp}/{board}")
        said = lambda m, words: words in open(m.dir + "/console", errors="replace").read()
        try:
            until(lambda: said(m, "Run /bin/busybox"), 120)
            check(not said(m, "virtual machine fork"), "told of a start")
            m.save(temp + "/generation.state", pause=True)
        finally:
            m.stop()
        back = Machine(VMM, d, f"{temp}/{board}-back", restore=temp + "/generation.state")
        try:
            until(lambda: said(back, "crng reseeded due to virtual machine fork"), 60)
        finally:
            back.stop()


def insula(*words, status=0):
    r = subprocess.run([INSULA, *words], capture_output=True, timeout=120,
                       env=dict(os.environ, XDG_DATA_HOME=temp + "/data"))
    check(r.returncode == status, words, "status", r.returncode, r.stderr)
    return r.stdout.decode().strip()


def case_commands():
    """As a person uses it."""
    env = dict(os.environ, XDG_DATA_HOME=temp + "/data")
    p = subprocess.Popen([INSULA, "run", "--name", "web", "deb:bookworm", "--", "sh", "-c",
                          "echo one > /root/f; echo UP; sleep 1000"], env=env,
                         stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    forked = []
    try:
        check(p.stdout.readline() == b"UP\n", "no guest")
        insula("snapshot", "create", "web", "s1")
        insula("snapshot", "create", "--compress", "web", "packed")
        insula("snapshot", "create", "web", "s1", status=125)
        check("machine" in insula("snapshot", "list", "web"), "not listed")
        # No room for memory: the disk has changed over to its overlay by then, which must not get lost.
        os.symlink("/dev/full", f"{temp}/data/insula/machines/web/snapshots/mem-3.state.part")
        insula("snapshot", "create", "web", "full", status=125)
        control = os.readlink(f"{temp}/data/insula/machines/web/control")
        Agent(os.path.dirname(control) + "/vsock", ["sh", "-c", "echo kept > /root/kept; sync"]).wait()
        check(insula("fork", "web", "kid", "--count", "2").split() == ["kid-1", "kid-2"], "names")
        for name in ("kid-1", "kid-2"):
            control = os.readlink(f"{temp}/data/insula/machines/{name}/control")
            forked.append(control)
            status, out = Agent(os.path.dirname(control) + "/vsock",
                                ["sh", "-c", "cat /root/f; hostname; ip -br link"]).wait()
            check(out.split()[:2] == ["one", name], out)
            forked.append(out.split("eth0")[1].split()[1])
        check(forked[1] != forked[3], "two forks have one address")
        insula("snapshot", "restore", "web", "s1", status=119)  # it runs
    finally:
        p.terminate()
        p.wait()
        for control in forked[::2]:
            Control(control).call("stop")
    check(insula("run", "--name", "web", "deb:bookworm", "--", "cat", "/root/kept") == "kept",
          "what was written after a snapshot that failed")
    check(insula("snapshot", "restore", "web", "s1", "--", "sh", "-c", "cat /root/f; echo two >> /root/f")
          == "one", "the file is another")
    check(insula("run", "--name", "web", "deb:bookworm", "--", "cat", "/root/f") == "one\ntwo", "the disk")
    insula("snapshot", "create", "web", "s1-two")
    check(insula("snapshot", "restore", "web", "packed", "--", "cat", "/root/f") == "one", "packed")
    insula("snapshot", "restore", "web", "s1-two")
    insula("snapshot", "create", "web", "s2")
    check("disk" in insula("snapshot", "list", "web"), "not listed")
    insula("clone", "web", "linked")
    insula("clone", "--full", "web", "full")
    for name in ("linked", "full"):
        check(insula("run", "--name", name, "deb:bookworm", "--", "sh", "-c",
                     "cat /root/f; echo clone > /root/f") == "one\ntwo", name)
    check(insula("run", "--name", "web", "deb:bookworm", "--", "cat", "/root/f") == "one\ntwo",
          "a clone wrote to its source")
    insula("snapshot", "restore", "web", "s2")
    insula("snapshot", "delete", "web", "s1")
    insula("snapshot", "delete", "web", "s1", status=125)
    check(insula("run", "--name", "web", "deb:bookworm", "--", "cat", "/root/f") == "one\ntwo", "restored")


def case_soak():
    for n in range(args.rounds):
        kind = random.choice(("save", "save", "fork"))
        engine = random.choice(("auto", "auto", "interp"))
        print(f"round {n + 1}: {kind} on {engine}", flush=True)
        if kind == "save":
            round_trip(f"round{n}", engine, random.choice(("soft", "interp")), random.choice((1, 2)))
        else:
            forks(f"round{n}", random.randint(1, 3), engine)
        for name in os.listdir(temp):
            if name.startswith("round"):
                shutil.rmtree(f"{temp}/{name}", ignore_errors=True)


class Skipped(Exception):
    pass


cases = {name[5:]: value for name, value in list(globals().items()) if name.startswith("case_")}
bad = skipped = 0
try:
    for case in args.case or [name for name in cases if name != "soak"]:
        begin = time.time()
        try:
            cases[case]()
            print(f"{case}: ok, {time.time() - begin:.1f} s", flush=True)
        except Skipped as e:
            skipped += 1
            print(f"{case}: skipped: {e}", flush=True)
        except (Failed, OSError, subprocess.SubprocessError) as e:
            bad += 1
            print(f"{case}: FAILED: {e}", flush=True)
finally:
    shutil.rmtree(temp, ignore_errors=True)
sys.exit(1 if bad else 77 if skipped and len(args.case) == 1 else 0)
