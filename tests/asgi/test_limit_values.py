"""Each number of the option table at its value and one past it, through the running server. What is
not here has its place in COVERED, and a check that the place exists; tests/asgi/test_limits.py and
test_wt_pending.py are about limits alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aioquic.h3.connection import encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from harness import Receive, Running, Scope, Send, aio, serving, until_stats
from peers import dialled, every_version
from pronghorn import _core
from wt_client import Client, capsule, dial

TESTS = Path(__file__).resolve().parents[1]
FLOW_CONTROL_ERROR, STREAM_LIMIT_ERROR, PROTOCOL_VIOLATION = 0x3, 0x4, 0xA
EXCESSIVE_LOAD = 0x107
REQUEST_REJECTED = 0x10B


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes of the body; sessions are accepted and listened to."""
    if scope["type"] == "webtransport":
        await receive()
        await send({"type": "webtransport.accept"})
        while (await receive())["type"] != "webtransport.disconnect":
            pass
        return
    got, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        got += len(event["body"])
        more = event["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % got})


async def status(version: str, options: dict[str, Any], **request: Any) -> int:
    body = request.pop("body", None)
    async with serving(app, options=options) as server, dialled(version, server) as client:
        exchange = await client.start(end=body is None, **request)
        if body is not None:
            await exchange.send(body, end=True)
        await exchange.done()
        assert exchange.status or exchange.broken
        return exchange.status


# --- HTTP ----------------------------------------------------------------------------------------


def head_cost(version: str, fields: list[tuple[str, str]]) -> int:
    """Name, value and 32 bytes a field, RFC 9114 4.2.2."""
    own = {"1.1": [("host", "localhost")]}.get(
        version,
        [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")],
    )
    return sum(len(name) + len(value) + 32 for name, value in [*own, *fields])


@every_version
@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_head_bytes(version: str, over: int) -> None:
    fill = 1000 - head_cost(version, [("x", "")]) + over
    answer = await status(version, {"head_bytes": 1000}, headers=[("x", "a" * fill)])
    assert answer == (431 if over else 200)


@every_version
@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_head_fields(version: str, over: int) -> None:
    own = 1 if version == "1.1" else 0  # pseudo-header fields are none
    fields = [(f"x{number}", "a") for number in range(10 - own + over)]
    answer = await status(version, {"head_fields": 10}, headers=fields)
    assert answer == (431 if over else 200)


@every_version
@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_target_bytes(version: str, over: int) -> None:
    answer = await status(version, {"target_bytes": 16}, target="/" + "a" * (15 + over))
    assert answer == (414 if over else 200)


@every_version
@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("told", [True, False], ids=["length", "chunks"])
@aio
async def test_max_body(version: str, over: int, told: bool) -> None:
    body = b"x" * (1000 + over)
    headers = [("content-length", str(len(body)))] if told else []
    answer = await status(version, {"max_body": 1000}, method="POST", headers=headers, body=body)
    assert answer == (413 if over else 200)


@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_head_encoded(over: int) -> None:
    """A HEADERS frame whose beginning alone has come is held, or refused by its length alone."""
    async with serving(app, options={"head_encoded": 300}) as server, dial(server.quic) as client:
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a")]
        stream = client._quic.get_next_available_stream_id()
        fill = 0
        encoder = client.h3._encoder
        while True:  # five bits a letter (RFC 7541 B): no length is passed over
            path = [(b":path", b"/" + b"a" * fill)]
            _, section = encoder.encode(stream, [*fields, *path])
            if len(section) >= 300 + over:
                break
            fill += 1
        assert len(section) == 300 + over
        frame = encode_frame(1, section)
        client.send(stream, frame[:20])
        await client.ping()
        if not over:
            client.send(stream, frame[20:], end=True)
        await client.until(lambda: stream in client.headers or stream in client.resets)
        assert client.headers[stream][":status"] == ("431" if over else "200")


async def raw_h1(options: dict[str, Any], data: bytes) -> bytes:
    """Everything that is answered to these bytes."""
    async with serving(app, options=options) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_chunk_extension(over: int) -> None:
    line = b"1;" + b"e" * (19 + over)  # the semicolon counts
    answer = await raw_h1({"chunk_extension": 20}, CHUNKED + line + b"\r\nx\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400" if over else b"HTTP/1.1 200")


@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_chunk_overhead(over: int) -> None:
    """A chunk of one byte has five bytes of framing ("1", CR LF twice), the last line three."""
    count, rest = divmod(1024 - 3, 4)  # each brings a byte of payload, which allows one more
    body = b"1\r\nx\r\n" * (count - 1) + b"1" + b";" + b"e" * (rest + 3 + over) + b"\r\nx\r\n"
    framing = 5 * count + 1 + rest + 3 + over + 3
    assert framing == 1024 + count + 4 + over
    body = body.replace(b";" + b"e" * (rest + 3 + over), b";" + b"e" * (rest - 1 + over))
    answer = await raw_h1({"chunk_overhead": 1024}, CHUNKED + body + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400" if over else b"HTTP/1.1 200")


@aio
async def test_pipelined_max() -> None:
    """One is answered, two are read ahead; the fourth is not looked at before one is through."""
    calls, go = [], asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(scope["path"])
        await go.wait()
        await app(scope, receive, send)

    async with serving(slow, options={"pipelined_max": 2}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        for number in range(6):
            writer.write(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        await until_stats(lambda stats: stats["requests"] == 3)
        other_reader, other = await asyncio.open_connection("127.0.0.1", server.http)
        other.write(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")  # the server has had its turn
        while "/other" not in calls:
            await asyncio.sleep(0.01)
        assert calls == ["/0", "/1", "/2", "/other"]
        go.set()
        for _ in range(6):
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        other.close()
        del other_reader
    assert calls[-1] == "/5"


@every_version
@aio
async def test_body_window_and_stream_window(version: str) -> None:
    """What the application does not read is taken up to the window and no further."""
    go = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await app(scope, receive, send)

    window = {"1.1": "body_window", "2": "h2_stream_window", "3": "stream_window"}[version]
    size = 70000
    async with (
        serving(slow, options={window: size}) as server,
        dialled(version, server) as client,
    ):
        headers = [("content-length", str(5 * size))]
        exchange = await client.start("POST", "/", headers, end=False)
        sending = asyncio.create_task(exchange.send(b"x" * (5 * size), end=True))
        await until_stats(lambda stats: stats["bytes_in"] >= size - 100)  # framing has its part
        await asyncio.sleep(0.05)  # for what must not come
        assert server.server.stats()["bytes_in"] <= size
        go.set()
        await exchange.done()
        await sending
        assert exchange.body == b"%d" % (5 * size)


# --- QUIC ----------------------------------------------------------------------------------------


async def close_code(client: Client) -> int:
    await client.until(lambda: client.closed)
    assert client.closed is not None
    return client.closed.error_code


@pytest.mark.parametrize("kind", ["bidi", "uni"])
@aio
async def test_max_streams(kind: str) -> None:
    options = {"max_streams_bidi": 8, "max_streams_uni": 8}
    async with serving(app, options=options) as server, dial(server.quic) as client:
        quic = client._quic
        await client.connect_session("/")
        quic._remote_max_streams_bidi = quic._remote_max_streams_uni = 1000  # it does not ask
        used = 1 if kind == "bidi" else 3  # CONNECT; control and QPACK
        for _ in range(8 - used):
            client.open(bidirectional=kind == "bidi", data=b"x")
        await client.ping()
        assert client.closed is None
        client.open(bidirectional=kind == "bidi", data=b"x")
        assert await close_code(client) == STREAM_LIMIT_ERROR


@pytest.mark.parametrize("window", ["stream_window", "conn_window"])
@aio
async def test_quic_windows(window: str) -> None:
    """An application that reads nothing, and a client that does not look at its credit."""
    size = 20000

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "webtransport.accept"})
        with contextlib.suppress(asyncio.CancelledError):
            await ended.wait()

    ended = asyncio.Event()
    options = {window: size, "window_max": 4 * size} | (
        {"stream_window": size} if window == "conn_window" else {}
    )
    async with serving(deaf, options=options) as server, dial(server.quic) as client:
        quic = client._quic
        await client.connect_session("/")
        before = quic._remote_max_data_used
        credit = quic._remote_max_data - before
        stream = client.open(bidirectional=False, data=b"")
        header = quic._streams[stream].sender._buffer_stop
        limit = quic._streams[stream].max_stream_data_remote
        room = min(limit, credit) if window == "conn_window" else limit
        assert limit == size
        quic._remote_max_data = quic._streams[stream].max_stream_data_remote = 1 << 40
        client.send(stream, bytes(room - header))
        await client.ping()
        await client.ping()
        assert client.closed is None
        client.send(stream, b"x")
        assert await close_code(client) == FLOW_CONTROL_ERROR
        ended.set()


@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_max_datagram_frame(over: int) -> None:
    """The frame with its type and length."""
    options = {"max_datagram_frame": 100}
    async with serving(app, options=options) as server, dial(server.quic) as client:
        await client.connect_session("/")
        client._quic._remote_max_datagram_frame_size = 1000
        client.datagram(bytes(100 - 3 - 1 + over))  # type, length of two bytes; quarter id
        if over:
            assert await close_code(client) == PROTOCOL_VIOLATION
        else:
            await until_stats(lambda stats: stats["datagrams_in"] == 1)
            assert client.closed is None


class RawClients:
    """QUIC clients that send their first packet and nothing else."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)

    def hello(self) -> None:
        configuration = QuicConfiguration(
            is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name="a"
        )
        quic = QuicConnection(configuration=configuration)
        quic.connect(("127.0.0.1", 1), now=0.0)
        for data, _ in quic.datagrams_to_send(now=0.0):
            self.socket.send(data)

    def close(self) -> None:
        self.socket.close()


@contextlib.asynccontextmanager
async def raw_clients(**options: Any) -> AsyncIterator[tuple[Running, RawClients]]:
    async with serving(app, options=options) as server:
        clients = RawClients(server.quic)
        try:
            yield server, clients
        finally:
            clients.close()


@aio
async def test_half_open_retry() -> None:
    async with raw_clients(half_open_retry=2) as (server, clients):
        for _ in range(2):
            clients.hello()
        await until_stats(lambda stats: stats["conns_accepted"] == 2)
        assert server.server.stats()["retries_sent"] == 0
        clients.hello()
        await until_stats(lambda stats: stats["retries_sent"] == 1)
        assert server.server.stats()["conns_accepted"] == 2


@aio
async def test_half_open_max() -> None:
    async with raw_clients(half_open_max=2) as (server, clients):
        for _ in range(2):
            clients.hello()
        await until_stats(lambda stats: stats["conns_accepted"] == 2)
        assert server.server.stats()["handshakes_refused"] == 0
        clients.hello()
        await until_stats(lambda stats: stats["handshakes_refused"] == 1)
        assert server.server.stats()["conns_accepted"] == 2


@aio
async def test_glitch_burst_and_rate() -> None:
    options = {"glitch_burst": 100, "glitch_rate": 1}
    async with serving(app, options=options) as server, dial(server.quic) as client:
        for number in range(50):  # fewer than it may, each in a packet of its own
            client._quic.send_ping(1000 + number)
            client.transmit()
        await client.ping()
        assert client.closed is None
        assert server.server.stats()["limit_glitch"] == 0
        for number in range(300):
            client._quic.send_ping(2000 + number)
            client.transmit()
        assert await close_code(client) == EXCESSIVE_LOAD
        assert server.server.stats()["limit_glitch"] == 1


@aio
async def test_cancel_burst_and_rate() -> None:
    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    options = {"cancel_burst": 5, "cancel_rate": 1}
    async with serving(waiting, options=options) as server, dialled("3", server) as client:
        start = time.monotonic()
        for _ in range(5):
            (await client.start("GET")).abort()
        await client.connection.ping()
        assert not client.closed
        for _ in range(5):
            (await client.start("GET")).abort()
        if time.monotonic() - start < 4:
            assert await close_code(client.connection) == EXCESSIVE_LOAD
            assert server.server.stats()["limit_cancel"] == 1


@aio
async def test_max_connections_of_all_transports() -> None:
    async with (
        serving(app, options={"max_connections": 2}) as server,
        dial(server.quic) as client,
        dialled("1.1", server) as other,
    ):
        exchange = await other.start()
        assert (await exchange.done()).status == 200
        assert client.closed is None and server.server.stats()["limit_conns"] == 0
        async with dialled("1.1", server) as third:
            exchange = await third.start()
            await exchange.until(lambda: exchange.broken)
        assert server.server.stats()["limit_conns"] == 1
        with pytest.raises(ConnectionError):
            async with dial(server.quic):
                pass
        assert server.server.stats()["limit_conns"] >= 2


# --- WebTransport --------------------------------------------------------------------------------


@aio
async def test_wt_max_sessions() -> None:
    async with serving(app, options={"wt_max_sessions": 3}) as server, dial(server.quic) as client:
        sessions = []
        for _ in range(3):
            assert (await client.connect_session("/"))[":status"] == "200"
            sessions.append(client.session)
        refused = client.request_session("/")
        await client.until(lambda: refused in client.resets)
        assert client.resets[refused] == REQUEST_REJECTED
        assert server.server.stats()["limit_sessions"] == 1
        client.session = sessions[0]
        client.close_session()
        await client.until(lambda: sessions[0] in client.finished)
        assert (await client.connect_session("/"))[":status"] == "200"
        assert server.server.stats()["limit_sessions"] == 1
        client.close()


@pytest.mark.parametrize("over", [0, 1])
@aio
async def test_wt_capsule_skip_max(over: int) -> None:
    options = {"wt_capsule_skip_max": 1000}
    async with serving(app, options=options) as server, dial(server.quic) as client:
        await client.connect_session("/")
        client.session_data(capsule(0x7777, bytes(400)))
        client.session_data(capsule(0x7777, bytes(600 + over)))
        if over:
            await client.until(lambda: client.session in client.resets)
            assert client.resets[client.session] == EXCESSIVE_LOAD
        else:
            client.close_session()
            await client.until(lambda: client.session in client.finished)
            assert client.session not in client.resets


@aio
async def test_wt_close_timeout() -> None:
    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "webtransport.accept"})
        await send({"type": "webtransport.close", "code": 7})
        disconnect.append(await receive())

    disconnect: list[dict[str, Any]] = []
    options = {"wt_close_timeout": 100}
    async with serving(closing, options=options) as server, dial(server.quic) as client:
        await client.connect_session("/")
        await client.until(lambda: client.session in client.finished)  # the capsule and FIN
        await client.until(lambda: client.session in client.stops)  # we answer nothing
        while not disconnect:
            await asyncio.sleep(0.01)
    assert disconnect[0]["code"] == 7


@aio
async def test_datagram_bytes_in() -> None:
    """An application that does not receive: 64 are on their way to it, and what is behind them
    fits the bytes."""
    on_the_way, size, go = 64, 400, asyncio.Event()
    got: list[bytes] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "webtransport.accept"})
        await go.wait()
        while (event := await receive())["type"] == "webtransport.datagram.receive":
            got.append(event["data"])

    options = {"datagram_bytes_in": 1200}
    async with serving(slow, options=options) as server, dial(server.quic) as client:
        await client.connect_session("/")
        total = on_the_way + 1200 // size
        for number in range(total):
            client.datagram(b"%3d" % number + bytes(size - 3))
            await until_stats(lambda stats, n=number: stats["datagrams_in"] == n + 1)
        assert server.server.stats()["datagrams_in_dropped"] == 0
        client.datagram(b"%3d" % total + bytes(size - 3))
        await until_stats(lambda stats: stats["datagrams_in_dropped"] == 1)
        go.set()
        while len(got) < total:
            await asyncio.sleep(0.01)
        client.close_session()
    numbers = [int(data[:3]) for data in got]
    assert numbers == [n for n in range(total + 1) if n != on_the_way]  # the oldest of those


MARKS: dict[str, tuple[dict[str, int], int]] = {
    # option: (options, streams among which the writes go)
    "send_buffer": ({"send_buffer": 3000, "send_buffer_low": 1000}, 1),
    "session_send_buffer": ({"session_send_buffer": 3000}, 3),
}


@pytest.mark.parametrize("option", MARKS)
@aio
async def test_marks_above_which_a_writer_waits(option: str) -> None:
    """The client acknowledges nothing: 2999 bytes queued are below the mark, 3000 are not."""
    options, streams = MARKS[option]
    sent: list[int] = []

    async def writer(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "webtransport.accept"})
        ids = []
        for _ in range(streams):
            await send({"type": "webtransport.stream.open", "bidirectional": False})
            ids.append((await receive())["stream"])
        await receive()  # the client is frozen
        for number, size in enumerate((1000, 1000, 999, 1, 1)):
            message = {"type": "webtransport.stream.send", "stream": ids[number % streams]}
            await send(message | {"data": bytes(size)})
            sent.append(size)
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(writer, options=options) as server, dial(server.quic) as client:
        await client.connect_session("/")
        await client.until(lambda: len(client.streams) == streams or client.datagrams == [])
        client.datagram(b"go")
        client.freeze()
        while len(sent) < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # for what must not come
        assert sent == [1000, 1000, 999, 1]
        client.thaw()
        while len(sent) < 5:
            await asyncio.sleep(0.01)
        client.close_session()


# --- Sockets -------------------------------------------------------------------------------------


def sockets_of_this_process(kind: int) -> list[socket.socket]:
    found = []
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError, ValueError):
            sock = socket.socket(fileno=os.dup(int(name.name)))
            if sock.type == kind and sock.family == socket.AF_INET:
                found.append(sock)
            else:
                sock.close()
    return found


@aio
async def test_backlog_and_udp_buffer_reach_the_kernel() -> None:
    async with serving(app, options={"backlog": 7, "udp_buffer": 100_000}) as server:
        backlogs, buffers = set(), set()
        for sock in sockets_of_this_process(socket.SOCK_STREAM):
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                if sock.getsockname()[1] == server.http:
                    backlogs.add(struct.unpack_from("=I", info, 28)[0])  # tcpi_sacked
            sock.close()
        for sock in sockets_of_this_process(socket.SOCK_DGRAM):
            if sock.getsockname()[1] == server.quic:
                buffers.add(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
            sock.close()
    assert backlogs == {7}
    assert buffers == {200_000}  # the kernel doubles it for its own needs


# --- All of them ---------------------------------------------------------------------------------

HERE = "asgi/test_limit_values.py"
LIMITS = "asgi/test_limits.py"
PENDING = "asgi/test_wt_pending.py"
RATES = "sim/test_sim_quic_rates.c"
H2, H2_SETTINGS = "unit/test_h2_limits.c", "unit/test_h2_settings.c"
WS = "unit/test_ws.c"
WT = "sim/test_sim_wt_limits.c"
OPTIONS = "unit/test_server_options.c"

COVERED = {
    "handshake_timeout": ("unit/test_server.c", "silent_tls_handshake_is_ended"),
    "idle_timeout": ("sim/test_sim_quic.c", "silence_ends_in_the_idle_timeout"),
    "header_timeout": ("hostile/test_f_http1.py", "test_F13_slow_heads_on_many_connections"),
    "body_timeout": ("hostile/test_f_http1.py", "test_F14_slow_body"),
    "keep_alive": (OPTIONS, "keep_alive_ends_idle_connections"),
    "write_stall_timeout": (OPTIONS, "write_stall_timeout_ends_who_does_not_read"),
    "min_send_rate": (LIMITS, "test_a_reader_below_the_least_rate_is_cut_off"),
    "min_body_rate": (LIMITS, "test_a_body_below_the_least_rate_gets_408"),
    "body_rate_grace": (LIMITS, "test_a_body_above_the_least_rate_is_taken"),
    "no_request_timeout": (LIMITS, "test_a_connection_without_requests_is_closed"),
    "max_connections": (HERE, "test_max_connections_of_all_transports"),
    "max_connections_per_ip": (
        LIMITS,
        "test_connections_of_one_address_above_the_limit_are_refused",
    ),
    "max_concurrent_app_calls": (LIMITS, "test_calls_above_the_limit_get_503"),
    "memory_budget": (
        LIMITS,
        "test_above_the_memory_budget_new_work_is_refused_until_there_is_room",
    ),
    "head_bytes": (HERE, "test_head_bytes"),
    "head_fields": (HERE, "test_head_fields"),
    "target_bytes": (HERE, "test_target_bytes"),
    "head_encoded": (HERE, "test_head_encoded"),
    "max_body": (HERE, "test_max_body"),
    "body_window": (HERE, "test_body_window_and_stream_window"),
    "keep_alive_requests": (OPTIONS, "keep_alive_requests_end_the_connection"),
    "pipelined_max": (HERE, "test_pipelined_max"),
    "chunk_overhead": (HERE, "test_chunk_overhead"),
    "chunk_extension": (HERE, "test_chunk_extension"),
    "h2_max_streams": (H2, "streams_at_once"),
    "h2_max_frame": (H2_SETTINGS, "frames_of_the_largest_size_and_one_byte_more"),
    "h2_header_table": (
        H2_SETTINGS,
        "a_client_may_say_the_header_table_and_not_one_byte_more",
    ),
    "h2_settings_max": (H2, "settings_entries"),
    "h2_continuations": (H2, "continuation_frames"),
    "h2_replies_max": (H2, "replies_that_nobody_reads"),
    "h2_stream_window": (H2_SETTINGS, "a_byte_past_the_window_of_a_stream_costs_that_stream"),
    "h2_conn_window": (H2_SETTINGS, "a_byte_past_the_window_of_the_connection_ends_it"),
    "h2_idle_timeout": (H2, "idle_connections_end_and_busy_ones_do_not"),
    "h2_reset_burst": (H2, "resets_have_one_budget_whoever_says_them"),
    "h2_reset_rate": (H2, "resets_have_one_budget_whoever_says_them"),
    "half_open_retry": (HERE, "test_half_open_retry"),
    "half_open_max": (HERE, "test_half_open_max"),
    "max_streams_bidi": (HERE, "test_max_streams"),
    "max_streams_uni": (HERE, "test_max_streams"),
    "stream_window": (HERE, "test_quic_windows"),
    "conn_window": (HERE, "test_quic_windows"),
    "window_max": (
        "sim/test_sim_quic_streams.c",
        "a_window_grows_with_its_reader_up_to_the_maximum",
    ),
    "max_datagram_frame": (HERE, "test_max_datagram_frame"),
    "vn_rate": (RATES, "stateless_answers_up_to_their_rate_and_one_more"),
    "retry_rate": (RATES, "stateless_answers_up_to_their_rate_and_one_more"),
    "reset_rate": (RATES, "stateless_answers_up_to_their_rate_and_one_more"),
    "glitch_burst": (H2, "frames_without_progress_have_a_budget"),
    "glitch_rate": (H2, "frames_without_progress_have_a_budget"),
    "cancel_burst": (
        "sim/test_sim_h3_wire.c",
        "cancelled_requests_up_to_the_burst_and_one_more_or_one_a_second_later",
    ),
    "cancel_rate": (
        "sim/test_sim_h3_wire.c",
        "cancelled_requests_up_to_the_burst_and_one_more_or_one_a_second_later",
    ),
    "ws_max_size": (WS, "G1_size_of_a_message"),
    "ws_max_frames": (WS, "G1_frames_of_a_message"),
    "ws_max_queue": (WS, "G9_full_queue_stops_messages_and_not_pings"),
    "ws_queue_bytes": (WS, "G9_bytes_of_the_queue"),
    "ws_ping_interval": (WS, "pings_that_are_answered_go_on"),
    "ws_ping_timeout": (WS, "a_ping_without_its_own_pong_ends_in_1011"),
    "ws_close_timeout": (WS, "G7_a_peer_that_does_not_close_is_left_after_a_time"),
    "wt_max_sessions": (HERE, "test_wt_max_sessions"),
    "wt_session_burst": (
        WT,
        "sessions_asked_for_up_to_the_burst_and_one_more_then_at_the_rate",
    ),
    "wt_session_rate": (
        WT,
        "sessions_asked_for_up_to_the_burst_and_one_more_then_at_the_rate",
    ),
    "wt_accept_timeout": ("unit/test_server.c", "unanswered_session_gets_503"),
    "wt_close_timeout": (HERE, "test_wt_close_timeout"),
    "wt_pending_sessions": (
        PENDING,
        "test_session_ids_that_nobody_asked_for_are_held_up_to_the_limit",
    ),
    "wt_pending_streams": (PENDING, "test_a_limit_of_what_is_held_and_one_more"),
    "wt_pending_bytes": (PENDING, "test_a_limit_of_what_is_held_and_one_more"),
    "wt_pending_datagrams": (PENDING, "test_a_limit_of_what_is_held_and_one_more"),
    "wt_pending_datagram_bytes": (PENDING, "test_a_limit_of_what_is_held_and_one_more"),
    "wt_pending_timeout": (PENDING, "test_streams_of_no_session_are_refused_after_their_time"),
    "wt_capsule_skip_max": (HERE, "test_wt_capsule_skip_max"),
    "datagrams_in": ("unit/test_chan.c", "inbound_datagrams_keep_the_newest"),
    "datagram_bytes_in": (HERE, "test_datagram_bytes_in"),
    "datagrams_out": ("sim/test_sim_wt.c", "the_outbound_queue_drops_its_oldest"),
    "datagram_bytes_out": ("sim/test_sim_wt.c", "the_outbound_queue_drops_its_oldest"),
    "send_buffer": (HERE, "test_marks_above_which_a_writer_waits"),
    "send_buffer_low": (HERE, "test_marks_above_which_a_writer_waits"),
    "conn_send_buffer": ("unit/test_chan.c", "responses_of_one_connection_share_its_room"),
    "session_send_buffer": (HERE, "test_marks_above_which_a_writer_waits"),
    "ring_slots": (OPTIONS, "log_lines_without_room_are_counted"),
    "udp_buffer": (HERE, "test_backlog_and_udp_buffer_reach_the_kernel"),
    "backlog": (HERE, "test_backlog_and_udp_buffer_reach_the_kernel"),
}


def test_every_number_has_its_test() -> None:
    """A new number of the core's table gets its line above."""
    tuning = {"worker", "processes"}  # no bounds: who this process is among how many
    numbers = {
        name
        for name, _, _, accepts, _, _ in _core.options()
        if re.fullmatch(r"\d+ to \d+", accepts)
    } - tuning
    assert numbers - set(COVERED) == set()
    assert set(COVERED) - numbers == set()


@pytest.mark.parametrize("option", COVERED)
def test_the_test_of_a_number_is_there(option: str) -> None:
    file, name = COVERED[option]
    defined = rf"^(TEST\(\w+, |(async )?def ){name}\b"
    assert re.search(defined, (TESTS / file).read_text(), re.M), f"{name} is not in tests/{file}"
