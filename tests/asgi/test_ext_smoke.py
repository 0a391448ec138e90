"""What the extension promises beyond the scopes: its awaitables behave as coroutines, its tasks as
tasks, and a server can be closed or dropped at any moment."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import threading
import weakref
from collections.abc import Awaitable
from typing import Any

import pytest
from harness import BODY, CERTS, START, Receive, Recorder, Scope, Send, aio, serving
from peers import ask
from pronghorn import _core
from wt_client import dial

ACCEPT = {"type": "webtransport.accept"}
SEND = "webtransport.stream.send"


async def until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "webtransport.disconnect":
        pass


# --- awaitables -----------------------------------------------------------------------------------


@aio
async def test_receive_is_accepted_wherever_a_coroutine_is() -> None:
    got = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.create_task(receive())  # type: ignore[arg-type]
        await asyncio.gather(send(ACCEPT))
        got.add(await asyncio.wait_for(receive(), 20))
        got.add(await asyncio.ensure_future(receive()))
        await until_disconnected(receive)

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.datagram(b"1")
        await got.until(lambda: got.events)
        client.datagram(b"2")
        await got.until(lambda: len(got.events) == 2)
        client.close_session()
    assert [event["data"] for event in got.events] == [b"1", b"2"]


@aio
async def test_cancelled_receive_takes_no_message() -> None:
    """Cancelled before its first step, while it waits, and after it was woken but had not run."""
    got = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0)
        receive().close()  # type: ignore[attr-defined]
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        behind = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        got.add({"type": "waiting"})
        while not woken.is_set():
            await asyncio.sleep(0)
        waiting.cancel()
        got.add(await behind)
        assert waiting.cancelled()
        await until_disconnected(receive)

    woken = threading.Event()
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await got.until(lambda: got.events)
        client.datagram(b"kept")
        woken.set()
        await got.until(lambda: len(got.events) == 2)
        client.close_session()
    assert got.events[1] == {"type": "webtransport.datagram.receive", "data": b"kept"}


@aio
async def test_an_awaitable_is_awaited_once_and_on_its_thread() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        first = receive()
        await first
        with pytest.raises(RuntimeError, match="awaited already"):
            await first
        refused: list[BaseException] = []

        def elsewhere() -> None:
            try:
                receive().__await__().__next__()  # type: ignore[attr-defined]
            except RuntimeError as error:
                refused.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert "thread" in str(refused[0])
        await send(START)
        await send(BODY)

    async with serving(app) as server:
        assert (await ask("1.1", server)).status == 200


@aio
async def test_sends_that_wait_keep_their_order_and_a_cancelled_one_is_left_out() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        await send({"type": SEND, "stream_id": stream, "data": b"0" * 400_000})
        waiting = []
        for digit in (b"1", b"2", b"3", b"4"):
            message = {
                "type": SEND,
                "stream_id": stream,
                "data": digit,
                "end_stream": digit == b"4",
            }
            waiting.append(asyncio.ensure_future(send(message)))
        await asyncio.sleep(0)
        assert not any(future.done() for future in waiting)
        waiting[1].cancel()
        outcome.add({"type": "waiting"})
        await asyncio.gather(waiting[0], *waiting[2:])
        with pytest.raises(RuntimeError):
            await send({"type": SEND, "stream_id": stream, "data": b"5"})
        await until_disconnected(receive)

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.freeze()
        stream = client.open(data=b"x")
        await outcome.until(lambda: outcome.events)
        client.thaw()
        await client.until(lambda: stream in client.finished)
        assert client.streams[stream] == b"0" * 400_000 + b"134"
        client.close_session()


@aio
async def test_a_stream_open_that_is_cancelled_while_it_waits_leaves_nothing() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        opening = []
        for _ in range(200):  # aioquic grants 128
            opening.append(asyncio.ensure_future(send({"type": "webtransport.stream.open"})))
        while sum(future.done() for future in opening) < 128:
            await asyncio.sleep(0.01)
        await asyncio.wait(opening, timeout=0.2)  # for what must not come
        late = [future for future in opening if not future.done()]
        for future in late:
            future.cancel()
        await asyncio.wait(late)
        outcome.add({"type": "opened", "n": len(opening) - len(late)})
        opened = 0
        while (event := await receive())["type"] != "webtransport.disconnect":
            opened += event["type"] == "webtransport.stream.opened"
        outcome.add({"type": "events", "n": opened})

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.datagram(b"go")
        client.freeze()  # or it grants more
        await outcome.until(lambda: outcome.events)
        client.thaw()
        await client.ping()
        client.close_session()
        await outcome.until(lambda: len(outcome.events) == 2)
    assert outcome.events[0]["n"] == outcome.events[1]["n"] == 128


@aio
async def test_waiting_sends_wake_when_the_session_ends() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        await send({"type": SEND, "stream_id": stream, "data": b"0" * 400_000})
        waiting = [
            asyncio.ensure_future(send({"type": SEND, "stream_id": stream, "data": b"1"})),
            asyncio.ensure_future(send({"type": SEND, "stream_id": stream, "data": b"2"})),
        ]
        await asyncio.sleep(0)
        outcome.add({"type": "waiting"})
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, _core.ClientDisconnected)
        outcome.add({"type": "woken"})

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.freeze()
        client.open(data=b"x")
        await outcome.until(lambda: outcome.events)
        client.close_session()
        client._quic.close(error_code=0x100)
        client.transmit()
        await outcome.until(lambda: len(outcome.events) == 2)


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@aio
async def test_an_application_cannot_end_the_loop(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/end":
            raise error
        await send(START)
        await send(BODY)

    async with serving(app) as server:
        assert (await ask("1.1", server, target="/end")).status == 500
        assert (await ask("1.1", server)).status == 200
    assert type(error).__name__ in caplog.text


@aio
async def test_task_name_and_repr() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.extend([task.get_name(), repr(task)])
        assert task.get_stack() is not None
        await send(START)
        await send(BODY)

    asyncio.get_running_loop().set_debug(True)
    async with serving(app) as server:
        await ask("1.1", server)
    assert seen[0] == "pronghorn-http-0"
    assert "watched" in seen[1]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@aio
async def test_eager_tasks() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(BODY | {"body": b"eager"})

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    async with serving(app) as server:
        for _ in range(3):
            assert (await ask("1.1", server)).body == b"eager"


@aio
async def test_any_awaitable_is_an_application_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Application:
        def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.send = send

        def __await__(self) -> Any:
            yield from self.send(START).__await__()
            yield from self.send(BODY | {"body": b"awaited"}).__await__()

    class Broken:
        def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
            pass

    cert, key, _ = _core.dev_certificate(CERTS)
    errors: list[tuple[BaseException | None, str]] = []
    for app in (Application, Broken):
        core = _core.Server(
            [("insecure_bind", "127.0.0.1:0"), ("certfile", cert), ("keyfile", key)]
        )
        core.start(
            app,  # type: ignore[arg-type]
            asyncio.get_running_loop(),
            on_app_error=lambda scope, exc, kind: errors.append((exc, kind)),
        )
        port = int(core.addresses()[0][1].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert (b"awaited" in answer) == (app is Application)
        assert (b" 500 " in answer) == (app is Broken)
        core.close()
    ((exc, kind),) = errors
    assert isinstance(exc, TypeError) and kind == "exception"


@aio
async def test_context_changes_of_one_request_are_not_seen_by_callbacks_of_another() -> None:
    import contextvars

    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        seen.append(variable.get())  # runs when called, not when awaited
        variable.set(7)
        return answer(send)

    async def answer(send: Send) -> None:
        await send(START)
        await send(BODY)

    core = _core.Server([("insecure_bind", "127.0.0.1:0")])
    core.start(app, asyncio.get_running_loop())
    port = int(core.addresses()[0][1].rpartition(":")[2])
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert b" 200 " in await reader.read()
        writer.close()
    core.close()
    assert seen == [0, 0]


# --- the end of a server --------------------------------------------------------------------------


@aio
async def test_close_while_applications_run() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        outcome.add({"type": "running"})
        assert (await receive())["type"] == scope["type"] + ".disconnect"
        with pytest.raises(_core.ClientDisconnected):
            await send(START if scope["type"] == "http" else ACCEPT)
        outcome.add({"type": "ended"})

    cert, key, _ = _core.dev_certificate(CERTS)
    options = [("insecure_bind", "127.0.0.1:0"), ("quic_bind", "127.0.0.1:0"), ("certfile", cert),
               ("keyfile", key)]  # fmt: skip
    core = _core.Server(options)
    core.start(app, asyncio.get_running_loop())
    ports = {kind: int(text.rpartition(":")[2]) for kind, text in core.addresses()}
    _, writer = await asyncio.open_connection("127.0.0.1", ports["tcp"])
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    async with dial(ports["quic"]) as client:
        client.request_session()
        await outcome.until(lambda: len(outcome.events) == 2)
        assert len(core.tasks()) == 2
        core.close()
        core.close()
        await outcome.until(lambda: len(outcome.events) == 4)
    writer.close()
    assert core.fd == -1 and not core.running and core.addresses() == []
    assert core.stats()["requests"] == 1


@aio
async def test_close_from_within_callbacks_and_applications() -> None:
    loop = asyncio.get_running_loop()
    for how in ("log", "stopped", "app", "access"):
        done = asyncio.Event()

        def end(core_of: list[_core.Server], done: asyncio.Event = done) -> None:
            core_of[0].close()
            done.set()

        holder: list[_core.Server] = []

        async def app(
            scope: Scope,
            receive: Receive,
            send: Send,
            how: str = how,
            holder: list[_core.Server] = holder,
            end: Any = end,
        ) -> None:
            if how == "app":
                end(holder)
                with pytest.raises(_core.ClientDisconnected):
                    await send(START)
                return
            await send(START)
            await send(BODY)

        core = _core.Server([("insecure_bind", "127.0.0.1:0"), ("log_level", "debug")])
        holder.append(core)
        core.start(
            app,
            loop,
            log=lambda *line, how=how, holder=holder, end=end: (
                end(holder) if how == "log" else None
            ),
            on_access=lambda *a, how=how, holder=holder, end=end: (
                end(holder) if how == "access" else None
            ),
            on_stopped=lambda how=how, holder=holder, end=end: (
                end(holder) if how == "stopped" else None
            ),
        )
        port = int(core.addresses()[0][1].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        if how == "stopped":
            await reader.readuntil(b"\r\n\r\n")
            core.drain(0)
        if how == "log":
            writer.write(b"\x00\r\n\r\n")
            await asyncio.sleep(0)
            core.close()
            done.set()
        await asyncio.wait_for(done.wait(), 20)
        while core.tasks():
            await asyncio.sleep(0)
        writer.close()


@aio
async def test_a_stopped_server_needs_no_peers() -> None:
    """It may be told of another worker while its application shuts down."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    stopped = asyncio.Event()
    core = _core.Server([("insecure_bind", "127.0.0.1:0")])
    core.start(app, asyncio.get_running_loop(), on_stopped=stopped.set)
    core.drain(0)
    await asyncio.wait_for(stopped.wait(), 20)
    ours, theirs = socket.socketpair()
    with ours:
        core.peer(1, theirs.detach())
        assert ours.recv(1) == b""  # it was closed
    core.peer(1, -1)
    core.close()


@aio
async def test_a_dropped_server_frees_itself() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    core = _core.Server([("insecure_bind", "127.0.0.1:0")])
    del core
    gc.collect()
    assert not any(_core.live_objects().values())
    loop = asyncio.new_event_loop()
    core = _core.Server([("insecure_bind", "127.0.0.1:0")])
    core.start(app, loop)
    loop.close()
    del core, loop
    gc.collect()
    assert not any(_core.live_objects().values())


@aio
async def test_nothing_keeps_a_request_alive(caplog: pytest.LogCaptureFixture) -> None:
    """No reference cycle holds a scope after its request."""

    class Marker:
        pass

    markers: list[weakref.ref[Marker]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["marker"] = Marker()
        markers.append(weakref.ref(scope["marker"]))
        await receive()
        if scope["type"] == "http":
            await send(START)
            await send(BODY)
        else:
            await send({"type": "webtransport.close", "status": 404})

    caplog.set_level(logging.CRITICAL)
    gc.disable()
    try:
        async with serving(app) as server:
            await ask("1.1", server)
            await ask("3", server)
            async with dial(server.quic) as client:
                await client.connect_session()
            while len(markers) < 3 or any(marker() for marker in markers):
                await asyncio.sleep(0.01)
    finally:
        gc.enable()
