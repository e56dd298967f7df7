#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/containers.py INSULA [ROUNDS] - from the command to the exit of `true` in a container of an image:
insula, and podman with crun, in turn; as root, in caches of their own"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/container"))
from registry import Image, busybox_layer, entry, layer  # noqa: E402

insula = os.path.abspath(sys.argv[1])
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
top = tempfile.mkdtemp(prefix="insula-bench.")
env = dict(os.environ, XDG_CACHE_HOME=top + "/cache", XDG_DATA_HOME=top + "/data")
NAME = "bench.example/box:1"
try:
    image = Image(busybox_layer(), config={"Env": ["PATH=/bin"]})
    index = {"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest,
        "size": len(image.manifest), "annotations": {"org.opencontainers.image.ref.name": NAME}}]}
    files = dict(image.blobs, **{image.digest: image.manifest})
    with open(top + "/image.tar", "wb") as f:
        f.write(layer(entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                      entry("index.json", json.dumps(index).encode()),
                      *[entry("blobs/sha256/" + d[7:], b) for d, b in files.items()]))
    quiet = dict(env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    subprocess.run([insula, "image", "load", top + "/image.tar"], **quiet)
    commands = {"insula": [insula, "run", "--net", "none", NAME, "--", "true"],
                "insula, network": [insula, "run", NAME, "--", "true"]}
    if shutil.which("podman"):
        # Its default limits need CAP_SYS_RESOURCE, which not every host gives.
        with open(top + "/containers.conf", "w") as f:
            f.write('[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=4096:4096"]\n'
                    '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="none"\n')
        env["CONTAINERS_CONF"] = top + "/containers.conf"
        podman = ["podman", "--root", top + "/podman", "--runroot", top + "/podman.run"]
        subprocess.run([*podman, "load", "-i", top + "/image.tar"], **quiet)
        for runtime in "crun", "runc", os.path.join(os.path.dirname(insula), "insula-oci"):
            commands["podman, " + os.path.basename(runtime)] = [
                *podman, "--runtime", runtime, "run", "--rm", "--network", "none",
                NAME, "true"]
    times = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in list(commands.items()):
            begin = time.monotonic()
            try:
                subprocess.run(command, **quiet)
            except subprocess.CalledProcessError as e:
                print("%s: status %d" % (name, e.returncode))
                del commands[name], times[name]
                continue
            times[name].append(time.monotonic() - begin)
    for name, t in times.items():
        print("%-20s median %6.0f ms  best %6.0f ms" % (name, statistics.median(t) * 1e3, min(t) * 1e3))
finally:
    subprocess.run(["umount", "-q", top + "/podman/overlay"], stderr=subprocess.DEVNULL)
    shutil.rmtree(top, ignore_errors=True)
