#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/daemon/life.py INSULA [CASE] - what insulad does by itself: starting on demand, finding
guests again, restarting them, autostart, idle exit; and what the commands print"""
import json
import os
import re
import signal
import subprocess
import sys
import time

from box import Box, alive, check, wait_for


def state(box, name):
    return json.loads(box.cli("show", "--json", name))


def test_many_starters(box):
    """Commands that find no insulad start one, not many."""
    for _ in range(5):
        commands = [box.popen("list", "--json", stdout=-1, stderr=-1) for _ in range(8)]
        for c in commands:
            out, err = c.communicate(timeout=60)
            check(c.returncode == 0 and json.loads(out) == [], err)
        check(len(box.processes("insulad")) == 1, box.processes())
        box.kill_daemon()


def test_guests_outlive_insulad(box):
    box.create("a")
    box.create("b")
    box.cli("start", "a", "b")
    box.cli("pause", "b")
    before = box.machines()
    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        box.kill_daemon(sig)
        check(all(alive(before[n]["pid"]) for n in "ab"), "guests live")
        after = box.machines()
        check(after["a"] == before["a"] and after["b"] == before["b"], before, "became", after)
    # In the new one's hands like in the old one's.
    box.cli("resume", "b")
    check(box.machines()["b"]["state"] == "running", "resumed")
    box.kill_daemon()
    os.kill(before["a"]["pid"], signal.SIGKILL)  # while nobody watches
    wait_for(lambda: not alive(before["a"]["pid"]), "the VMM's end")
    a = state(box, "a")
    check(a["state"] == "stopped" and a["end"]["reason"] == "killed", a)
    box.cli("start", "a")
    box.cli("delete", "--force", "a", "b")


def test_restart(box):
    """A guest that crashes at once is restarted, each time a little later; stop ends that."""
    box.create("c", "crash", "--restart", "on-failure")
    events = box.popen("events", "--json", "--after", "0", stdout=-1)
    box.cli("start", "c")
    delays = []
    for line in events.stdout:
        ev = json.loads(line)
        if ev.get("machine", {}).get("name") != "c":
            continue
        if ev["type"] == "machine.stopped":
            check(ev["reason"] == "crash" and ev["status"] == 118 and "triple" in ev["message"],
                  ev)
        if ev["type"] == "machine.restarting":
            delays.append(ev["delay"])
            if len(delays) == 3:
                break
    events.kill()
    events.wait()
    check(delays == [1, 2, 4], delays)
    # A new insulad goes on with it.
    box.kill_daemon()
    check(state(box, "c")["end"]["status"] == 118, "its end")
    time.sleep(1.5)
    first = state(box, "c")["end"]["time"]
    wait_for(lambda: state(box, "c")["end"]["time"] > first, "another start", 30)
    box.cli("stop", "c", status=None)
    time.sleep(0.2)
    box.cli("stop", "c", status=None)
    last = state(box, "c")["end"]["time"]
    time.sleep(5)
    check(state(box, "c")["end"]["time"] == last, "it is still restarted")
    box.cli("delete", "c")


def test_restart_policies(box):
    """on-failure leaves one alone that powers off; always does not; no does nothing."""
    for policy, again in (("no", False), ("on-failure", False), ("always", True)):
        box.create("p", "off", "--restart", policy)
        box.cli("start", "p")
        box.cli("wait", "p")
        p = state(box, "p")
        check(p["end"]["reason"] == "poweroff" and p["end"]["status"] == 0, p)
        time.sleep(2.5)
        check((state(box, "p")["end"]["time"] > p["end"]["time"]) == again, policy)
        box.cli("stop", "p", status=None)
        box.cli("delete", "--force", "p")
    box.create("k", "idle", "--restart", "always")
    box.cli("start", "k")
    pid = state(box, "k")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: state(box, "k").get("pid", pid) != pid, "another process")
    box.cli("stop", "k")
    time.sleep(2.5)
    check(state(box, "k")["state"] == "stopped", "a stop is no failure")
    box.cli("delete", "k")


def test_autostart(box):
    """In their order, once a boot."""
    for name, order in (("z", "1"), ("y", "2"), ("x", "1")):
        box.create(name, "idle", "--autostart-order", order)
        box.cli("autostart", name)
    box.create("w")
    box.kill_daemon(signal.SIGTERM)
    os.unlink(box.run_dir + "/autostarted")  # the host boots
    box.cli("list")
    wait_for(lambda: sum(m["state"] == "running" for m in box.machines().values()) == 3, "three")
    started = [e["machine"]["name"] for e in events(box) if e["type"] == "machine.started"]
    check(started == ["x", "z", "y"], started)
    box.cli("stop", "x", "y", "z")
    box.kill_daemon()
    box.cli("list")
    time.sleep(1)
    check(all(m["state"] == "stopped" for m in box.machines().values()), "started again")
    box.cli("autostart", "x", "off")
    check(not state(box, "x")["autostart"], "off")
    box.cli("delete", "w", "x", "y", "z")


def events(box):
    """All that are kept, until a while nothing comes."""
    p = box.popen("events", "--json", "--after", "0", stdout=-1)
    time.sleep(1)
    p.kill()
    return [json.loads(line) for line in p.stdout]


def test_idle_exit(box):
    box.kill_daemon(signal.SIGTERM)
    p = subprocess.Popen([box.bin + "/insulad", "--idle-exit", "1"], env=box.env)
    wait_for(box.daemon_pid, "insulad")
    box.create("i")
    box.cli("start", "i")
    time.sleep(3)
    check(p.poll() is None, "ended beside a running machine")
    box.cli("delete", "--force", "i")
    check(p.wait(30) == 0, "its end")


def test_one_machine_two_ways(box):
    """`insula run --name` and insulad keep out of each other's way, and share a machine."""
    box.create("one")
    box.cli("start", "one")
    options = ("--name", "one", "--engine", "soft", "--machine", "micro", "--net", "none",
               "--kernel", box.kernel("idle"))
    box.cli("run", *options, status=119)
    box.cli("stop", "one")
    p = box.popen("run", *options, stdin=-3, stdout=-1, stderr=-1)
    wait_for(lambda: box.processes("insula-vmm"), "the run")
    wait_for(lambda: os.path.lexists(f"{box.data}/machines/one/control"), "its control")
    box.cli("start", "one", status=119)
    p.terminate()
    p.wait(60)
    box.cli("start", "one")
    box.cli("delete", "--force", "one")
    os.makedirs(box.data + "/machines/old")  # a name of run's
    box.cli("create", "--name", "old", "--kernel", box.kernel("idle"), status=125)
    check("insula run --name" in box.stderr, box.stderr)
    os.rmdir(box.data + "/machines/old")


def test_words(box):
    """What people read."""
    box.cli("show", "x", status=120)
    check("no machine named 'x'" in box.stderr, box.stderr)
    box.cli("start", status=110)
    box.cli("exec", status=110)
    box.cli("create", status=110)
    box.cli("create", "--kernel", "/nosuch", "--cpus", "x", status=110)
    box.cli("create", "--name", "n", "--kernel", "nosuch", status=112)
    box.create("web", "idle", "--label", "a=b", "--cpus", "2")
    check(box.cli("list") .splitlines() == ["NAME  STATE     CPUS  MEMORY  SINCE"
          "                     BOOTS"], box.cli("list"))
    line = box.cli("list", "--all").splitlines()[1]
    check(re.match(r"web +stopped +2 +32M +/.*idle$", line), line)
    box.cli("create", "--name", "web", "--kernel", box.kernel("idle"), status=125)
    check("already" in box.stderr, box.stderr)
    box.cli("exec", "web", "--", "true", status=121)
    check("insula start web" in box.stderr, box.stderr)
    box.cli("start", "web")
    box.cli("start", "web", status=121)
    check("running already" in box.stderr, box.stderr)
    box.cli("exec", "web", "--", "true", status=121)
    check("insula console web" in box.stderr, box.stderr)
    box.cli("delete", "web", status=121)
    check("--force" in box.stderr, box.stderr)
    check(re.search(r"^web +running +\w+ +[\d.]+ ", box.cli("stats"), re.M), box.cli("stats"))
    check(json.loads(box.cli("stats", "--json", "w"))[0]["name"] == "web", "JSON")
    wait_for(lambda: box.cli("logs", "web") == "up\n", "its log")
    box.cli("edit", "web", "--label", "a-", "--label", "c=d", "--set", "append=x y", "--watchdog",
            "9", "--set", "memory=67108864")
    check("next start" in box.stderr, box.stderr)
    web = state(box, "web")
    check(web["labels"] == {"c": "d"} and web["config"]["append"] == "x y" and
          web["config"]["memory"] == 64 << 20 and web["watchdog"] == 9, web)
    box.cli("edit", "web", "--set", "append=")
    check("append" not in state(box, "web")["config"], "taken out")
    box.env["EDITOR"] = "sed -i 's/\"cpus\": 2/\"cpus\": 4/; s/\"c\": \"d\"/\"e\": \"f\"/'"
    box.cli("edit", "web")
    web = state(box, "web")
    check(web["config"]["cpus"] == 4 and web["labels"] == {"e": "f"}, web)
    box.env["EDITOR"] = "sed -i s/{/x/"
    box.cli("edit", "web", status=125)
    check("nothing was changed" in box.stderr, box.stderr)
    box.env["EDITOR"] = "false"
    box.cli("edit", "web", status=125)
    box.cli("wait", "web", "--timeout", "0.1", status=121)
    box.cli("stop", "web", "nosuch", status=120)
    check(state(box, "web")["state"] == "stopped", "the first was stopped all the same")
    box.cli("wait", "web")
    box.cli("delete", "web")
    words = box.cli("completion")
    check("insula list --all --names" in words, "completion of machines")


def test_limits(box):
    """Control groups of version 1, where root may make them: made, changed while it runs, gone."""
    if os.geteuid() != 0 or not os.access("/sys/fs/cgroup/cpu", os.W_OK):
        return
    box.create("l", "busy", "--cpu-cap", "50", "--cpu-weight", "200", "--memory-limit", "512M")
    box.cli("start", "l")
    l = state(box, "l")

    def value(controller, file):
        return int(open(f"/sys/fs/cgroup/{controller}/insula-vm.{l['uuid']}/{file}").read())

    check(str(l["pid"]) in open(f"/sys/fs/cgroup/cpu/insula-vm.{l['uuid']}/cgroup.procs").read()
          .split(), "it is in it")
    check(value("cpu", "cpu.cfs_quota_us") * 2 == value("cpu", "cpu.cfs_period_us"), "cap")
    check(value("cpu", "cpu.shares") == 2048, "weight")
    check(value("memory", "memory.limit_in_bytes") == 512 << 20, "memory")
    time.sleep(3)
    used = json.loads(box.cli("stats", "--json", "l"))[0]
    check(used["cpu_ns"] < 0.8e6 * used["uptime_ms"], "more than it may:", used)
    box.cli("edit", "l", "--cpu-cap", "70", "--memory-limit", "0")
    check(value("cpu", "cpu.cfs_quota_us") * 10 == value("cpu", "cpu.cfs_period_us") * 7, "70 %")
    check(value("memory", "memory.limit_in_bytes") > 1 << 60, "no limit")
    box.cli("stop", "l")
    check(l["uuid"] not in box.groups(), "the group stays")
    box.cli("start", "l")
    box.kill_daemon()
    os.kill(state(box, "l")["pid"], signal.SIGKILL)
    box.cli("wait", "l")
    wait_for(lambda: l["uuid"] not in box.groups(), "the group's end")
    box.cli("delete", "l")


def test_detach_of_a_kernel(box):
    name = box.cli("run", "--detach", "--engine", "soft", "--machine", "micro", "--net", "none",
                   "--kernel", box.kernel("idle")).strip()
    check(name.startswith("m-") and state(box, name)["state"] == "running", name)
    box.cli("run", "--detach", "--kernel", box.kernel("idle"), "--", "true", status=110)
    box.cli("delete", "--force", name)


def test_bad_starts(box):
    """A start that fails says why, and leaves the machine as it was."""
    open(box.top + "/busy", "wb").write(b"no kernel at all")
    box.cli("create", "--name", "bad", "--kernel", box.top + "/busy")
    box.cli("start", "bad", status=112)
    check("did not start" in box.stderr and "kernel" in box.stderr, box.stderr)
    check(state(box, "bad")["state"] == "stopped", "stopped")
    os.unlink(box.top + "/busy")
    box.cli("start", "bad", status=112)
    check(os.listdir(box.run_dir + "/vm") == [], "run directories")
    box.cli("delete", "bad")


def main():
    with Box(sys.argv[1]) as box:
        for name, test in list(globals().items()):
            if name.startswith("test_") and (len(sys.argv) < 3 or sys.argv[2] in name):
                print(name, flush=True)
                test(box)
        box.kill_daemon(signal.SIGTERM)
        box.check_nothing_left()


main()
