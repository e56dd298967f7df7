# SPDX-License-Identifier: Apache-2.0
"""The rows of the benchmark, what each should reach, and the table made of the figures."""
import collections
import math
import statistics

# kind: "rows" (bench/engine/rows.c), "programs" (a command in a Debian), "boot", "image" (insula run).
# unit and scale: a figure is nanoseconds / scale.  target: Insula at most so many times native;
# for "boot" so many times QEMU; for "image" so many seconds.  extra: not in the table of targets.
Row = collections.namedtuple("Row", "name kind title unit scale target command extra")
KINDS = ("rows", "programs", "boot", "image")
NS, US, MS, S = ("ns", 1), ("us", 1e3), ("ms", 1e6), ("s", 1e9)


def loop(name, target, title, unit=NS):
    return Row(name, "rows", title, *unit, target, None, False)


def program(name, command, title, target=None, unit=MS):
    return Row(name, "programs", title, *unit, target, command, target is None)


def openssl_speed(what):
    return ("openssl speed -mr -elapsed -seconds 1 %s 2>/dev/null | "
            """awk -F: '/^[+]F/ { printf "NS %%.6f\\n", 1e9 / $4 }'""" % what)


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
    program("bash", "for ((i = s = 0; i < 100000; i++)); do ((s += i * 3 % 7)); done; echo $s",
            "a loop of 100,000 in bash", 4),
    program("python", """exec python3 -S -c '
s = 0
for i in range(1000000):
    s += i * 3 % 7
print(s)'""", "a loop of 1,000,000 in Python", 4),
    program("sha256", openssl_speed("-bytes 65536 sha256"), "openssl SHA-256, a byte", 1.3, NS),
    program("gcc", "gcc -O2 -std=gnu17 -D_GNU_SOURCE -I/mnt/src -c /mnt/src/device/lapic.c -o x.o && "
            "cksum <x.o", "compile a C file with gcc -O2", 5),
    Row("boot-kernel", "boot", "kernel start to init", *S, 0.7, None, False),
    Row("boot-process", "boot", "process start to init", *S, 0.7, None, False),
    Row("image-true", "image", "insula run deb:bookworm -- true", *S, 2.5, None, False),
    # Not in the table, so that no engine is built for the table alone.
    program("xz", "head -c 500000 /mnt/text | xz -3 -T1 -c | cksum", "xz -3 of 0.5 MB of text"),
    program("unxz", "xz -dc /mnt/text.xz | cksum", "unpack 8 MB with xz"),
    program("gzip", "head -c 4000000 /mnt/text | gzip -n | cksum", "gzip of 4 MB"),
    program("bzip2", "head -c 1500000 /mnt/text | bzip2 | cksum", "bzip2 of 1.5 MB"),
    program("zstd", "zstd -q -5 -c --single-thread /mnt/text | cksum", "zstd -5 of 8 MB"),
    program("sqlite", "sqlite3 x.db </mnt/sql", "SQLite: 20,000 inserts, an index, a query"),
    program("perl", """exec perl -e '
for my $i (1 .. 1000000) { $h{$i % 1000} .= chr(65 + $i % 26); }
print length(join("", map { $h{$_} } sort keys %h)), "\\n"'""", "hashes and strings in Perl"),
    program("lua", """exec lua -e '
local t = {}
for i = 1, 4000000 do t[i % 1000 + 1] = (t[i % 1000 + 1] or 0) + i % 7 * 0.5 end
local s = 0
for _, v in ipairs(t) do s = s + v end
print(s)'""", "floats and tables in Lua"),
    program("awk", "awk '{ for (i = 1; i <= NF; i++) n[$i]++ } END { for (w in n) s += n[w]; print s }' "
            "/mnt/text", "count the words of 8 MB with awk"),
    program("sort-text", "sort /mnt/text | cksum", "sort 8 MB of lines"),
    program("grep", "for i in 1 2 3 4; do grep -cE '(ab|ce)+[d-k]o.*x$' /mnt/text; done",
            "grep -E in 8 MB, four times"),
    program("tar", "tar cf x.tar -C /usr include lib/gcc && tar xf x.tar && cksum <include/stdio.h",
            "pack and unpack 100 MB of headers and compiler with tar"),
    program("aes", openssl_speed("-bytes 65536 -evp aes-128-gcm"), "openssl AES-128-GCM, a byte", None, NS),
    program("rsa", openssl_speed("rsa2048"), "openssl RSA-2048, a signature", None, US),
    program("make", "cp -r /mnt/make make && make -s -C make && cksum <make/all.a",
            "make: compile five small C files, an archive"),
    program("commands", "for ((i = 0; i < 200; i++)); do /bin/true; done", "200 commands from a shell"),
    program("find", "for i in 1 2 3 4; do find /usr -xdev -type f -size +100k | wc -l; done",
            "look at all files of /usr, four times"),
]


def result(row, samples, first):
    """One row's figures, as they are written to the JSON file; @samples and @first are lists by peer."""
    medians = {who: statistics.median(got) for who, got in samples.items()}
    native, insula = medians.get("native"), medians.get("insula")
    qemu = min((x for who, x in medians.items() if who.startswith("qemu")), default=None)
    r = {"name": row.name, "kind": row.kind, "title": row.title, "unit": row.unit, "scale": row.scale,
         "target": row.target, "extra": row.extra, "native": native, "qemu": qemu, "insula": insula,
         "qemu_x_native": ratio(qemu, native), "insula_x_native": ratio(insula, native),
         "speed_over_qemu": ratio(qemu, insula), **noise(samples), "samples": samples, "first_runs": first}
    reached = {"boot": ratio(insula, qemu), "image": ratio(insula, 1e9)}.get(row.kind, r["insula_x_native"])
    r["met"] = None if reached is None or row.target is None else reached <= row.target
    return r


def noise(samples):
    """What shows whether the host was quiet: the ratios by the least of all rounds instead of the medians, and
    the most by which one machine's rounds differ. QEMU's least is of twice as many rounds as the others'."""
    least = {who: min(got) for who, got in samples.items()}
    qemu = min((x for who, x in least.items() if who.startswith("qemu")), default=None)
    return {"least_x_native": ratio(least.get("insula"), least.get("native")),
            "least_over_qemu": ratio(qemu, least.get("insula")),
            "spread": max((max(got) / min(got) for got in samples.values() if len(got) > 1), default=None)}


def ratio(a, b):
    return a / b if a is not None and b else None


def number(x, scale=1.0):
    if x is None:
        return "-"
    x /= scale
    return "%.3g" % x if x < 1000 else "%.0f" % x


def target(r):
    if r["target"] is None:
        return ""
    return {"boot": "%.1f x QEMU", "image": "%.1f s"}.get(r["kind"], "%.1f x") % r["target"]


def mean_speed(rows, key):
    speeds = [r[key] for r in rows if r[key]]
    return math.exp(sum(map(math.log, speeds)) / len(speeds)) if speeds else None


def lines(rows):
    yield ("row", "unit", "native", "QEMU", "Insula", "QEMU x native", "Insula x native",
           "speed over QEMU", "at most", "met", "least x native", "least over QEMU", "spread")
    for r in rows:
        yield (r["name"], r["unit"], *(number(r[k], r["scale"]) for k in ("native", "qemu", "insula")),
               *(number(r[k]) for k in ("qemu_x_native", "insula_x_native", "speed_over_qemu")),
               target(r), {True: "yes", False: "no", None: ""}[r["met"]],
               *(number(r[k]) for k in ("least_x_native", "least_over_qemu", "spread")))


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
            cells = [c[:8] + c[10:] for c in cells]
        widths = [max(len(c[i]) for c in cells) for i in range(len(cells[0]))]
        out.append("")
        for n, c in enumerate(cells):
            out.append("| %s |" % " | ".join(
                x.ljust(w) if i < 2 else x.rjust(w) for i, (x, w) in enumerate(zip(c, widths))))
            if n == 0:
                out.append("|%s|" % "|".join("-" * (w + 2) for w in widths))
        mean, least = mean_speed(rows, "speed_over_qemu"), mean_speed(rows, "least_over_qemu")
        judged = [r["met"] for r in rows if r["met"] is not None]
        notes = []
        if mean:
            notes.append("geometric mean of speed over QEMU: %.2f, by the least of the rounds %.2f" % (mean, least))
        if judged:
            notes.append("targets met: %d of %d" % (sum(judged), len(judged)))
        if notes:
            out += ["", "; ".join(notes)]
    return "\n".join(out)
