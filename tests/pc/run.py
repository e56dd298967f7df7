#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/pc/run.py INSULA [CASE...] - whole PCs: firmware, discs, screen and keyboard, as a person
sees them

Without CASE the quick ones; --all: the long ones, too, which need KERNELS (the folder that
tests/kernels/fetch filled), or make a disk with mmdebstrap and keep it in CACHE. Exit status 77: what a
case needs is not installed.
"""
import json, os, re, select, shutil, signal, socket, struct, subprocess, sys, tempfile, time, zlib
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vnc

INSULA = os.path.abspath(sys.argv[1])
KERNELS = os.path.abspath(os.environ.get("KERNELS", "build/kernels"))
CACHE = os.path.abspath(os.environ.get("CACHE", "build/pc"))  # the Debian disk is kept there
ENGINE = os.environ.get("ENGINE", "soft")
PATIENCE = float(os.environ.get("PATIENCE", "240"))
HOURS = float(os.environ.get("HOURS", "7200"))  # for what takes long anywhere
RESCUE = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"
temp = tempfile.mkdtemp(prefix="insula-pc-")
env = dict(os.environ, XDG_DATA_HOME=temp, LC_ALL="C.UTF-8")
env["PATH"] += ":/usr/sbin:/sbin"


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def check(good, *what):
    if not good:
        raise Failed(" ".join(str(w) for w in what))


def need(*paths):
    for p in paths:
        if not os.path.exists(p) and not shutil.which(p, path=env["PATH"]):
            raise Skipped(f"{p} is not there")


def tool(*args, **more):
    r = subprocess.run([str(a) for a in args], env=env, capture_output=True, **more)
    check(r.returncode == 0, args, "status", r.returncode, r.stderr[-1000:])
    return r.stdout


class Machine:
    count = 0

    def __init__(self, *options, memory="256M", display=(), name=None):
        Machine.count += 1
        self.name = name or f"pc{os.getpid()}x{Machine.count}"
        self.serial = b""
        self.p = subprocess.Popen([INSULA, "run", "--engine", ENGINE, "--name", self.name, "--memory",
                                   memory, *display, *options], env=env, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.set_blocking(self.p.stdout.fileno(), False)
        end = time.time() + 30
        while not os.path.islink(f"{temp}/insula/machines/{self.name}/control"):
            check(self.p.poll() is None, "ended at once:", self.p.stderr.read() if self.p.poll() else "")
            check(time.time() < end, "no control socket")
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.p.send_signal(signal.SIGTERM)
        try:
            self.p.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.communicate()

    def kill(self):
        """The machine's process, as a power cut would end it."""
        children = open(f"/proc/{self.p.pid}/task/{self.p.pid}/children").read().split()
        check(len(children) == 1, "children", children)
        os.kill(int(children[0]), signal.SIGKILL)
        self.p.communicate(timeout=30)

    def insula(self, command, *args):
        r = subprocess.run([INSULA, command, *args], env=env, capture_output=True, timeout=60)
        return r.returncode, r.stdout.decode(), r.stderr.decode()

    def text(self):
        status, out, _ = self.insula("screenshot", "--text", self.name)
        return out if status == 0 else ""

    def png(self):
        path = os.path.join(temp, "screen.png")
        status, _, err = self.insula("screenshot", self.name, path)
        check(status == 0, "screenshot:", err)
        return read_png(path)

    def keys(self, *keys):
        status, _, err = self.insula("keys", self.name, *keys)
        check(status == 0, "keys:", err)

    def type(self, text):
        status, _, err = self.insula("type", self.name, text)
        check(status == 0, "type:", err)

    def read_serial(self):
        try:
            self.serial += self.p.stdout.read() or b""
        except BlockingIOError:
            pass
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.serial.decode("latin-1"))

    def wait(self, what, pattern, read, patience):
        end = time.time() + (patience or PATIENCE)
        while not re.search(pattern, read()):
            check(self.p.poll() is None, "the machine ended, status", self.p.poll(), "before", pattern,
                  self.serial[-800:], self.p.stderr.read()[-800:] if self.p.poll() is not None else "")
            check(time.time() < end, "no", pattern, "on", what, "which has:", read()[-2000:])
            time.sleep(0.2)

    def wait_text(self, pattern, patience=None):
        self.wait("the screen", pattern, self.text, patience)

    def wait_serial(self, pattern, patience=None):
        self.wait("the serial line", pattern, self.read_serial, patience)

    def end(self, patience=60):
        out, err = self.p.communicate(timeout=patience)
        self.serial += out
        return self.p.returncode


def read_png(path):
    """Rows of RGB bytes; 8 bits, no interlace: what insula and browsers write."""
    data, at, packed = open(path, "rb").read(), 8, b""
    check(data[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG")
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            width, height, depth, color, _, _, lace = struct.unpack(">IIBBBBB", data[at + 8:at + 8 + n])
        elif kind == b"IDAT":
            packed += data[at + 8:at + 8 + n]
        at += 12 + n
    check((depth, color in (2, 6), lace) == (8, True, 0), "PNG of", depth, color, lace)
    n = 3 if color == 2 else 4
    raw, rows, before = zlib.decompress(packed), [], bytes(n * width)
    for y in range(height):
        line = raw[y * (n * width + 1):(y + 1) * (n * width + 1)]
        row = bytearray(line[1:])
        for i in range(n * width):
            a, b, c = row[i - n] if i >= n else 0, before[i], before[i - n] if i >= n else 0
            if line[0] == 1:
                row[i] = row[i] + a & 255
            elif line[0] == 2:
                row[i] = row[i] + b & 255
            elif line[0] == 3:
                row[i] = row[i] + (a + b) // 2 & 255
            elif line[0] == 4:
                p = a + b - c
                pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
                row[i] = row[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c) & 255
        before = bytes(row)
        rows.append(before)
    if n == 4:  # a browser's: without the opacity
        for y, row in enumerate(rows):
            rgb = bytearray(3 * width)
            rgb[0::3], rgb[1::3], rgb[2::3] = row[0::4], row[1::4], row[2::4]
            rows[y] = bytes(rgb)
    return rows


def case_bios_nothing_to_boot():
    need("/usr/share/seabios/bios-256k.bin")
    with Machine("--firmware", "bios", "--net", "none") as m:
        m.wait_text(r"(?s)SeaBIOS \(version .*No bootable device")
        rows = m.png()
        check(len(rows) == 400 and len(rows[0]) == 3 * 640, "picture of", len(rows))
        check(len(set(rows)) > 10, "the picture is empty")


def case_bios_menu():
    need(RESCUE)
    with Machine("--cdrom", RESCUE, "--boot", "menu,cdrom", "--net", "none") as m:
        m.wait_text("Press ESC for boot menu")
        m.keys("esc")
        m.wait_text(r"(?s)Select boot device:.*1\. DVD/CD \[AHCI/0: Insula CD-ROM")
        m.type("1")
        m.wait_text("GNU GRUB")


def case_grub_disc():
    """Characters of every kind reach GRUB, which reads from the disc."""
    need(RESCUE)
    with Machine("--cdrom", RESCUE, "--net", "none") as m:
        m.wait_text("GNU GRUB")
        m.keys("c")
        m.wait_text(r"grub>")
        m.type("echo 'Caps_AND-small $((!|\"'; ls /boot/grub/i386-pc/\n")
        m.wait_text(r"\nCaps_AND-small \$\(\(!\|\"")
        m.wait_text(r"normal\.mod")


def case_four_cpus_4g():
    """The first change of the memory map comes while the other CPUs are only starting."""
    need(RESCUE)
    for _ in range(3):
        with Machine("--cdrom", RESCUE, "--net", "none", "--cpus", "4", memory="4G") as m:
            m.wait_text("GNU GRUB")


def case_disk_buses():
    """The same hard disk image on each bus, raw and qcow2."""
    usb = "/usr/lib/grub-rescue/grub-rescue-usb.img"
    need(usb)
    for bus in "virtio", "ahci", "nvme", "scsi":
        for form in "raw", "qcow2":
            copy = os.path.join(temp, f"disk.{form}")
            tool(INSULA, "disk", "convert", "--force", "--from", "raw", "--to", form, usb, copy)
            with Machine("--disk", f"{copy},bus={bus}", "--net", "none") as m:
                m.wait_text("GNU GRUB")


def case_ipxe():
    iso = "/usr/lib/ipxe/ipxe.iso"
    need(iso)
    with Machine("--cdrom", iso) as m:
        m.wait_text("Ctrl-B for the iPXE command line")
        m.keys("ctrl-b")
        m.wait_text("iPXE>")
        m.type("dhcp net0 && show net0/ip\n")
        m.wait_text(r"10\.0\.2\.15")


def serve_files(paths):
    """An HTTP server for these files, by their names; what was asked for is noted."""
    import http.server, threading
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            data = open(paths[self.path], "rb").read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, asked


def case_network_boot():
    """iPXE's ROM of either card gets an address, a kernel and an initrd by HTTP, and starts them."""
    kernel, initrd = f"{KERNELS}/cloud/vmlinuz", f"{KERNELS}/initrd-amd64"
    need("/usr/lib/ipxe/qemu/pxe-e1000.rom", kernel, initrd)
    server, asked = serve_files({"/vmlinuz": kernel, "/initrd": initrd})
    at = f"http://10.0.2.2:{server.server_port}"
    for model in "virtio", "e1000":
        del asked[:]
        with Machine("--firmware", "bios", "--boot", "network", "--net", f"user,model={model}",
                     memory="512M") as m:
            m.wait_text("Ctrl-B for the iPXE command line")
            m.keys("ctrl-b")
            m.wait_text("iPXE>")
            m.type(f"dhcp && kernel {at}/vmlinuz console=ttyS0 && initrd {at}/initrd && boot\n")
            m.wait_serial("GUEST-OK")
            check(m.end() == 0, "it did not switch off")
            check(asked == ["/vmlinuz", "/initrd"], "asked for", asked)
    server.shutdown()


E1000_INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp
insmod /e1000.ko
ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0
sleep 1; ping -c 3 10.0.2.2 | grep received
wget -q -O /tmp/file http://10.0.2.2:PORT/file && echo "SUM $(sha256sum < /tmp/file)"
(printf 'x%.0s' $(seq 100000); cat /tmp/file /tmp/file) > /tmp/up
echo "UP $(sha256sum < /tmp/up)"
nc 10.0.2.2 SINK < /tmp/up
cat /sys/class/net/eth0/address; grep eth0 /proc/net/dev
poweroff -f
"""


def case_e1000():
    """Linux' driver: an address from the EEPROM, megabytes down and up with segmentation and checksums
    by the card."""
    import hashlib, threading
    busybox = f"{KERNELS}/root-amd64/bin/busybox"
    module = tool("sh", "-c", f"find {KERNELS}/generic -name e1000.ko").decode().split()
    need(f"{KERNELS}/generic/vmlinuz", busybox, "cpio")
    if not module:
        raise Skipped("no e1000.ko")
    root, initrd, file = (os.path.join(temp, n) for n in ("e1000-root", "e1000.cpio", "file"))
    open(file, "wb").write(os.urandom(3 << 20))
    server, _ = serve_files({"/file": file})
    sink, taken = socket.create_server(("127.0.0.1", 0)), []

    def drain():
        s, h = sink.accept()[0], hashlib.sha256()
        while data := s.recv(65536):
            h.update(data)
        taken.append(h.hexdigest())

    threading.Thread(target=drain, daemon=True).start()
    for d in "bin", "proc", "dev", "sys", "tmp":
        os.makedirs(f"{root}/{d}")
    shutil.copy(busybox, f"{root}/bin/busybox")
    shutil.copy(module[0], f"{root}/e1000.ko")
    open(f"{root}/init", "w").write(E1000_INIT.replace("PORT", str(server.server_port)).replace(
        "SINK", str(sink.getsockname()[1])))
    os.chmod(f"{root}/init", 0o755)
    open(initrd, "wb").write(tool("sh", "-c", f"cd {root} && find . | cpio -o -H newc --quiet"))
    with Machine("--kernel", f"{KERNELS}/generic/vmlinuz", "--initrd", initrd, "--net",
                 "user,model=e1000", memory="512M") as m:
        m.wait_serial(r"eth0: +\d+")
        check(m.end() == 0, "it did not switch off")
        out = m.serial.decode("latin-1")
        check("3 packets received" in out, out[-2000:])
        check(hashlib.sha256(open(file, "rb").read()).hexdigest() in out, "the file is another", out[-800:])
        up = re.search("UP ([0-9a-f]{64})", out)
        check(up and taken == [up[1]], "what came is another", taken)
        check("52:54:00:" in out, "another address")
    server.shutdown()


def case_text_display():
    """--display text: the screen on our terminal, our keys in the guest."""
    need(RESCUE)
    with Machine("--cdrom", RESCUE, "--net", "none", display=("--display", "text")) as m:
        m.wait_serial("GNU GRUB")
        m.p.stdin.write(b"c")
        m.p.stdin.flush()
        m.wait_serial("grub>")
        m.p.stdin.write(b"echo from_here\r")
        m.p.stdin.flush()
        m.wait_serial(r"(?s)from_here.*from_here")


def same(viewer, rows):
    got = viewer.rgb()
    check(len(got) == len(rows), "height", len(got), len(rows))
    for y, row in enumerate(got):
        check(row == rows[y], "row", y, "differs")


def case_vnc():
    need("/usr/share/seabios/bios-256k.bin")
    path = os.path.join(temp, "vnc")
    with Machine("--firmware", "bios", "--net", "none", display=("--display", f"vnc=unix:{path}")) as m:
        m.wait_text("No bootable device")
        rows = m.png()
        viewers = [vnc.Viewer(path), vnc.Viewer(path, encodings=(vnc.RAW, vnc.DESKTOP_SIZE)),
                   vnc.Viewer(path, encodings=(vnc.HEXTILE, vnc.ZRLE, vnc.RAW)),
                   vnc.Viewer(path, websocket=True)]
        for v in viewers:
            check(v.name == m.name, "name", v.name)
            v.request(0)
            v.update()
            same(v, rows)
        for v in viewers:
            v.request(1)
        check(all(v.quiet(1) for v in viewers), "an unchanged screen sends something")
        for v in viewers[0], viewers[2]:
            check(v.received < 50000, "a text screen took", v.received)


def case_vnc_password():
    need("openssl")
    secret = os.path.join(temp, "secret")
    open(secret, "w").write("sesame\n")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with Machine("--firmware", "bios", "--net", "none", "--vnc-password", secret,
                 display=("--display", f"vnc=127.0.0.1:{port}")) as m:
        try:
            vnc.Viewer(("127.0.0.1", port), password="wrong")
            raise Failed("a wrong password was taken")
        except vnc.Closed as e:
            check("wrong password" in str(e), e)
        v = vnc.Viewer(("127.0.0.1", port), password="sesame")
        v.request(0)
        v.update()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def certificate():
    """A certificate for localhost by an authority of its own; the server's file, the authority's."""
    server, ca = os.path.join(temp, "server.pem"), os.path.join(temp, "ca.pem")
    if not os.path.exists(server):
        key = os.path.join(temp, "key.pem")
        tool("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", ca, "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost,IP:127.0.0.1")
        open(server, "w").write(open(key).read() + open(ca).read())
    return server, ca


def case_vnc_tls():
    """VeNCrypt and https, with a password inside; nothing is to be had in the clear."""
    need("openssl")
    server, ca = certificate()
    secret, port = os.path.join(temp, "secret"), free_port()
    open(secret, "w").write("sesame\n")
    at = ("127.0.0.1", port)
    with Machine("--firmware", "bios", "--net", "none", "--vnc-password", secret, "--vnc-tls", server,
                 display=("--display", f"vnc=127.0.0.1:{port}")) as m:
        m.wait_text("No bootable device")
        rows = m.png()
        for websocket in False, True:
            v = vnc.Viewer(at, password="sesame", ca=ca, websocket=websocket)
            v.request(0)
            v.update()
            same(v, rows)
            try:
                vnc.Viewer(at, password="wrong", ca=ca, websocket=websocket)
                raise Failed("a wrong password was taken")
            except vnc.Closed as e:
                check("wrong password" in str(e), e)
        for websocket in False, True:
            try:
                vnc.Viewer(at, password="sesame", websocket=websocket)
                raise Failed("in the clear")
            except (AssertionError, vnc.Closed, IndexError, ConnectionError):
                pass
        v = vnc.Viewer(at, password="sesame", ca=ca)
        v.request(0)
        v.update()


class XServer:
    """A screen for viewers of others."""
    def __enter__(self):
        need("Xvfb", "xwd")
        read, write = os.pipe()
        self.p = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24",
                                   "-nolisten", "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL)
        os.close(write)
        with os.fdopen(read) as f:
            self.name = ":" + f.readline().strip()
        check(self.name != ":", "Xvfb did not start")
        return self

    def __exit__(self, *args):
        self.p.terminate()
        self.p.wait()

    def pixels(self):
        """XWD version 7 (X11/XWDFile.h): rows of RGB bytes."""
        data = tool("xwd", "-root", "-silent", "-display", self.name)
        head = struct.unpack(">25I", data[:100])
        start, width, height, line, colors = head[0] + 12 * head[19], head[4], head[5], head[12], head[19]
        check(head[1] == 7 and head[11] == 32 and head[7] == 0 and colors < 1000, "XWD", head)
        rows = []
        for y in range(height):
            row = data[start + y * line:start + y * line + 4 * width]
            rgb = bytearray(3 * width)
            rgb[0::3], rgb[1::3], rgb[2::3] = row[2::4], row[1::4], row[0::4]
            rows.append(bytes(rgb))
        return rows


def find_picture(inside, rows):
    """Where the picture @rows is seen in @inside, or None; one row with writing is looked for first."""
    probe = max(range(len(rows)), key=lambda y: len(set(rows[y])) * (rows[y].count(rows[y][:3]) > 0))
    for y, row in enumerate(inside):
        at = row.find(rows[probe])
        if at >= 0 and at % 3 == 0 and y >= probe and len(inside) - y >= len(rows) - probe:
            if all(inside[y - probe + i][at:at + len(r)] == r for i, r in enumerate(rows)):
                return at // 3, y - probe
    return None


def case_vnc_tigervnc():
    """TigerVNC's viewer on an X server, three ways: its window shows our screen, pixel by pixel; keys and
    several viewers at once."""
    need("xtigervncviewer", "openssl", RESCUE)
    server, ca = certificate()
    secret, passwd = os.path.join(temp, "secret"), os.path.join(temp, "passwd")
    open(secret, "w").write("sesame\n")
    # A viewer's password file: DES, with a key that everybody knows.
    key = bytes((23, 82, 107, 6, 35, 78, 88, 7)).decode()
    open(passwd, "wb").write(vnc.des(key, b"sesame\0\0"))
    ways = [((), ("-SecurityTypes", "None", "-PreferredEncoding", "Hextile", "-AutoSelect=0")),
            (("--vnc-password", secret), ("-SecurityTypes", "VncAuth", "-passwd", passwd)),
            (("--vnc-tls", server, "--vnc-password", secret),
             ("-SecurityTypes", "X509Vnc", "-X509CA", ca, "-passwd", passwd))]
    for options, how in ways:
        port = free_port()
        with Machine("--cdrom", RESCUE, "--net", "none", *options,
                     display=("--display", f"vnc=127.0.0.1:{port}")) as m:
            m.wait_text("GNU GRUB")
            m.keys("c")
            m.wait_text(r"grub>\s*$")
            log = open(os.path.join(temp, "viewer.log"), "w+")
            with XServer() as one, XServer() as two:
                viewers = [subprocess.Popen(["xtigervncviewer", "-display", x.name, *how, "-Shared",
                                             f"localhost::{port}"], stderr=log, stdout=log,
                                            env=dict(env, HOME=temp)) for x in (one, two)]
                try:
                    for text in "", "echo seen_by_both\n":
                        m.type(text)
                        m.wait_text(text.strip() or "grub>")
                        m.wait_text(r"grub>\s*$")
                        end = time.time() + PATIENCE
                        while not all(find_picture(x.pixels(), m.png()) for x in (one, two)):
                            check(all(v.poll() is None for v in viewers), "a viewer ended", how,
                                  open(log.name).read()[-800:])
                            check(time.time() < end, "the viewers' pictures differ", how)
                            time.sleep(0.3)
                finally:
                    for v in viewers:
                        v.terminate()
                        v.wait()


NOVNC = "/usr/share/novnc"
PAGE = """<!DOCTYPE html><body><div id=screen style="width:800px;height:600px"></div>
<script type=module>
import RFB from "/core/rfb.js";
const tell = (what, body) => fetch("/" + what, {method: "POST", body});
const rfb = new RFB(document.getElementById("screen"), "ADDRESS", {credentials: {password: "sesame"}});
const picture = () => tell("picture", document.querySelector("canvas").toDataURL("image/png"));
rfb.addEventListener("disconnect", e => tell("end", String(e.detail.clean)));
rfb.addEventListener("securityfailure", e => tell("end", String(e.detail.reason)));
rfb.addEventListener("connect", () => {
  tell("name", rfb._fbName);
  for (const c of "echo from-a-browser") { const k = c.charCodeAt(0); rfb.sendKey(k, null); }
  rfb.sendKey(0xff0d, "Enter");
  setInterval(picture, 1000);
});
</script>"""


def serve_novnc(address, said):
    """A web server with noVNC and PAGE; what the page tells goes to @said."""
    import http.server, threading

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {".js": "text/javascript", "": "application/octet-stream"}

        def __init__(self, *args):
            super().__init__(*args, directory=NOVNC)

        def do_GET(self):
            if self.path != "/page":
                return super().do_GET()
            body = PAGE.replace("ADDRESS", address).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            said[self.path[1:]] = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def case_vnc_novnc():
    """noVNC in a browser, by ws and wss: it types, and its canvas has our screen's pixels."""
    import base64
    need("chromium", NOVNC, RESCUE, "openssl")
    secret = os.path.join(temp, "secret")
    open(secret, "w").write("sesame\n")
    for scheme, options in ("ws", ()), ("wss", ("--vnc-tls", certificate()[0])):
        port, said = free_port(), {}
        with Machine("--cdrom", RESCUE, "--net", "none", "--vnc-password", secret, *options,
                     display=("--display", f"vnc=127.0.0.1:{port}")) as m:
            m.wait_text("GNU GRUB")
            m.keys("c")
            m.wait_text(r"grub>\s*$")
            server = serve_novnc(f"{scheme}://localhost:{port}", said)
            browser = subprocess.Popen(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--ignore-certificate-errors", f"--user-data-dir={temp}/chromium-{scheme}", "--no-first-run",
                 "--disable-background-networking", "--remote-debugging-port=0",
                 f"http://127.0.0.1:{server.server_port}/page"],
                env=dict(env, HOME=temp), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            os.set_blocking(browser.stderr.fileno(), False)
            try:
                m.wait_text(r"(?s)echo from-a-browser.*\nfrom-a-browser")
                check(said["name"] == m.name, "name", said)
                end = time.time() + PATIENCE
                picture = os.path.join(temp, "canvas.png")
                while True:
                    check("end" not in said and time.time() < end, "noVNC:", said.get("end"))
                    time.sleep(0.5)
                    if "picture" not in said:
                        continue
                    open(picture, "wb").write(base64.b64decode(said["picture"].split(",")[1]))
                    if read_png(picture) == m.png():
                        break
            except Failed as e:
                raise Failed(str(e), "browser:", (browser.stderr.read() or b"")[-1500:])
            finally:
                browser.terminate()
                browser.wait()
                server.shutdown()


def case_kernel_with_screen():
    """A kernel loaded directly, and a VGA: the machine without firmware has the same map below 1 MiB."""
    kernel, initrd = f"{KERNELS}/cloud/vmlinuz", f"{KERNELS}/initrd-amd64"
    need(kernel, initrd)
    path = os.path.join(temp, "vnc")
    with Machine("--kernel", kernel, "--initrd", initrd, "--net", "none",
                 display=("--display", f"vnc=unix:{path}")) as m:
        check(vnc.Viewer(path).width >= 640, "no screen")
        m.wait_serial("GUEST-OK")
        check(m.end() == 0, "it did not switch off")


NVME_INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t devtmpfs dev /dev; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp
cat /sys/class/nvme/nvme0/model
disk=/dev/nvme0n1; model=/tmp/model; noise=/tmp/noise
head -c 33554432 /dev/zero > $model; head -c 4194304 /dev/urandom > $noise
for i in $(seq 300); do
	sectors=$((RANDOM % 256 + 1)); at=$(((RANDOM * 32768 + RANDOM) % (65536 - sectors)))
	from=$((RANDOM % (8192 - sectors)))
	for to in $model $disk; do
		dd if=$noise of=$to bs=512 skip=$from seek=$at count=$sectors conv=notrunc 2>/dev/null
	done
	[ $((i % 10)) = 0 ] && sync && echo 3 > /proc/sys/vm/drop_caches
done
sync; echo 3 > /proc/sys/vm/drop_caches
cmp -n 33554432 $disk $model && echo SAME
grep nvme0q /proc/interrupts | awk '{ n += $2 + $3 } END { print "INTERRUPTS", NR, (n > 100) }'
blkdiscard -o 0 -l 8388608 $disk && echo TRIMMED
echo "SUM $(tail -c 25165824 $model | sha256sum)"
poweroff -f
"""


def case_nvme():
    """Linux' driver: random writes of 512 bytes to 128 KiB read back behind the cache, on two CPUs with
    MSI-X; what it wrote is what the file has."""
    import hashlib
    kernel, busybox = f"{KERNELS}/cloud/vmlinuz", f"{KERNELS}/root-amd64/bin/busybox"
    need(kernel, busybox, "cpio")
    root, initrd, raw = (os.path.join(temp, n) for n in ("nvme-root", "nvme.cpio", "nvme.raw"))
    for d in "bin", "proc", "dev", "sys", "tmp":
        os.makedirs(f"{root}/{d}")
    shutil.copy(busybox, f"{root}/bin/busybox")
    open(f"{root}/init", "w").write(NVME_INIT)
    os.chmod(f"{root}/init", 0o755)
    open(initrd, "wb").write(tool("sh", "-c", f"cd {root} && find . | cpio -o -H newc --quiet"))
    with Machine("--kernel", kernel, "--initrd", initrd, "--net", "none", "--cpus", "2", "--disk",
                 f"{raw},size=32M,bus=nvme", memory="512M") as m:
        m.wait_serial("Insula NVMe")
        m.wait_serial("SUM [0-9a-f]{64}")
        check(m.end() == 0, "it did not switch off")
        out = m.read_serial() if m.p.returncode is None else m.serial.decode("latin-1")
        check("SAME" in out and "TRIMMED" in out, out[-1500:])
        check(re.search("INTERRUPTS [1-9][0-9]* 1", out), "few interrupts:", out[-500:])
        data = open(raw, "rb").read()
        check(re.search("SUM ([0-9a-f]{64})", out)[1] == hashlib.sha256(data[8 << 20:]).hexdigest(),
              "the file has something else")
        check(not any(data[:8 << 20]), "trimmed, and not zeroes")


def small_guest(name, init, modules):
    """Debian's kernel and an initrd of busybox, these modules (in the order of loading) and an init that
    begins by loading them."""
    kernel, busybox = f"{KERNELS}/generic/vmlinuz", f"{KERNELS}/root-amd64/bin/busybox"
    need(kernel, busybox, "cpio")
    root, initrd = os.path.join(temp, name), os.path.join(temp, f"{name}.cpio")
    for d in "bin", "proc", "dev", "sys", "tmp":
        os.makedirs(f"{root}/{d}")
    shutil.copy(busybox, f"{root}/bin/busybox")
    for m in modules:
        found = tool("find", f"{KERNELS}/generic", "-name", f"{m}.ko").decode().split()
        if not found:
            raise Skipped(f"no {m}.ko")
        shutil.copy(found[0], root)
    open(f"{root}/init", "w").write(
        "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nmount -t proc proc /proc\n"
        "mount -t devtmpfs dev /dev; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp\n"
        f"for m in {' '.join(modules)}; do insmod /$m.ko || echo NO $m; done\n" + init + "poweroff -f\n")
    os.chmod(f"{root}/init", 0o755)
    open(initrd, "wb").write(tool("sh", "-c", f"cd {root} && find . | cpio -o -H newc --quiet"))
    return "--kernel", kernel, "--initrd", initrd, "--net", "none"


USB_MODULES = ["usb-common", "usbcore", "xhci-hcd", "xhci-pci", "hid", "usbhid", "hid-generic", "evdev"]
USB_INIT = r"""
until grep -q 'Insula USB Keyboard' /proc/bus/input/devices; do sleep 0.1; done
for kind in Tablet Keyboard; do
	event=$(grep -A 4 "USB $kind" /proc/bus/input/devices | sed -n 's/.*\(event[0-9]*\).*/\1/p' | head -n 1)
	cat /dev/input/$event | hexdump -v -e '8/2 "%u " "'$kind'" 1/2 " %u" 1/2 " %u" 1/4 " %d\n"' &
done
sleep 1; echo READY; grep xhci /proc/interrupts
read line
grep xhci /proc/interrupts
"""


def case_usb():
    """Linux' drivers find tablet and keyboard; the guest's pointer is where a viewer's is, and keys come by
    USB."""
    guest = small_guest("usb", USB_INIT, USB_MODULES)
    path = os.path.join(temp, "vnc")
    with Machine(*guest, "--usb", "both", memory="512M", display=("--display", f"vnc=unix:{path}")) as m:
        m.wait_serial("READY")
        v = vnc.Viewer(path)
        for x, y, buttons in (0, 0, 0), (v.width - 1, v.height - 1, 1), (v.width // 2, v.height // 2, 0):
            v.pointer(x, y, buttons)
            want = [x * 32767 // (v.width - 1), y * 32767 // (v.height - 1)]
            for axis in 0, 1:
                if want[axis]:
                    m.wait_serial(rf"Tablet 3 {axis} {want[axis]}\b")
            m.wait_serial(rf"Tablet 1 272 {1 if buttons else 0}\b" if x else "READY")
        v.pointer(1, 1, 8)
        m.wait_serial(r"Tablet 2 8 1\b")  # the wheel, away
        m.type("q")
        m.wait_serial(r"Keyboard 1 16 1\b(?s:.*)Keyboard 1 16 0\b")
        m.keys("ctrl-alt-f7")
        for key in 29, 56, 65:
            m.wait_serial(rf"Keyboard 1 {key} 1\b")
        m.p.stdin.write(b"\n")
        m.p.stdin.flush()
        check(m.end() == 0, "it did not switch off")
        check(re.search("MSI", m.serial.decode("latin-1")), "no message-signalled interrupts")


def case_vnc_viewer():
    """A viewer that others wrote."""
    need("vncsnapshot", RESCUE)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    jpeg = os.path.join(temp, "viewer.jpg")
    with Machine("--cdrom", RESCUE, "--net", "none",
                 display=("--display", f"vnc=127.0.0.1:{port}")) as m:
        m.wait_text("GNU GRUB")
        tool("vncsnapshot", "-quiet", f"127.0.0.1:{port - 5900}", jpeg)
        check(os.path.getsize(jpeg) > 5000, "a small picture:", os.path.getsize(jpeg))


def case_vnc_keyboard_and_resize():
    """Typed by a viewer; the firmware's mode changes reach it as new sizes."""
    need(RESCUE)
    path = os.path.join(temp, "vnc")
    with Machine("--cdrom", RESCUE, "--net", "none", display=("--display", f"vnc=unix:{path}")) as m:
        v = vnc.Viewer(path)
        m.wait_text("GNU GRUB")
        v.key(ord("c"))
        m.wait_text("grub>")
        m.type("insmod all_video; clear\n")
        m.wait_text(r"^\s*grub>")
        for c in "terminal_output gfxterm":
            v.key(ord(c), shift=c == "_")
            time.sleep(0.05)  # a BIOS keeps 15 keys
        v.key(0xff0d)
        end = time.time() + PATIENCE
        while (v.width, v.height) == (640, 400) or v.height < 400:
            check(time.time() < end, "the screen stayed", v.width, v.height)
            v.request(1)
            v.update()
        check(v.width >= 640 and v.height >= 480, "size", v.width, v.height)
        v.pointer(10, 10)
        v.pointer(20, 30, 1)
        v.request(0)
        v.update()
        rows = m.png()
        check(len(rows) == v.height, "height", len(rows))


def case_uefi_shell():
    need("/usr/share/OVMF/OVMF_CODE_4M.fd")
    with Machine("--firmware", "uefi", "--net", "none") as m:
        m.wait_serial("Shell> ")
        rows = m.png()
        check(len(rows) >= 600, "lines", len(rows))
        m.type("echo Hello-$((\n")
        m.wait_serial(r"(?s)Shell> .*Hello-")
        m.type("set insula kept\nset insula\n")
        m.wait_serial("insula = kept")
        nvram = f"{temp}/insula/machines/{m.name}/nvram.fd"
        check("insula".encode("utf-16-le") in open(nvram, "rb").read(), "the variable is not kept")


def case_memtest():
    iso = "/usr/lib/memtest86+/memtest86+x64.iso"
    need(iso)
    with Machine("--cdrom", iso, "--net", "none", memory="64M") as m:
        m.wait_text(r"Memtest86\+ v6")
        m.wait_text(r"Pass +[1-9][0-9]*%")  # it tests
        m.wait_text(r"Pass:\s+[1-9][0-9]*\s+Errors:\s+0\b", HOURS)


def case_uefi_killed_while_writing():
    """kill -9 while variables are written: each time, one of the values that were being written is
    there, and the firmware finds its store whole."""
    need("/usr/share/OVMF/OVMF_CODE_4M.fd")
    name, values = f"pc{os.getpid()}k", []
    for turn in range(4):
        with Machine("--firmware", "uefi", "--net", "none", name=name) as m:
            m.wait_serial("Shell> ")
            m.type("set insula\n")
            if turn:
                m.wait_serial(r"insula = (value\d+)")
                found = re.search(r"insula = (value\d+)", m.read_serial())[1]
                check(found in values, "turn", turn, "found", found, "among", values)
            values = [f"value{turn}{i}" for i in range(10)] + values[-1:] * bool(turn)
            if turn == 3:
                break
            for i in range(10):
                m.type(f"set insula value{turn}{i}\n")
            m.wait_serial(rf"set insula value{turn}2")
            time.sleep(0.11 + 0.13 * turn)
            m.kill()
            values = values[:10] + ([found] if turn else [])


def rescue_disc():
    """A disc by grub-mkrescue: one of Debian's kernels, an initrd whose init says GUEST-OK."""
    iso, tree = os.path.join(temp, "rescue.iso"), os.path.join(temp, "rescue")
    kernel, initrd = f"{KERNELS}/cloud/vmlinuz", f"{KERNELS}/initrd-amd64"
    need("grub-mkrescue", "xorriso", "mformat", kernel, initrd)
    if not os.path.exists(iso):
        os.makedirs(f"{tree}/boot/grub")
        shutil.copy(kernel, f"{tree}/boot/vmlinuz")
        shutil.copy(initrd, f"{tree}/boot/initrd")
        open(f"{tree}/boot/grub/grub.cfg", "w").write(
            "set timeout=1\nmenuentry rescue {\n\tlinux /boot/vmlinuz console=ttyS0 panic=-1\n"
            "\tinitrd /boot/initrd\n}\n")
        tool("grub-mkrescue", "-o", iso, tree)
    return iso


def case_rescue_disc_bios():
    with Machine("--cdrom", rescue_disc(), "--net", "none", memory="512M") as m:
        m.wait_serial("GUEST-OK")
        check(m.end() == 0, "it did not switch off")


def case_rescue_disc_uefi():
    with Machine("--firmware", "uefi", "--cdrom", rescue_disc(), "--net", "none", memory="512M") as m:
        m.wait_serial("GUEST-OK")
        check(m.end() == 0, "it did not switch off")


def case_rescue_disc_as_disk():
    """The same image is a hard disk, too."""
    with Machine("--disk", f"{rescue_disc()},bus=ahci", "--net", "none", memory="512M") as m:
        m.wait_serial("GUEST-OK")


def debian(firmware, bus, *options, form="raw", then=lambda m: None):
    import disk
    image, copy = os.path.join(CACHE, "debian.img"), os.path.join(temp, f"debian.{form}")
    if not os.path.exists(image):
        need("mmdebstrap", "mke2fs", "sfdisk", "grub-mkimage", "mformat", "debugfs")
        if os.geteuid():
            raise Skipped("the disk is made by root")
        os.makedirs(CACHE, exist_ok=True)
        disk.make(image)
    tool(INSULA, "disk", "convert", "--force", "--from", "raw", "--to", form, image, copy)
    with Machine("--firmware", firmware, "--disk", f"{copy},bus={bus}", *options, memory="1G") as m:
        m.wait_serial("insula-pc login: ")
        m.p.stdin.write(b"root\n")
        m.p.stdin.flush()
        m.wait_serial("root@insula-pc:~# ")
        then(m)
        m.p.stdin.write(b"cat /sys/class/dmi/id/sys_vendor; ls /sys/firmware; poweroff\n")
        m.p.stdin.flush()
        check(m.end(PATIENCE) == 0, "it did not switch off")
        check(b"Insula" in m.serial, "no SMBIOS")
        check((b" efi" in m.serial or b"efi " in m.serial) == (firmware == "uefi"), "EFI or not")
    if form == "qcow2":
        tool(INSULA, "disk", "check", copy)


# Commands as bytes: GetRandom of 16, PCR_Read of SHA-256's PCR 0 and PCR_Extend of it.
TPM_INIT = r"""
ls /sys/class/tpm; cat /sys/class/tpm/tpm0/tpm_version_major; cat /sys/class/misc/hw_random/rng_available
run() { printf "$2" > /tmp/command; exec 3<>/dev/tpm0; cat /tmp/command >&3; echo "$1 $(dd bs=4096 count=1 status=none <&3 | xxd -p | tr -d '\n')"; exec 3>&-; }
random='\x80\x01\0\0\0\x0c\0\0\x01\x7b\0\x10'
run RANDOM "$random"; run RANDOM "$random"
read='\x80\x01\0\0\0\x14\0\0\x01\x7e\0\0\0\x01\0\x0b\x03\x01\0\0'
run PCR "$read"
password='\0\0\0\x09\x40\0\0\x09\0\0\0\0\0'
run EXTEND "\x80\x02\0\0\0\x41\0\0\x01\x82\0\0\0\0$password\0\0\0\x01\0\x0b0123456789abcdef0123456789abcdef"
run PCR "$read"
[ -e /sys/firmware/acpi/tables/TPM2 ] && echo TABLE
read line
"""


def case_tpm():
    """Linux' driver finds swtpm's TPM by ACPI: random numbers, a PCR that is extended."""
    import hashlib
    need("swtpm")
    guest = small_guest("tpm", TPM_INIT, [])
    name = f"pc{os.getpid()}t"
    with Machine(*guest, "--tpm", memory="512M", name=name) as m:
        m.wait_serial("TABLE")
        out = m.read_serial()
        check(re.search(r"tpm0\s+2\s", out), out[-2000:])
        random = re.findall("RANDOM 8001([0-9a-f]*)", out)
        check(len(random) == 2 and random[0][8:20] == "000000000010" and random[0] != random[1], random)
        before, after = re.findall("PCR 8001[0-9a-f]*([0-9a-f]{64})\\b", out)
        check(before == 64 * "0", "PCR 0 begins as", before)
        check("EXTEND 80020000" in out, out[-1000:])
        want = hashlib.sha256(bytes(32) + b"0123456789abcdef0123456789abcdef").hexdigest()
        check(after == want, "PCR 0 is", after, "not", want)
        m.p.stdin.write(b"off\n")
        m.p.stdin.flush()
        check(m.end() == 0, "it did not switch off")
    check(os.path.exists(f"{temp}/insula/machines/{name}/tpm2-00.permall"), "nothing is kept")


class Desktop(vnc.Viewer):
    """A person before a screen: asks for pictures until it sees what it waits for."""
    def __init__(self, path):
        super().__init__(path, (vnc.RAW, vnc.DESKTOP_SIZE, vnc.EXTENDED_SIZE, vnc.CURSOR))

    def see(self, what, done, patience=None):
        end = time.time() + (patience or PATIENCE)
        self.request(0)
        while True:
            if select.select([self.sock], [], [], 1)[0]:
                self.update()
                self.request(1)
            if done():
                return
            check(time.time() < end, "never seen:", what)

    def color(self, x, y):
        return self.pixels.get((x, y), b"")[::-1].hex()

    def write(self, text):
        for c in text:
            self.key(0xff0d if c == "\n" else ord(c), shift=c.isupper() or c in '&|"_>:*()$~#')
            time.sleep(0.03)


def case_desktop():
    """X on virtio's card by UEFI: a viewer types and clicks, and sees what comes of it; its window's size
    becomes the screen's; the card draws no cursor, the viewer does; what it saw is the screenshot."""
    import disk
    need("mmdebstrap", "mke2fs", "sfdisk", "grub-mkimage", "mformat", "debugfs")
    image, copy, path = (os.path.join(CACHE, "desktop.img"), os.path.join(temp, "desktop.qcow2"),
                         os.path.join(temp, "vnc"))
    if not os.path.exists(image):
        if os.geteuid():
            raise Skipped("the disk is made by root")
        os.makedirs(CACHE, exist_ok=True)
        disk.make(image, desktop=True)
    tool(INSULA, "disk", "create", "--backing", image, copy)
    with Machine("--firmware", "uefi", "--disk", copy, "--gpu", "virtio", "--usb", "both", "--net", "none",
                 memory="1G", display=("--display", f"vnc=unix:{path}")) as m:
        v = Desktop(path)
        m.wait_serial("insula-pc login: ")
        v.see("the root window", lambda: v.color(5, 5) == "336699")
        v.see("the terminal", lambda: v.color(300, 300) == "ffffff")
        # The pointer focuses, which has a shape of its own; keys go where it is.
        v.pointer(300, 300)
        v.pointer(300, 300, 1)
        v.pointer(300, 300)
        v.see("a cursor", lambda: v.cursor and any(v.cursor[5]))
        check(v.color(300, 300) == "ffffff", "the cursor is in the picture")
        v.write("xsetroot -solid '#cc2244'\n")
        v.see("another root window", lambda: v.color(5, 5) == "cc2244")
        # By its title the window is moved.
        v.pointer(200, 70)
        v.pointer(200, 70, 1)
        for step in range(1, 11):
            v.pointer(200 + 20 * step, 70 + 20 * step, 1)
            time.sleep(0.05)
        v.pointer(400, 270)
        v.see("the window elsewhere", lambda: v.color(100, 200) == "cc2244" and v.color(300, 500) == "ffffff")
        # The guest's pointer is where the viewer's is.
        v.pointer(500, 450)
        v.set_size(800, 600)
        v.see("an answer", lambda: (1, 4) in v.answers)
        v.write("xrandr --output Virtual-1 --auto\n")
        v.see("the new size", lambda: (v.width, v.height) == (800, 600))
        v.see("all of it", lambda: len(v.pixels) == 800 * 600 and v.color(5, 5) == "cc2244")
        time.sleep(2)
        v.request(1)
        while not v.quiet(1):
            v.update()
            v.request(1)
        check(m.png() == v.rgb(), "the screenshot is another picture")
        m.p.stdin.write(b"root\npoweroff\n")
        m.p.stdin.flush()
        check(m.end(PATIENCE) == 0, "it did not switch off")


def case_debian_bios():
    debian("bios", "virtio")


def case_debian_uefi():
    debian("uefi", "virtio")


def log_in(m, password=None):
    m.wait_serial("insula-new login: ")
    m.p.stdin.write(b"root\n")
    m.p.stdin.flush()
    if password:
        m.wait_serial("Password: ")
        m.p.stdin.write(password.encode() + b"\n")
        m.p.stdin.flush()
    m.wait_serial("root@insula-new:~# ")


def installed(firmware, disk, name, password=None):
    """What was installed starts by its own GRUB."""
    with Machine("--firmware", firmware, "--disk", disk, "--net", "none", memory="1G", name=name) as m:
        m.wait_serial("GNU GRUB")
        log_in(m, password)
        m.p.stdin.write(b"echo BY-$([ -d /sys/firmware/efi ] && echo uefi || echo bios); poweroff\n")
        m.p.stdin.flush()
        check(m.end(PATIENCE) == 0, "it did not switch off")
        check(f"BY-{firmware}".encode() in m.serial, "by the other firmware")
    tool(INSULA, "disk", "check", disk)


def installer(firmware):
    """Debian's installer on an empty disk, unattended."""
    import install
    need(f"{install.IMAGES}/linux", "grub-mkrescue", "xorriso", "mformat", "cpio")
    url = install.mirror()
    if not url:
        raise Skipped("apt's configuration has no archive of Debian 12 by HTTP")
    lacks = install.lacks_components(url)
    if lacks:
        raise Skipped(f"apt's archive has no {lacks}")
    work, disk, name = os.path.join(temp, f"di-{firmware}"), os.path.join(temp, f"di-{firmware}.qcow2"), \
        f"pc{os.getpid()}{firmware}"
    os.makedirs(work)
    install.make_disc(f"{work}/disc.iso", work, "/dev/vda")
    with Machine("--firmware", firmware, "--disk", f"{disk},size=6G", "--cdrom", f"{work}/disc.iso", "--boot",
                 "cdrom,disk", memory="1G", name=name) as m:
        check(m.end(HOURS) == 0, m.serial[-2000:])
    installed(firmware, disk, name, install.PASSWORD)


def case_installer_bios():
    installer("bios")


def case_installer_uefi():
    installer("uefi")


def case_install():
    """Debian installed in a guest, from the archive by the user network; the disk then starts by BIOS and by
    UEFI."""
    import install, urllib.parse
    url, disk = install.mirror(), os.path.join(temp, "install.qcow2")
    need("mmdebstrap", "mke2fs")
    if not url:
        raise Skipped("apt's configuration has no archive of Debian 12 by HTTP")
    script = install.SCRIPT.replace("MIRROR", urllib.parse.urlunsplit(url))
    r = subprocess.run([INSULA, "run", "--engine", ENGINE, "--memory", "1G", "--disk", f"{disk},size=4G",
                        install.IMAGE, "--", "sh", "-c", script], env=env, capture_output=True, timeout=HOURS)
    check(r.returncode == 0 and b"INSTALLED" in r.stdout, r.stdout[-1500:], r.stderr[-1500:])
    for firmware in "bios", "uefi":
        installed(firmware, disk, None)


def shell(m, command, pattern):
    m.p.stdin.write(command.encode() + b"\n")
    m.p.stdin.flush()
    m.wait_serial(pattern)


def change_discs(m):
    """An empty drive, a disc, no disc, another one: Linux sees each."""
    disc = os.path.join(temp, "disc.iso")
    with open(disc, "wb") as f:
        f.write(b"another disc".ljust(1 << 20, b"\0"))
    shell(m, "head -c 1 /dev/sr0; echo empty-$?", "No medium found(?s:.*)empty-1")
    for name, file in ("rescue", RESCUE), ("other", disc):
        status, _, err = m.insula("insert", m.name, file)
        check(status == 0, err)
        want = "CD001" if name == "rescue" else "another disc"
        skip = 32769 if name == "rescue" else 0
        shell(m, f"dd if=/dev/sr0 bs=1 skip={skip} count={len(want)} 2>/dev/null; echo {name}-done",
              f"{want}{name}-done")
        # udev locks the drive; asked, it opens the tray.
        end = time.time() + 60
        while m.insula("eject", m.name)[0]:
            check(time.time() < end, "the guest does not open the drive")
            time.sleep(1)
        shell(m, f"head -c 1 /dev/sr0; echo {name}-out-$?", f"{name}-out-1")


# Random writes of 512 bytes to 128 KiB to a disk, past the cache, and to a file; then both are the same.
WRITES = r"""cat > /tmp/writes <<'E'
disk=$1; model=/dev/shm/model; noise=/dev/shm/noise
head -c 32M /dev/zero > $model; head -c 4M /dev/urandom > $noise
for i in $(seq 300); do
	sectors=$((RANDOM % 256 + 1)); at=$(((RANDOM * 32768 + RANDOM) % (65536 - sectors)))
	from=$((RANDOM % (8192 - sectors)))
	dd if=$noise of=$model bs=512 skip=$from seek=$at count=$sectors conv=notrunc status=none
	dd if=$noise of=$disk bs=$((sectors * 512)) iflag=skip_bytes oflag=direct,seek_bytes \
		skip=$((from * 512)) seek=$((at * 512)) count=1 conv=notrunc status=none
done
dd if=$disk iflag=direct bs=1M count=32 status=none | cmp - $model && cmp -n 33554432 $disk $model
E
bash /tmp/writes """


def case_debian_nvme():
    """BIOS and UEFI start from an NVMe disk; its driver's random writes are read back, trimmed, a file
    system made and checked."""
    for firmware in "bios", "uefi":
        new = os.path.join(temp, f"nvme-{firmware}.qcow2")

        def use(m):
            shell(m, "cat /sys/class/nvme/nvme1/model; ls /dev/nvme0n1p1", "Insula NVMe(?s:.*)/dev/nvme0n1p1")
            shell(m, WRITES + "/dev/nvme1n1; echo written-$?", r"written-0")
            shell(m, "mkfs.ext4 -q /dev/nvme1n1 && mount -o discard /dev/nvme1n1 /mnt && "
                  "cp -a /usr/lib/x86_64-linux-gnu /mnt && rm -r /mnt/x86_64-linux-gnu/gconv && sync && "
                  "fstrim /mnt && umount /mnt && fsck.ext4 -fn /dev/nvme1n1 && mount -r /dev/nvme1n1 /mnt && "
                  "cmp /usr/lib/x86_64-linux-gnu/libc.so.6 /mnt/x86_64-linux-gnu/libc.so.6 && umount /mnt; "
                  "echo made-$?", "made-0")

        debian(firmware, "nvme", "--disk", f"{new},size=2G,bus=nvme", then=use)
        tool(INSULA, "disk", "check", new)


def case_debian_scsi():
    """BIOS and UEFI start from a SCSI disk; random writes to another are read back, a file system made,
    trimmed and checked."""
    for firmware in "bios", "uefi":
        new = os.path.join(temp, f"scsi-{firmware}.qcow2")

        def use(m):
            shell(m, "cat /sys/block/sdb/device/vendor", "INSULA")
            shell(m, WRITES + "/dev/sdb; echo written-$?", r"written-0")
            shell(m, "blkdiscard /dev/sdb && mkfs.ext4 -q /dev/sdb && mount -o discard /dev/sdb /mnt && "
                  "cp -a /usr/bin /mnt && sync && fstrim /mnt && umount /mnt && fsck.ext4 -fn /dev/sdb && "
                  "mount -r /dev/sdb /mnt && cmp /usr/bin/bash /mnt/bin/bash && umount /mnt; echo made-$?",
                  "made-0")

        debian(firmware, "scsi", "--disk", f"{new},size=2G,bus=scsi", then=use)
        tool(INSULA, "disk", "check", new)


def case_debian_uefi_ahci():
    """qcow2 on SATA: a disk to start from, one that is made; a drive behind them."""
    need(RESCUE)
    new = os.path.join(temp, "new.qcow2")

    def use(m):
        shell(m, "mkfs.ext4 -q /dev/sdb && mount /dev/sdb /mnt && cp /bin/bash /mnt && umount /mnt && "
              "mount -r /dev/sdb /mnt && cmp /bin/bash /mnt/bash && umount /mnt; echo made-$?", "made-0")
        change_discs(m)

    debian("uefi", "ahci", "--disk", f"{new},size=20G,bus=ahci", "--cdrom", "none", form="qcow2", then=use)
    tool(INSULA, "disk", "check", new)
    check(json.loads(tool(INSULA, "disk", "info", "--json", new))["format"] == "qcow2", "not qcow2")


QUICK = ["bios_nothing_to_boot", "bios_menu", "grub_disc", "four_cpus_4g", "disk_buses", "ipxe",
         "text_display", "vnc", "vnc_password", "vnc_tls", "vnc_viewer", "vnc_keyboard_and_resize", "uefi_shell"]
LONG = ["usb", "tpm", "desktop", "nvme", "e1000", "network_boot", "vnc_tigervnc", "vnc_novnc", "memtest", "kernel_with_screen", "uefi_killed_while_writing", "rescue_disc_bios", "rescue_disc_uefi",
        "rescue_disc_as_disk", "debian_bios", "debian_uefi", "debian_nvme", "debian_scsi", "debian_uefi_ahci",
        "installer_bios", "installer_uefi", "install"]


def main():
    names = sys.argv[2:] or QUICK
    if names == ["--all"]:
        names = QUICK + LONG
    failed = skipped = 0
    for name in names:
        start = time.time()
        try:
            globals()["case_" + name]()
            print(f"{name}: ok, {time.time() - start:.1f} s", flush=True)
        except Skipped as e:
            skipped += 1
            print(f"{name}: skipped: {e}", flush=True)
        except (Failed, vnc.Closed, OSError, AssertionError) as e:
            failed += 1
            print(f"{name}: FAILED after {time.time() - start:.1f} s: {type(e).__name__} {e}", flush=True)
    shutil.rmtree(temp, ignore_errors=True)
    return 1 if failed else 77 if skipped == len(names) else 0


if __name__ == "__main__":
    sys.exit(main())
