#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The software CPU beside the host and beside QEMU's TCG: the same programs, kernel and image on all.

    bench/engine/run.py                                    the whole table, 5 rounds (make bench)
    bench/engine/run.py --rows fib --rounds 1 --skip-qemu  one row, in seconds
    bench/engine/run.py --list                             the rows

Each round runs the host, QEMU (twice: -cpu max and -cpu qemu64) and Insula one after the other, so that noise
hits all of them; medians of the rounds count, and per row QEMU's faster CPU. docs/benchmarks.md explains the rows.
Exit status 1: a row is missing or came to another result than elsewhere; a target that is missed is no failure.
"""
import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import guest  # noqa: E402
import plot  # noqa: E402
import table  # noqa: E402

MIB = 1 << 20
QEMU = {"qemu-max": "max", "qemu-qemu64": "qemu64"}


class Failed(Exception):
    pass


def say(text):
    print(text, file=sys.stderr, flush=True)


class Figures:
    """What a machine or program said: {row: nanoseconds}, the same of first runs, {row: checksum}, problems."""

    def __init__(self):
        self.values, self.first, self.sums, self.problems = {}, {}, {}, []

    def add(self, other):
        for mine, more in zip(vars(self).values(), vars(other).values()):
            mine.update(more) if isinstance(mine, dict) else mine.extend(more)


def collect(command, o, who, end=None):
    """Runs @command to the end, which a line @end shows; a row that fails does not stop the others."""
    f, tail, ended = Figures(), [], end is None
    start = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    killer = threading.Timer(o.timeout, child.kill)
    killer.start()
    try:
        for raw in child.stdout:
            line = raw.decode("latin-1").strip()
            tail = tail[-20:] + [line]
            if m := re.match(r"ROW (\S+) ([\d.]+) (\S+)$", line):
                f.values[m[1]], f.sums[m[1]] = float(m[2]), m[3]
                if o.verbose:
                    say("  %s: %s %s ns" % (who, m[1], m[2]))
            elif m := re.match(r"FIRST (\S+) ([\d.]+)$", line):
                f.first[m[1]] = float(m[2])
            elif m := re.match(r"INIT (\d+\.\d+)$", line):
                f.values["boot-kernel"] = float(m[1]) * 1e9
                f.values["boot-process"] = (time.monotonic() - start) * 1e9
            elif re.match(r"(rows|programs|INIT FAILED)\b", line):
                f.problems.append("%s: %s" % (who, line))
            ended = ended or line == end
        child.wait()
    finally:
        killer.cancel()
        child.kill()
    if child.returncode or not ended:
        f.problems.append("%s: exit status %d after %.0f s; its last lines:\n    %s" % (
            who, child.returncode, time.monotonic() - start, "\n    ".join(tail)))
    return f


def append_line(words):
    """The kernel's command line, one for all; large pages as on the host, so that all have the same."""
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as f:
        huge = re.search(r"\[(\w+)\]", f.read())[1]
    return ("console=ttyS0 panic=-1 quiet mitigations=off random.trust_cpu=on transparent_hugepage=%s %s"
            % (huge, words))


def run_qemu(o, g, who, words, disk):
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", QEMU[who], "-smp", "1",
               "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
               "-no-reboot", "-kernel", g.kernel, "-append", append_line(words),
               "-initrd", g.initrd_programs if disk else g.initrd]
    if disk:
        command += ["-drive", "if=none,id=d,format=raw,readonly=on,file=" + g.image,
                    "-device", "virtio-blk-pci,drive=d"]
    return collect(command, o, who, "DONE")


def run_insula(o, g, who, words, disk):
    description = {
        "version": 1, "name": "bench", "machine": "q35", "engine": o.engine, "cpus": 1, "memory": 1024 * MIB,
        "kernel": g.kernel, "initrd": g.initrd_programs if disk else g.initrd,
        "append": append_line(words), "on_reboot": "exit", "serial": {"type": "stdio"},
    }
    if disk:
        description["disks"] = [{"path": g.image, "readonly": True}]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(description, f)
        f.flush()
        return collect([os.path.join(o.build, "bin/insula-vmm"), "--description", f.name], o, who, "DONE")


def run_native(o, g, rows, programs):
    f = Figures()
    if rows:
        f.add(collect([g.program("rows"), *rows], o, "native"))
    if programs:
        f.add(collect([g.program("programs"), g.tree, g.data, *programs], o, "native"))
    return f


def run_guest(o, g, who, rows, programs, bare):
    """Two machines: the small loops need no disk, and start bare, for the boot rows."""
    run = run_insula if who == "insula" else run_qemu
    f = Figures()
    if programs:
        f.add(run(o, g, who, "programs=" + ",".join(programs), True))
    if rows or bare:
        f.add(run(o, g, who, "rows=" + ",".join(rows) if rows else "", False))
    return f


def run_image(o):
    """A whole `insula run`, as a user waits for it."""
    start = time.monotonic()
    r = subprocess.run([os.path.join(o.build, "bin/insula"), "run", "--engine", o.engine, "deb:bookworm", "--",
                        "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=o.timeout)
    if r.returncode:
        raise Failed("insula run: exit status %d: %s" % (r.returncode, r.stderr.decode()[-500:]))
    return (time.monotonic() - start) * 1e9


def run_peer(o, g, who, names):
    if who == "native":
        return run_native(o, g, names["rows"], names["programs"])
    f = run_guest(o, g, who, names["rows"], names["programs"], bool(names["boot"]))
    if who == "insula" and names["image"]:
        f.values["image-true"] = run_image(o)
    return f


def measure(o, g, wanted):
    """{peer: {row: [nanoseconds of each round]}}, the same of first runs, and what went wrong."""
    names = {kind: [r.name for r in wanted if r.kind == kind] for kind in table.KINDS}
    peers = ["native"] + ([] if o.skip_qemu else list(QEMU)) + ["insula"]
    samples, first = {p: {} for p in peers}, {p: {} for p in peers}
    sums, problems = {}, []
    if names["image"]:
        run_image(o)  # the image comes into its cache
    for turn in range(o.rounds):
        shift = turn % len(peers)
        for who in peers[shift:] + peers[:shift]:
            start = time.monotonic()
            f = run_peer(o, g, who, names)
            for into, got in ((samples[who], f.values), (first[who], f.first), (sums, f.sums)):
                for row, value in got.items():
                    into.setdefault(row, []).append(value if into is not sums else (who, value))
            problems += f.problems
            say("round %d of %d, %s: %.0f s" % (turn + 1, o.rounds, who, time.monotonic() - start))
    for row, said in sums.items():
        if len({value for _, value in said}) > 1:
            problems.append("%s came to different results: %s" % (row, ", ".join(
                "%s on %s" % (value, who) for who, value in sorted(set(said)))))
    return samples, first, problems


def host():
    with open("/proc/cpuinfo") as f:
        text = f.read()
    find = {k: re.search(r"^%s\s*: (.*)$" % k, text, re.M) for k in ("model name", "cpu family", "model")}
    return "%s, family %s model %s, %d CPUs" % (
        find["model name"][1] if find["model name"] else "?", *(find[k][1] if find[k] else "?" for k in (
            "cpu family", "model")), os.cpu_count())


def report(o, g, wanted, samples, first):
    def of(row, figures):
        return {who: got[row] for who, got in figures.items() if row in got}

    rows = [table.result(r, of(r.name, samples), of(r.name, first)) for r in wanted]
    version = ""
    if not o.skip_qemu:
        version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True,
                                 text=True).stdout.split("\n")[0]
    return {"date": datetime.date.today().isoformat(), "host": host(), "kernel": g.version, "qemu": version,
            "engine": o.engine, "rounds": o.rounds, "load": os.getloadavg()[1], "rows": rows}


def choose(o):
    by_name = {r.name: r for r in table.ROWS}
    if not o.rows:
        return [r for r in table.ROWS if not o.quick or r.kind in ("rows", "boot")]
    groups = {"table": [r for r in table.ROWS if not r.extra], "extra": [r for r in table.ROWS if r.extra]}
    chosen = []
    for name in o.rows.split(","):
        if name in groups:
            chosen += groups[name]
        elif any(r.kind == name for r in table.ROWS):
            chosen += [r for r in table.ROWS if r.kind == name]
        elif name in by_name:
            chosen.append(by_name[name])
        else:
            raise Failed("there is no row '%s'; --list shows them" % name)
    return chosen


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default=os.path.join(HERE, "../../build"), help="Meson's build folder")
    ap.add_argument("--rows", help="names, or groups: " + ", ".join(("table", "extra", *table.KINDS)))
    ap.add_argument("--rounds", type=int, default=0, help="5; with --quick 1")
    ap.add_argument("--quick", action="store_true", help="one round of the small loops and the starts")
    ap.add_argument("--engine", default="soft", help="Insula's engine (soft)")
    ap.add_argument("--skip-qemu", action="store_true")
    ap.add_argument("--timeout", type=int, default=1200, help="seconds for one guest")
    ap.add_argument("--json", help="where the figures go (BUILD/bench/engine.json)")
    ap.add_argument("--svg", help="also draw them into this file")
    ap.add_argument("--list", action="store_true", help="show the rows and stop")
    ap.add_argument("--verbose", action="store_true", help="each figure when it comes")
    o = ap.parse_args()
    o.build = os.path.abspath(o.build)
    o.rounds = o.rounds or (1 if o.quick else 5)
    if o.list:
        print("\n".join("%-13s %-9s %s" % (r.name, r.kind, r.title) for r in table.ROWS))
        return 0
    try:
        wanted = choose(o)
        if not o.skip_qemu and not shutil.which("qemu-system-x86_64"):
            raise Failed("no qemu-system-x86_64: tools/deps bench installs it, --skip-qemu does without")
        if os.getloadavg()[0] > 1:
            say("note: the host is busy (load %.1f), the figures will say so" % os.getloadavg()[0])
        g = guest.make(o.build, [r for r in wanted if r.kind == "programs"], say)
        samples, first, problems = measure(o, g, wanted)
    except (Failed, guest.Failed) as e:
        say("bench/engine/run.py: %s" % e)
        return 1
    result = report(o, g, wanted, samples, first)
    print(table.text(result))
    with open(o.json or os.path.join(o.build, "bench/engine.json"), "w") as f:
        json.dump(result, f, indent=1)
    if o.svg:
        plot.draw(result, o.svg)
    missing = [r.name for r in wanted for who, got in samples.items()
               if r.name not in got and (who == "insula" or r.kind in ("rows", "programs"))]
    if missing:
        problems.append("without figures: " + ", ".join(sorted(set(missing))))
    for text in problems:
        say("PROBLEM: " + text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
