"""WebSocket through a proxy: both ends of it, over HTTP/1.1 and HTTP/2, as a library says it and as its bytes are.

Usage: sockets.py PROXY_PORT CERTIFICATES KEY AUTHORITY MATRIX|BYTES|BAD|MALFORMED

Says `ok CASE` of each case, or why it failed, and `done` at last.
"""

import asyncio
import itertools
import random
import ssl
import struct
import sys
import zlib

import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)

LIMIT = 16 << 20
HEADS = 128 << 10
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


# Frames.


def frame(opcode, payload=b"", fin=True, rsv=0, masked=False, length=None):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    mask = 0x80 if masked else 0
    size = len(payload)
    if length is not None:
        head += length
    elif size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += bytes([mask | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    key = random.randbytes(4)
    pattern = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return head + key + (int.from_bytes(payload, "big") ^ pattern).to_bytes(size, "big")


def read_frames(data):
    """What complete frames say, unmasked, as (opcode, fin, rsv, payload), and what is left over."""
    frames = []
    while len(data) >= 2:
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = struct.unpack(">H", data[2:4])[0], 4
        elif size == 127:
            size, at = struct.unpack(">Q", data[2:10])[0], 10
        masked = data[1] & 0x80
        key = data[at : at + 4] if masked else b""
        at += len(key)
        if len(data) < at + size:
            break
        payload = data[at : at + size]
        if masked:
            payload = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
        frames.append((data[0] & 15, data[0] >> 7, data[0] >> 4 & 7, payload))
        data = data[at + size :]
    return frames, data


class Sender:
    """One side's frames."""

    def __init__(self, masked, deflate=None, bits=15):
        self.masked = masked
        self.keeps = deflate != "forgets"
        self.bits = bits
        self.zlib = self.new() if deflate else None

    def new(self):
        return zlib.compressobj(9, zlib.DEFLATED, -self.bits)

    def message(self, text, opcode=BINARY, parts=1, pings=False):
        rsv = 0
        if self.zlib:
            rsv = 4
            text = self.zlib.compress(text) + self.zlib.flush(zlib.Z_SYNC_FLUSH)
            text = text[:-4]
            if not self.keeps:
                self.zlib = self.new()
        step = max(1, -(-len(text) // parts))
        pieces = [text[i : i + step] for i in range(0, len(text), step)] or [b""]
        out = b""
        for i, piece in enumerate(pieces):
            out += frame(
                opcode if i == 0 else 0, piece, i + 1 == len(pieces), rsv if i == 0 else 0, self.masked
            )
            if pings and i + 1 < len(pieces):
                out += frame(PING, b"%d" % i, masked=self.masked)
        return out


# Connections.


class Http1:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def read(self):
        try:
            return await self.reader.read(1 << 16)
        except (ConnectionError, ssl.SSLError):
            return b""

    async def write(self, data):
        try:
            self.writer.write(data)
            await self.writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass

    def close(self):
        self.writer.close()


class Http2:
    """One stream of a connection that has no other."""

    def __init__(self, reader, writer, client):
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(client_side=client, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        if not client:
            self.h2.local_settings = h2.settings.Settings(
                client=False, initial_values={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
            )
        self.h2.initiate_connection()
        self.data, self.heads, self.room = asyncio.Queue(), asyncio.Queue(), asyncio.Event()
        self.settings = asyncio.Event()
        self.stream = None
        self.task = asyncio.create_task(self.pump())

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    async def pump(self):
        try:
            self.flush()
            while data := await self.reader.read(1 << 16):
                for event in self.h2.receive_data(data):
                    if isinstance(event, (h2.events.RequestReceived, h2.events.ResponseReceived)):
                        self.stream = event.stream_id
                        self.heads.put_nowait(dict(event.headers))
                    elif isinstance(event, h2.events.DataReceived):
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                        if event.data:
                            self.data.put_nowait(event.data)
                    elif isinstance(event, h2.events.RemoteSettingsChanged):
                        if self.h2.remote_settings.enable_connect_protocol:
                            self.settings.set()
                    elif isinstance(
                        event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)
                    ):
                        self.data.put_nowait(b"")
                self.room.set()
                self.flush()
        except (ConnectionError, ssl.SSLError, h2.exceptions.ProtocolError):
            pass
        self.data.put_nowait(b"")
        self.heads.put_nowait({})

    async def read(self):
        data = await self.data.get()
        if not data:
            self.data.put_nowait(b"")
        return data

    async def write(self, data):
        try:
            while data:
                room = self.h2.local_flow_control_window(self.stream)
                room = min(room, self.h2.max_outbound_frame_size)
                if not room:
                    self.room.clear()
                    await self.room.wait()
                    continue
                self.h2.send_data(self.stream, data[:room])
                data = data[room:]
                self.flush()
                await self.writer.drain()
        except (ConnectionError, ssl.SSLError, h2.exceptions.ProtocolError):
            pass

    def close(self):
        self.task.cancel()
        self.writer.close()


class Setup:
    """A server, and the way to it."""

    def __init__(self, proxy, certificates, key, authority, kind):
        self.proxy, self.kind = proxy, kind
        self.accepted = asyncio.Queue()
        self.of_server = self.of_client = None
        if kind != "plain":
            self.of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.of_server.load_cert_chain(certificates, key)
            self.of_client = ssl.create_default_context(cafile=authority)
            alpn = ["h2"] if kind == "h2" else ["http/1.1"]
            self.of_server.set_alpn_protocols(alpn)
            self.of_client.set_alpn_protocols(alpn)
        self.agree = ""

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.of_server, limit=HEADS)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        if self.kind == "h2":
            wire = Http2(reader, writer, False)
            head = await wire.heads.get()
            if not head:
                return
            wire.asked = head.get("sec-websocket-extensions", "")
            headers = [(":status", "200")]
            if self.agree:
                headers.append(("sec-websocket-extensions", self.agree))
            wire.h2.send_headers(wire.stream, headers)
            wire.flush()
        else:
            wire = Http1(reader, writer)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
            wire.asked = fields.get("sec-websocket-extensions", "")
            agree = f"Sec-WebSocket-Extensions: {self.agree}\r\n" if self.agree else ""
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                + agree.encode()
                + b"\r\n"
            )
        self.accepted.put_nowait(wire)

    async def tunnel(self):
        """A socket that leads to the server."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy, limit=HEADS)
        writer.write(f"CONNECT localhost:{self.port} HTTP/1.1\r\nHost: localhost:{self.port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        if self.of_client:
            await writer.start_tls(self.of_client, server_hostname="localhost")
        return reader, writer

    async def open(self, offer="", agree=""):
        """Both ends of a WebSocket: the client's and the server's."""
        self.agree = agree
        reader, writer = await self.tunnel()
        if self.kind == "h2":
            client = Http2(reader, writer, True)
            await client.settings.wait()
            client.stream = 1
            headers = [
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                (":path", "/socket"), (":authority", f"localhost:{self.port}"), ("sec-websocket-version", "13"),
            ]
            if offer:
                headers.append(("sec-websocket-extensions", offer))
            client.h2.send_headers(1, headers)
            client.flush()
            head = await client.heads.get()
            assert head.get(":status") == "200", head
        else:
            offer = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
            writer.write(
                f"GET /socket HTTP/1.1\r\nHost: localhost:{self.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head
            client = Http1(reader, writer)
        server = await self.accepted.get()
        return client, server


async def read_all(wire):
    data = b""
    while piece := await wire.read():
        data += piece
    return data


async def read_exactly(wire, length):
    data = bytearray()
    while len(data) < length:
        piece = await wire.read()
        if not piece:
            break
        data += piece
    return bytes(data)


# What is tried.

FAILED = []
COUNT = 0


async def case(name, what):
    global COUNT
    COUNT += 1
    try:
        await asyncio.wait_for(what, 60)
    except Exception as error:  # noqa: BLE001
        FAILED.append(name)
        print(f"FAILED {name}: {type(error).__name__}: {error}"[:600], flush=True)


def text_of(size, kind):
    if kind == "noise":
        return random.Random(size).randbytes(size)
    return (b"all work and no play makes jack a dull boy \xc3\xa4 " * (size // 46 + 1))[:size]


async def library(setup, deflate, sizes):
    """A library at both ends."""
    takes = deflate.split() if deflate else []
    bits = 10 if "bits" in takes else None
    factory = {"extensions": None, "compression": None}
    of_server = dict(factory)
    if deflate:
        factory["extensions"] = [
            ClientPerMessageDeflateFactory(
                server_no_context_takeover="server" in takes,
                client_no_context_takeover="client" in takes,
                server_max_window_bits=bits, client_max_window_bits=bits or True,
            )
        ]
        of_server["extensions"] = [ServerPerMessageDeflateFactory(server_max_window_bits=bits)]

    async def echo(socket):
        async for message in socket:
            await socket.send(message)
        
    server = await websockets.serve(
        lambda socket, *_: echo(socket), "127.0.0.1", 0, ssl=setup.of_server, max_size=LIMIT + 1, **of_server
    )
    setup.port = server.sockets[0].getsockname()[1]
    import socket as sockets

    loop = asyncio.get_running_loop()
    tcp = sockets.create_connection(("127.0.0.1", setup.proxy))
    tcp.sendall(f"CONNECT localhost:{setup.port} HTTP/1.1\r\nHost: localhost:{setup.port}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await loop.run_in_executor(None, tcp.recv, 1)
    tls = {"ssl": setup.of_client, "server_hostname": "localhost"} if setup.of_client else {}
    uri = ("wss" if tls else "ws") + f"://localhost:{setup.port}/socket"
    async with websockets.connect(uri, sock=tcp, max_size=LIMIT + 1, **tls, **factory) as socket:
        for size, kind, parts in sizes:
            message = text_of(size, kind)
            name = f"{setup.kind}, deflate {deflate}, {size} bytes of {kind} in {parts}"

            async def exchange():
                if parts == 1:
                    await socket.send(message)
                else:
                    step = -(-size // parts) or 1
                    await socket.send([message[i : i + step] for i in range(0, size, step)] or [b""])
                assert await socket.recv() == message, "another message comes back"
                if size % 2:
                    await (await socket.ping(b"p"))

            await case(name, exchange())
            if name in FAILED:
                return
        await case(f"{setup.kind}, {deflate}, text", text(socket))
    server.close()


async def text(socket):
    for message in ["", "ä", "€uro" * 20_000]:
        await socket.send(message)
        assert await socket.recv() == message


async def matrix(arguments):
    small = [(size, kind, parts) for size in [0, 1, 125, 126, 4_000, 65_535, 65_536, 70_000]
             for kind, parts in [("noise", 1), ("words", 3)]]
    small += [(1 << 20, "noise", 17), (3 << 20, "words", 1)]
    for kind in ["plain", "tls"]:
        for deflate in [None, "kept", "server", "client", "server client", "bits"]:
            sizes = list(small)
            if kind == "plain" and deflate in (None, "kept"):
                sizes += [(LIMIT, "words", 1), (LIMIT, "noise" if deflate is None else "words", 250)]
            await case(f"{kind} {deflate}", library(Setup(*arguments, kind), deflate, sizes))
    # The same in HTTP/2, where the library does not go: bytes come back as they were sent.
    setup = Setup(*arguments, "h2")
    await setup.start()
    for deflate, agree in [(None, ""), ("keeps", "permessage-deflate"),
                           ("forgets", "permessage-deflate; client_no_context_takeover")]:
        client, server = await setup.open("permessage-deflate", agree)
        sender = Sender(True, deflate)
        sizes = small + ([(LIMIT, "words", 40)] if deflate != "forgets" else [])
        for size, kind, parts in sizes:
            data = sender.message(text_of(size, kind), BINARY, parts, pings=size % 2)

            async def exchange():
                writing = asyncio.create_task(client.write(data))
                assert await read_exactly(server, len(data)) == data, "other bytes"
                await writing

            await case(f"h2, {deflate}, {size} of {kind} in {parts}", exchange())
        client.close()


async def exactly(setup, offer, agree, of_client, of_server):
    """Random messages both ways at once: the bytes that come are those that were sent."""
    client, server = await setup.open(offer, agree)
    assert server.asked.replace(" ", "") == agree_offer(offer), server.asked
    rng = random.Random(7)

    async def way(sender, source, drain):
        out = b""
        for _ in range(60):
            size = rng.choice([0, 1, 50, 126, 5_000, 66_000, 200_000])
            out += sender.message(text_of(size, rng.choice(["noise", "words"])), BINARY,
                                  rng.choice([1, 1, 2, 9]), rng.random() < 0.5)
            if rng.random() < 0.3:
                out += frame(rng.choice([PING, PONG]), rng.randbytes(rng.choice([0, 125])), masked=sender.masked)
        out += frame(CLOSE, b"\x03\xe8bye", masked=sender.masked)

        async def cut():
            at = 0
            while at < len(out):
                length = rng.choice([1, 2, 3, 1_000, 100_000])
                await source.write(out[at : at + length])
                at += length

        writing = asyncio.create_task(cut())
        assert await read_exactly(drain, len(out)) == out, "other bytes"
        await writing

    await asyncio.gather(
        way(Sender(True, *of_client), client, server), way(Sender(False, *of_server), server, client)
    )
    client.close()


def agree_offer(offer):
    return ",".join(part.replace(" ", "") for part in offer.split(",") if "permessage-deflate" in part)


async def as_bytes(arguments):
    for kind in ["plain", "tls", "h2"]:
        setup = Setup(*arguments, kind)
        await setup.start()
        for offer, agree, of_client, of_server in [
            ("", "", (), ()),
            ("permessage-deflate; client_max_window_bits", "", (), ()),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate", ("keeps",), ("keeps",)),
            ("x-other, permessage-deflate; client_max_window_bits",
             "permessage-deflate; client_max_window_bits=9; server_no_context_takeover", ("keeps", 9), ("forgets",)),
        ]:
            await case(f"{kind} {agree}", exactly(setup, offer, agree, of_client, of_server))


# What is blocked.

PAYLOAD, BYTES = b"x-planted-payload-x", b"x-planted-bytes-x"


def closed_with(data, code, before=b""):
    """Nothing but what was said before, and a close frame."""
    assert data.startswith(before), f"what was said before is missing: {data[:60]}"
    frames, rest = read_frames(data[len(before) :])
    assert not rest and len(frames) == 1, f"{frames} {rest[:50]}"
    opcode, fin, rsv, payload = frames[0]
    assert (opcode, fin, rsv) == (CLOSE, 1, 0), frames
    codes = code if isinstance(code, tuple) else (code,)
    assert struct.unpack(">H", payload[:2])[0] in codes, payload


async def blocked(setup, from_client, good, bad, code, deflate, offer="permessage-deflate", other=b""):
    client, server = await setup.open(offer, "permessage-deflate" if deflate else "")
    source, drain = (client, server) if from_client else (server, client)
    if good:
        writing = asyncio.create_task(source.write(good))
        assert await read_exactly(drain, len(good)) == good, "what is good"
        await writing
    if other:
        await drain.write(other)
        assert await read_exactly(source, len(other)) == other, "what is good of the other"
    await source.write(bad)
    got, told = await asyncio.gather(read_all(drain), read_all(source))
    closed_with(got, code)
    closed_with(told, code)
    client.close()
    server.close()


async def bad(arguments):
    for kind, from_client, marker in itertools.product(["plain", "h2"], [True, False], [PAYLOAD, BYTES]):
        setup = Setup(*arguments, kind)
        await setup.start()
        name = f"{kind}, {'client' if from_client else 'server'}, {marker.decode()}"

        def sender(deflate=None):
            return Sender(from_client, deflate)

        async def attempt(what, good, bad, deflate=None):
            await case(f"{name}: {what}", blocked(setup, from_client, good, bad, 1008, deflate))

        plain = sender()
        await attempt("alone", b"", plain.message(marker, TEXT))
        await attempt("behind another", plain.message(b"hello", TEXT), plain.message(b"so: " + marker, TEXT))
        await attempt("in parts", b"", plain.message(marker, TEXT, 7, True))
        await attempt("in parts of 70 KB", b"", plain.message(text_of(140_000 - 9, "words") + marker + b"." * 140_000, BINARY, 4))
        await attempt("behind a frame of 70 KB", plain.message(text_of(70_000, "noise")), plain.message(marker))
        await attempt("behind ten frames of 100 KB", plain.message(text_of(100_000, "words")) * 10, plain.message(marker))
        await attempt("at the end of 1 MB", b"", plain.message(text_of(1 << 20, "noise") + marker))
        await attempt("in a ping", plain.message(b"hello"), frame(PING, marker, masked=from_client))
        await attempt("in a close", b"", frame(CLOSE, b"\x03\xe8" + marker, masked=from_client))
        await attempt("in a ping within a message", b"", frame(TEXT, b"a", False, masked=from_client)
                      + frame(PING, marker, masked=from_client) + frame(0, b"b", masked=from_client))
        squeezed = sender("keeps")
        await attempt("compressed", squeezed.message(text_of(90_000, "words")), squeezed.message(b"ab" * 400 + marker + b"ab" * 400), "keeps")
        squeezed = sender("keeps")
        almost = marker[:-1] + b"y"
        await attempt("out of the window of another", squeezed.message(almost) + squeezed.message(b"-x" * 9), squeezed.message(marker), "keeps")
        squeezed = sender("keeps")
        half = len(marker) // 2
        await attempt("out of two others", squeezed.message(marker[:half]) + squeezed.message(marker[half:]), squeezed.message(marker, TEXT, 3), "keeps")
        squeezed = sender("keeps")
        await attempt("behind a compressed frame of 3 MB", squeezed.message(text_of(3 << 20, "words")), squeezed.message(marker), "keeps")
        setup.server.close()


async def malformed(arguments):
    head = bytes([TEXT])
    for kind, from_client in itertools.product(["plain", "h2"], [True, False]):
        setup = Setup(*arguments, kind)
        await setup.start()
        m = from_client

        def f(*args, **kwargs):
            return frame(*args, masked=m, **kwargs)

        bit = 0x80 if m else 0
        key = b"\0\0\0\0" if m else b""
        forgets = zlib.compressobj(9, zlib.DEFLATED, -15)
        cut = forgets.compress(b"x" * 500) + forgets.flush(zlib.Z_SYNC_FLUSH)
        hello = bytes([0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00])
        for what, data, code, deflate in [
            ("a wrong mask", frame(TEXT, b"a", masked=not m), 1002, False),
            ("RSV1 without an agreement", f(TEXT, b"a", rsv=4), 1002, False),
            ("RSV1 on a ping", f(PING, rsv=4), 1002, True),
            ("RSV1 on a continuation", f(TEXT, fin=False) + f(0, rsv=4), 1002, True),
            ("RSV2", f(TEXT, rsv=2), 1002, True),
            ("RSV3", f(TEXT, rsv=1), 1002, True),
            ("opcode 3", f(3), 1002, False),
            ("opcode 11", f(11), 1002, False),
            ("a ping in parts", f(PING, fin=False), 1002, False),
            ("a long ping", f(PING, b"a" * 126), 1002, False),
            ("a further part of nothing", f(0, b"a"), 1002, False),
            ("text within text", f(TEXT, fin=False) + f(TEXT), 1002, False),
            ("a length in 16 bits for 5", f(TEXT, b"", length=bytes([bit | 126, 0, 5])), 1002, False),
            ("a length in 64 bits for 5", f(TEXT, b"", length=bytes([bit | 127] + [0] * 7 + [5])), 1002, False),
            ("a length beyond all", f(TEXT, b"", length=bytes([bit | 127, 255] + [0] * 7)), 1009, False),
            ("a message beyond the limit", f(BINARY, b"", length=bytes([bit | 127]) + struct.pack(">Q", LIMIT + 1)), 1009, False),
            ("parts beyond the limit", f(BINARY, b"a" * 100_000, fin=False)
             + f(0, b"", length=bytes([bit | 127]) + struct.pack(">Q", LIMIT)), 1009, False),
            ("half a code", f(CLOSE, b"\x03"), 1002, False),
            ("code 1005", f(CLOSE, b"\x03\xed"), 1002, False),
            ("a reason that is no text", f(CLOSE, b"\x03\xe8\xff"), 1007, False),
            ("a close within a message", f(TEXT, fin=False) + f(CLOSE), 1002, False),
            ("text that is none", f(TEXT, b"\xff"), 1007, False),
            ("half a character", f(TEXT, b"\xe2", fin=False) + f(0, b"\x82"), 1007, False),
            ("damaged data", f(TEXT, b"\x06\x00", rsv=4), 1007, True),
            ("a message that ends within a block", f(BINARY, cut[:-6], rsv=4), 1007, True),
            ("data behind a final block", f(BINARY, hello + hello, rsv=4), 1007, True),
            ("what is not in the window", f(BINARY, b"\xf2\x00\x11\x00\x00", rsv=4), 1007, True),
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n", 1002, False),
        ]:
            # What is good before arrives, and nothing of what is not.
            good = f(TEXT, b"good") + f(PING)
            await case(f"{kind}, {from_client}: {what}",
                       blocked(setup, from_client, good, data, code, deflate, other=frame(TEXT, b"good", masked=not m)))
        setup.server.close()


async def main():
    proxy, certificates, key, authority, what = sys.argv[1:]
    arguments = (int(proxy), certificates, key, authority)
    await {"MATRIX": matrix, "BYTES": as_bytes, "BAD": bad, "MALFORMED": malformed}[what](arguments)
    print(f"done: {COUNT} cases, {len(FAILED)} failed", flush=True)


asyncio.run(main())
