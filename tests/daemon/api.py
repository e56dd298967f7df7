#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/daemon/api.py INSULA - insulad's REST API over its real socket: every operation, every
refusal, requests in pieces and in a row, events, roles"""
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time

from box import Box, PATIENCE, check, wait_for


def raw(box, data, end=True):
    """What comes back for bytes of ours."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(box.sock)
    s.sendall(data)
    if end:
        s.shutdown(socket.SHUT_WR)
    got = b""
    try:
        while chunk := s.recv(65536):
            got += chunk
    except ConnectionResetError:
        pass
    s.close()
    return got


def config(box, kind="idle"):
    return {"kernel": box.kernel(kind), "engine": "soft", "board": "micro", "memory": 32 << 20,
            "net": "none"}


def create(box, name, **more):
    body = {"name": name, "config": config(box), **more}
    job = box.wait_job(box.request("POST", "/v1/machines", body, 202))
    check(job["state"] == "done", job)
    return job["result"]


def test_document(box):
    """The document is the one in docs/, and each of its operations is answered."""
    doc = box.request("GET", "/v1/openapi.json")
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/openapi.json")
    check(doc == json.load(open(path)), "docs/openapi.json is not what insulad says: "
          "build/bin/insulad --openapi >docs/openapi.json")
    for path, methods in doc["paths"].items():
        check("patch" not in methods or "get" in methods, path)
        url = path.replace("{machine}", "nosuch").replace("{job}", "999999").replace("{snapshot}", "s")
        url = url.replace("{pool}", "nosuch").replace("{disk}", "nosuch").replace("{token}", "nosuch")
        for method, op in methods.items():
            names = {p["name"] for p in op["parameters"] if p["in"] == "path"}
            check(all("{%s}" % n in path for n in names) and path.count("{") == len(names), path)
            check(op["summary"] and op["operationId"] and op["x-role"] in
                  ("viewer", "operator", "admin"), op)
            if op["operationId"] == "event.stream":
                continue
            status = 404 if names else 200
            schema = op.get("requestBody", {}).get("content", {}).get("application/json", {})
            if schema.get("schema", {}).get("required") or any(
                    p["in"] == "query" and p.get("required") for p in op["parameters"]):
                status = 400
            if "101" in op["responses"]:
                status = 426
            body = {} if method in ("patch", "post") else None
            if status == 404 and "202" in op["responses"]:  # the job tells
                job = box.wait_job(box.request(method.upper(), url, body, 202))
                check(job["state"] == "failed" and "nosuch" in job["error"]["message"], job)
                continue
            box.request(method.upper(), url, body, status)
        other = {"get", "post", "patch", "delete", "put"} - set(methods)
        for method in other:
            box.request(method.upper(), url, None, 405)
            check(set(box.headers["Allow"].lower().split(", ")) == set(methods), path)


def test_life(box):
    m = create(box, "a", labels={"x": "y"}, restart="on-failure", autostart_order=3)
    check(m["state"] == "stopped" and m["labels"] == {"x": "y"} and m["restart"] == "on-failure"
          and m["autostart_order"] == 3, m)
    check(box.request("GET", "/v1/machines") == {"machines": []}, "none runs")
    check(len(box.request("GET", "/v1/machines?all")["machines"]) == 1, "one is there")
    check(len(box.request("GET", "/v1/machines?all=true&label=x%3Dz")["machines"]) == 0, "label")
    check(len(box.request("GET", "/v1/machines?all=true&label=x")["machines"]) == 1, "label")
    m = box.request("POST", "/v1/machines/a/start")
    check(m["state"] == "running" and m["pid"] > 1, m)
    box.request("POST", "/v1/machines/a/start", None, 409)
    box.request("POST", "/v1/machines/a/pause")
    check(box.request("GET", "/v1/machines/a")["state"] == "paused", "paused")
    box.request("POST", "/v1/machines/a/pause")  # is so already
    r = box.request("GET", "/v1/machines/a/wait?for=running&timeout=50")
    check(r["reached"] is False, r)
    box.request("POST", "/v1/machines/a/resume")
    check(box.request("GET", "/v1/machines/a/wait?for=running&timeout=5000")["reached"], "runs")
    stats = box.request("GET", f"/v1/machines/{m['uuid']}/stats")
    check(stats["cpu_ns"] >= 0 and stats["resident"] > 0 and stats["engine"], stats)
    wait_for(lambda: box.request("GET", "/v1/machines/a/logs") == b"up\n", "the console's log")
    check(box.request("GET", "/v1/machines/a/logs?offset=1") == b"p\n", "offset")
    check(box.headers["Insula-Next-Offset"] == "3", box.headers)
    check(box.request("GET", "/v1/machines/a/logs?bytes=1") == b"\n", "bytes")
    box.request("POST", "/v1/machines/a/reset")
    wait_for(lambda: box.request("GET", "/v1/machines/a/logs") == b"up\nup\n", "the second start")
    box.request("POST", "/v1/machines/a/reboot", None, 501)
    # It hears no power button.
    box.request("POST", "/v1/machines/a/shutdown?timeout=100", None, 504)
    box.request("DELETE", "/v1/machines/a", None, 409)
    m = box.request("PATCH", "/v1/machines/a", {"name": "b", "config": {"cpus": 2, "append": "x"},
                                                "labels": {"x": None, "k": "v"}})
    check(m["name"] == "b" and m["config"]["cpus"] == 2 and m["labels"] == {"k": "v"}, m)
    m = box.request("PATCH", "/v1/machines/b", {"config": {"append": None}})
    check("append" not in m["config"] and m["config"]["cpus"] == 2, m)
    check(os.path.islink(f"{box.data}/machines/b") and not os.path.lexists(f"{box.data}/machines/a"),
          "links")
    box.request("POST", "/v1/machines/b/stop")
    m = box.request("GET", "/v1/machines/b")
    check(m["state"] == "stopped" and m["end"]["reason"] == "stop" and m["end"]["status"] == 0, m)
    box.request("POST", "/v1/machines/b/stop", None, 409)
    box.request("POST", "/v1/machines/b/start")
    box.request("DELETE", "/v1/machines/b?force=true")
    box.request("GET", "/v1/machines/b", None, 404)
    check(os.listdir(f"{box.data}/guests") == [], "files are gone")


def job(box, method, path, body=None, words=None):
    """Its result, or with @words the failure that says them."""
    j = box.wait_job(box.request(method, path, body, 202))
    check(j["state"] == ("failed" if words else "done"), j)
    check(not words or words in j["error"]["message"], j)
    return j.get("result")


def test_state(box):
    """Machines without a disk of their own: memory alone."""
    create(box, "s", labels={"x": "y"})
    url = "/v1/machines/s"
    job(box, "POST", url + "/snapshots", {"name": "no"}, "there is nothing to keep")
    job(box, "POST", url + "/fork", {"name": "t"}, "does not run")
    box.request("POST", url + "/start")
    wait_for(lambda: box.request("GET", url + "/logs") == b"up\n", "the guest")
    first = job(box, "POST", url + "/snapshots", {"name": "one", "whole": True})
    check(first["memory"] and first["stall_ms"] > 0 and "incremental" not in first, first)
    job(box, "POST", url + "/snapshots", {"name": "one"}, "already")
    job(box, "POST", url + "/snapshots", {"name": "../x"}, "is no name")
    job(box, "POST", url + "/snapshots", {"name": "d", "disk_only": True}, "no disk of its own")
    second = job(box, "POST", url + "/snapshots", {"name": "two", "compress": True})
    check(second["incremental"] and second["bytes"] < first["bytes"], first, second)
    job(box, "POST", url + "/snapshots/two/restore", {}, "is running")
    job(box, "POST", url + "/snapshots/three/restore", {}, "no snapshot 'three'")
    box.request("DELETE", url + "/snapshots/one")
    box.request("DELETE", url + "/snapshots/one", None, 404)
    check([s["name"] for s in box.request("GET", url + "/snapshots")["snapshots"]] == ["two"], "list")
    m = job(box, "POST", url + "/snapshots/two/restore", {"force": True})
    check(m["state"] == "running", m)
    check(box.request("GET", url + "/logs") == b"up\n", "it did not start again")
    made = job(box, "POST", url + "/fork", {"name": "t", "count": 2, "labels": {"k": "v"}})["machines"]
    check([m["name"] for m in made] == ["t-1", "t-2"] and made[0]["labels"] == {"k": "v"}, made)
    check(made[0]["uuid"] != made[1]["uuid"] and all(m["state"] == "running" for m in made), made)
    job(box, "POST", url + "/fork", {"name": "t", "count": 2}, "already")
    job(box, "POST", url + "/fork", {"name": "t", "count": 251}, "not between")
    # The next insulad knows them, and their ends.
    box.kill_daemon()
    box.cli("list")
    check({m["name"]: m["pid"] for m in made}.items() <=
          {m["name"]: m.get("pid") for m in box.machines().values()}.items(), box.machines())
    os.kill(made[0]["pid"], 9)
    wait_for(lambda: box.machines()["t-1"]["state"] == "stopped", "its end")
    box.request("POST", "/v1/machines/t-2/stop")
    m = box.request("GET", "/v1/machines/t-2")
    check(m["end"]["reason"] == "stop", m)
    box.request("POST", "/v1/machines/t-2/start")
    check(job(box, "POST", url + "/clone", {"name": "c"})["labels"] == {"x": "y"}, "its source's labels")
    box.request("POST", "/v1/machines/c/template", {"template": True})
    box.request("POST", "/v1/machines/c/start", {}, 409)
    box.request("POST", "/v1/machines/s/template", {"template": True}, 409)
    job(box, "POST", "/v1/machines/c/clone", {"name": "d"})
    box.request("POST", "/v1/machines/c/template", {"template": False})
    for name in ("c", "d"):
        box.request("POST", f"/v1/machines/{name}/start")
    # Cancelled: there is none, and the machine goes on.
    j = box.request("POST", url + "/snapshots", {"name": "never"}, 202)
    box.request("DELETE", f"/v1/jobs/{j['id']}")
    j = box.wait_job(j)
    names = [s["name"] for s in box.request("GET", url + "/snapshots")["snapshots"]]
    check(("never" in names) == (j["state"] == "done"), j, names)
    check(box.request("GET", url)["state"] == "running", "it goes on")
    for name in ("s", "t-1", "t-2", "c", "d"):
        box.request("DELETE", f"/v1/machines/{name}?force=true")
    check(os.listdir(f"{box.data}/guests") == [], "files are gone")


def test_refusals(box):
    create(box, "taken")
    good = config(box)
    for body, words in [
            ({"config": {}}, "nothing to start"),
            ({"config": {**good, "cpus": 65}}, "cpus: 65"),
            ({"config": {**good, "memory": 1}}, "memory: 1 is not"),
            ({"config": {**good, "kernel": "relative"}}, "absolute"),
            ({"config": {**good, "nosuch": 1}}, "nosuch: unknown key"),
            ({"config": {**good, "disks": [{"format": "raw"}]}}, "disks[0].path: is missing"),
            ({"config": {**good, "disks": [{"path": "/x", "bus": "ide"}]}}, "disks[0].bus"),
            ({"config": {**good, "disks": [{"path": "/x"}] * 8}}, "at most 7"),
            ({"config": {**good, "publish": [{"host": 1, "guest": 1}]}}, "net is none"),
            ({"config": {**good, "shares": [{"host": "/", "guest": "/x"}]}}, "need an image"),
            ({"config": {**good, "firmware": "bios"}}, "firmware"),
            ({"config": {"firmware": "coreboot"}}, "firmware"),
            ({"config": good, "name": "taken"}, "already"),
            ({"config": good, "name": "-x"}, "is no name"),
            ({"config": good, "name": "../x"}, "is no name"),
            ({"config": good, "name": "x" * 64}, "is no name"),
            ({"config": good, "labels": {"a b": "c"}}, "is no key"),
            ({"config": good, "labels": {"a": 1}}, "labels.a"),
            ({"config": good, "restart": "sometimes"}, "restart"),
            ({"config": good, "watchdog": -1}, "watchdog")]:
        job = box.wait_job(box.request("POST", "/v1/machines", body, 202))
        check(job["state"] == "failed" and words in job["error"]["message"], words, "not in", job)
    for body, words in [({"name": "x"}, "config: is missing"), ([], "not a JSON object"),
                        ("{", "not a JSON object"), ({"config": 1}, "config: must be of type"),
                        ({"config": {}, "x": 1}, "x: unknown argument"),
                        ({"config": {}, "name": "a\0b"}, "NUL"),
                        ('{"config":{},"config":{}}', "duplicate")]:
        e = box.request("POST", "/v1/machines", body, 400)["error"]
        check(words in e["message"] and e["status"] == 400, words, "not in", e)
    for path in ("/v1/machines?al=1", "/v1/machines?all=maybe", "/v1/machines?label=%zz",
                 "/v1/machines/taken/wait?timeout=x", "/v1/machines/taken/wait?timeout=99999999",
                 "/v1/machines/taken/wait?for=ever", "/v1/machines/taken/logs?bytes=-1"):
        box.request("GET", path, None, 400)
    for path in ("/", "/v1", "/v1/machines/", "/v1/machines/a/b/c", "/v2/machines", "*",
                 "/v1/machines/%00", "/v1/machines/%2e%2e%2fx", "/v1/jobs/1x"):
        box.request("GET", path, None, 404)
    create(box, "taken2")
    e = box.request("GET", "/v1/machines/take", None, 400)["error"]
    check("taken, taken2" in e["message"], e)
    box.request("PATCH", "/v1/machines/taken", {"name": "taken2"}, 409)
    box.request("PATCH", "/v1/machines/taken", {"config": {"cpus": 0}}, 400)
    box.request("PATCH", "/v1/machines/taken", {"config": {"image": "deb:bookworm"}}, 400)
    check(box.request("GET", "/v1/machines/taken")["config"]["cpus"] == 1, "nothing was changed")
    for name in ("taken", "taken2"):
        box.request("DELETE", f"/v1/machines/{name}")


def test_cards(box):
    """Of a machine that is off only the definition changes; a guest without a driver keeps its disk."""
    create(box, "k")
    a, b = copy(box, "d7"), copy(box, "d8")
    disks = lambda: box.request("GET", "/v1/machines/k")["config"].get("disks", [])
    m = box.request("POST", "/v1/machines/k/disks", {"path": a, "readonly": True, "format": "raw",
                                                    "rate": {"bytes": 1 << 20}})
    check(m["config"]["disks"] == [{"path": a, "format": "raw", "bus": "virtio", "cdrom": False,
                                    "readonly": True, "serial": "disk0",
                                    "rate": {"bytes": 1 << 20}}], m)
    box.request("POST", "/v1/machines/k/disks", {"path": a}, 409)
    box.request("POST", "/v1/machines/k/disks", {"path": "relative"}, 400)
    box.request("POST", "/v1/machines/k/disks", {"path": box.top + "/nosuch"}, 404)
    box.request("POST", "/v1/machines/k/disks", {"path": box.top}, 400)
    box.request("POST", "/v1/machines/k/disks", {"path": b, "rate": {"byte": 1}}, 400)
    check(len(disks()) == 1, disks())
    # Names stay with their disks.
    box.request("POST", "/v1/machines/k/disks", {"path": b, "readonly": True})
    box.request("DELETE", f"/v1/machines/k/disks?path={a}")
    check([d["serial"] for d in disks()] == ["disk1"], disks())
    box.request("POST", "/v1/machines/k/disks", {"path": a, "readonly": True})
    check([d["serial"] for d in disks()] == ["disk1", "disk0"], disks())
    box.request("DELETE", f"/v1/machines/k/disks?path={box.top}/nosuch", None, 404)
    # Its guest has neither ACPI nor disks' drivers.
    box.request("POST", "/v1/machines/k/start")
    box.request("DELETE", f"/v1/machines/k/disks?path={a}&timeout=-1", None, 400)
    r = box.request("DELETE", f"/v1/machines/k/disks?path={a}&timeout=100", None, 409)
    check("did not let go" in r["error"]["message"], r)
    check(len(disks()) == 2, disks())
    m = box.request("POST", "/v1/machines/k/nics", {})
    mac = m["config"]["nics"][0]["mac"]
    check(mac.startswith("52:54:00:"), mac)
    box.request("POST", "/v1/machines/k/nics", {"mac": mac}, 400)
    box.request("POST", "/v1/machines/k/nics", {"mac": "53:54:00:00:00:00"}, 400)
    box.request("POST", "/v1/machines/k/nics", {"model": "ne2000"}, 400)
    box.request("DELETE", f"/v1/machines/k/nics?mac={mac}&timeout=50", None, 409)
    # Who starts again holds nothing: a reset gives what is asked for.
    asked = subprocess.Popen([box.insula_path, "nic", "detach", "--timeout", "60", "k", mac], env=box.env)
    s = socket.socket(socket.AF_UNIX)
    s.connect(f"{box.run_dir}/vm/{m['uuid']}/control")
    while asked.poll() is None:
        s.sendall(b'{"command":"reset"}\n')
        time.sleep(0.1)
    s.close()
    check(asked.wait() == 0, "the card goes")
    check("nics" not in box.request("GET", "/v1/machines/k")["config"], "it is gone")
    # As many as there is room for.
    for i in range(5):
        box.request("POST", "/v1/machines/k/disks", {"path": copy(box, f"d{i}"),
                                                       "readonly": True})
    box.request("POST", "/v1/machines/k/disks", {"path": copy(box, "d9"), "readonly": True}, 400)
    check(len(disks()) == 7, disks())
    box.request("DELETE", "/v1/machines/k?force=true")
    for i in (0, 1, 2, 3, 4, 7, 8, 9):
        os.unlink(f"{box.top}/d{i}")


def copy(box, name):
    with open(f"{box.top}/{name}", "wb") as f:
        f.truncate(1 << 20)
    return f"{box.top}/{name}"


def test_rates(box):
    m = create(box, "r")
    a = copy(box, "d1")
    config = {"disks": [{"path": a}], "nics": [{"mac": "52:54:00:00:00:01"}]}
    box.request("PATCH", "/v1/machines/r", {"config": config})
    box.request("POST", "/v1/machines/r/start")
    config = {"disks": [{"path": a, "rate": {"ops": 5, "ops_burst": 9}}],
              "nics": [{"mac": "52:54:00:00:00:01", "rate": {"in": 1000}}], "memory": 40 << 20}
    m = box.request("PATCH", "/v1/machines/r", {"config": config})["config"]
    check(m["disks"][0]["rate"] == {"ops": 5, "ops_burst": 9} and m["memory"] == 40 << 20 and
          m["nics"][0]["rate"] == {"in": 1000}, m)
    s = box.request("GET", "/v1/machines/r/stats")
    check(s["memory"] == 32 << 20 and s["memory_target"] == 32 << 20, s)
    for bad in ({"disks": [{"path": a, "rate": {"ops_burst": 9}}]}, {"net_rate": {"x": 1}},
                {"root_rate": {"ops": 1}}, {"nics": [{"mac": "x"}]}):
        box.request("PATCH", "/v1/machines/r", {"config": bad}, 400)
    box.request("DELETE", "/v1/machines/r?force=true")
    os.unlink(a)


def test_pools(box):
    """Pools are what they are said to be when they are used; disks in them are made whole, and go only
    when nobody has them."""
    d = box.top + "/pool"
    p = box.request("POST", "/v1/pools", {"name": "p", "path": d})
    check(p["kind"] == "dir" and p["size"] > p["available"] > 0 and os.path.isdir(d), p)
    box.request("POST", "/v1/pools", {"name": "p", "path": d + "2"}, 409)
    box.request("POST", "/v1/pools", {"name": "q", "path": d}, 409)
    box.request("POST", "/v1/pools", {"name": "q", "path": "relative"}, 400)
    box.request("POST", "/v1/pools", {"name": "q", "path": d, "kind": "zfs"}, 400)
    r = box.request("POST", "/v1/pools", {"name": "q", "path": d, "kind": "mount"}, 409)
    check("nothing is mounted" in r["error"]["message"], r)
    box.request("POST", "/v1/pools", {"name": "q", "path": d + "/nosuch", "kind": "mount"}, 404)
    check(not os.path.exists(d + "/nosuch"), "made where a mount is missing")
    kind = subprocess.run(["stat", "-f", "-c", "%T", box.top], capture_output=True, text=True).stdout
    other = "btrfs" if kind.strip() == "tmpfs" else "tmpfs"
    box.request("POST", "/v1/pools", {"name": "q", "path": d, "kind": other}, 400)
    shm = f"/dev/shm/insula-test-{os.getpid()}"
    p = box.request("POST", "/v1/pools", {"name": "t", "path": shm, "kind": "tmpfs"})
    box.request("POST", "/v1/pools", {"name": "m", "path": "/dev/shm", "kind": "mount"})
    check([x["name"] for x in box.request("GET", "/v1/pools")["pools"]] == ["m", "p", "t"], "list")
    for pool in ("p", "t"):
        make = lambda status="done", **body: (j := box.wait_job(box.request(
            "POST", f"/v1/pools/{pool}/disks", body, 202)))["state"] == status and j or check(False, j)
        a = make(name="a.qcow2", size=8 << 20)["result"]["path"]
        check(open(a, "rb").read(4) == b"QFI\xfb", a)
        b = make(name="b", size=1 << 20)["result"]["path"]
        with open(b, "r+b") as f:
            f.write(b"content")
        c = make(name="c", **{"from": b})["result"]["path"]
        check(open(c, "rb").read() == open(b, "rb").read(), "a copy")
        q = make(name="q.qcow2", **{"from": b})["result"]["path"]
        over = make(name="over.qcow2", backing=q)["result"]["path"]
        flat = make(name="flat", **{"from": over})["result"]["path"]
        check(open(flat, "rb").read() == open(b, "rb").read(), "through two formats and a backing file")
        for bad in ({"name": "a.qcow2", "size": 1 << 20}, {"name": "../x", "size": 512}, {"name": ".x"},
                    {"name": "x.part", "size": 512}, {"name": "x"}, {"name": "x", "size": -512},
                    {"name": "x", "size": 100}, {"name": "x", "from": "relative"},
                    {"name": "x", "from": b, "size": 512}, {"name": "x", "from": box.top + "/nosuch"}):
            make("failed", **bad)
        s = box.request("GET", f"/v1/pools/{pool}")
        check(sorted(x["name"] for x in s["disks"]) == ["a.qcow2", "b", "c", "flat", "over.qcow2",
                                                        "q.qcow2"], s)
        check(s["reflinks"] in (True, False), s)
        # One that a machine has, or uses, stays.
        create(box, "z")
        box.request("POST", "/v1/machines/z/disks", {"path": b})
        box.request("DELETE", f"/v1/pools/{pool}/disks/b", None, 409)
        box.request("DELETE", "/v1/machines/z")
        with open(c) as f:
            fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))  # F_OFD_SETLK
            box.request("DELETE", f"/v1/pools/{pool}/disks/c", None, 409)
        for x in s["disks"]:
            box.request("DELETE", f"/v1/pools/{pool}/disks/{x['name']}")
        box.request("DELETE", f"/v1/pools/{pool}/disks/c", None, 404)
        check(os.listdir(box.request("GET", f"/v1/pools/{pool}")["path"]) == [], "leftovers")
    # What is gone is told, and nothing is made in its place.
    os.rmdir(shm)
    check("problem" in box.request("GET", "/v1/pools/t"), "it is gone")
    box.wait_job(box.request("POST", "/v1/pools/t/disks", {"name": "x", "size": 512}, 202))
    check(not os.path.exists(shm), "made again")
    for pool in ("m", "p", "t"):
        box.request("DELETE", f"/v1/pools/{pool}")
    check(os.path.isdir(d), "its directory stays")
    os.rmdir(d)
    # As people type it.
    box.cli("pool", "create", "--kind", "tmpfs", "t", shm)
    path = box.cli("disk", "create", "--pool", "t", "d.qcow2", "4M").strip()
    check(path == shm + "/d.qcow2" and "d.qcow2" in box.cli("pool", "show", "t"), path)
    create(box, "z")
    box.cli("disk", "attach", "--pool", "t", "z", "d.qcow2")
    box.cli("disk", "remove", "--pool", "t", "d.qcow2", status=121)
    box.cli("disk", "detach", "--pool", "t", "z", "d.qcow2")
    box.cli("disk", "remove", "--pool", "t", "d.qcow2")
    check(box.cli("pool", "list", "--names") == "t\n", "names")
    box.cli("pool", "delete", "t")
    box.cli("delete", "z")
    os.rmdir(shm)


def test_xml(box):
    """libvirt's domain XML, in and out."""
    uuid = "0d4f4c3b-1111-4222-8333-444455556666"
    xml = (f"<domain type='kvm'><name>x</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory>"
           f"<os><type>hvm</type><kernel>{box.kernel('idle')}</kernel></os>"
           "<devices><sound model='ac97'/></devices></domain>")
    job = box.wait_job(box.request("POST", "/v1/define", {"xml": xml}, 202))
    m = job["result"]
    check(m["uuid"] == uuid and m["config"]["memory"] == 64 << 20 and m["config"]["net"] == "none"
          and "sound" in m["warnings"][0] and len(m["warnings"]) == 1, m)
    out = box.request("GET", "/v1/machines/x/xml").decode()
    check(f"<uuid>{uuid}</uuid>" in out and "<memory unit='KiB'>65536</memory>" in out, out)
    job = box.wait_job(box.request("POST", "/v1/define", {"xml": xml.replace(">x<", ">y<")}, 202))
    check("'x' has it already" in job["error"]["message"], job)
    job = box.wait_job(box.request("POST", "/v1/define", {"xml": "<domain>"}, 202))
    check("not XML" in job["error"]["message"], job)
    open(box.top + "/x.xml", "w").write(box.cli("show", "--xml", "x"))
    box.cli("delete", "x")
    check(box.cli("define", box.top + "/x.xml") == "x\n", "define")
    check(box.request("GET", "/v1/machines/x/xml").decode() == out, "the same again")
    box.cli("delete", "x")
    os.unlink(box.top + "/x.xml")


def test_http(box):
    ask = b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n"
    check(raw(box, (ask + b"\r\n") * 3).count(b"200 OK") == 3, "three in a row")
    check(b"Connection: close" in raw(box, ask + b"Connection: close\r\n\r\n", False), "close")
    for data, status in [(b"hello\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\nA b\r\n\r\n", b"400"),
                         (b"x" * 70000, b"431"),
                         (ask + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
                         (ask + b"Content-Length: 99999999\r\n\r\n", b"413"),
                         (ask + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
                         (ask + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", b"413")]:
        got = raw(box, data, False)
        check(got.startswith(b"HTTP/1.1 " + status), data[:60], got[:200])
    body = json.dumps({"config": {}}).encode()
    post = b"POST /v1/machines HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    chunked = b"".join(b"1\r\n" + bytes([c]) + b"\r\n" for c in body) + b"0\r\n\r\n"
    check(raw(box, post + b"Transfer-Encoding: chunked\r\n\r\n" + chunked, False)
          .startswith(b"HTTP/1.1 202"), "a chunked body")
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(box.sock)
    s.sendall(post + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
    check(s.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n", "100")
    for c in body:
        s.sendall(bytes([c]))
    check(s.recv(12) == b"HTTP/1.1 202", "202 after it")
    s.close()
    # Clients that leave in the middle, also while their operation runs.
    for data in (b"GET", ask, post + b"Content-Length: 10\r\n\r\n{"):
        raw(box, data)
    create(box, "left")
    for _ in range(20):
        s = socket.socket(socket.AF_UNIX)
        s.connect(box.sock)
        s.sendall(b"GET /v1/machines/left/wait?for=running&timeout=300 HTTP/1.1\r\n\r\n")
        s.close()
    time.sleep(0.5)
    box.request("DELETE", "/v1/machines/left")


def test_streams(box):
    create(box, "s")
    for path in ("console", "agent"):
        ask = (f"GET /v1/machines/s/{path} HTTP/1.1\r\nConnection: Upgrade\r\n"
               "Upgrade: insula-stream\r\n\r\n").encode()
        check(raw(box, ask).startswith(b"HTTP/1.1 409"), "does not run")
    box.request("POST", "/v1/machines/s/start")
    check(b"501" in raw(box, ask)[:20], "it has no agent")
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(box.sock)
    s.sendall(ask.replace(b"agent", b"console"))
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(1)
    check(head.startswith(b"HTTP/1.1 101"), head)
    time.sleep(0.1)  # until insula-vmm took us
    box.request("POST", "/v1/machines/s/reset")
    got = b""
    while b"up\n" not in got:
        got += s.recv(100)
    box.request("POST", "/v1/machines/s/stop")
    while s.recv(100):
        pass
    box.request("DELETE", "/v1/machines/s")


def read_events(s, buffer, want):
    """The events up to one of type @want."""
    events = []
    while True:
        while b"\n\n" in buffer[0]:
            part, buffer[0] = buffer[0].split(b"\n\n", 1)
            data = [line[6:] for line in part.split(b"\n") if line.startswith(b"data: ")]
            if data:
                events.append(json.loads(data[0]))
                if events[-1]["type"] == want:
                    return events
        chunk = s.recv(65536)
        check(chunk, "the stream ended")
        buffer[0] += chunk


def listen(box, query="", headers=""):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(box.sock)
    s.sendall(f"GET /v1/events{query} HTTP/1.1\r\n{headers}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += s.recv(1)
    check(b"text/event-stream" in head, head)
    return s


def test_events(box):
    s, buffer = listen(box), [b""]
    create(box, "e")
    box.request("POST", "/v1/machines/e/start")
    box.request("POST", "/v1/machines/e/pause")
    box.request("POST", "/v1/machines/e/stop")
    box.request("DELETE", "/v1/machines/e")
    events = read_events(s, buffer, "machine.deleted")
    types = [e["type"] for e in events if e["type"].startswith("machine")]
    check(types == ["machine.created", "machine.started", "machine.paused", "machine.stopped",
                    "machine.deleted"], types)
    ids = [e["id"] for e in events]
    check(ids == list(range(ids[0], ids[0] + len(ids))), ids)
    stopped = [e for e in events if e["type"] == "machine.stopped"][0]
    check(stopped["reason"] == "stop" and stopped["machine"]["name"] == "e", stopped)
    # Again from the middle, as a browser does when it lost the connection.
    again = listen(box, "", f"Last-Event-ID: {ids[2]}\r\n")
    check([e["id"] for e in read_events(again, [b""], "machine.deleted")] == ids[3:], "again")
    both = listen(box, "?after=0")
    check(read_events(both, [b""], "machine.deleted"), "from the oldest")
    for x in (s, again, both):
        x.close()


def test_roles(box):
    """Another user of the socket's group is an operator; one outside cannot connect."""
    if os.geteuid() != 0:
        return
    box.kill_daemon(15)
    for d in (box.top, box.run_dir):
        os.chmod(d, 0o755)
    p = subprocess.Popen([box.bin + "/insulad", "--group", "nogroup"], env=box.env)
    wait_for(box.daemon_pid, "insulad")
    code = ("import os, socket, sys\n"
            "os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "s.connect(sys.argv[1])\n"
            "s.sendall(b'GET /v1/info HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n')\n"
            "print(s.recv(100).split()[1].decode())\n")
    r = subprocess.run([sys.executable, "-c", code, box.sock, "65534"], capture_output=True,
                       text=True)
    check(r.stdout.strip() == "200", r)
    r = subprocess.run([sys.executable, "-c", code, box.sock, "65533"], capture_output=True,
                       text=True)
    check("PermissionError" in r.stderr, r)
    p.terminate()
    check(p.wait() == 0, "insulad's end")
    check(not os.path.exists(box.sock), "its socket")


def main():
    with Box(sys.argv[1]) as box:
        box.cli("list")
        for name, test in list(globals().items()):
            if name.startswith("test_") and (len(sys.argv) < 3 or sys.argv[2] in name):
                print(name, flush=True)
                test(box)
        box.kill_daemon(15)
        box.check_nothing_left()


main()
