#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/container/images.py INSULA CASE - images of registries: pull, push, save, load, and hostile ones"""
import gzip
import http.server
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading

from oci import SKIP, Skip, expect, wait_for
from registry import Image, Registry, busybox_layer, digest, directory, entry, layer

insula = os.path.abspath(sys.argv[1])
CASES = {}
OCI = "application/vnd.oci.image.manifest.v1+json"


def case(fn):
    CASES[fn.__name__] = fn
    return fn


class Place:
    """A cache of its own."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="insula-images-test.")
        self.env = dict(os.environ, XDG_CACHE_HOME=self.top + "/cache",
                        XDG_DATA_HOME=self.top + "/data")
        self.env["REGISTRY_AUTH_FILE"] = self.top + "/none"

    def call(self, *args, status=0, words=""):
        r = subprocess.run([insula, *args], env=self.env, capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=100)
        expect(r.returncode == status, args, "status", r.returncode, r.stderr)
        expect(words in r.stderr, "no", words, "in", r.stderr)
        return r.stdout

    def pull(self, ref, **kw):
        return self.call("image", "pull", ref, **kw)

    def ids(self):
        return self.call("image", "list", "--ids").split()

    def store(self, kind):
        return sorted(os.listdir(self.top + "/cache/insula/oci/" + kind))

    def layer(self, tar, name=""):
        return "%s/cache/insula/oci/layers/%s/fs/%s" % (self.top, digest(tar)[7:], name)

    def close(self):
        shutil.rmtree(self.top, ignore_errors=True)


class Server(http.server.ThreadingHTTPServer):
    """One image, as a registry would give it; @stall: bytes of a blob after which it waits."""

    daemon_threads = True

    def __init__(self, image, stall=None, change=None):
        self.image, self.stall, self.change, self.ranges = image, stall, change, []
        super().__init__(("127.0.0.1", 0), Answer)
        self.ref = "127.0.0.1:%d/x:1" % self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        s = self.server
        what = self.path.rsplit("/", 1)[1]
        data = s.image.manifest if "/manifests/" in self.path else s.image.blobs[what]
        if s.change and what in s.change:
            data = s.change[what]
        at = 0
        if "Range" in self.headers:
            s.ranges.append(self.headers["Range"])
            at = int(self.headers["Range"][6:].rstrip("-"))
        self.send_response(206 if at else 200)
        self.send_header("Content-Length", str(len(data) - at))
        self.end_headers()
        data = data[at:]
        if s.stall is not None and len(data) > s.stall:
            self.wfile.write(data[:s.stall])
            self.wfile.flush()
            threading.Event().wait()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@case
def pull(p):
    """From a registry with a password, pushed elsewhere, removed with all content."""
    registry = Registry(p.top, auth=True)
    try:
        image = Image(busybox_layer(), layer(entry("etc/second", b"two\n")))
        ref = registry.push(image, "some/box", "1")
        p.pull(ref, status=111, words="asks for a login")
        p.env["REGISTRY_AUTH_FILE"] = registry.auth_file
        expect(p.pull(ref).strip() == image.digest)
        other = registry.host + "/other:2"
        p.call("image", "push", ref, other)
        expect(json.load(registry.call("GET", "other/manifests/2", Accept=OCI))["config"]["digest"]
               == image.config["digest"])
        p.call("image", "remove", ref)
        expect(p.ids() == [] and p.store("blobs") == [] and p.store("layers") == [])
        p.pull("%s/other@%s" % (registry.host, image.digest))
        expect(len(p.store("layers")) == 2)
        p.pull(registry.host + "/nothing:1", status=111, words="status 404")
    finally:
        registry.close()


@case
def helpers(p):
    """Credentials out of a program: of this registry alone before the file's, of all after."""
    registry = Registry(p.top, auth=True)
    try:
        ref = registry.push(Image(busybox_layer()), "some/box", "1")
        os.mkdir(p.top + "/bin")
        program = p.top + "/bin/docker-credential-of-ours"
        with open(program, "w") as f:
            f.write("#!/bin/sh\nread server\n[ \"$1 $server\" = \"get %s\" ] || exit 1\n"
                    "echo '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"secret\"}'\n"
                    % registry.host)
        os.chmod(program, 0o755)
        p.env["PATH"] = p.top + "/bin:" + p.env["PATH"]
        p.env["REGISTRY_AUTH_FILE"] = p.top + "/helpers.json"

        def write(**content):
            with open(p.top + "/helpers.json", "w") as f:
                json.dump(content, f)

        wrong = {"auths": {registry.host: {"auth": "bWU6d3Jvbmc="}}}  # me:wrong
        write(credsStore="of-ours", **wrong)
        p.pull(ref, status=111, words="401")
        write(credHelpers={registry.host: "of-ours"}, **wrong)
        p.pull(ref)
        p.call("image", "remove", ref)
        write(credsStore="of-ours")
        p.pull(ref)
        p.call("image", "remove", ref)
        for helper in ("../of-ours", "nobody-has-it", ""):
            write(credsStore=helper)
            p.pull(ref, status=111, words="asks for a login")
    finally:
        registry.close()


@case
def build(p):
    """A Containerfile, with buildah; its faults are told, and nothing is left of either."""
    if not shutil.which("buildah"):
        raise Skip("no buildah")
    os.mkdir(p.top + "/context")
    shutil.copy(shutil.which("busybox"), p.top + "/context/busybox")

    def write(*lines):
        with open(p.top + "/context/Containerfile", "w") as f:
            f.write("\n".join(("FROM scratch", "COPY busybox /bin/busybox", *lines)) + "\n")

    run = 'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; echo $WHAT >/file"]'
    p.env.pop("REGISTRY_AUTH_FILE")  # buildah wants one that is named to be there
    write("ARG WHAT=nothing", run, 'ENV PATH=/bin', 'CMD ["cat", "/file"]')
    out = p.call("build", "--tag", "mine:2", "--build-arg", "WHAT=built", p.top + "/context",
                 words="STEP 3/6")
    expect(out == "localhost/mine:2\n", out)
    expect(p.call("run", "--net", "none", "localhost/mine:2") == "built\n")
    write('RUN ["/bin/busybox", "false"]')
    p.call("build", "--tag", "bad", p.top + "/context", status=111)
    p.call("build", "--tag", "bad", p.top + "/nowhere", status=111)
    p.call("build", p.top + "/context", status=110)
    expect(os.listdir(p.top + "/cache/insula/tmp") == [])
    expect(p.ids() and "bad" not in p.call("image", "list"))
    with open("/proc/self/mountinfo") as f:
        expect(p.top not in f.read())


@case
def policy(p):
    """What the policy of containers rejects is not even asked for."""
    server = Server(Image(busybox_layer()))
    p.env["XDG_CONFIG_HOME"] = p.top + "/config"
    os.makedirs(p.top + "/config/containers")

    def write(scopes, default="reject"):
        with open(p.top + "/config/containers/policy.json", "w") as f:
            json.dump({"default": [{"type": default}], "transports": {"docker": {
                k: [{"type": v}] for k, v in scopes.items()}}}, f)

    write({})
    p.pull(server.ref, status=111, words="policy.json: the policy of images rejects it")
    expect(p.store("blobs") == [] and p.store("refs") == [])
    host = server.ref.split("/")[0]
    write({host: "signedBy"}, default="insecureAcceptAnything")
    p.pull(server.ref, status=111, words="asks for signedBy")
    write({host: "insecureAcceptAnything"})
    p.pull(server.ref)
    saved = p.top + "/saved.tar"
    p.call("image", "save", "--output", saved, server.ref)
    p.call("image", "load", saved, status=111, words="rejects")
    with open(p.top + "/config/containers/policy.json", "w") as f:
        f.write("{")
    p.pull(server.ref, status=111, words="not JSON")


@case
def https(p):
    """A name that is not loopback's: HTTPS, with the authority of /etc/containers/certs.d or none."""
    if "HTTPS" not in os.environ:
        os.makedirs(p.top + "/certs.d")
        with open(p.top + "/hosts", "w") as f:
            f.write("127.0.0.1 registry.test other.test\n")
        script = ("mkdir -p /etc/containers/certs.d; mount --bind %s/certs.d /etc/containers/certs.d;"
                  'touch /etc/hosts; mount --bind %s/hosts /etc/hosts; exec "$@"' % (p.top, p.top))
        r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", sys.executable, *sys.argv],
                           env=dict(os.environ, HTTPS="1"))
        if r.returncode == SKIP:
            raise Skip("see above")
        expect(r.returncode == 0)
        return
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", p.top + "/t.key", "-out", p.top + "/t.crt", "-days", "1",
                    "-subj", "/CN=registry.test", "-addext", "subjectAltName=DNS:registry.test"],
                   check=True, capture_output=True)
    registry = Registry(p.top, tls=p.top + "/t")
    try:
        port = registry.host.split(":")[1]
        image = Server(Image(layer(entry("a", b"1"))))
        p.pull(image.ref)
        ref = "registry.test:%s/a:1" % port
        p.call("image", "push", image.ref, ref, status=111, words="certificate")
        for host in "registry.test", "other.test":
            os.makedirs("/etc/containers/certs.d/%s:%s" % (host, port))
            shutil.copy(p.top + "/t.crt", "/etc/containers/certs.d/%s:%s/ca.crt" % (host, port))
        p.call("image", "push", image.ref, ref)
        expect(p.pull(ref).strip() == image.image.digest)
        # Its certificate is for another name.
        p.pull("other.test:%s/a:1" % port, status=111, words="registry other.test")
    finally:
        registry.close()


@case
def platforms(p):
    registry = Registry(p.top)
    try:
        amd = Image(layer(entry("a", b"amd")))
        arm = Image(layer(entry("a", b"arm")), arch="arm64")
        ref = registry.push_index([("arm64", arm), ("amd64", amd)], "multi", "1")
        expect(p.pull(ref).strip() == amd.digest)
        expect(p.call("image", "pull", "--platform", "linux/arm64", ref).strip() == arm.digest)
        p.call("image", "pull", "--platform", "linux/riscv64", ref, status=111, words="none is for")
        p.pull(registry.host + "/multi:arm64", status=111, words="is for linux/arm64")
    finally:
        registry.close()


@case
def shared_layers(p):
    """What two images have in common is there once, and stays until both are gone."""
    base, top = layer(entry("base", b"1")), layer(entry("top", b"2"))
    one, two = Server(Image(base)), Server(Image(base, top))
    p.pull(one.ref)
    p.pull(two.ref)
    expect(len(p.store("layers")) == 2)
    p.call("image", "remove", two.ref)
    expect(p.store("layers") == [digest(base)[7:]])
    p.call("image", "remove", one.ref)
    expect(p.store("layers") == [])


@case
def kill_and_resume(p):
    """kill -9 in the middle of a layer: the next pull asks for the rest alone."""
    data = os.urandom(3 << 20)
    image = Image(layer(entry("data", data)), layer(entry("small", b"x")))
    server = Server(image, stall=1 << 20)
    client = subprocess.Popen([insula, "image", "pull", server.ref], env=p.env,
                              stderr=subprocess.DEVNULL)
    part = p.top + "/cache/insula/oci/partial/" + image.layers[0]["digest"][7:]
    wait_for(lambda: os.path.exists(part) and os.path.getsize(part) >= 1 << 20, "a megabyte")
    client.send_signal(signal.SIGKILL)
    client.wait()
    expect(p.ids() == [])
    server.stall = None
    p.pull(server.ref)
    expect("bytes=%d-" % (1 << 20) in server.ranges, server.ranges)
    with open(p.layer(layer(entry("data", data)), "data"), "rb") as f:
        expect(f.read() == data)
    expect(p.store("partial") == [])


@case
def bad_part(p):
    """A part that is damaged is no part: all of it comes again."""
    image = Image(layer(entry("data", os.urandom(100000))))
    server = Server(image)
    os.makedirs(p.top + "/cache/insula/oci/partial")
    part = p.top + "/cache/insula/oci/partial/" + image.layers[0]["digest"][7:]
    with open(part, "wb") as f:
        f.write(b"?" * 5000)
    p.pull(server.ref)
    expect(server.ranges == ["bytes=5000-"], server.ranges)


@case
def killed_unpacking(p):
    """kill -9 at any time of a pull leaves nothing that the next one stumbles over."""
    tar = layer(*[entry("f%d" % i, b"x" * 3000) for i in range(3000)])
    server = Server(Image(tar))
    for delay in range(1, 9):
        client = subprocess.Popen([insula, "image", "pull", server.ref], env=p.env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client.wait(delay * 0.03)
        except subprocess.TimeoutExpired:
            client.kill()
            client.wait()
    p.pull(server.ref)
    expect(len(os.listdir(p.layer(tar))) == 3000)
    p.call("image", "prune")
    expect(os.listdir(p.top + "/cache/insula/tmp") == [])


@case
def wrong_content(p):
    tar = layer(entry("a", b"1"))
    image = Image(tar)
    blob = image.layers[0]["digest"]
    changed = bytearray(image.blobs[blob])
    changed[-1] ^= 1
    server = Server(image, change={blob: bytes(changed)})
    p.pull(server.ref, status=111, words="is another")
    server.change = {blob: image.blobs[blob] + b"more"}
    p.pull(server.ref, status=111, words="sends more")
    server.change = {"1": image.manifest.replace(b"{", b"[", 1)}
    p.pull(server.ref, status=111, words="manifest")
    server.change = None
    p.pull(server.ref)
    p.pull(Server(Image(tar, diff_ids=[digest(b"?")])).ref, status=111, words="configuration says")
    p.pull(Server(Image(tar, diff_ids=[digest(tar)] * 2)).ref, status=111, words="has 1 layers")


@case
def archives(p):
    """Saved, loaded again; loaded by buildah's kind of tools; and what `docker save` once wrote."""
    base, top = busybox_layer(), layer(entry("etc/second", b"two\n"))
    image = Image(base, top)
    ref = Server(image).ref
    p.pull(ref)
    saved = p.top + "/saved.tar"
    p.call("image", "save", "--output", saved, ref)
    p.call("image", "remove", ref)
    expect(p.call("image", "load", saved).strip() == ref)
    expect(json.loads(p.call("image", "inspect", ref))["digest"] == image.digest)
    p.call("image", "remove", ref)
    # manifest.json alone, its layers not compressed, one of them a link to another.
    old = p.top + "/old.tar"
    config = image.blobs[image.config["digest"]]
    config = json.loads(config)
    config["rootfs"]["diff_ids"] = [digest(base), digest(top), digest(top)]
    manifest = [{"Config": "c.json", "RepoTags": ["old/name:3"],
                 "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]
    with open(old, "wb") as f:
        f.write(layer(entry("c.json", json.dumps(config).encode()), entry("a/layer.tar", base),
                      entry("b/layer.tar", top),
                      entry("c/layer.tar", type=tarfile.SYMTYPE, link="../b/layer.tar"),
                      entry("manifest.json", json.dumps(manifest).encode())))
    expect(p.call("image", "load", old).strip() == "docker.io/old/name:3")
    with open(p.layer(top, "etc/second")) as f:
        expect(f.read() == "two\n")
    with open(old, "r+b") as f:
        f.truncate(100000)
    p.call("image", "load", old, status=111, words="old.tar")
    # Blobs that are not what they are called.
    with tarfile.open(saved) as t:
        files = [(m.name, t.extractfile(m).read()) for m in t]
    bad = p.top + "/bad.tar"
    with open(bad, "wb") as f:
        f.write(layer(*[entry(n, d + b" " if n.startswith("blobs/") else d) for n, d in files]))
    p.call("image", "remove", "old/name:3")
    p.call("image", "load", bad, status=111, words="is another")


def hostile(p, *entries, status=111, words=""):
    tar = layer(*entries)
    p.pull(Server(Image(tar)).ref, status=status, words=words)
    return tar


@case
def layer_names(p):
    """Names that lead out lead nowhere, or are refused."""
    out = p.top + "/outside"
    hostile(p, entry("../../../../../../../.." + out, b"bad"), words="leads up")
    hostile(p, entry("a/../../b", b"bad"), words="leads up")
    tar = hostile(p, entry(out, b"in"), status=0)
    expect(os.path.exists(p.layer(tar, out.lstrip("/"))) and not os.path.exists(out))
    hostile(p, entry(".wh..", b""), words=".wh..")
    hostile(p, entry(".wh...", b""), words=".wh...")
    hostile(p, entry("/".join(["d"] * 300), b""), words="d/d")


@case
def layer_links(p):
    """Symbolic links in the way lead inside the layer only, hard links to files of the layer only."""
    out = p.top + "/outside"
    os.mkdir(out)
    with open(out + "/secret", "w") as f:
        f.write("secret")
    link = entry("link", type=tarfile.SYMTYPE, link=out)
    up = entry("up", type=tarfile.SYMTYPE, link="../../../../../../../.." + out)
    for name, l in ("link", link), ("up", up):
        tar = hostile(p, l, entry(name + "/new", b"x"), status=0)
        expect(os.listdir(out) == ["secret"], os.listdir(out))
        with open(p.layer(tar, out.lstrip("/") + "/new")) as f:
            expect(f.read() == "x")
    hostile(p, link, entry("h", type=tarfile.LNKTYPE, link="link/secret"), words="'h'")
    hostile(p, entry("h", type=tarfile.LNKTYPE, link=out + "/secret"), words="'h'")
    hostile(p, entry("h", type=tarfile.LNKTYPE, link="../../etc/passwd"), words="'h'")
    hostile(p, link, directory("link/secret"), entry("link/.wh.secret"), status=0)
    # A link in the place of a file that is then written.
    file = entry("f", type=tarfile.SYMTYPE, link=out + "/secret")
    tar = hostile(p, file, entry("f", b"new"), status=0)
    with open(out + "/secret") as f:
        expect(f.read() == "secret")
    expect(stat.S_ISREG(os.lstat(p.layer(tar, "f")).st_mode))
    expect(os.stat(out + "/secret").st_nlink == 1)


@case
def layer_signs(p):
    """No device nodes, and no signs of overlayfs that the archive itself brings."""
    tar = hostile(p, entry("disk", type=tarfile.BLKTYPE, devmajor=8),
                  entry("hidden", type=tarfile.CHRTYPE),
                  directory("d", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y",
                                              "SCHILY.xattr.trusted.overlay.redirect": "/etc",
                                              "SCHILY.xattr.user.kept": "k"}),
                  entry("gone/.wh.x"), entry("emptied/.wh..wh..opq"), status=0)
    expect(not os.path.lexists(p.layer(tar, "disk")) and not os.path.lexists(p.layer(tar, "hidden")))
    names = [n for n in os.listxattr(p.layer(tar, "d")) if n.startswith("trusted.overlay")]
    expect(names == [], names)
    st = os.lstat(p.layer(tar, "gone/x"))
    expect(stat.S_ISCHR(st.st_mode) and st.st_rdev == 0)
    if os.geteuid() == 0:
        expect(os.getxattr(p.layer(tar, "emptied"), "trusted.overlay.opaque") == b"y")


@case
def bomb(p):
    """16 MiB of zeroes in gzip, a hundred times: refused before the disk is full."""
    image = Image(layer(entry("x", b"")))
    part = gzip.compress(bytes(16 << 20), 9, mtime=0)
    head = tarfile.TarInfo("zeroes")
    head.size = 100 * (16 << 20)
    data = gzip.compress(head.tobuf(), 9, mtime=0) + part * 100
    old = image.layers[0]
    image.manifest = image.manifest.replace(old["digest"].encode(), digest(data).encode()).replace(
        b'"size": %d' % old["size"], b'"size": %d' % len(data))
    image.blobs[digest(data)] = data
    p.pull(Server(image).ref, status=111, words="decompression bomb")
    expect(p.store("layers") == [])


def main(wanted):
    if wanted not in CASES:
        sys.exit("no case '%s'; there are: %s" % (wanted, " ".join(CASES)))
    if os.geteuid() != 0:
        print("skipped: needs root")
        return SKIP
    place = Place()
    try:
        CASES[wanted](place)
    except Skip as e:
        print("skipped:", e)
        return SKIP
    finally:
        place.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[2]))
