#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/daemon/remote.py INSULA - insulad over TCP: TLS, tokens, roles; by curl, by our command, and by
clients that mean no good"""
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

from box import Box, PATIENCE, check, wait_for


def certificate(box):
    """A key and a certificate for 127.0.0.1 that it signed itself."""
    pem = box.top + "/tls.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=insulad", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", box.top + "/key", "-out",
                    box.top + "/ca"], check=True, capture_output=True)
    with open(pem, "w") as f:
        f.write(open(box.top + "/key").read() + open(box.top + "/ca").read())
    return pem


def free_port():
    s = socket.create_server(("127.0.0.1", 0))
    with s:
        return s.getsockname()[1]


def answers(box):
    try:
        socket.create_connection(("127.0.0.1", box.port)).close()
        return True
    except ConnectionRefusedError:
        return False


def listen(box):
    box.port = free_port()
    box.url = f"https://127.0.0.1:{box.port}"
    p = subprocess.Popen([box.bin + "/insulad", "--listen", f"127.0.0.1:{box.port}", "--tls",
                          box.top + "/tls.pem"], env=box.env)
    wait_for(box.daemon_pid, "insulad")
    wait_for(lambda: answers(box), "its port")
    return p


def curl(box, path, token=None, *options, method="GET"):
    """Status and body."""
    headers = ["-H", f"Authorization: Bearer {token}"] if token else []
    r = subprocess.run(["curl", "-s", "--cacert", box.top + "/ca", "-X", method, "-w", "\n%{http_code}",
                        *headers, *options, box.url + path], capture_output=True, text=True,
                       timeout=PATIENCE)
    check(r.returncode == 0, "curl", r)
    body, status = r.stdout.rsplit("\n", 1)
    return int(status), json.loads(body) if body else None


def far(box, *args, token=None, status=0, **env):
    """Our command, against that insulad."""
    more = {"INSULA_HOST": box.url, "INSULA_CA": box.top + "/ca", "XDG_CONFIG_HOME": box.top + "/config",
            **({"INSULA_TOKEN": token} if token else {}), **env}
    r = subprocess.run([box.insula_path, *args], env={**box.env, **more}, capture_output=True, text=True,
                       stdin=subprocess.DEVNULL, timeout=PATIENCE)
    check(r.returncode == status, args, "- status", r.returncode, "not", status, r.stderr)
    return r.stdout if status == 0 else r.stderr


def test_tokens(box):
    """They are shown once, kept as hashes, and last over an insulad."""
    box.tokens = {role: box.cli("token", "create", "--role", role, "t-" + role).strip()
                  for role in ("viewer", "operator", "admin")}
    check(len(set(box.tokens.values())) == 3 and
          all(t.startswith("insula_") and len(t) == 71 for t in box.tokens.values()), box.tokens)
    box.cli("token", "create", "t-admin", status=121)
    box.cli("token", "create", "--role", "king", "x", status=110)
    box.cli("token", "create", "--expires", "soon", "x", status=110)
    listed = json.loads(box.cli("token", "list", "--json"))
    check([(t["name"], t["role"]) for t in listed] ==
          [("t-admin", "admin"), ("t-operator", "operator"), ("t-viewer", "viewer")], listed)
    everything = b"".join(open(f"{box.data}/insula.db{x}", "rb").read() for x in ("", "-wal"))
    check(not any(t.encode() in everything or t[7:].encode() in everything
                  for t in box.tokens.values()), "a token is in the store")


def test_curl(box):
    check(curl(box, "/v1/info")[0] == 401, "no token")
    check(curl(box, "/v1/openapi.json")[0] == 401, "no token")
    status, o = curl(box, "/v1/info", "insula_" + 64 * "0")
    check(status == 401 and "not known" in o["error"]["message"], o)
    for wrong in (box.tokens["viewer"][:-1], box.tokens["viewer"] + "0", "", "x" * 5000):
        check(curl(box, "/v1/info", wrong)[0] == 401, wrong)
    for role in box.tokens.values():
        check(curl(box, "/v1/info", role)[0] == 200, role)
    check(curl(box, "/v1/openapi.json", box.tokens["viewer"])[0] == 200, "the document")


def test_roles(box):
    """As the table of operations says it."""
    body = ["-d", json.dumps({"name": "m", "config": {"kernel": box.kernel("idle"), "memory": 32 << 20,
                                                    "engine": "soft", "net": "none", "board": "micro"}})]
    status, o = curl(box, "/v1/machines", box.tokens["viewer"], *body, method="POST")
    check(status == 403 and "operator" in o["error"]["message"], status, o)
    check(curl(box, "/v1/machines", box.tokens["operator"], *body, method="POST")[0] == 202, "operator")
    wait_for(lambda: curl(box, "/v1/machines?all", box.tokens["viewer"])[1]["machines"], "m")
    check(curl(box, "/v1/machines/m/start", box.tokens["viewer"], method="POST")[0] == 403, "viewer")
    check(curl(box, "/v1/tokens", box.tokens["operator"])[0] == 403, "operator")
    check(curl(box, "/v1/tokens", box.tokens["admin"])[0] == 200, "admin")


def test_command(box):
    """Our own, with what it needs from the environment, an option and a file."""
    check("m " in far(box, "list", "--all", token=box.tokens["viewer"]), "list")
    check("operator" in far(box, "start", "m", token=box.tokens["viewer"], status=125), "role")
    far(box, "start", "m", token=box.tokens["operator"])
    wait_for(lambda: far(box, "logs", "m", token=box.tokens["viewer"]) == "up\n", "its log")
    check("no token" in far(box, "list", status=125), "no token")
    check("not known" in far(box, "list", token="wrong", status=125), "a wrong one")
    check("$INSULA_CA" in far(box, "list", token=box.tokens["viewer"], status=125, INSULA_CA=""),
          "the system does not trust it")
    os.makedirs(box.top + "/config/insula")
    with open(box.top + "/config/insula/hosts.json", "w") as f:
        json.dump({"lab": {"url": box.url, "token": box.tokens["admin"], "ca": box.top + "/ca"}}, f)
    none = {"INSULA_HOST": "", "INSULA_CA": ""}
    check("t-admin" in far(box, "--host", "lab", "token", "list", **none), "by its name")
    check("neither" in far(box, "--host", "nosuch", "list", status=125, **none), "no such name")
    # A stream, of which each direction ends by itself: the console's log, asked by hand.
    p = subprocess.Popen([box.insula_path, "--host", "lab", "events", "--json"], stdout=-1, text=True,
                         env={**box.env, "XDG_CONFIG_HOME": box.top + "/config"})
    time.sleep(0.5)
    far(box, "pause", "m", token=box.tokens["operator"])
    check(json.loads(p.stdout.readline())["type"] == "machine.paused", "events come")
    p.kill()
    p.wait()


def test_trust(box):
    """A server that is another's is told nothing."""
    other = box.top + "/other"
    os.mkdir(other)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=other", "-keyout", other + "/key", "-out",
                    other + "/ca"], check=True, capture_output=True)
    check("$INSULA_CA" in far(box, "list", token=box.tokens["viewer"], status=125,
                              INSULA_CA=other + "/ca"), "another's")
    # Its certificate is for an address only.
    check("$INSULA_CA" in far(box, "list", token=box.tokens["viewer"], status=125,
                              INSULA_HOST=f"https://localhost:{box.port}"), "another name")


def test_expiry(box):
    token = box.cli("token", "create", "--role", "viewer", "--expires", "2s", "short").strip()
    check(curl(box, "/v1/info", token)[0] == 200, "not yet")
    wait_for(lambda: curl(box, "/v1/info", token)[0] == 401, "its end")
    check([t["expired"] for t in json.loads(box.cli("token", "list", "--json")) if t["name"] == "short"] ==
          [True], "it is listed so")
    box.cli("token", "revoke", "short")
    box.cli("token", "revoke", "short", status=120)


def test_revoke(box):
    """On a connection that stays, too."""
    token = box.cli("token", "create", "--role", "viewer", "gone").strip()
    s = tls(box)
    ask = f"GET /v1/info HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    s.sendall(ask)
    check(s.recv(65536).startswith(b"HTTP/1.1 200"), "known")
    box.cli("token", "revoke", "gone")
    s.sendall(ask)
    check(s.recv(65536).startswith(b"HTTP/1.1 401"), "known no more")
    s.close()


def tls(box):
    context = ssl.create_default_context(cafile=box.top + "/ca")
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", box.port), timeout=PATIENCE),
                            server_hostname="127.0.0.1")
    return s


def test_in_the_clear(box):
    """Refused, before anything is said."""
    r = subprocess.run(["curl", "-s", f"http://127.0.0.1:{box.port}/v1/info"], capture_output=True)
    check(r.returncode != 0 and b"version" not in r.stdout, r)
    for junk in (b"GET /v1/info HTTP/1.1\r\n\r\n", bytes(range(256)) * 64, b"\x16\x03\x01\xff\xff" + bytes(70000)):
        s = socket.create_connection(("127.0.0.1", box.port), timeout=PATIENCE)
        try:
            s.sendall(junk)
            while chunk := s.recv(65536):
                check(b"HTTP" not in chunk, chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass
        s.close()


def test_in_pieces(box):
    """Two requests in one connection, byte by byte; more than fits in any buffer; cut off in between."""
    s = tls(box)
    ask = f"GET /v1/info HTTP/1.1\r\nAuthorization: Bearer {box.tokens['viewer']}\r\n\r\n".encode()
    for c in ask:
        s.sendall(bytes([c]))
    s.sendall(ask)
    got = b""
    while got.count(b"HTTP/1.1 200") < 2:
        got += s.recv(65536)
    s.close()
    for cut in (1, 10, len(ask) - 1):
        s = tls(box)
        s.sendall(ask[:cut])
        s.unwrap() if cut == 10 else s.close()
    # Many that only connect: the others are still served.
    idle = [socket.create_connection(("127.0.0.1", box.port)) for _ in range(40)]
    check(curl(box, "/v1/info", box.tokens["viewer"])[0] == 200, "served")
    for s in idle:
        s.close()
    body = json.dumps({"name": "x" * (900 << 10), "role": "viewer"})
    with open(box.top + "/body", "w") as f:
        f.write(body)
    check(curl(box, "/v1/tokens", box.tokens["admin"], "-d", "@" + box.top + "/body", method="POST")[0]
          == 400, "a long body")


def test_options(box):
    for args in (["--listen", "127.0.0.1:1"], ["--tls", box.top + "/tls.pem"]):
        r = subprocess.run([box.bin + "/insulad", *args], env=box.env, capture_output=True, text=True)
        check(r.returncode == 110 and "need each other" in r.stderr, r)


def guest(box):
    """A real one: streams both ways over TLS, each direction's end by itself."""
    box.tokens = {"operator": box.cli("token", "create", "o").strip()}
    env = {**box.env, "INSULA_HOST": box.url, "INSULA_CA": box.top + "/ca",
           "INSULA_TOKEN": box.tokens["operator"]}
    box.cli("create", "--name", "m", "--engine", "jit", "--start", "deb:bookworm")
    data = os.urandom(3 << 20)
    r = subprocess.run([box.insula_path, "exec", "m", "--", "md5sum"], env=env, input=data,
                       capture_output=True, timeout=PATIENCE)
    check(r.returncode == 0 and r.stdout.split()[0].decode() == hashlib.md5(data).hexdigest(), r)
    r = subprocess.run([box.insula_path, "exec", "m", "--", "sh", "-c", "head -c 3000000 /dev/zero; exit 7"],
                       env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    check(r.returncode == 7 and r.stdout == bytes(3000000), r.returncode, len(r.stdout))


def main():
    with Box(sys.argv[1]) as box:
        certificate(box)
        if sys.argv[2:] == ["guest"]:
            p = listen(box)
            guest(box)
            box.cli("delete", "--force", "m")
            p.terminate()
            check(p.wait() == 0, "its end")
            return
        p = listen(box)
        for name, test in list(globals().items()):
            if name.startswith("test_") and (len(sys.argv) < 3 or sys.argv[2] in name):
                print(name, flush=True)
                test(box)
                check(p.poll() is None, "insulad ended")
        # What was made is there for the next one.
        p.send_signal(signal.SIGKILL)
        p.wait()
        p = listen(box)
        check(curl(box, "/v1/info", box.tokens["viewer"])[0] == 200, "after kill -9")
        box.cli("delete", "--force", "m")
        p.terminate()
        check(p.wait() == 0, "its end")


main()
