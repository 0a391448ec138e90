"""Backpressure, point 64 of docs/asgi.md, with reliability row G9; a socket too many, waiters that
are left, and a graceful stop."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pronghorn
import pytest
from harness import Receive, Scope, Send, aio, serving, until_stats
from ws_apps import ACCEPT, Log, connected, echo, recording
from ws_client import (
    BINARY,
    PING,
    PONG,
    Frame,
    every_socket,
    socket_to,
)


@every_socket
@pytest.mark.parametrize(
    "options,size", [({"ws_max_queue": 4}, 1), ({"ws_queue_bytes": 4000}, 1000)]
)
@aio
async def test_64_G9_reads_pause_when_the_queue_is_full(
    version: str, options: dict[str, int], size: int
) -> None:
    """Four messages fill the queue; the ping behind them is answered, the fifth message waits."""
    go_on = asyncio.Event()
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        await go_on.wait()
        while log.add(await receive())["type"] != "websocket.disconnect":
            pass

    def message(number: int) -> bytes:
        return bytes([number]) * size

    async with serving(app, **options) as server, socket_to(version, server) as socket:
        for number in range(4):
            await socket.send(BINARY, message(number))
        await socket.send(PING, b"still")
        assert await socket.frame() == Frame(0x80 | PONG, b"still")
        assert pronghorn.stats()["limit_ws_queue"] == 0
        for number in range(4, 100):
            await socket.send(BINARY, message(number))
        await until_stats(lambda stats: stats["limit_ws_queue"] == 1)
        assert pronghorn.stats()["messages_in"] == 4
        go_on.set()
        await socket.close()
        await log.until_disconnect()
    assert [event["bytes"] for event in log.events[:-1]] == [message(n) for n in range(100)]


@every_socket
@aio
async def test_64_G9_a_client_that_does_not_read_makes_send_wait(version: str) -> None:
    sent: list[int] = []
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        for number in range(400):
            step = asyncio.ensure_future(send({"type": "websocket.send", "bytes": b"x" * 65536}))
            done, _ = await asyncio.wait([step], timeout=None if waiting.is_set() else 1)
            if not done:
                waiting.set()
            await step
            sent.append(number)

    async with (
        serving(app, ws_ping_interval=0) as server,
        socket_to(version, server) as socket,
    ):
        socket.pause()
        await asyncio.wait_for(waiting.wait(), 20)
        assert len(sent) < 400
        socket.resume()
        for _ in range(400):
            assert len((await socket.message()).payload) == 65536
        await socket.closed()


@every_socket
@aio
async def test_64_G9_a_client_that_never_reads_is_given_up(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        try:
            for _ in range(1000):
                await send({"type": "websocket.send", "bytes": b"x" * 65536})
        except pronghorn.ClientDisconnected:
            log.add(await receive())

    # Over HTTP/3 the client of this test is as good as gone: it does not even acknowledge.
    options = {"write_stall_timeout": 0.3, "ws_ping_interval": 0, "idle_timeout": 3}
    async with serving(app, **options) as server, socket_to(version, server) as socket:
        socket.pause()
        assert (await log.until_disconnect())["code"] == 1006
        socket.resume()


@every_socket
@aio
async def test_64_a_receive_or_send_that_is_cancelled_loses_nothing(version: str) -> None:
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
        await send({"type": "websocket.send", "text": "now"})
        log.add(await receive())

    async with serving(app) as server, socket_to(version, server) as socket:
        assert (await socket.message()).text == "now"
        await socket.text("one")
        await socket.closed()
    assert log.events[0]["text"] == "one"


@every_socket
@aio
async def test_64_a_socket_too_many_is_503(version: str) -> None:
    async with (
        serving(echo, max_concurrent_app_calls=1) as server,
        socket_to(version, server) as first,
    ):
        async with socket_to(version, server) as second:
            assert second.status == 503
            assert second.header("retry-after")
        await first.text("unhurt")
        assert (await first.message()).text == "unhurt"
        await first.close()
        await first.frame()


@every_socket
@aio
async def test_waiters_that_nobody_holds_are_woken(version: str) -> None:
    """The garbage collector leaves a receive() and a send() that wait."""
    log = Log()
    blocked = asyncio.Event()

    async def note(awaitable: Any) -> None:
        try:
            log.add({"type": "done", "result": await awaitable})
        except OSError as error:
            log.add({"type": "done", "result": type(error)})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        await send(ACCEPT)
        for _ in range(3):
            asyncio.ensure_future(note(receive()))
        for _ in range(100):
            asyncio.ensure_future(note(send({"type": "websocket.send", "bytes": b"x" * 100000})))
        await asyncio.sleep(0)
        gc.collect()
        blocked.set()
        await log.until(lambda: len(log.events) == 103)

    options = {"ws_ping_interval": 0}
    async with serving(app, **options) as server, socket_to(version, server) as socket:
        socket.pause()
        await asyncio.wait_for(blocked.wait(), 20)
        gc.collect()
        socket.abort()
        socket.resume()
        await log.until(lambda: len(log.events) == 103)
    results = [event["result"] for event in log.events]
    assert pronghorn.ClientDisconnected in results
    ends = [result for result in results if isinstance(result, dict)]
    assert [end["code"] for end in ends] == [1006] * 3


# --- a graceful stop ------------------------------------------------------------------------------


@every_socket
@aio
async def test_stop_closes_with_1001(version: str) -> None:
    log = Log()

    async with serving(recording(log)) as server, socket_to(version, server) as socket:
        await socket.text("x")
        await log.until(lambda: log.events)
        server.server.shutdown()
        assert (await socket.closed()).code == 1001
        end = await log.until_disconnect()
        assert (end["code"], end["reason"]) == (1001, "going away")


@every_socket
@aio
async def test_stop_while_the_application_has_not_answered(version: str) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()
    log = Log()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await connected(receive)
        asked.set()
        await go_on.wait()
        await send(ACCEPT)
        log.add(await receive())

    async with serving(app) as server:

        async def client() -> int:
            async with socket_to(version, server) as socket:
                return (await socket.closed()).code

        task = asyncio.ensure_future(client())
        await asyncio.wait_for(asked.wait(), 20)
        server.server.shutdown()
        await asyncio.sleep(0)
        go_on.set()
        assert await task == 1001
        assert (await log.until_disconnect())["code"] == 1001


@every_socket
@aio
async def test_stop_does_not_wait_for_a_peer_that_does_not_close(version: str) -> None:
    async with (
        serving(recording(Log()), ws_close_timeout=0.2) as server,
        socket_to(version, server) as socket,
    ):
        await socket.text("x")
        server.server.shutdown()
        assert (await socket.frame()).code == 1001
        await socket.ended()
