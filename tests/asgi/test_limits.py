"""Limits of the whole server: at their value nothing happens, one past it the right refusal."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest
from certs import untrusting
from harness import Receive, Running, Scope, Send, aio, serving, until_stats
from peers import ask
from wt_client import dial


class Doors:
    """An application whose calls stay inside until the test lets them out."""

    def __init__(self) -> None:
        self.inside = 0
        self.changed = asyncio.Condition()
        self.leave = asyncio.Event()
        self.received: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/quick":
            await reply(send)
            return
        await self._count(1)
        try:
            if scope["type"] in ("webtransport", "websocket"):
                await receive()
                await send({"type": scope["type"] + ".accept"})
                await self.leave.wait()
            else:
                await self.leave.wait()
                await reply(send)
        except OSError:  # the client has left long ago
            pass
        finally:
            await self._count(-1)

    async def _count(self, n: int) -> None:
        async with self.changed:
            self.inside += n
            self.changed.notify_all()

    async def until(self, n: int) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: self.inside == n), 20)


async def reply(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def status_h3(server: Running, **kwargs: Any) -> tuple[int, str | None]:
    answer = await ask("3", server, **kwargs)
    return answer.status, answer.header("retry-after")


async def status_h1(server: Running, **kwargs: Any) -> tuple[int, str | None]:
    answer = await ask("1.1", server, **kwargs)
    return answer.status, answer.header("retry-after")


async def status_session(server: Running) -> tuple[int, str | None]:
    async with dial(server.quic) as client:
        headers = await client.connect_session("/quick")
        return int(headers[":status"]), headers.get("retry-after")


# --- calls of the application at once ------------------------------------------------------------


@aio
async def test_calls_above_the_limit_get_503() -> None:
    app = Doors()
    async with serving(app, options={"max_concurrent_app_calls": 3}) as server:
        first = asyncio.create_task(ask("1.1", server))
        second = asyncio.create_task(ask("3", server))
        async with dial(server.quic) as client:
            await client.connect_session("/")
            await app.until(3)  # a request of each protocol and a session
            body = b"x" * 100_000
            assert await status_h1(server) == (503, "1")
            assert await status_h1(server, method="POST", body=body) == (503, "1")
            assert await status_h3(server) == (503, "1")
            assert await status_h3(server, method="POST", body=body) == (503, "1")
            assert await status_session(server) == (503, "1")
            assert server.server.stats()["limit_app_calls"] == 5
            assert server.server.stats()["requests"] == 2
            app.leave.set()
            assert (await first).status == (await second).status == 200
        await app.until(0)
        assert (await status_h1(server, target="/quick"))[0] == 200
        assert server.server.stats()["limit_app_calls"] == 5


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@aio
async def test_websockets_are_calls_too() -> None:
    app = Doors()
    async with serving(app, options={"max_concurrent_app_calls": 1}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(UPGRADE)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert (await status_h1(server)) == (503, "1")
        other_reader, other = await asyncio.open_connection("127.0.0.1", server.http)
        other.write(UPGRADE)
        head = await other_reader.readuntil(b"\r\n\r\n")
        assert b" 503 " in head and b"retry-after: 1" in head
        app.leave.set()
        await app.until(0)
        writer.close()  # a closing handshake that nobody answers is not waited for
        other.close()
        while (await status_h1(server))[0] != 200:
            await asyncio.sleep(0.01)


@aio
async def test_a_refusal_leaves_the_connection_usable() -> None:
    app = Doors()
    async with serving(app, options={"max_concurrent_app_calls": 1}) as server:
        held = asyncio.create_task(ask("1.1", server))
        await app.until(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        request = b"POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 503 " in head
        assert await reader.readexactly(19) == b"Service Unavailable"
        app.leave.set()
        assert (await held).status == 200
        await app.until(0)
        writer.write(request)
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()


@aio
async def test_a_call_counts_until_it_ends_though_its_client_has_left() -> None:
    app = Doors()
    async with serving(app, options={"max_concurrent_app_calls": 2}) as server:
        async with dial(server.quic) as client:
            client.request()
            await client.connect_session("/")
            await app.until(2)
        await until_stats(lambda stats: stats["conns_closed"] == stats["conns_accepted"])
        assert (await status_h1(server))[0] == 503
        app.leave.set()
        await app.until(0)
        assert (await status_h1(server))[0] == 200


@aio
async def test_a_hundred_calls_at_once_are_honest_work() -> None:
    app = Doors()
    async with serving(app) as server, dial(server.quic) as client:
        streams = [client.request() for _ in range(100)]
        await app.until(100)
        app.leave.set()
        await client.until(lambda: client.finished >= set(streams))
        assert {client.headers[stream][":status"] for stream in streams} == {"200"}
        assert server.server.stats()["limit_app_calls"] == 0


# --- connections of one address ------------------------------------------------------------------

NOT_LOOPBACK = {"unlimited_peer": "192.0.2.1"}  # so that loopback is counted


async def is_served(server: Running) -> tuple[bool, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
    try:
        writer.write(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
        return b" 200 " in await reader.readuntil(b"\r\n\r\n"), writer
    except (asyncio.IncompleteReadError, ConnectionError):
        return False, writer


async def is_refused(server: Running) -> bool:
    """Whether a new QUIC connection is turned away before its handshake is over."""
    try:
        async with dial(server.quic) as client:
            return client.closed is not None
    except ConnectionError:
        return True


@aio
async def test_connections_of_one_address_above_the_limit_are_refused() -> None:
    options = {"max_connections_per_ip": 3} | NOT_LOOPBACK
    async with serving(Doors(), options=options) as server:
        writers = []
        for _ in range(2):
            served, writer = await is_served(server)
            writers.append(writer)
            assert served
        async with dial(server.quic) as client:  # the third, of another transport
            assert client.closed is None
            assert server.server.stats()["limit_conns_per_ip"] == 0
            served, writer = await is_served(server)
            assert not served
            assert server.server.stats()["limit_conns_per_ip"] == 1
            assert await is_refused(server)
            assert server.server.stats()["limit_conns_per_ip"] >= 2
        writers.pop().close()  # places come back
        await until_stats(lambda stats: stats["conns_closed"] == 2)
        served, writer = await is_served(server)
        assert served
        for open_one in (writer, *writers):
            open_one.close()


@aio
async def test_loopback_and_no_limit_are_not_counted() -> None:
    for options in ({"max_connections_per_ip": 1}, {"max_connections_per_ip": 0} | NOT_LOOPBACK):
        async with serving(Doors(), options=options) as server:
            outcomes = [await is_served(server) for _ in range(4)]
            assert all(served for served, _ in outcomes)
            for _, writer in outcomes:
                writer.close()
            assert server.server.stats()["limit_conns_per_ip"] == 0


# --- memory --------------------------------------------------------------------------------------


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    writer.write(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(19 if b" 503 " in head else 4)
    return int(head.split()[1])


@aio
async def test_above_the_memory_budget_new_work_is_refused_until_there_is_room() -> None:
    options = {"memory_budget": resident() + (64 << 20)}
    async with serving(Doors(), options=options) as server, dial(server.quic) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        assert await exchange(reader, writer) == 200
        hoard = bytearray(b"x") * (128 << 20)
        while await exchange(reader, writer) != 503:  # the next sample comes
            pass
        stream = client.request(target="/quick")
        await client.until(lambda: stream in client.finished)
        assert client.headers[stream][":status"] == "503"
        assert not (await is_served(server))[0]
        assert await is_refused(server)
        assert server.server.stats()["limit_memory"] >= 4
        del hoard
        while await exchange(reader, writer) != 200:
            pass
        assert (await is_served(server))[0]
        writer.close()


# --- least rates ---------------------------------------------------------------------------------


class Reader:
    """An application that reads the body as it comes, at the pace of `pause`."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.got = 0
        self.events: list[str] = []
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            more = True
            while more:
                event = await receive()
                self.events.append(event["type"])
                if event["type"] == "http.disconnect":
                    return
                self.got += len(event["body"])
                more = event["more_body"]
                await asyncio.sleep(self.pause)
            await reply(send)
        finally:
            self.ended.set()


def a_body(length: int, path: str = "/", extra: str = "") -> bytes:
    fields = f"Host: a\r\n{extra}Content-Length: {length}\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{fields}".encode()


SLOW_BODY = {"min_body_rate": 1000, "body_rate_grace": 200, "body_timeout": 30000}


async def trickle_h1(server: Running, n: int, every: float, first: int = 0) -> int:
    """Sends `first` bytes at once, then `n` at a time until there is an answer; its status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
    writer.write(a_body(3000) + b"x" * first)
    head = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    sent = first
    while not head.done() and sent < 3000:
        writer.write(b"x" * n)
        sent += n
        await asyncio.wait([head], timeout=every)  # the pace of this client
    status = int((await head).split()[1])
    writer.close()
    return status


async def trickle_h3(server: Running, n: int, every: float, first: int = 0) -> int:
    async with dial(server.quic) as client:
        stream = client._quic.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "https", ":authority": "a", ":path": "/"}
        client.h3.send_headers(stream, [(k.encode(), v.encode()) for k, v in fields.items()])
        client.h3.send_data(stream, b"x" * first, end_stream=False)
        client.transmit()
        sent = first
        while not client.headers.keys() | client.stops.keys() >= {stream} and sent < 3000:
            sent += n
            client.h3.send_data(stream, b"x" * n, end_stream=sent >= 3000)
            client.transmit()
            await asyncio.sleep(every)  # the pace of this client
        await client.until(lambda: stream in client.headers)
        return int(client.headers[stream][":status"])


both = pytest.mark.parametrize("trickle", [trickle_h1, trickle_h3], ids=["h1", "h3"])


@both
@aio
async def test_a_body_below_the_least_rate_gets_408(trickle: Any) -> None:
    app = Reader()
    async with serving(app, options=SLOW_BODY) as server:
        assert await trickle(server, 1, 0.02) == 408
        assert server.server.stats()["timeouts_body_rate"] == 1
        await asyncio.wait_for(app.ended.wait(), 20)
        assert app.events[-1] == "http.disconnect"
        assert app.events.count("http.disconnect") == 1


@both
@aio
async def test_a_body_above_the_least_rate_is_taken(trickle: Any) -> None:
    """For much longer than the grace; what was sent at first would do for half a minute."""
    app = Reader()
    async with serving(app, options=SLOW_BODY | {"min_body_rate": 50}) as server:
        assert await trickle(server, 30, 0.02, first=1500) == 200
        assert app.got == 3000
        assert server.server.stats()["timeouts_body_rate"] == 0


@aio
async def test_the_pace_of_the_application_is_not_the_clients() -> None:
    """A body that is there at once and read over three times the grace."""
    app = Reader(pause=0.15)
    async with serving(app, options=SLOW_BODY | {"body_window": 1024}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(a_body(6000) + b"x" * 6000)
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert server.server.stats()["timeouts_body_rate"] == 0
        writer.close()


@aio
async def test_a_client_that_waits_for_100_continue_is_not_slow() -> None:
    asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/later":
            await asked.wait()
        while (event := await receive())["type"] != "http.disconnect" and event["more_body"]:
            pass
        if event["type"] == "http.request":
            await reply(send)

    async with serving(app, options=SLOW_BODY) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(a_body(3, "/later", "Expect: 100-continue\r\n"))
        assert await trickle_h1(server, 1, 0.02) == 408  # another one is, meanwhile
        asked.set()
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"xyz")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert server.server.stats()["timeouts_body_rate"] == 1
        writer.close()


@aio
async def test_a_late_body_after_the_head_cuts_the_response() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(app, options=SLOW_BODY) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(a_body(3000) + b"x")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            rest = await reader.read()
        assert not rest.endswith(b"0\r\n\r\n")
        assert server.server.stats()["timeouts_body_rate"] == 1
        writer.close()


SLOW_READER = {"write_stall_timeout": 200, "min_send_rate": 4_000_000}


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    with contextlib.suppress(OSError):  # the client is gone
        while True:
            body = {"type": "http.response.body", "body": bytes(65536), "more_body": True}
            await send(body)


async def read_paced(server: Running, port: int, tls: Any, n: int, every: float) -> int:
    """Takes n bytes at a time until the connection ends; how much."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=4096)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    total = 0
    try:
        while total < 40 * n and (data := await reader.read(n)):
            total += len(data)
            await asyncio.sleep(every)  # the pace of this client
    except ConnectionError:
        pass
    writer.transport.abort()
    return total


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@aio
async def test_a_reader_below_the_least_rate_is_cut_off(tls: bool) -> None:
    context = untrusting() if tls else None
    async with serving(endless, options=SLOW_READER) as server:
        port = server.https if tls else server.http
        read = asyncio.create_task(read_paced(server, port, context, 512, 0.05))
        await until_stats(lambda s: s["timeouts_send_rate"] + s["timeouts_write"])
        await until_stats(lambda s: s["conns_closed"] == 1)
        read.cancel()


@aio
async def test_a_reader_above_the_least_rate_is_served() -> None:
    """For longer than a stall may last."""
    async with serving(
        endless, options={"write_stall_timeout": 2000, "min_send_rate": 1000}
    ) as server:
        assert await read_paced(server, server.http, None, 50_000, 0.06) >= 40 * 50_000
        stats = server.server.stats()
        assert stats["timeouts_send_rate"] == stats["timeouts_write"] == 0


@aio
async def test_a_connection_without_requests_is_closed() -> None:
    """How asking keeps it: connection_that_asks_now_and_then_is_kept, in the simulation."""
    async with serving(Doors(), options={"no_request_timeout": 1000}) as server:
        async with dial(server.quic) as client:
            stream = client.request(target="/quick")
            await client.until(lambda: client.closed)
            assert client.headers[stream][":status"] == "200"
            assert client.closed.error_code == 0x100  # H3_NO_ERROR
        assert server.server.stats()["timeouts_no_request"] == 1


@aio
async def test_a_session_without_traffic_is_work_enough() -> None:
    app = Doors()
    async with (
        serving(app, options={"no_request_timeout": 1000}) as server,
        dial(server.quic) as client,
    ):
        await client.connect_session("/")
        async with dial(server.quic) as idle:
            await idle.until(lambda: idle.closed)
        assert client.closed is None
        app.leave.set()
