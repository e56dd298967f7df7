#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/validation.py TREE RUNTIME... - opencontainers/runtime-tools, runtimes side by side

TREE is a clone of runtime-tools in which `make runtimetest validation-executables` was run.  Each of
its programs runs once with each runtime; it passes if it ends with 0, has a plan, and no test that
failed.  Prints a table in Markdown.
"""
import glob
import os
import re
import subprocess
import sys


def run(program, tree, runtime):
    try:
        r = subprocess.run([program], cwd=tree, env=dict(os.environ, RUNTIME=runtime),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=120)
    except subprocess.TimeoutExpired:
        return {"pass": False, "ok": 0, "skip": 0, "not": 0, "why": "120 s"}
    text = r.stdout.decode(errors="replace")
    lines = text.split("\n")
    ok = [x for x in lines if re.match(r"\s*ok ", x)]
    bad = [x for x in lines if re.match(r"\s*not ok ", x)]
    plan = any(re.match(r"1\.\.\d+", x) for x in lines)
    skip = [x for x in ok if "# SKIP" in x.upper()]
    why = bad[0].strip() if bad else "" if r.returncode == 0 and plan else "status %d, %s" % (
        r.returncode, "plan" if plan else "no plan")
    return {"pass": r.returncode == 0 and plan and not bad, "ok": len(ok) - len(skip),
            "skip": len(skip), "not": len(bad), "why": why, "text": text}


def main():
    tree, runtimes = sys.argv[1], sys.argv[2:]
    programs = sorted(glob.glob(tree + "/validation/*/*.t"))
    if not programs:
        sys.exit("no programs in %s/validation" % tree)
    names = [os.path.basename(r) for r in runtimes]
    total = {r: [0, 0, 0, 0] for r in runtimes}
    print("| program | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for p in programs:
        cells = []
        for r in runtimes:
            v = run(os.path.abspath(p), tree, r)
            t = total[r]
            t[0] += v["pass"]
            t[1] += v["ok"]
            t[2] += v["skip"]
            t[3] += v["not"]
            cells.append("passes" if v["pass"] else "%d ok, %d not" % (v["ok"], v["not"]))
            if not v["pass"] and os.environ.get("VERBOSE"):
                print("%s %s: %s\n%s" % (os.path.basename(p), r, v["why"], v.get("text", "")[-1500:]),
                      file=sys.stderr)
        print("| %s | %s |" % (os.path.basename(p)[:-2], " | ".join(cells)), flush=True)
    print("| **programs that pass** | " + " | ".join(
        "**%d of %d**" % (total[r][0], len(programs)) for r in runtimes) + " |")
    print("| ok / skipped / not ok | " + " | ".join(
        "%d / %d / %d" % tuple(total[r][1:]) for r in runtimes) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
