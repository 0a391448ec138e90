"""What receive() gives in the http scope: points 19 to 28 of docs/asgi.md, over every version of
HTTP. Tests carry the number of their point."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from harness import BODY, START, App, Receive, Recorder, Scope, Send, aio, serving
from peers import NO_ERROR, Exchange, ask, dialled, every_version, streamed_versions

DISCONNECT = {"type": "http.disconnect"}
EMPTY = {"type": "http.request", "body": b"", "more_body": False}


def receiving(into: Recorder, then: Callable[[Receive, Send], Awaitable[None]]) -> App:
    """An application that keeps the events up to the end of the body, then does `then`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while into.add(await receive()).get("more_body"):
            pass
        await then(receive, send)

    return app


async def respond(receive: Receive, send: Send) -> None:
    await send(START)
    await send(BODY)


async def turns(number: int = 20) -> None:
    """Lets everything that is ready run."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("body", [None, b""])
@every_version
@aio
async def test_19_no_body_gives_one_empty_request(version: str, body: bytes | None) -> None:
    events = Recorder()
    async with serving(receiving(events, respond)) as server:
        await ask(version, server, "POST", body=body)
    assert events.events == [EMPTY]


@every_version
@aio
async def test_19_a_body_arrives_whole_and_in_order(version: str) -> None:
    events = Recorder()
    data = b"".join(number.to_bytes(4, "big") for number in range(1 << 18))
    async with serving(receiving(events, respond)) as server:
        assert (await ask(version, server, "POST", body=data)).status == 200
    assert b"".join(event["body"] for event in events.events) == data


@every_version
@aio
async def test_20_receive_after_the_body_waits_for_the_response(version: str) -> None:
    events = Recorder()

    async def then(receive: Receive, send: Send) -> None:
        second = asyncio.ensure_future(receive())
        await turns()
        assert not second.done()
        await send(START)
        await send(BODY | {"body": b"x", "more_body": True})
        await turns()
        assert not second.done()
        await send(BODY)
        events.add(await second)

    async with serving(receiving(events, then)) as server:
        await ask(version, server, "POST", body=b"hello")
    assert events.events[-1] == DISCONNECT
    assert b"".join(event.get("body", b"") for event in events.events) == b"hello"


@every_version
@aio
async def test_21_after_the_response_every_receive_is_disconnect(version: str) -> None:
    events = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(receive, send)
        for _ in range(200):
            events.add(await receive())

    async with serving(app) as server:
        await ask(version, server)
        await events.until(lambda: len(events.events) == 200)
    assert events.events == [DISCONNECT] * 200


@pytest.mark.parametrize("phase", ["in the body", "after the body", "in the response"])
@every_version
@aio
async def test_22_client_gone_wakes_receive_and_stays(version: str, phase: str) -> None:
    events = Recorder()
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if phase != "in the body":
            assert (await receive())["more_body"] is False
        else:
            assert (await receive())["body"] == b"part"
        if phase == "in the response":
            await send(START)
            await send(BODY | {"body": b"x", "more_body": True})
        pending = asyncio.ensure_future(receive())
        await turns()
        assert not pending.done()
        waiting.set()
        events.add(await pending)
        events.add(await receive())
        events.add(await receive())

    async with serving(app, expect_failure=True) as server, dialled(version, server) as client:
        exchange = await client.start("POST", end=phase != "in the body")
        if phase == "in the body":
            await exchange.send(b"part")
        await asyncio.wait_for(waiting.wait(), 20)
        exchange.abort()
        await events.until(lambda: len(events.events) == 3)
    assert events.events == [DISCONNECT] * 3


@every_version
@aio
async def test_23_a_body_that_is_not_read_stops_the_client(version: str) -> None:
    may_read = asyncio.Event()
    received = 0
    size = 16 << 20

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal received
        await may_read.wait()
        more = True
        while more:
            event = await receive()
            received += len(event["body"])
            more = event["more_body"]
        await send(START)
        await send(BODY)

    config = {"options": {"max_body": size}}
    async with serving(app, **config) as server, dialled(version, server) as client:
        headers = [("content-length", str(size))]
        exchange = await client.start("POST", headers=headers, end=False)
        upload = asyncio.ensure_future(push(exchange, size))
        got = await settled(lambda: int(server.server.stats()["bytes_in"]))
        assert got < 4 << 20  # our window and what the engines hold, far below 16 MiB
        may_read.set()
        await upload
        await exchange.done()
    assert exchange.status == 200
    assert received == size


async def push(exchange: Exchange, size: int) -> None:
    part = bytes(65536)
    for number in range(size // len(part)):
        await exchange.send(part, end=(number + 1) * len(part) == size)
        await asyncio.sleep(0)


async def settled(value: Callable[[], int]) -> int:
    """The value once it has not changed for a while: a thing that must not happen has no event."""
    last = -1
    while (now := value()) != last or now == 0:
        last = now
        await asyncio.sleep(0.25)
    return last


@aio
async def test_24_chunks_extensions_and_trailers_are_taken_apart() -> None:
    events = Recorder()
    headers: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers.extend(scope["headers"])
        await receiving(events, respond)(scope, receive, send)

    data = (
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        b'5;name=value;q="a;b"\r\nhello\r\n0006\r\n world\r\n0;last\r\nx-sum: 1\r\n\r\n'
    )
    async with serving(app) as server, dialled("1.1", server) as client:
        assert (await client.raw(data).done()).status == 200
        # What follows is the next request: nothing of the trailers is left over.
        assert (await (await client.start()).done()).status == 200
    first = [event for event in events.events if event["body"]]
    assert b"".join(event["body"] for event in first) == b"hello world"
    assert b"x-sum" not in [name for name, _ in headers]


@every_version
@aio
async def test_25_continue_is_sent_when_the_application_receives(version: str) -> None:
    may_receive = asyncio.Event()
    events = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_receive.wait()
        await receiving(events, respond)(scope, receive, send)

    headers = [("expect", "100-continue"), ("content-length", "5")]
    async with serving(app) as server, dialled(version, server) as client:
        exchange = await client.start("POST", headers=headers, end=False)
        await asyncio.sleep(0.1)
        assert exchange.informational == []
        may_receive.set()
        await exchange.until(lambda: exchange.informational)
        await exchange.send(b"hello", end=True)
        await exchange.done()
    assert [status for status, _ in exchange.informational] == [100]
    assert exchange.status == 200
    assert b"".join(event["body"] for event in events.events) == b"hello"


@every_version
@aio
async def test_25_no_continue_when_the_application_answers_first(version: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START | {"status": 403})
        await send(BODY | {"body": b"no"})
        assert await receive() == DISCONNECT

    headers = [("expect", "100-continue"), ("content-length", "5")]
    async with serving(app) as server, dialled(version, server) as client:
        exchange = await client.start("POST", headers=headers, end=False)
        await exchange.done()
        assert (exchange.status, exchange.body, exchange.informational) == (403, b"no", [])
        if version == "1.1":
            assert exchange.header("connection") == "close"
            await client.until(lambda: client.closed)
        else:
            await exchange.until(lambda: exchange.stopped is not None)
            assert exchange.stopped == NO_ERROR[version]


@pytest.mark.parametrize(
    "lines",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"content-length: 5\r\ncontent-length: 5",
        b"content-length: 5, 5",
        b"content-length: +5",
        b"content-length: -0",
        b"content-length: 0x5",
        b"content-length: 5\r\n folded: yes",
        b"content-length : 5",
        b"x: a\rcontent-length: 5",
        b"x: a\ncontent-length: 5",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: xchunked",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    ],
)
@aio
async def test_26_ambiguous_framing_is_refused(lines: bytes) -> None:
    asked = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.add(scope)
        await respond(receive, send)

    async with serving(app) as server, dialled("1.1", server) as client:
        head = b"POST / HTTP/1.1\r\nhost: a\r\n" + lines + b"\r\n\r\n"
        exchange = client.raw(head + b"hello" + b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")
        await exchange.done()
        await client.until(lambda: client.closed)
    assert exchange.status in (400, 501)
    assert exchange.header("connection") == "close"
    assert asked.events == []


@pytest.mark.parametrize("size", [1000, 64 << 20])
@every_version
@aio
async def test_27_an_early_answer_ends_the_upload(version: str, size: int) -> None:
    """A little is read and thrown away; more is not wanted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"early"})

    async with serving(app, options={"max_body": 0}) as server, dialled(version, server) as client:
        headers = [("content-length", str(size))]
        exchange = await client.start("POST", headers=headers, end=False)
        await exchange.send(bytes(100))
        await exchange.done()
        assert (exchange.status, exchange.body, exchange.whole) == (200, b"early", True)
        if version == "1.1":
            await exchange.send(bytes(size - 100 if size <= 1000 else 1 << 20))
            next_one = await client.start()
            await next_one.done()
            assert next_one.broken == (size > 1000)
        else:
            await exchange.until(lambda: exchange.stopped is not None)
            assert exchange.stopped == NO_ERROR[version]
            assert (await (await client.start()).done()).status == 200
        stats = server.server.stats()
    assert stats["bytes_in"] < 1 << 20


@every_version
@aio
async def test_27_also_while_the_application_works_on(version: str) -> None:
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"early"})
        await may_end.wait()

    async with serving(app) as server, dialled(version, server) as client:
        exchange = await client.start("POST", headers=[("content-length", "1000")], end=False)
        await exchange.send(bytes(100))
        await exchange.done()
        assert exchange.whole
        if version == "1.1":
            await exchange.send(bytes(900))
        else:
            await exchange.until(lambda: exchange.stopped is not None)
        second = await client.start()
        await second.done()
        assert second.whole
        may_end.set()


@pytest.mark.parametrize("sent", [4, 6])
@streamed_versions
@aio
async def test_28_a_body_of_another_length_than_declared(version: str, sent: int) -> None:
    events = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while events.add(await receive()).get("more_body"):
            pass

    async with serving(app, expect_failure=True) as server, dialled(version, server) as client:
        exchange = await client.start("POST", headers=[("content-length", "5")], end=False)
        await exchange.send(bytes(4))
        await events.until(lambda: events.events)  # what comes at once may not be asked at all
        await exchange.send(bytes(sent - 4), end=True)
        await exchange.done()
        assert exchange.broken and exchange.status == 0
        assert exchange.reset == {"2": 0x1, "3": 0x10E}[version]
        await events.until(lambda: DISCONNECT in events.events)
        # The connection, and who else is on it, is as before.
        assert not client.closed
    assert all(event.get("more_body") for event in events.events[:-1])


@streamed_versions
@aio
async def test_body_is_waited_for_from_when_the_application_has_read(version: str) -> None:
    """Nothing happens on the connection while the application thinks longer than body_timeout. The
    client's turn begins when its bytes have been taken."""
    body, taken = bytearray(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(2)
        more = True
        while more:
            event = await receive()
            assert event["type"] == "http.request"
            body.extend(event["body"])
            more = event["more_body"]
            taken.set()
        await respond(receive, send)

    async with (
        serving(app, options={"body_timeout": "1500"}) as server,
        dialled(version, server) as client,
    ):
        exchange = await client.start("POST", "/", end=False)
        await exchange.send(b"first ")
        await asyncio.wait_for(taken.wait(), 20)
        await exchange.send(b"second", end=True)
        assert (await exchange.done()).status == 200
    assert body == b"first second"
