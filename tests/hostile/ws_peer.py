"""A WebSocket client that writes frames as it likes, over HTTP/1.1 or as a stream of HTTP/2."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from h2_peer import DATA, END_STREAM, HEADERS, RST_STREAM, Fields, H2Peer, frame, window
from stand import Peer, Stand

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
DEFLATE = "permessage-deflate; client_max_window_bits"


def ws(
    opcode: int,
    payload: bytes = b"",
    fin: bool = True,
    masked: bool = True,
    rsv: int = 0,
    length: bytes | None = None,
) -> bytes:
    """One frame. `length`: the second byte without the mask and what follows, as they shall be."""
    n = len(payload)
    if length is None and n < 126:
        length = bytes([n])
    elif length is None:
        length = b"\x7e" + struct.pack(">H", n) if n < 65536 else b"\x7f" + struct.pack(">Q", n)
    head = bytes([fin << 7 | rsv << 4 | opcode, length[0] | masked << 7]) + length[1:]
    if not masked:
        return head + payload
    mask = b"\x0f\xf0\x55\xaa"
    key = int.from_bytes(mask * (n // 4 + 1), "big") >> 8 * (4 - n % 4)
    mixed = int.from_bytes(payload, "big") ^ key
    return head + mask + mixed.to_bytes(n, "big")


def ws_close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return ws(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


def deflated(data: bytes) -> bytes:
    z = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH))[:-4]


def handshake(path: str = "/ws", *fields: bytes, key: bytes = KEY) -> bytes:
    lines = [f"GET {path} HTTP/1.1".encode(), b"Host: h", b"Upgrade: websocket"]
    lines += [b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + key]
    return b"\r\n".join([*lines, *fields, b"", b""])


@dataclass
class Message:
    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def code(self) -> int:
        assert self.opcode == CLOSE
        return struct.unpack(">H", self.payload[:2])[0] if self.payload else 1005


class WsPeer:
    """An accepted WebSocket: what is left of an HTTP/1.1 connection, or a stream of HTTP/2."""

    def __init__(self, peer: Peer, h2: H2Peer | None = None, stream: int = 0) -> None:
        self.peer, self.h2, self.stream = peer, h2, stream
        self.ended = ""  # "fin" or "reset", once it is
        self.data = b""  # received and not taken
        if h2 is None:
            self.data, peer.data = peer.data, b""

    @classmethod
    def dial(
        cls,
        stand: Stand,
        path: str = "/ws",
        carrier: str = "h1",
        deflate: bool = False,
        **kwargs: Any,
    ) -> WsPeer:
        """On a connection of its own. `carrier`: "h1" or "h2"."""
        if carrier == "h2":
            return cls.on(H2Peer(stand, **kwargs), path, deflate)
        peer = stand.dial(**kwargs)
        offer = [b"Sec-WebSocket-Extensions: " + DEFLATE.encode()] if deflate else []
        peer.say(handshake(path, *offer))
        answer = peer.answer()
        assert answer.status == 101 and answer.header("sec-websocket-accept") == ACCEPT, answer
        assert (answer.header("sec-websocket-extensions") is not None) == deflate
        return cls(peer)

    @classmethod
    def on(cls, h2: H2Peer, path: str = "/ws", deflate: bool = False) -> WsPeer:
        """A stream more of a connection (RFC 8441)."""
        stream = h2.new_stream()
        h2.say(h2.head(connect_fields(path, deflate), stream, end=False))
        found = dict(h2.until(HEADERS, stream).fields)
        assert found[":status"] == "200", found
        assert ("sec-websocket-extensions" in found) == deflate
        return cls(h2.peer, h2, stream)

    def __enter__(self) -> WsPeer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.peer.socket.close()

    def say(self, data: bytes) -> bool:
        if self.h2 is None:
            return self.peer.say(data)
        parts = [data[at : at + 16384] for at in range(0, len(data), 16384)]
        return all(self.h2.say(frame(DATA, 0, self.stream, part)) for part in parts)

    def _read_some(self) -> bool:
        if self.ended:
            return False
        if self.h2 is None:
            if not self.peer.read_some():
                self.ended = self.peer.end
                return False
            self.data, self.peer.data = self.data + self.peer.data, b""
            return True
        found = self.h2.read()
        assert found is not None, "the connection ended"
        if found.stream != self.stream or found.kind not in (DATA, RST_STREAM):
            return True
        if found.kind == RST_STREAM:
            self.ended = "fin" if found.code == 0 else "reset"
            return False
        self.data += found.payload
        if found.payload:
            self.h2.say(window(0, len(found.payload)) + window(self.stream, len(found.payload)))
        if found.flags & END_STREAM:
            self.ended = "fin"
        return True

    def read(self) -> Message | None:
        """The next frame; None at the end."""
        while True:
            if (found := self._parse()) is not None:
                return found
            if not self._read_some():
                return None

    def _parse(self) -> Message | None:
        data, at = self.data, 2
        if len(data) < 2:
            return None
        assert not data[1] & 0x80, "a server does not mask"
        n = data[1] & 0x7F
        if n >= 126:
            size = 2 if n == 126 else 8
            n, at = int.from_bytes(data[2 : 2 + size], "big"), 2 + size
        if len(data) < at + n:
            return None
        self.data = data[at + n :]
        return Message(data[0] & 0xF, data[at : at + n], bool(data[0] & 0x80), data[0] >> 4 & 7)

    def until(self, opcode: int) -> Message:
        while found := self.read():
            if found.opcode == opcode:
                return found
            assert found.opcode != CLOSE, found
        raise AssertionError(f"ended ({self.ended}) without {opcode}")

    def expect_close(self, code: int) -> None:
        """The server closes with this code; we answer, and it ends."""
        assert self.until(CLOSE).code == code
        self.say(ws_close(code))
        while self.read() is not None:
            pass
        assert self.ended == "fin"

    def is_alive(self) -> bool:
        self.say(ws(PING, b"alive?"))
        return self.until(PONG).payload == b"alive?"


def connect_fields(path: str, deflate: bool = False) -> Fields:
    fields: Fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("sec-websocket-version", "13"),
    ]
    return fields + ([("sec-websocket-extensions", DEFLATE)] if deflate else [])
