# SPDX-License-Identifier: Apache-2.0
"""tests/container/registry.py - a registry on loopback, and images of busybox made without tools"""
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request

from oci import Skip, wait_for


def entry(name, data=b"", type=tarfile.REGTYPE, link="", mode=0o644, uid=0, **more):
    t = tarfile.TarInfo(name)
    t.type, t.linkname, t.mode, t.uid, t.size = type, link, mode, uid, len(data)
    t.mtime = 1700000000
    for k, v in more.items():
        setattr(t, k, v)
    return t, data


def layer(*entries):
    """A tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for t, data in entries:
            tar.addfile(t, io.BytesIO(data))
    return out.getvalue()


def directory(name, mode=0o755, **more):
    return entry(name, type=tarfile.DIRTYPE, mode=mode, **more)


def busybox_layer():
    path = shutil.which("busybox")
    if not path:
        raise Skip("no busybox")
    with open(path, "rb") as f:
        program = f.read()
    names = [n for n in subprocess.check_output([path, "--list"], text=True).split()
             if n != "busybox"]
    return layer(*[directory(d) for d in ("bin", "proc", "sys", "dev", "etc", "root", "run")],
                 directory("tmp", 0o1777), entry("bin/busybox", program, mode=0o755),
                 *[entry("bin/" + n, type=tarfile.SYMTYPE, link="busybox") for n in names],
                 entry("etc/passwd", b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"),
                 entry("etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"))


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    """Blobs, and the digest of the manifest."""

    def __init__(self, *layers, config=None, compress=True, diff_ids=None, arch="amd64"):
        self.blobs = {}
        pressed = [gzip.compress(x, 1, mtime=0) if compress else x for x in layers]
        body = {"os": "linux", "architecture": arch, "config": config or {},
                "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(x) for x in layers]}}
        self.config = self.put(json.dumps(body).encode())
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compress else "")
        self.layers = [dict(self.put(x), mediaType=kind) for x in pressed]
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": dict(self.config, mediaType="application/vnd.oci.image.config.v1+json"),
            "layers": self.layers}).encode()
        self.digest = digest(self.manifest)

    def put(self, data):
        self.blobs[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}


class Registry:
    """Debian's docker-registry, in a directory that the caller deletes."""

    def __init__(self, top, auth=False, tls=None):
        program = shutil.which("docker-registry")
        if not program:
            raise Skip("no docker-registry")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.host = "127.0.0.1:%d" % s.getsockname()[1]
        config = {"version": "0.1", "log": {"level": "error"},
                  "storage": {"filesystem": {"rootdirectory": top + "/registry"},
                              "delete": {"enabled": True}},
                  "http": {"addr": self.host}}
        self.headers = {}
        if tls:
            config["http"]["tls"] = {"certificate": tls + ".crt", "key": tls + ".key"}
        if auth:
            import base64
            import crypt
            with open(top + "/htpasswd", "w") as f:
                f.write("me:%s\n" % crypt.crypt("secret", "$2b$04$" + "a" * 21 + "u"))
            config["auth"] = {"htpasswd": {"realm": "test", "path": top + "/htpasswd"}}
            token = base64.b64encode(b"me:secret").decode()
            self.headers = {"Authorization": "Basic " + token}
            self.auth_file = top + "/auth.json"
            with open(self.auth_file, "w") as f:
                json.dump({"auths": {self.host: {"auth": token}}}, f)
        with open(top + "/registry.json", "w") as f:
            json.dump(config, f)
        with open(top + "/registry.log", "w") as log:
            self.process = subprocess.Popen([program, "serve", top + "/registry.json"],
                                            stdout=log, stderr=log)
        wait_for(self.answers, "the registry")

    def answers(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", int(self.host.split(":")[1])), 1).close()
            return True

    def close(self):
        self.process.kill()
        self.process.wait()

    def call(self, method, path, data=None, **headers):
        url = path if path.startswith("http") else "http://%s/v2/%s" % (self.host, path)
        q = urllib.request.Request(url, data, dict(self.headers, **headers), method=method)
        return urllib.request.urlopen(q)

    def push(self, image, name, tag):
        for d, data in image.blobs.items():
            place = self.call("POST", name + "/blobs/uploads/", b"").headers["Location"]
            self.call("PUT", place + "&digest=" + d, data,
                      **{"Content-Type": "application/octet-stream"})
        self.call("PUT", "%s/manifests/%s" % (name, tag), image.manifest,
                  **{"Content-Type": json.loads(image.manifest)["mediaType"]})
        return "%s/%s:%s" % (self.host, name, tag)

    def push_index(self, images, name, tag):
        """@images: (architecture, image)..."""
        entries = []
        for arch, image in images:
            self.push(image, name, arch)
            entries.append({"mediaType": "application/vnd.oci.image.manifest.v1+json",
                            "digest": image.digest, "size": len(image.manifest),
                            "platform": {"os": "linux", "architecture": arch}})
        body = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": entries}
        self.call("PUT", "%s/manifests/%s" % (name, tag), json.dumps(body).encode(),
                  **{"Content-Type": body["mediaType"]})
        return "%s/%s:%s" % (self.host, name, tag)
