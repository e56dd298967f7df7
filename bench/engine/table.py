# SPDX-License-Identifier: Apache-2.0
"""The rows of the benchmark, what each should reach, and the table made of the figures."""
import collections
import math

# kind: "rows" (bench/engine/rows.c), "programs" (a command in a Debian), "boot", "image" (insula run).
# unit and scale: a figure is nanoseconds / scale.  target: Insula at most so many times native;
# for "boot" so many times QEMU; for "image" so many seconds.  extra: not in the table of targets.
Row = collections.namedtuple("Row", "name kind title unit scale target command extra")
KINDS = ("rows", "programs", "boot", "image")
NS, US, MS, S = ("ns", 1), ("us", 1e3), ("ms", 1e6), ("s", 1e9)


def loop(name, target, title, unit=NS):
    return Row(name, "rows", title, *unit, target, None, False)


ROWS = [
    loop("sort", 2.0, "shell sort of 200,000 ints, an item"),
    loop("qsort", 2.3, "qsort() with call-backs, an item"),
    loop("fib", 2.5, "call and return"),
    loop("crc", 2.0, "table CRC, a byte"),
    loop("chase", 2.0, "pointer chase over 4 MiB, a load"),
    loop("matmul", 1.5, "SSE2 double matrix product, a multiply-add"),
    loop("fpsum", 2.0, "scalar double sum over 256 KiB, an add"),
    loop("x87", 1.8, "x87 multiply and two adds"),
    loop("memcpy", 1.3, "memcpy() of 1 MiB", US),
    loop("read", 2.0, "read() of 64 KiB of /dev/zero", US),
    loop("getppid", 2.2, "null system call"),
    loop("pipe", 3.0, "pipe, write and read of a byte"),
    loop("mmap", 3.0, "map, touch, unmap a page", US),
    loop("fork", 3.0, "fork, exit, wait", US),
    loop("exec", 3.0, "fork, exec, wait", US),
    loop("switch", 3.5, "two processes, a byte there and back", US),
    Row("boot-kernel", "boot", "kernel start to init", *S, 0.7, None, False),
    Row("boot-process", "boot", "process start to init", *S, 0.7, None, False),
    Row("image-true", "image", "insula run deb:bookworm -- true", *S, 2.5, None, False),
]


def result(row, medians, samples, first):
    """One row's figures, as they are written to the JSON file."""
    qemu = min((medians[w] for w in medians if w.startswith("qemu")), default=None)
    native, insula = medians.get("native"), medians.get("insula")
    r = {"name": row.name, "kind": row.kind, "title": row.title, "unit": row.unit, "scale": row.scale,
         "target": row.target, "extra": row.extra, "native": native, "qemu": qemu, "insula": insula,
         "qemu_x_native": qemu / native if qemu and native else None,
         "insula_x_native": insula / native if insula and native else None,
         "speed_over_qemu": qemu / insula if qemu and insula else None,
         "medians": medians, "samples": samples, "first_run": first, "met": None}
    if row.target and insula:
        reached = {"boot": insula / qemu if qemu else None, "image": insula / 1e9}.get(
            row.kind, r["insula_x_native"])
        r["met"] = reached is not None and reached <= row.target if reached is not None else None
    return r


def number(x, scale=1.0):
    if x is None:
        return "-"
    x /= scale
    return "%.3g" % x if x < 1000 else "%.0f" % x


def target(r):
    if r["target"] is None:
        return ""
    return {"boot": "%.1f x QEMU", "image": "%.1f s"}.get(r["kind"], "%.1f x") % r["target"]


def mean_speed(rows):
    speeds = [r["speed_over_qemu"] for r in rows if r["speed_over_qemu"]]
    return math.exp(sum(map(math.log, speeds)) / len(speeds)) if speeds else None


def lines(rows):
    yield ("row", "unit", "native", "QEMU", "Insula", "QEMU x native", "Insula x native",
           "speed over QEMU", "at most", "met")
    for r in rows:
        yield (r["name"], r["unit"], *(number(r[k], r["scale"]) for k in ("native", "qemu", "insula")),
               *(number(r[k]) for k in ("qemu_x_native", "insula_x_native", "speed_over_qemu")),
               target(r), {True: "yes", False: "no", None: ""}[r["met"]])


def text(result):
    """The tables as Markdown, so that they can go to docs/ as they are."""
    out = ["%s; %s; kernel %s; %s; engine %s; medians of %d round(s); load %.1f" % (
        result["date"], result["host"], result["kernel"], result["qemu"] or "no QEMU", result["engine"],
        result["rounds"], result["load"])]
    for extra in (False, True):
        rows = [r for r in result["rows"] if r["extra"] == extra]
        if not rows:
            continue
        cells = list(lines(rows))
        if extra:
            cells = [c[:-2] for c in cells]
        widths = [max(len(c[i]) for c in cells) for i in range(len(cells[0]))]
        out.append("")
        for n, c in enumerate(cells):
            out.append("| %s |" % " | ".join(
                x.ljust(w) if i < 2 else x.rjust(w) for i, (x, w) in enumerate(zip(c, widths))))
            if n == 0:
                out.append("|%s|" % "|".join("-" * (w + 2) for w in widths))
        mean = mean_speed(rows)
        out.append("")
        out.append("%s%s" % ("programs outside the table: " if extra else "",
                             "geometric mean of speed over QEMU: %.2f" % mean if mean else ""))
        if not extra:
            judged = [r["met"] for r in rows if r["met"] is not None]
            out.append("targets met: %d of %d" % (sum(judged), len(judged)))
    return "\n".join(out)
