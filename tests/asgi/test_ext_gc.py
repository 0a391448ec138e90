"""The garbage collector and the extension. An event loop holds no reference to a task that waits:
whoever waits in receive() or send() is kept by the server, and what the collector runs in between
finds everything in order."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from harness import BODY, CERTS, START, Receive, Recorder, Scope, Send, aio, serving
from peers import ask
from pronghorn import _core
from test_ext_smoke import ACCEPT, SEND, until_disconnected
from wt_client import dial

OPEN = {"type": "webtransport.stream.open"}
GRANTED = 128  # streams that aioquic lets the server open


def start(awaitable: Any, into: Recorder, what: str = "") -> None:
    """Runs it in a task that nobody refers to and notes how it ended."""

    async def run() -> None:
        try:
            into.add({"type": what, "result": await awaitable})
        except _core.ClientDisconnected as error:
            into.add({"type": what, "result": type(error)})  # its traceback refers to us

    asyncio.create_task(run())


def disconnected(recorder: Recorder) -> int:
    return sum(event["result"] is _core.ClientDisconnected for event in recorder.events)


# --- who waits is kept ----------------------------------------------------------------------------


@aio
async def test_an_unreferenced_watcher_of_a_request_sees_the_disconnect() -> None:
    outcome, watching = Recorder(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        start(receive(), outcome)
        await asyncio.sleep(0)
        gc.collect()
        watching.set()
        await outcome.until(lambda: outcome.events)

    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await watching.wait()
        gc.collect()
        writer.close()
        await outcome.until(lambda: outcome.events)
    assert outcome.events[0]["result"] == {"type": "http.disconnect"}


@aio
async def test_an_unreferenced_watcher_of_a_session_sees_the_disconnect() -> None:
    outcome, watching = Recorder(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        start(receive(), outcome)
        await asyncio.sleep(0)
        gc.collect()
        watching.set()
        await outcome.until(lambda: outcome.events)

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await watching.wait()
        gc.collect()
        client.close_session(7, "done")
        await outcome.until(lambda: outcome.events)
    result = outcome.events[0]["result"]
    assert (result["type"], result["code"]) == ("webtransport.disconnect", 7)


@aio
async def test_unreferenced_sends_go_on_when_there_is_room() -> None:
    """On a stream, for a new stream with data, and for datagrams."""
    outcome, blocked = Recorder(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        await send({"type": SEND, "stream_id": stream, "data": b"0" * 400_000})
        for _ in range(3):
            start(send({"type": SEND, "stream_id": stream, "data": b"1"}), outcome, "stream")
        for _ in range(2000):
            datagram = {"type": "webtransport.datagram.send", "data": b"2" * 500, "wait": True}
            start(send(datagram), outcome, "datagram")
        await asyncio.sleep(0)
        gc.collect()
        kinds = [event["type"] for event in outcome.events]
        assert kinds.count("stream") == 0 and kinds.count("datagram") < 2000
        blocked.set()
        await until_disconnected(receive)

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.freeze()
        client.open(data=b"x")
        await blocked.wait()
        gc.collect()
        client.thaw()
        await outcome.until(lambda: len(outcome.events) == 2003)
        client.close_session()
    assert all(event["result"] is None for event in outcome.events)


# --- collections in the middle of it --------------------------------------------------------------


class CollectingLoop:
    """Collects garbage whenever a Future schedules the task that waits for it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.original = self.loop.call_soon

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()
        self.loop.call_soon = self.call_soon  # type: ignore[method-assign]

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon = self.original  # type: ignore[method-assign]
        gc.enable()

    def call_soon(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], asyncio.Future) and args[0].done():
            gc.collect()
        return self.original(callback, *args, **kwargs)


@pytest.mark.parametrize("how", ["session", "application", "server"])
@aio
async def test_unreferenced_openers_are_woken_while_garbage_is_collected(how: str) -> None:
    outcome, waiting, go_on = Recorder(), asyncio.Event(), asyncio.Event()
    late = 20

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(GRANTED + late):
            start(send(OPEN), outcome)
        await outcome.until(lambda: len(outcome.events) == GRANTED)
        waiting.set()
        if how != "application":
            await until_disconnected(receive)
        else:
            await go_on.wait()

    gc.collect()
    gc.freeze()  # what is older need not be looked at hundreds of times
    cert, key, _ = _core.dev_certificate(CERTS)
    core = _core.Server([("quic_bind", "127.0.0.1:0"), ("certfile", cert), ("keyfile", key)])
    core.start(app, asyncio.get_running_loop())
    async with dial(int(core.addresses()[0][1].rpartition(":")[2])) as client:
        await client.connect_session()
        await waiting.wait()
        with CollectingLoop():
            if how == "session":
                client.close_session()
            elif how == "application":
                go_on.set()
            else:
                core.close()
            await outcome.until(lambda: len(outcome.events) == GRANTED + late)
        while core.tasks():
            await asyncio.sleep(0)
    core.close()
    gc.unfreeze()
    assert disconnected(outcome) == late


@aio
async def test_an_awaitable_cannot_be_ended_inside_its_own_step() -> None:
    refused: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        def headers() -> Iterator[tuple[bytes, bytes]]:
            for end in (
                lambda: starting.close(),
                lambda: starting.throw(ValueError),
                lambda: starting.send(None),
            ):
                try:
                    end()
                except RuntimeError as error:
                    refused.append(str(error))
            yield b"x-still", b"here"

        starting: Any = send(START | {"headers": headers()})
        await starting
        await send(BODY)

    async with serving(app) as server:
        assert (await ask("1.1", server)).header("x-still") == "here"
    assert len(refused) == 3


@aio
async def test_bytes_of_a_subclass_are_copied() -> None:
    """Their end could run code of the application in the middle of taking events."""
    ended: list[int] = []

    class Payload(bytes):
        def __del__(self) -> None:
            ended.append(len(self))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": Payload(b"p" * 70_000), "more_body": True})
        assert ended == [70_000]
        await send(BODY)

    async with serving(app) as server:
        assert (await ask("1.1", server)).body == b"p" * 70_000


# --- the collector takes what nobody needs --------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_dropped_with_its_loop_frees_those_who_wait() -> None:
    async def main() -> None:
        outcome = Recorder()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            if scope["type"] == "webtransport":
                await send(ACCEPT)
                opened = Recorder()
                for _ in range(GRANTED + 3):
                    start(send(OPEN), opened)
                await opened.until(lambda: len(opened.events) == GRANTED)
                for _ in range(GRANTED):
                    assert (await receive())["type"] == "webtransport.stream.opened"
            start(receive(), Recorder())
            await asyncio.sleep(0)
            outcome.add({"type": "waiting"})
            await asyncio.Event().wait()

        cert, key, _ = _core.dev_certificate(CERTS)
        core = _core.Server([("insecure_bind", "127.0.0.1:0"), ("quic_bind", "127.0.0.1:0"),
                             ("certfile", cert), ("keyfile", key)])  # fmt: skip
        core.start(app, asyncio.get_running_loop())
        ports = {kind: int(text.rpartition(":")[2]) for kind, text in core.addresses()}
        with socket.create_connection(("127.0.0.1", ports["tcp"])) as request:
            request.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await outcome.until(lambda: outcome.events)
            async with dial(ports["quic"]) as client:
                await client.connect_session()
                await outcome.until(lambda: len(outcome.events) == 2)
                live = _core.live_objects()
                # receive() of both kinds, and stream.open
                assert live["py.await"] == 2 + 3 and live["py.task"] == 2
                raise Stop

    class Stop(Exception):
        pass

    loop = asyncio.new_event_loop()
    with pytest.raises(Stop):
        loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert not any(_core.live_objects().values())


# --- nobody goes away under its own feet ----------------------------------------------------------


@aio
async def test_a_running_application_cannot_be_stepped_or_closed() -> None:
    """What a task runs can be had from it; it answers as a coroutine does."""
    refused: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        running: Any = asyncio.current_task().get_coro()  # type: ignore[union-attr]
        for attempt in (
            running.close,
            lambda: running.send(None),
            lambda: running.throw(KeyError("no")),
        ):
            with pytest.raises(ValueError, match="running already"):
                attempt()
            refused.append(attempt.__name__)
        gc.collect()
        await send(START)
        await send(BODY)

    async with serving(app) as server:
        assert (await ask("1.1", server)).status == 200
    assert len(refused) == 3
