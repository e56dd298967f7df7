#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A picture of bench/engine/run.py's figures: times native, on a logarithmic scale.

    bench/engine/plot.py build/bench/engine.json docs/bench-engine.svg
"""
import json
import math
import sys
from xml.sax.saxutils import escape

LEFT, WIDTH, ROW, BAR, TOP = 400, 560, 26, 9, 92
COLOURS = {"QEMU": "#9aa5b1", "Insula": "#2563a8"}


def text(x, y, words, more=""):
    return '<text x="%.1f" y="%.1f" %s>%s</text>' % (x, y, more, escape(words))


def draw(result, path):
    rows = [r for r in result["rows"] if r["insula_x_native"]]
    if not rows:
        raise SystemExit("nothing to draw: no row has figures of the host and of Insula")
    most = max(x for r in rows for x in (r["qemu_x_native"], r["insula_x_native"], 10) if x)
    decades = math.ceil(math.log10(most * 1.3))
    height = TOP + ROW * len(rows) + 30

    def at(value):
        return LEFT + WIDTH * max(math.log10(value), 0) / decades

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">'
           % (LEFT + WIDTH + 60, height),
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           text(16, 26, "Time of the same program, as many times the host's own", 'font-size="16"'),
           text(16, 46, "%s; %s; load %.1f; engine %s, %s; left is faster" % (
               result["date"], result["host"], result["load"], result["engine"],
               result["qemu"].split(" (")[0] or "no QEMU"),
                'fill="#555555"')]
    for n, (name, colour) in enumerate(COLOURS.items()):
        out.append('<rect x="%d" y="60" width="12" height="12" fill="%s"/>' % (LEFT + 90 * n, colour))
        out.append(text(LEFT + 90 * n + 18, 70, name))
    out.append('<path d="M%d 59v14" stroke="#c2410c" stroke-width="2"/>' % (LEFT + 186))
    out.append(text(LEFT + 194, 70, "Insula's target"))
    for d in range(decades + 1):
        x = at(10 ** d)
        out.append('<path d="M%.1f %dV%d" stroke="#dddddd"/>' % (x, TOP - 6, height - 24))
        out.append(text(x, height - 8, "%d x" % 10 ** d, 'text-anchor="middle" fill="#555555"'))
    for n, r in enumerate(rows):
        y = TOP + ROW * n
        out.append(text(LEFT - 10, y + 13, r["title"], 'text-anchor="end"'))
        for k, (name, value) in enumerate((("QEMU", r["qemu_x_native"]), ("Insula", r["insula_x_native"]))):
            if not value:
                continue
            out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (
                LEFT, y + k * (BAR + 1), max(at(value) - LEFT, 1), BAR, COLOURS[name]))
            out.append(text(max(at(value), LEFT + 1) + 4, y + k * (BAR + 1) + 8, "%.3g" % value, 'font-size="9"'))
        if r["target"] and r["kind"] in ("rows", "programs"):
            out.append('<path d="M%.1f %dv%d" stroke="#c2410c" stroke-width="2"/>' % (
                at(r["target"]), y - 2, 2 * BAR + 5))
    out.append("</svg>")
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as source:
        draw(json.load(source), sys.argv[2])
