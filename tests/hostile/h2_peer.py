"""An HTTP/2 client that writes frames as it likes. Only header compression comes from a library."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import hpack
from stand import Answer, Stand

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE, REFUSED_STREAM, CANCEL, COMPRESSION, CONNECT_ERROR, CALM, INADEQUATE = range(6, 13)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST = range(1, 7)

Fields = list[tuple[str | bytes, str | bytes]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    length = struct.pack(">I", len(payload))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*entries: tuple[int, int], ack: bool = False) -> bytes:
    payload = b"".join(struct.pack(">HI", key, value) for key, value in entries)
    return frame(SETTINGS, ACK if ack else 0, 0, payload)


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def literal(name: bytes, value: bytes, indexed: bool = False) -> bytes:
    """A field without Huffman coding and with a new name (RFC 7541 6.2)."""
    return (b"\x40" if indexed else b"\0") + string(name) + string(value)


def string(text: bytes) -> bytes:
    return integer(len(text), 7) + text


def integer(value: int, bits: int) -> bytes:
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([value])
    out, value = bytearray([limit]), value - limit
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    return bytes([*out, value])


def request_fields(path: str, method: str = "GET", **more: str) -> Fields:
    fields = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
    return [*fields.items(), *((name.replace("_", "-"), value) for name, value in more.items())]


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: list[tuple[str, str]] = field(default_factory=list)  # of HEADERS

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        assert self.kind in (RST_STREAM, GOAWAY)
        at = 4 if self.kind == GOAWAY else 0
        return struct.unpack_from(">I", self.payload, at)[0]


class H2Peer:
    """On a TLS connection with ALPN h2, or in cleartext with `plain`. `begin`: what is said first,
    the preface and SETTINGS unless something else."""

    def __init__(
        self, stand: Stand, begin: bytes | None = None, plain: bool = False, **kwargs: Any
    ) -> None:
        self.peer = stand.dial(**kwargs) if plain else stand.dial_tls(alpn="h2", **kwargs)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.next_stream = 1
        self.frames: list[Frame] = []  # read and not asked for
        self.say(PREFACE + settings() if begin is None else begin)

    def __enter__(self) -> H2Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.peer.socket.close()

    def say(self, data: bytes) -> bool:
        return self.peer.say(data)

    # --- requests ---

    def new_stream(self) -> int:
        self.next_stream += 2
        return self.next_stream - 2

    def head(self, fields: Fields, stream: int, end: bool = True) -> bytes:
        """A HEADERS frame. Nothing is put into the table of either side: what a server refuses
        does not spoil what follows."""
        block = b"".join(literal(_bytes(name), _bytes(value)) for name, value in fields)
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    def get(self, path: str, method: str = "GET", end: bool = True, **more: str) -> int:
        stream = self.new_stream()
        self.say(self.head(request_fields(path, method, **more), stream, end))
        return stream

    # --- what comes ---

    def read(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        peer = self.peer
        while True:
            if len(peer.data) >= 9:
                length = int.from_bytes(peer.data[:3], "big")
                if len(peer.data) >= 9 + length:
                    break
            if not peer.read_some():
                return None
        kind, flags, stream = struct.unpack_from(">BBI", peer.data, 3)
        payload = peer.data[9 : 9 + length]
        peer.data = peer.data[9 + length :]
        found = Frame(kind, flags, stream & 0x7FFFFFFF, payload)
        if kind == HEADERS:
            found.fields = [(_text(k), _text(v)) for k, v in self.decoder.decode(payload)]
        return found

    def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of this kind; those before it are kept in `frames`."""
        while found := self.read():
            if found.kind == kind and (stream is None or found.stream == stream):
                return found
            assert found.kind != GOAWAY, f"GOAWAY code={found.code}"
            self.frames.append(found)
        raise AssertionError(f"ended ({self.peer.end}) without {kind}: {self.frames[-5:]}")

    def fate(self, stream: int) -> Answer | int:
        """What became of a request: its answer, or the code that it was reset with."""
        headers: list[tuple[str, str]] = []
        body = b""
        while found := self.read():
            assert found.kind != GOAWAY or found.code == NO_ERROR, f"GOAWAY code={found.code}"
            if found.stream != stream:
                continue
            if found.kind == RST_STREAM:
                return found.code
            if found.kind == HEADERS:
                headers += found.fields
            elif found.kind == DATA:
                body += found.payload
            if found.kind in (HEADERS, DATA) and found.flags & END_STREAM:
                return Answer(int(dict(headers)[":status"]), headers[1:], body)
        raise AssertionError(f"ended ({self.peer.end}) without a word of stream {stream}")

    def answer(self, stream: int) -> Answer:
        fate = self.fate(stream)
        assert isinstance(fate, Answer), f"stream {stream} was reset with {fate}"
        return fate

    def end(self) -> int | None:
        """Reads to the end of the connection: the code of its GOAWAY, None when there was none."""
        code = None
        while found := self.read():
            if found.kind == GOAWAY:
                code = found.code
        return code

    def is_alive(self) -> bool:
        """A request is answered."""
        return self.answer(self.get("/ping")).body == b"pong"


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
