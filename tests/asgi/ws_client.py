"""WebSocket clients of every version of HTTP behind one interface, frame by frame, so that a test
can say what no well-behaved library would:

    @every_socket
    @aio
    async def test_something(version: str) -> None:
        async with serving(app) as server, socket_to(version, server, "/path") as socket:
            await socket.text("hello")
            assert (await socket.frame()).text == "hello"

The tunnel is a connection of HTTP/1.1, or an extended CONNECT on h2 or aioquic (peers.py).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from harness import Running
from peers import Client, Exchange, Fields, dialled
from waiting import DEADLINE, until

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

every_socket = pytest.mark.parametrize("version", ["1.1", "2", "3"])


@dataclass
class Frame:
    first: int
    payload: bytes

    @property
    def opcode(self) -> int:
        return self.first & 15

    @property
    def compressed(self) -> bool:
        return bool(self.first & 0x40)

    @property
    def text(self) -> str:
        assert self.first == 0x80 | TEXT, self
        return self.payload.decode()

    @property
    def code(self) -> int:
        """Of a close frame; 1005 without one."""
        assert self.first == 0x80 | CLOSE, self
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005

    @property
    def reason(self) -> str:
        return self.payload[2:].decode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True):
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65536:
        head = bytes([first, bit | 126]) + struct.pack("!H", size)
    else:
        head = bytes([first, bit | 127]) + struct.pack("!Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    pattern = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ pattern).to_bytes(size, "big")
    return head + key + masked


class Socket:
    """A handshake and what came of it."""

    status = 0
    headers: Fields

    def __init__(self) -> None:
        self.headers = []
        self.at = 0  # bytes of the tunnel that were read as frames

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    # What a version provides.

    def received(self) -> bytes:
        """Everything behind the head so far."""
        raise NotImplementedError

    def has_ended(self) -> bool:
        raise NotImplementedError

    async def until(self, satisfied: Any) -> Any:
        raise NotImplementedError

    async def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def finish(self) -> None:
        """Ends our side of the tunnel."""
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

    def pause(self) -> None:
        """Reads no more."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    # Frames.

    async def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        await self.write(frame(opcode, payload, **options))

    async def text(self, text: str) -> None:
        await self.send(TEXT, text.encode())

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        payload = struct.pack("!H", code) + reason.encode() if code is not None else b""
        await self.send(CLOSE, payload)

    def _parse(self) -> Frame | None:
        data = self.received()
        left = len(data) - self.at
        if left < 2:
            return None
        first, size = data[self.at], data[self.at + 1]
        assert size < 128, "a server does not mask"
        wide = {126: 2, 127: 8}.get(size, 0)
        if left < 2 + wide:
            return None
        if wide:
            size = int.from_bytes(data[self.at + 2 : self.at + 2 + wide], "big")
        begin = self.at + 2 + wide
        if len(data) < begin + size:
            return None
        self.at = begin + size
        return Frame(first, bytes(data[begin : begin + size]))

    async def frame(self) -> Frame:
        """The next frame; an error at the end of the tunnel."""
        found: list[Frame] = []

        def satisfied() -> bool:
            next_one = self._parse()
            if next_one is not None:
                found.append(next_one)
            return bool(found) or self.has_ended()

        await self.until(satisfied)
        assert found, "the tunnel ended"
        return found[0]

    async def message(self) -> Frame:
        """The next frame that is no ping, which is answered."""
        while (received := await self.frame()).opcode == PING:
            await self.send(PONG, received.payload)
        return received

    async def ended(self) -> None:
        await self.until(self.has_ended)

    async def closed(self) -> Frame:
        """The server's close frame, answered in kind, and the end of the tunnel."""
        received = await self.message()
        assert received.opcode == CLOSE, received
        await self.send(CLOSE, received.payload)
        await self.ended()
        return received


class Socket1(Socket):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray()
        self.over = False
        self.error: BaseException | None = None
        self.changed = asyncio.Event()
        self.key = base64.b64encode(os.urandom(16)).decode()

    async def open(
        self, port: int, target: str, headers: Fields, tls: Any = None, early: bytes = b""
    ) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        fields = {
            "host": "localhost",
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-key": self.key,
            "sec-websocket-version": "13",
        }
        for name, _ in headers:
            fields.pop(name, None)
        lines = [f"{k}: {v}\r\n" for k, v in [*fields.items(), *headers] if v is not None]
        head = f"GET {target} HTTP/1.1\r\n{''.join(lines)}\r\n"
        self.writer.write(head.encode("latin-1") + early)
        text = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)
        line, *rest = text.decode("latin-1").split("\r\n")[:-2]
        self.status = int(line.split()[1])
        self.headers = [(k.lower(), v.strip()) for k, _, v in (x.partition(":") for x in rest)]
        if self.status == 101:
            digest = hashlib.sha1(self.key.encode() + GUID).digest()
            assert self.header("sec-websocket-accept") == base64.b64encode(digest).decode()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            while True:
                await self.may_read.wait()
                data = await self.reader.read(65536)
                self.buffer += data
                self.changed.set()
                if not data:
                    break
        except ConnectionError as error:
            self.error = error
        self.error = self.error or getattr(self.reader, "reset", None)
        self.over = True
        self.changed.set()

    def received(self) -> bytes:
        return self.buffer

    def has_ended(self) -> bool:
        return self.over

    async def until(self, satisfied: Any) -> Any:
        return await until(self.changed, satisfied)

    async def write(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def finish(self) -> None:
        with contextlib.suppress(OSError):  # the server was first
            self.writer.write_eof()

    def abort(self) -> None:
        self.writer.transport.abort()

    def pause(self) -> None:
        self.may_read.clear()
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]
        self.may_read.set()

    async def shut(self) -> None:
        self.reading.cancel()
        self.writer.close()
        with contextlib.suppress(asyncio.CancelledError):
            await self.reading


class SocketN(Socket):
    """An extended CONNECT (RFC 8441, RFC 9220)."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client

    async def open(self, target: str, headers: Fields, protocol: str = "websocket") -> None:
        await self.client.until(lambda: getattr(self.client, "ready", True))
        fields = [("sec-websocket-version", "13"), *headers]
        given = [name for name, _ in headers]
        fields = [(k, v) for i, (k, v) in enumerate(fields) if i > 0 or k not in given]
        fields = [(k, v) for k, v in fields if v is not None]
        self.exchange: Exchange = await self.client.start(
            "CONNECT", target, [(":protocol", protocol), *fields], end=False
        )
        await self.exchange.started()
        self.status, self.headers = self.exchange.status, self.exchange.headers

    def received(self) -> bytes:
        return self.exchange.body

    def has_ended(self) -> bool:
        return self.exchange.ended or self.exchange.broken

    async def until(self, satisfied: Any) -> Any:
        return await self.client.until(satisfied)

    async def write(self, data: bytes) -> None:
        await self.exchange.send(data)

    async def finish(self) -> None:
        await self.exchange.send(b"", end=True)

    def abort(self) -> None:
        self.exchange.abort()

    def pause(self) -> None:
        self.client.pause()

    def resume(self) -> None:
        self.client.resume()


@contextlib.asynccontextmanager
async def socket_to(
    version: str,
    server: Running,
    target: str = "/",
    headers: Fields | None = None,
    *,
    subprotocols: list[str] | None = None,
    deflate: str | None = None,
) -> AsyncIterator[Any]:
    """A handshake; `status` says whether it was accepted (101, or 200)."""
    fields = list(headers or [])
    if subprotocols:
        fields.append(("sec-websocket-protocol", ", ".join(subprotocols)))
    if deflate:
        fields.append(("sec-websocket-extensions", deflate))
    if version == "1.1":
        socket = Socket1()
        await socket.open(server.http, target, fields)
        try:
            yield socket
        finally:
            await socket.shut()
        return
    async with dialled(version, server) as client:
        other = SocketN(client)
        await other.open(target, fields)
        yield other
