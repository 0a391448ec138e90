"""Clients of every version of HTTP behind one interface, so that a fact about the server is tested
once and holds for all of them.

    @every_version
    @aio
    async def test_something(version: str) -> None:
        async with serving(app) as server, dialled(version, server) as client:
            exchange = await client.start("POST", "/", [("x-a", "1")], end=False)
            await exchange.send(b"body", end=True)
            await exchange.done()
            assert exchange.status == 200

Each is made from an implementation that is not ours: HTTP/1.1 is read line by line here, HTTP/2 is
h2, HTTP/3 is aioquic.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.stream
import pytest
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamReset
from certs import untrusting
from harness import Event, Running, answering, serving
from waiting import until
from wt_client import Client as QuicClient
from wt_client import dial

Fields = list[tuple[str, str]]

CANCELLED = {"2": 0x8, "3": 0x10C}  # what a client says that wants no more
INTERNAL_ERROR = {"1.1": None, "2": 0x2, "3": 0x102}
NO_ERROR = {"2": 0x0, "3": 0x100}


class Exchange:
    """One request and what came back so far."""

    def __init__(self, client: Client, method: str) -> None:
        self.client = client
        self.method = method
        self.id = -1
        self.informational: list[tuple[int, Fields]] = []
        self.status = 0
        self.headers: Fields = []
        self.body = bytearray()
        self.parts: list[bytes] = []
        self.trailers: Fields = []
        self.ended = False  # the end was said
        self.broken = False  # it will not be said any more
        self.reset: int | None = None  # the code, where the version has one
        self.stopped: int | None = None  # the server wants no more of the body

    @property
    def whole(self) -> bool:
        return self.ended and not self.broken

    @property
    def is_unwanted(self) -> bool:
        """What we have still to send of it is read by nobody."""
        return self.stopped is not None or self.broken

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def names(self) -> list[str]:
        return [key for key, _ in self.headers]

    async def until(self, satisfied: Callable[[], Any]) -> Any:
        return await self.client.until(satisfied)

    async def started(self) -> Exchange:
        await self.until(lambda: self.status or self.broken)
        return self

    async def done(self) -> Exchange:
        await self.until(lambda: self.ended or self.broken)
        return self

    async def send(self, data: bytes, *, end: bool = False) -> None:
        await self.client.send(self, data, end)

    def abort(self) -> None:
        """Gives the exchange up: a reset, or over HTTP/1.1 the end of the connection."""
        self.client.abort(self)


class Client:
    """A connection. What a kind of it provides is below; `changed` wakes those who wait."""

    version: str

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.closed = False

    async def until(self, satisfied: Callable[[], Any]) -> Any:
        return await until(self.changed, satisfied)

    async def start(
        self, method: str = "GET", target: str = "/", headers: Fields | None = None, *,
        end: bool = True, host: str = "localhost",
    ) -> Exchange:  # fmt: skip
        raise NotImplementedError

    async def send(self, exchange: Exchange, data: bytes, end: bool) -> None:
        raise NotImplementedError

    def abort(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def pause(self) -> None:
        """Reads no more, and so gives no credit."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError


class Client1(Client):
    """HTTP/1.1 in cleartext. Requests may be started while others are under way (pipelining)."""

    version = "1.1"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self.reader, self.writer = reader, writer
        self.waiting: asyncio.Queue[Exchange] = asyncio.Queue()
        self.chunked: set[int] = set()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.reading = asyncio.ensure_future(self._read())

    async def start(
        self, method: str = "GET", target: str = "/", headers: Fields | None = None, *,
        end: bool = True, host: str = "localhost",
    ) -> Exchange:  # fmt: skip
        exchange = Exchange(self, method)
        fields = [("host", host), *(headers or [])]
        if not end and not any(name == "content-length" for name, _ in fields):
            fields.append(("transfer-encoding", "chunked"))
            self.chunked.add(id(exchange))
        text = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields)
        self._ask(exchange, (text + "\r\n").encode("latin-1"))
        return exchange

    def raw(self, data: bytes, method: str = "GET") -> Exchange:
        """Sends these bytes as they are; the exchange is what is answered to them."""
        exchange = Exchange(self, method)
        self._ask(exchange, data)
        return exchange

    def _ask(self, exchange: Exchange, data: bytes) -> None:
        exchange.broken = self.closed
        self.writer.write(data)
        self.waiting.put_nowait(exchange)

    async def send(self, exchange: Exchange, data: bytes, end: bool) -> None:
        if id(exchange) in self.chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data) if data else b""
            data += b"0\r\n\r\n" if end else b""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def abort(self, exchange: Exchange) -> None:
        self.writer.transport.abort()

    def pause(self) -> None:
        self.may_read.clear()

    def resume(self) -> None:
        self.may_read.set()

    async def _read(self) -> None:
        exchange = None
        try:
            while True:
                await self.reader_has_data()
                exchange = await self.waiting.get()
                await self._answer(exchange)
                exchange.ended = True
                self.changed.set()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, IndexError):
            pass
        self.closed = True
        for left in [exchange, *self.waiting._queue]:  # type: ignore[attr-defined]
            if left is not None and not left.ended:
                left.broken = True
        self.changed.set()

    async def reader_has_data(self) -> None:
        """Waits for a byte, or for the end of the connection, which is an error here."""
        self._first = await self.reader.readexactly(1)

    async def _answer(self, exchange: Exchange) -> None:
        first = self._first
        while True:
            text = (first + await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first = b""
            line, *lines = text.split("\r\n")[:-2]
            exchange_status = int(line.split()[1])
            headers = [(k, v.strip()) for k, _, v in (each.partition(":") for each in lines)]
            if exchange_status >= 200:
                break
            exchange.informational.append((exchange_status, headers))
            self.changed.set()
        exchange.status, exchange.headers = exchange_status, headers
        self.changed.set()
        if exchange.method == "HEAD" or exchange.status in (204, 304):
            return
        if exchange.header("transfer-encoding") == "chunked":
            await self._chunks(exchange)
        elif (length := exchange.header("content-length")) is not None:
            while len(exchange.body) < int(length):
                self._keep(exchange, await self._some(int(length) - len(exchange.body)))
        else:
            while data := await self.reader.read(65536):
                self._keep(exchange, data)

    async def _some(self, limit: int) -> bytes:
        await self.may_read.wait()
        data = await self.reader.read(min(limit, 65536))
        if not data:
            raise asyncio.IncompleteReadError(b"", limit)
        return data

    async def _chunks(self, exchange: Exchange) -> None:
        while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
            part = b""
            while len(part) < size:
                part += await self._some(size - len(part))
            assert await self.reader.readexactly(2) == b"\r\n"
            self._keep(exchange, part)
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            exchange.trailers.append((name, value.strip()))

    def _keep(self, exchange: Exchange, data: bytes) -> None:
        exchange.body += data
        exchange.parts.append(data)
        self.changed.set()


# h2 knows of HEAD, but misses the body that the content-length of a 304 announces.
h2.stream.H2Stream._initialize_content_length = lambda self, headers: None

# It also takes a GOAWAY for the end, while the streams under way go on (RFC 9113 6.8).
h2.connection.H2ConnectionStateMachine._transitions[
    (h2.connection.ConnectionState.CLIENT_OPEN, h2.connection.ConnectionInputs.RECV_GOAWAY)
] = (None, h2.connection.ConnectionState.CLIENT_OPEN)


class Client2(Client, asyncio.Protocol):
    """HTTP/2 by ALPN, on h2."""

    version = "2"

    def __init__(self) -> None:
        super().__init__()
        # What the library would refuse to send is for us to decide.
        config = h2.config.H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.exchanges: dict[int, Exchange] = {}
        self.goaway: int | None = None
        self.paused = False
        self.unacknowledged: list[tuple[int, int]] = []
        self.ready = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.transport.abort()
            raise
        for event in events:
            self._take(event)
        self.flush()
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for exchange in self.exchanges.values():
            exchange.broken = exchange.broken or not exchange.ended
        self.changed.set()

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.ready = True
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
        exchange = self.exchanges.get(getattr(event, "stream_id", None) or 0)
        if exchange is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            status, headers = split_status(event.headers)
            exchange.informational.append((status, headers))
        elif isinstance(event, h2.events.ResponseReceived):
            exchange.status, exchange.headers = split_status(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            exchange.trailers = [(str(name), str(value)) for name, value in event.headers or []]
        elif isinstance(event, h2.events.DataReceived):
            exchange.body += event.data or b""
            exchange.parts.append(event.data or b"")
            credit = (event.flow_controlled_length or 0, exchange.id)
            self.unacknowledged.append(credit)
            if not self.paused:
                self._acknowledge()
        elif isinstance(event, h2.events.StreamEnded):
            exchange.ended = True
        elif isinstance(event, h2.events.StreamReset):
            code = int(event.error_code or 0)
            if exchange.ended or code == 0:
                exchange.stopped = code
            else:
                exchange.reset, exchange.broken = code, True

    def _acknowledge(self) -> None:
        for length, stream in self.unacknowledged:
            if length > 0:
                self.h2.acknowledge_received_data(length, stream)
        self.unacknowledged.clear()

    async def start(
        self, method: str = "GET", target: str = "/", headers: Fields | None = None, *,
        end: bool = True, host: str = "localhost",
    ) -> Exchange:  # fmt: skip
        exchange = Exchange(self, method)
        exchange.id = self.h2.get_next_available_stream_id()
        self.exchanges[exchange.id] = exchange
        fields = request_fields(method, target, headers, host)
        self.h2.send_headers(exchange.id, fields, end_stream=end)
        self.flush()
        return exchange

    async def send(self, exchange: Exchange, data: bytes, end: bool) -> None:
        view = memoryview(data)
        try:
            while view or end:
                size = min(self._window(exchange), self.h2.max_outbound_frame_size, len(view))
                if size == 0 and view:
                    await self.until(lambda: exchange.is_unwanted or self._window(exchange) > 0)
                    if exchange.is_unwanted:
                        break
                    continue
                last = end and size == len(view)
                self.h2.send_data(exchange.id, bytes(view[:size]), end_stream=last)
                view = view[size:]
                self.flush()
                if last:
                    break
        except (h2.exceptions.StreamClosedError, h2.exceptions.NoSuchStreamError):
            pass  # the server wants no more of it

    def _window(self, exchange: Exchange) -> int:
        return self.h2.local_flow_control_window(exchange.id)

    def abort(self, exchange: Exchange) -> None:
        self.h2.reset_stream(exchange.id, CANCELLED["2"])
        self.flush()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._acknowledge()
        self.flush()


class QuicClient3(QuicClient):
    """aioquic's connection with everything that came back, in order and undigested."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # aioquic misses the body that the content-length of 304 and of HEAD announces.
        self.h3._check_content_length = lambda stream: None  # type: ignore[method-assign]
        self.owner = Client3(self)

    def quic_event_received(self, event: QuicEvent) -> None:
        super().quic_event_received(event)
        exchange = self.owner.exchanges.get(getattr(event, "stream_id", -1))
        if exchange is not None and isinstance(event, StreamReset):
            exchange.reset, exchange.broken = event.error_code, True
        elif exchange is not None and isinstance(event, StopSendingReceived):
            exchange.stopped = event.error_code
        if self.closed is not None:
            self.owner.end()
        self.owner.changed.set()

    def _keep(self, event: Any) -> None:
        exchange = self.owner.exchanges.get(getattr(event, "stream_id", -1))
        if exchange is None:
            super()._keep(event)
            return
        if isinstance(event, HeadersReceived):
            fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            if not fields or fields[0][0] != ":status":
                exchange.trailers = fields
            elif (status := int(fields[0][1])) < 200:
                exchange.informational.append((status, fields[1:]))
            else:
                exchange.status, exchange.headers = status, fields[1:]
        elif isinstance(event, DataReceived):
            exchange.body += event.data
            exchange.parts.append(event.data)
        exchange.ended = exchange.ended or getattr(event, "stream_ended", False)


class Client3(Client):
    """HTTP/3, on aioquic."""

    version = "3"

    def __init__(self, connection: QuicClient3) -> None:
        super().__init__()
        self.connection = connection
        self.exchanges: dict[int, Exchange] = {}

    def end(self) -> None:
        self.closed = True
        for exchange in self.exchanges.values():
            exchange.broken = exchange.broken or not exchange.ended

    async def start(
        self, method: str = "GET", target: str = "/", headers: Fields | None = None, *,
        end: bool = True, host: str = "localhost",
    ) -> Exchange:  # fmt: skip
        connection = self.connection
        exchange = Exchange(self, method)
        exchange.id = connection._quic.get_next_available_stream_id()
        self.exchanges[exchange.id] = exchange
        fields = request_fields(method, target, headers, host)
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        connection.h3.send_headers(exchange.id, encoded, end_stream=end)
        connection.transmit()
        return exchange

    async def send(self, exchange: Exchange, data: bytes, end: bool) -> None:
        if not exchange.is_unwanted:
            self.connection.h3.send_data(exchange.id, data, end)
            self.connection.transmit()

    def abort(self, exchange: Exchange) -> None:
        self.connection.reset(exchange.id, CANCELLED["3"])
        self.connection.stop(exchange.id, CANCELLED["3"])

    def pause(self) -> None:
        self.connection.freeze()

    def resume(self) -> None:
        self.connection.thaw()


def request_fields(method: str, target: str, headers: Fields | None, host: str) -> Fields:
    pseudo = [(":method", method), (":scheme", "https"), (":authority", host), (":path", target)]
    return [*pseudo, *(headers or [])]


def split_status(headers: Any) -> tuple[int, Fields]:
    (_, status), *rest = [(str(name), str(value)) for name, value in headers]
    return int(status), rest


@contextlib.asynccontextmanager
async def dialled(version: str, server: Running) -> AsyncIterator[Any]:
    """A connection of one version; closed at the end."""
    client: Client
    if version == "1.1":
        streams = await asyncio.open_connection("127.0.0.1", server.http, limit=65536)
        client = Client1(*streams)
        try:
            yield client
        finally:
            client.reading.cancel()
            client.writer.close()
    elif version == "2":
        transport, client = await asyncio.get_running_loop().create_connection(
            Client2, "127.0.0.1", server.https, ssl=untrusting("h2")
        )
        try:
            await client.until(lambda: client.ready or client.closed)
            yield client
        finally:
            transport.close()
    else:
        async with dial(server.quic, protocol=QuicClient3) as connection:
            assert isinstance(connection, QuicClient3)
            yield connection.owner


async def ask(
    version: str, server: Running, method: str = "GET", target: str = "/",
    headers: Fields | None = None, body: bytes | None = None,
) -> Exchange:  # fmt: skip
    """One request on a connection of its own, and its whole answer."""
    async with dialled(version, server) as client:
        fields = list(headers or [])
        if body is not None:
            fields.append(("content-length", str(len(body))))
        exchange = await client.start(method, target, fields, end=body is None)
        if body is not None:
            await exchange.send(body, end=True)
        return await exchange.done()


async def answer_to(
    version: str, *messages: Event, method: str = "GET", headers: Fields | None = None
) -> Exchange:
    """What a client gets of an application that sends these."""
    async with serving(answering(*messages)) as server:
        return await ask(version, server, method, headers=headers)


VERSIONS = ["1.1", "2", "3"]
every_version = pytest.mark.parametrize("version", VERSIONS, ids=[f"h{v[0]}" for v in VERSIONS])
# Where streams of one connection do not wait for each other.
STREAMED = [version for version in VERSIONS if version != "1.1"]
streamed_versions = pytest.mark.parametrize("version", STREAMED, ids=[f"h{v}" for v in STREAMED])
