# SPDX-License-Identifier: Apache-2.0
"""A VNC viewer for tests: RFB 3.8, Raw, Hextile and ZRLE decoded by the letter of RFC 6143, over TCP, a
unix socket or a WebSocket, in the clear or in TLS."""
import base64, hashlib, os, select, socket, ssl, struct, subprocess, time, zlib

RAW, HEXTILE, ZRLE, DESKTOP_SIZE, CURSOR, EXTENDED_SIZE = 0, 5, 16, -223, -239, -308


class Closed(Exception):
    pass


class WebSocket:
    """The client's side, as a browser speaks it."""
    def __init__(self, sock, more=""):
        self.sock, self.buffer = sock, b""
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(("GET /websockify HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                      f"Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            part = sock.recv(1)
            if not part:
                raise Closed
            head += part
        guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        want = base64.b64encode(hashlib.sha1((key + guid).encode()).digest())
        assert b" 101 " in head and want in head and b"binary" in head, head

    def exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise Closed
            data += part
        return data

    def recv(self, n):
        while not self.buffer:
            first, length = self.exactly(2)
            assert first == 0x82 and not length & 0x80, (first, length)
            if length == 126:
                length, = struct.unpack(">H", self.exactly(2))
            elif length == 127:
                length, = struct.unpack(">Q", self.exactly(8))
            self.buffer = self.exactly(length)
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def sendall(self, data):
        mask = os.urandom(4)
        body = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        assert len(data) < 65536
        length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0xfe, len(data))
        self.sock.sendall(b"\x82" + length + mask + body)

    def fileno(self):
        return self.sock.fileno()


def des(password, challenge):
    key = bytes(int(f"{b:08b}"[::-1], 2) for b in password.encode().ljust(8, b"\0"))
    return subprocess.run(["openssl", "enc", "-des-ecb", "-nopad", "-K", key.hex(), "-provider", "legacy",
                           "-provider", "default"], input=challenge, stdout=subprocess.PIPE,
                          check=True).stdout


class Viewer:
    def __init__(self, address, encodings=(ZRLE, RAW, DESKTOP_SIZE), password=None, websocket=False,
                 ca=None, timeout=60):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        end = time.time() + 10
        while True:
            self.sock = socket.socket(family)
            self.sock.settimeout(timeout)
            try:
                self.sock.connect(address)
                break
            except (FileNotFoundError, ConnectionRefusedError):  # the machine is about to start
                if time.time() > end:
                    raise
                time.sleep(0.1)
        if ca:
            tls = ssl.create_default_context(cafile=ca)
        if ca and websocket:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        if websocket:
            self.sock = WebSocket(self.sock)
        self.z = zlib.decompressobj()
        self.received = 0
        assert self.read(12) == b"RFB 003.008\n"
        self.sock.sendall(b"RFB 003.008\n")
        types = self.read(self.read(1)[0])
        vencrypt = ca and not websocket
        assert types == (b"\x13" if vencrypt else b"\2" if password is not None else b"\1"), types
        self.sock.sendall(types)
        if vencrypt:
            assert self.read(2) == b"\0\2"
            self.sock.sendall(b"\0\2")
            assert self.read(2) == b"\0\1"
            subtype = self.read(4)
            assert struct.unpack(">I", subtype)[0] == (260 if password is None else 261), subtype
            self.sock.sendall(subtype)
            assert self.read(1) == b"\1"
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        if password is not None:
            self.sock.sendall(des(password, self.read(16)))
        result, = struct.unpack(">I", self.read(4))
        if result:
            raise Closed(self.read(struct.unpack(">I", self.read(4))[0]).decode())
        self.sock.sendall(b"\1")
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode()
        self.pixels = {}
        self.cursor, self.answers = None, []  # its shape; what was said of sizes: reason, status
        self.sock.sendall(struct.pack(">BxH", 2, len(encodings))
                          + b"".join(struct.pack(">i", e) for e in encodings))

    def read(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise Closed
            data += part
        self.received += n
        return data

    def request(self, incremental):
        self.sock.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def key(self, keysym, shift=False):
        keys = [0xffe1, keysym] if shift else [keysym]
        for down, k in [(1, k) for k in keys] + [(0, k) for k in reversed(keys)]:
            self.sock.sendall(struct.pack(">BBxxI", 4, down, k))

    def pointer(self, x, y, buttons=0):
        self.sock.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def set_size(self, width, height):
        self.sock.sendall(struct.pack(">BxHHBxIHHHHI", 251, width, height, 1, 1, 0, 0, width, height, 0))

    def quiet(self, seconds):
        """Nothing comes for so long, though an update was asked for."""
        return not select.select([self.sock], [], [], seconds)[0]

    def update(self):
        kind, n = struct.unpack(">BxH", self.read(4))
        assert kind == 0, kind
        for _ in range(n):
            x, y, w, h, encoding = struct.unpack(">HHHHi", self.read(12))
            if encoding == DESKTOP_SIZE:
                self.width, self.height, self.pixels = w, h, {}
            elif encoding == EXTENDED_SIZE:
                screens = self.read(4)
                assert screens[0] == 1, screens
                assert struct.unpack(">IHHHHI", self.read(16)) == (1, 0, 0, w, h, 0)
                self.answers.append((x, y))
                if (w, h) != (self.width, self.height):
                    self.width, self.height, self.pixels = w, h, {}
            elif encoding == CURSOR:
                pixels, mask = self.read(4 * w * h), self.read((w + 7) // 8 * h)
                self.cursor = (x, y, w, h, pixels, mask)
            elif encoding == RAW:
                self.raw(x, y, w, h)
            elif encoding == HEXTILE:
                self.hextile(x, y, w, h)
            elif encoding == ZRLE:
                self.zrle(x, y, w, h)
            else:
                raise AssertionError(f"encoding {encoding}")

    def raw(self, x, y, w, h):
        data = self.read(4 * w * h)
        for i in range(w * h):
            self.pixels[x + i % w, y + i // w] = data[4 * i:4 * i + 3]

    def hextile(self, x, y, w, h):
        for ty in range(y, y + h, 16):
            for tx in range(x, x + w, 16):
                self.hextile_tile(tx, ty, min(16, x + w - tx), min(16, y + h - ty))

    def hextile_tile(self, x, y, w, h):
        kind, = self.read(1)
        if kind & 1:
            return self.raw(x, y, w, h)
        if kind & 2:
            self.background = self.read(4)[:3]
        if kind & 4:
            self.foreground = self.read(4)[:3]
        self.fill(x, y, w, h, self.background)
        for _ in range(self.read(1)[0] if kind & 8 else 0):
            color = self.read(4)[:3] if kind & 16 else self.foreground
            at, size = self.read(2)
            assert (at >> 4) + (size >> 4) < w and (at & 15) + (size & 15) < h, (at, size, w, h)
            self.fill(x + (at >> 4), y + (at & 15), (size >> 4) + 1, (size & 15) + 1, color)

    def fill(self, x, y, w, h, color):
        for j in range(y, y + h):
            for i in range(x, x + w):
                self.pixels[i, j] = color

    def zrle(self, x, y, w, h):
        data = self.z.decompress(self.read(struct.unpack(">I", self.read(4))[0]))
        at = 0
        for ty in range(y, y + h, 64):
            for tx in range(x, x + w, 64):
                at = self.tile(data, at, tx, ty, min(64, x + w - tx), min(64, y + h - ty))
        assert at == len(data), (at, len(data))

    def tile(self, data, at, x, y, w, h):
        kind, at = data[at], at + 1
        assert kind <= 16, kind
        if kind == 0:
            for i in range(w * h):
                self.pixels[x + i % w, y + i // w] = data[at:at + 3]
                at += 3
            return at
        palette = [data[at + 3 * i:at + 3 * i + 3] for i in range(kind)]
        at += 3 * kind
        bits = 0 if kind == 1 else 1 if kind == 2 else 2 if kind <= 4 else 4
        for j in range(h):
            for i in range(w):
                byte = data[at + i * bits // 8] if bits else 0
                index = byte >> (8 - bits - i * bits % 8) & ((1 << bits) - 1) if bits else 0
                self.pixels[x + i, y + j] = palette[index]
            at += (w * bits + 7) // 8
        return at

    def rgb(self):
        """Rows of RGB bytes."""
        return [b"".join(self.pixels[x, y][::-1] for x in range(self.width)) for y in range(self.height)]
