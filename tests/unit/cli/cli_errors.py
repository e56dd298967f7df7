#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# tests/unit/cli/cli_errors.py INSULA - bad input gets one clear line and its own exit status
import json, os, re, subprocess, sys, tempfile

insula = sys.argv[1]
temp = tempfile.TemporaryDirectory()
env = dict(os.environ, XDG_CACHE_HOME=temp.name, XDG_DATA_HOME=temp.name, XDG_RUNTIME_DIR=temp.name)
failures = 0


def check(name, good, detail):
    global failures
    if not good:
        failures += 1
        print(f"{name}: {detail}")


def run(*args):
    return subprocess.run([insula, *args], env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)


def bad(status, words, *args):
    r = run(*args)
    lines = r.stderr.splitlines()
    name = "insula " + " ".join(args)
    check(name, r.returncode == status, f"status {r.returncode}, not {status}: {r.stderr}")
    check(name, len(lines) == 1 and lines[0].startswith("insula: error: "), f"said {lines}")
    check(name, words in r.stderr, f"no '{words}' in {lines}")
    check(name, r.stdout == "", f"stdout: {r.stdout}")


bad(110, "did you mean '--memory'", "run", "--memroy", "1G", "x")
bad(110, "needs a value", "run", "--memory")
bad(110, "which image", "run")
bad(110, "-- ls", "run", "deb:bookworm", "ls")
bad(110, "not one of auto, kvm, soft", "run", "--engine", "turbo", "x")
bad(110, "1 to 64", "run", "--cpus", "0", "x")
bad(110, "is none", "run", "--net", "none", "--publish", "80:80", "deb:bookworm")
bad(110, "did you mean 'doctor'", "docter")
bad(110, "build, list, inspect", "image", "destroy")
bad(111, "not found", "run", "no-such-image")
bad(111, "No such file", "run", "./nowhere")
bad(111, "not found", "image", "inspect", "no-such-image")
bad(111, "neither a directory", "run", insula + "-agent") if os.path.getsize(
    insula + "-agent") % 512 else None
bad(112, "No such file", "run", "--kernel", "/nowhere/vmlinuz")
bad(113, "more than this host", "run", "--memory", "999T", "x")
bad(113, "too little", "run", "--memory", "1M", "x")
bad(114, "No such file", "run", "--disk", "/nowhere.raw", "x")

r = run("run", "--json", "no-such-image")
events = [json.loads(line) for line in r.stderr.splitlines()]
event = events[0]
check("--json", event["event"] == "error" and event["exit_status"] == 111, event)
check("--json", events[-1] == {"event": "exit", "status": 111}, events)
for args in ("help",), ("--help",), ("run", "--help"), ("help", "image", "build"), ("--version",):
    r = run(*args)
    check(" ".join(args), r.returncode == 0 and r.stdout and not r.stderr, r)
r = subprocess.run(["bash", "-n"], input=run("completion").stdout, text=True, capture_output=True)
check("completion", r.returncode == 0, r.stderr)
check("image list", run("image", "list", "--json").stdout.strip() == "[]", "not []")
check("leftovers", not os.path.isdir(temp.name + "/insula/run") or
      not os.listdir(temp.name + "/insula/run"), "run directories")

# The manual pages say what the program says.
man = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../docs/man")
for command, page in (("run", "insula-run"), ("image build", "insula-image"),
                      ("image list", "insula-image"), ("doctor", "insula-doctor")):
    text = open(f"{man}/{page}.1.scd").read()
    for option in re.findall(r"^  (--[a-z-]+)", run(*command.split(), "--help").stdout, re.M):
        check(page, option == "--help" or option in text, f"{option} of {command} is not there")
exits = open(os.path.join(man, "../../src/base/exit.h")).read()
for status in re.findall(r"= (11[0-9]|12[0-7]),", exits):
    check("insula-run", f"*{status}*" in open(f"{man}/insula-run.1.scd").read(),
          f"exit status {status} is not there")
sys.exit(1 if failures else 0)
