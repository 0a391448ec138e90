"""A WebTransport client for the tests, on aioquic (a second implementation of QUIC and HTTP/3).

It keeps everything that arrives and wakes whoever waits: `await client.until(lambda: ...)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.h3.connection import FrameType, H3Connection
from aioquic.h3.events import (
    DatagramReceived,
    DataReceived,
    HeadersReceived,
    WebTransportStreamDataReceived,
)
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)
from waiting import until

FIRST_CODE = 0x52E4A40FA8DB  # application error code 0 in HTTP/3's space
CLOSE_CAPSULE = 0x2843
DRAIN_CAPSULE = 0x78AE
GREASE_CAPSULE = 0x29 * 1000 + 0x17  # RFC 9297 5.4: types that nobody understands


def to_http3(code: int) -> int:
    return FIRST_CODE + code + code // 0x1E


def from_http3(code: int) -> int:
    shifted = code - FIRST_CODE
    return shifted - shifted // 0x1F


def capsule(kind: int, value: bytes = b"") -> bytes:
    return encode_uint_var(kind) + encode_uint_var(len(value)) + value


class Client(QuicConnectionProtocol):
    """One connection; `session` is the WebTransport session's stream id once connected."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.h3 = H3Connection(self._quic, enable_webtransport=True)
        self.changed = asyncio.Event()
        self.session = -1
        self.headers: dict[int, dict[str, str]] = {}  # of responses, by request stream
        self.bodies: dict[int, bytes] = {}
        self.finished: set[int] = set()  # request and data streams whose FIN came
        self.streams: dict[int, bytes] = {}  # WebTransport data streams
        self.order: list[int] = []  # data streams as they first appeared
        self.parts: list[tuple[int, int]] = []  # (data stream, bytes) as they arrived
        self.resets: dict[int, int] = {}  # HTTP/3 codes
        self.stops: dict[int, int] = {}
        self.datagrams: list[bytes] = []
        self.closed: ConnectionTerminated | None = None
        self._frozen: list[tuple[bytes, Any]] | None = None

    # --- what arrives ---------------------------------------------------------------------------

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        if self._frozen is not None:
            self._frozen.append((bytes(data), addr))  # type: ignore[arg-type]
            return
        super().datagram_received(data, addr)

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, StopSendingReceived):
            self.stops[event.stream_id] = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.closed = event
        for received in self.h3.handle_event(event):
            self._keep(received)
        self.changed.set()

    def _keep(self, event: Any) -> None:
        if isinstance(event, HeadersReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            self.headers.setdefault(event.stream_id, headers)
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
        elif isinstance(event, WebTransportStreamDataReceived):
            if event.stream_id not in self.streams:
                self.order.append(event.stream_id)
            self.parts.append((event.stream_id, len(event.data)))
            self.streams[event.stream_id] = self.streams.get(event.stream_id, b"") + event.data
        elif isinstance(event, DatagramReceived):
            self.datagrams.append(event.data)
        if getattr(event, "stream_ended", False):
            self.finished.add(event.stream_id)

    async def until(self, satisfied: Callable[[], Any]) -> Any:
        """Waits until the predicate holds and returns its value."""
        return await until(self.changed, satisfied)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: list[tuple[str, str]] | None = None,
        body: bytes | None = None,
    ) -> int:
        """Sends a request without waiting for the answer; returns its stream id. Where more of the
        answer is looked at than its headers, peers.py has a better client."""
        stream = self._quic.get_next_available_stream_id()
        if method == "HEAD":  # aioquic misses the body that content-length announces
            self.h3._check_content_length = lambda stream: None  # type: ignore[method-assign]
        fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", target),
            *(headers or []),
        ]
        if body is not None:
            fields.append(("content-length", str(len(body))))
        encoded = [(name.encode(), value.encode()) for name, value in fields]
        self.h3.send_headers(stream, encoded, end_stream=body is None)
        if body is not None:
            self.h3.send_data(stream, body, end_stream=True)
        self.transmit()
        return stream

    # --- the session ----------------------------------------------------------------------------

    def request_session(
        self, path: str = "/", headers: list[tuple[str, str]] | None = None, **pseudo: str
    ) -> int:
        """Sends CONNECT without waiting for the answer; returns the session's stream id."""
        self.session = self._quic.get_next_available_stream_id()
        fields = {
            ":method": "CONNECT",
            ":scheme": "https",
            ":authority": "localhost",
            ":path": path,
            ":protocol": "webtransport",
        } | {f":{name}": value for name, value in pseudo.items()}
        listed = [*fields.items(), *(headers or [])]
        self.h3.send_headers(
            self.session, [(name.encode(), value.encode()) for name, value in listed]
        )
        self.transmit()
        return self.session

    async def connect_session(self, path: str = "/", **kwargs: Any) -> dict[str, str]:
        """CONNECT and its answer's headers."""
        session = self.request_session(path, **kwargs)
        return await self.until(lambda: self.headers.get(session))

    def open(self, bidirectional: bool = True, data: bytes | None = None, end: bool = False) -> int:
        stream_id = self.h3.create_webtransport_stream(
            self.session, is_unidirectional=not bidirectional
        )
        if bidirectional:
            # aioquic takes what comes back on a stream that it opened itself for HTTP/3 frames.
            with self.h3._get_or_create_stream(stream_id) as stream:
                stream.frame_type = FrameType.WEBTRANSPORT_STREAM
                stream.session_id = self.session
        self.send(stream_id, data or b"", end)
        return stream_id

    def send(self, stream_id: int, data: bytes, end: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, end)
        self.transmit()

    def reset(self, stream_id: int, code: int) -> None:
        self._quic.reset_stream(stream_id, code)
        self.transmit()

    def stop(self, stream_id: int, code: int) -> None:
        self._quic.stop_stream(stream_id, code)
        self.transmit()

    def datagram(self, data: bytes) -> None:
        self.h3.send_datagram(self.session, data)
        self.transmit()

    def session_data(self, data: bytes, end: bool = False) -> None:
        """Capsule bytes inside a DATA frame of the CONNECT stream."""
        self.h3.send_data(self.session, data, end)
        self.transmit()

    def close_session(self, code: int = 0, reason: str = "") -> None:
        value = code.to_bytes(4, "big") + reason.encode()
        self.session_data(capsule(CLOSE_CAPSULE, value), end=True)

    def capsules(self) -> list[tuple[int, bytes]]:
        """What the server sent on the CONNECT stream so far."""
        data = Buffer(data=self.bodies.get(self.session, b""))
        found = []
        while not data.eof():
            kind, length = data.pull_uint_var(), data.pull_uint_var()
            found.append((kind, data.pull_bytes(length)))
        return found

    def arrived_before_the_end_of(self, stream_id: int) -> dict[int, int]:
        """Bytes of each data stream that came before the last ones of this."""
        last = max(i for i, (stream, _) in enumerate(self.parts) if stream == stream_id)
        counts: dict[int, int] = {}
        for stream, length in self.parts[:last]:
            counts[stream] = counts.get(stream, 0) + length
        return counts

    # --- the network ----------------------------------------------------------------------------

    def freeze(self) -> None:
        """Keeps arriving packets unread: the server hears no acknowledgement and gets no credit."""
        self._frozen = []

    def thaw(self) -> None:
        held, self._frozen = self._frozen or [], None
        for data, addr in held:
            super().datagram_received(data, addr)


@contextlib.asynccontextmanager
async def dial(
    port: int,
    *,
    protocol: type[Client] = Client,
    on_ticket: Callable[[Any], None] | None = None,
    early: bool = False,
    **options: Any,
) -> AsyncIterator[Client]:
    """Connects to 127.0.0.1 and closes at the end. `early`: does not wait for the handshake."""
    settings: dict[str, Any] = {
        "is_client": True,
        "alpn_protocols": ["h3"],
        "max_datagram_frame_size": 65536,
        "verify_mode": ssl.CERT_NONE,
        "server_name": "localhost",
    }
    configuration = QuicConfiguration(**settings | options)
    async with connect(
        "127.0.0.1",
        port,
        configuration=configuration,
        create_protocol=protocol,
        session_ticket_handler=on_ticket,
        wait_connected=not early,
    ) as client:
        assert isinstance(client, Client)
        if not early:
            await client.until(lambda: client.h3.received_settings is not None or client.closed)
        yield client
