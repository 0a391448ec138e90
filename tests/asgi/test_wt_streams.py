"""Streams: priority, and each direction abandoned by either side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness import Receive, Recorder, Scope, Send, aio, serving
from wt_client import dial, from_http3, to_http3

ACCEPT = {"type": "webtransport.accept"}
OPEN = {"type": "webtransport.stream.open"}
SEND = {"type": "webtransport.stream.send"}


@pytest.mark.parametrize("kind", ["open", "send"])
@pytest.mark.parametrize("wrong", ["1", 1.0, True, b"1", [1]])
@aio
async def test_priority_is_an_int(kind: str, wrong: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        own = await send(OPEN)
        message = OPEN if kind == "open" else SEND | {"stream_id": own, "data": b"wrong"}
        with pytest.raises(TypeError, match="priority"):
            await send(message | {"priority": wrong})
        await send(SEND | {"stream_id": own, "data": b"right", "end_stream": True})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.streams and set(client.streams) <= client.finished)
        assert list(client.streams.values()) == [b"right"], "the refused message sent nothing"
        client.close_session()


@aio
async def test_priority_takes_any_int() -> None:
    """Far values are as good as the outermost that the protocol has."""
    values = [-(2**70), -5, -1, 0, 1, 3, 4, 2**70, None]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for value in values:
            own = await send(OPEN | {"bidirectional": False, "priority": value})
            await send(SEND | {"stream": own, "data": b"%a" % value, "priority": value})
            await send(SEND | {"stream": own, "end_stream": True})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: len(client.finished & set(client.streams)) == len(values))
        assert sorted(client.streams.values()) == sorted(b"%a" % value for value in values)
        client.close_session()


@pytest.mark.parametrize("kind", ["open", "send"])
@aio
async def test_urgent_stream_overtakes_a_bulk_one_and_a_lesser_one_waits(kind: str) -> None:
    """All are queued while the client takes nothing; then the higher priority goes first."""
    opened = Recorder()
    size = 200_000

    async def begin(send: Send, priority: int) -> int:
        message = OPEN | {"bidirectional": False}
        if kind == "open":
            message |= {"priority": priority, "data": bytes(size), "end_stream": True}
            return await send(message)
        stream = await send(message)
        payload = {"data": bytes(size), "end_stream": True, "priority": priority}
        await send(SEND | {"stream_id": stream} | payload)
        return stream

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        for priority in (0, -2, 2):
            opened.add({"type": "opened", "id": await begin(send, priority)})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.datagram(b"go")
        client.freeze()
        await opened.until(lambda: len(opened.events) == 3)
        bulk, lesser, urgent = (event["id"] for event in opened.events)
        client.thaw()
        await client.until(lambda: {bulk, lesser, urgent} <= client.finished)
        assert {len(data) for data in client.streams.values()} == {size}
        # The order of their ends: a lost packet lets a part of the next one pass, not all of it.
        before = client.arrived_before_the_end_of(urgent)
        assert before.get(bulk, 0) < size
        assert before.get(lesser, 0) < size
        assert client.arrived_before_the_end_of(bulk).get(lesser, 0) < size
        client.close_session()


@aio
async def test_priority_can_be_raised_later() -> None:
    opened = Recorder()
    size = 200_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        streams = [await send(OPEN | {"bidirectional": False}) for _ in range(2)]
        for stream in streams:
            await send(SEND | {"stream_id": stream, "data": bytes(size)})
        await send(SEND | {"stream_id": streams[1], "priority": 1})  # no bytes: only this
        for stream in streams:
            await send(SEND | {"stream_id": stream, "end_stream": True})
        opened.add({"type": "opened", "ids": streams})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.datagram(b"go")
        client.freeze()
        await opened.until(lambda: opened.events)
        bulk, raised = opened.events[0]["ids"]
        client.thaw()
        await client.until(lambda: {bulk, raised} <= client.finished)
        assert client.arrived_before_the_end_of(raised).get(bulk, 0) < size
        client.close_session()


@aio
async def test_stop_sending_on_ones_own_bidirectional_stream() -> None:
    """The client's direction ends, ours goes on; no event of that stream follows."""
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        own = await send(OPEN | {"data": b"question"})
        while (event := recorder.add(await receive()))["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.stream.receive":
                await send({"type": "webtransport.stream.stop_sending", "stream": own, "code": 31})
            elif event["type"] == "webtransport.datagram.receive":
                await send(SEND | {"stream": own, "data": b", still here", "end_stream": True})

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.order)
        (stream,) = client.order
        assert stream & 3 == 1
        client.send(stream, b"enough of this")
        await client.until(lambda: stream in client.stops)
        assert client.stops[stream] == to_http3(31)
        client.datagram(b"go on")
        await client.until(lambda: stream in client.finished)
        assert client.streams[stream] == b"question, still here"
        client.close_session()
        await recorder.until(lambda: recorder.of("disconnect"))
    about = [event["type"] for event in recorder.events if event.get("stream_id") == stream]
    assert about == ["webtransport.stream.opened", "webtransport.stream.receive"]


@pytest.mark.parametrize(("wire", "code"), [(to_http3(9), 9), (0x10C, None)])
@aio
async def test_client_abandons_the_servers_stream(wire: int, code: int | None) -> None:
    """A code outside the application's range is None; the reset that answers repeats it."""
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send(OPEN | {"data": b"hello"})
        while recorder.add(await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.order)
        (stream,) = client.order
        client.stop(stream, wire)
        client.reset(stream, wire)
        await recorder.until(lambda: recorder.of("stream.reset"))
        await recorder.until(lambda: recorder.of("stream.stop_sending"))
        await client.until(lambda: stream in client.resets)
        assert client.resets[stream] == wire
        client.close_session()
    for kind in ("stream.reset", "stream.stop_sending"):
        assert [(event["stream_id"], event["code"]) for event in recorder.of(kind)] == [
            (stream, code)
        ]


@aio
async def test_reset_wakes_a_send_that_waits() -> None:
    """A send above the high-water mark does not wait for ever when its stream is reset."""
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        own = await send(OPEN | {"data": bytes(512 * 1024)})
        waiting = asyncio.ensure_future(send(SEND | {"stream_id": own, "data": b"more"}))
        await asyncio.sleep(0)
        assert not waiting.done()
        await send({"type": "webtransport.stream.reset", "stream_id": own, "code": 8})
        with pytest.raises(RuntimeError):
            await waiting
        del waiting  # it holds the exception, which holds this frame
        outcome.add({"type": "woken", "id": own})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.datagram(b"go")
        client.freeze()
        (woken,) = await outcome.until(lambda: outcome.events)
        client.thaw()
        await client.until(lambda: woken["id"] in client.resets)
        assert from_http3(client.resets[woken["id"]]) == 8
        client.close_session()
