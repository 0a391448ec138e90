"""Every row of the error table of docs/asgi-webtransport.md, the application's lifetime, and
the backpressure of streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pronghorn
import pytest
from harness import Event, Receive, Recorder, Scope, Send, aio, serving
from wt_client import dial

ACCEPT = {"type": "webtransport.accept"}
SEND = "webtransport.stream.send"

Check = Callable[[Send, int], Awaitable[None]]


async def in_session(check: Check, *, bidirectional: bool = True) -> None:
    """Runs `check(send, stream_id)` in an accepted session with one stream from the client."""
    done = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        try:
            await check(send, stream)
        finally:
            done.add({"type": "done"})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.open(bidirectional, data=b"x")
        await done.until(lambda: done.events)
        client.close_session()


def message(kind: str, stream: int | None = None, **fields: Any) -> Event:
    found: Event = {"type": kind} | fields
    return found if stream is None else found | {"stream_id": stream}


@pytest.mark.parametrize(
    "kind",
    ["webtransport.nonsense", "http.response.start", "websocket.send", "", "lifespan.startup"],
)
@aio
async def test_row_unknown_type(kind: str) -> None:
    async def check(send: Send, stream: int) -> None:
        with pytest.raises(ValueError, match=kind or "type"):
            await send({"type": kind})

    await in_session(check)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": SEND, "data": "text", "stream_id": 0},
        {"type": SEND, "data": None, "stream_id": 0},
        {"type": SEND, "data": b"", "stream_id": True},
        {"type": SEND, "data": b"", "stream_id": "0"},
        {"type": "webtransport.stream.reset", "stream_id": 0, "code": 1.0},
        {"type": "webtransport.datagram.send", "data": "text"},
        {"type": "webtransport.close", "code": "1"},
        {"type": "webtransport.close", "reason": b"bytes"},
        {"type": SEND, "data": b"", "stream_id": 0, "end_stream": 1},
        {"type": "webtransport.stream.open", "bidirectional": 1},
        {"type": "webtransport.stream.open", "is_unidirectional": None},
        {"type": "webtransport.datagram.send", "data": b"", "wait": 1},
        {"type": 7},
    ],
)
@aio
async def test_row_wrong_python_type(wrong: Event) -> None:
    async def check(send: Send, stream: int) -> None:
        if wrong.get("stream_id") == 0 and wrong["stream_id"] is not True:
            wrong["stream_id"] = stream
        with pytest.raises(TypeError):
            await send(wrong)

    await in_session(check)


@aio
async def test_row_missing_or_contradicting_fields() -> None:
    async def check(send: Send, stream: int) -> None:
        for wrong in (
            {"type": SEND, "data": b""},
            {"type": SEND, "data": b"", "stream": stream, "stream_id": stream + 4},
            {"type": "webtransport.stream.open", "bidirectional": True, "is_unidirectional": True},
            {"type": "webtransport.stream.reset", "stream_id": stream, "code": -1},
            {"type": "webtransport.stream.reset", "stream_id": stream, "code": 2**32},
            {"type": "webtransport.close", "code": 2**32},
            {"type": "webtransport.datagram.send"},
        ):
            with pytest.raises(ValueError):
                await send(wrong)

    await in_session(check)


@pytest.mark.parametrize(
    "wrong",
    [
        {"subprotocol": "not.offered"},
        {"headers": [(b":status", b"200")]},
        {"headers": [(b"connection", b"close")]},
        {"headers": [(b"wt-protocol", b'"x"')]},
        {"headers": [(b"x", b"a\r\nb: c")]},
    ],
)
@aio
async def test_row_invalid_accept(wrong: Event) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(ValueError):
            await send(ACCEPT | wrong)
        await send({"type": "webtransport.close", "status": 418})

    async with serving(app) as server, dial(server.quic) as client:
        headers = await client.connect_session()
        assert headers[":status"] == "418"


@pytest.mark.parametrize(
    "early",
    [
        {"type": SEND, "stream_id": 0, "data": b""},
        {"type": "webtransport.stream.open"},
        {"type": "webtransport.stream.reset", "stream_id": 0},
        {"type": "webtransport.datagram.send", "data": b""},
        {"type": "webtransport.drain"},
        {"type": "webtransport.http.response.body", "body": b""},
    ],
)
@aio
async def test_row_before_accept(early: Event) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(RuntimeError):
            await send(early)
        await send({"type": "webtransport.close", "status": 418})

    async with serving(app) as server, dial(server.quic) as client:
        assert (await client.connect_session())[":status"] == "418"


@aio
async def test_row_accept_before_connect_was_received() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(RuntimeError):
            await send(ACCEPT)
        await receive()
        await send({"type": "webtransport.close", "status": 418})

    async with serving(app) as server, dial(server.quic) as client:
        assert (await client.connect_session())[":status"] == "418"


@aio
async def test_row_second_accept_and_late_answers() -> None:
    async def check(send: Send, stream: int) -> None:
        with pytest.raises(RuntimeError):
            await send(ACCEPT)
        with pytest.raises(RuntimeError):
            await send({"type": "webtransport.http.response.start", "status": 404})
        await send({"type": "webtransport.close"})
        with pytest.raises(RuntimeError):
            await send(ACCEPT)

    await in_session(check)


@aio
async def test_row_status_2xx_is_no_rejection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(ValueError):
            await send({"type": "webtransport.http.response.start", "status": 204})
        await send({"type": "webtransport.close", "status": 418})

    async with serving(app) as server, dial(server.quic) as client:
        assert (await client.connect_session())[":status"] == "418"


@aio
async def test_row_stream_never_seen() -> None:
    """Ids above the highest seen, the session's own, and control streams."""

    async def check(send: Send, stream: int) -> None:
        for unknown in (stream + 4, stream + 400, stream - 4, 1, 2, 3, 7, 15, 2**62):
            with pytest.raises(ValueError):
                await send(message(SEND, unknown, data=b"x"))

    await in_session(check)


@aio
async def test_row_stream_of_another_session() -> None:
    streams: list[int] = []
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while (event := await receive())["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.stream.receive":
                streams.append(event["stream_id"])
            elif event["type"] == "webtransport.datagram.receive":
                with pytest.raises(ValueError):
                    await send(message(SEND, streams[0], data=b"x"))
                outcome.add({"type": "refused"})

    async with serving(app) as server, dial(server.quic) as first, dial(server.quic) as second:
        await first.connect_session()
        await second.connect_session()
        first.open(data=b"x")
        first.open(data=b"x")
        await outcome.until(lambda: True)
        while len(streams) < 2:
            await first.ping()
        streams[0] = max(streams)
        second.datagram(b"try")
        await outcome.until(lambda: outcome.events)
        first.close_session()
        second.close_session()


@aio
async def test_row_wrong_direction() -> None:
    async def check(send: Send, stream: int) -> None:
        with pytest.raises(ValueError):
            await send(message(SEND, stream, data=b"x"))
        own = await send({"type": "webtransport.stream.open", "bidirectional": False})
        for kind in ("stop_sending", "pause"):
            with pytest.raises(ValueError):
                await send(message("webtransport.stream." + kind, own))

    await in_session(check, bidirectional=False)


@pytest.mark.parametrize("ending", ["fin", "reset"])
@aio
async def test_row_write_after_own_end(ending: str) -> None:
    async def check(send: Send, stream: int) -> None:
        if ending == "fin":
            await send(message(SEND, stream, data=b"x", end_stream=True))
        else:
            await send(message("webtransport.stream.reset", stream))
        with pytest.raises(RuntimeError):
            await send(message(SEND, stream, data=b"y"))

    await in_session(check)


@aio
async def test_row_stream_forgotten() -> None:
    """Both sides finished long ago: as a write after the own end, without state."""
    asked = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        first = None
        while (event := await receive())["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.datagram.receive":
                with pytest.raises(RuntimeError):
                    await send(message(SEND, first, data=b"x"))
                await send(message("webtransport.stream.reset", first))  # no-op
                asked.add({"type": "asked"})
            elif event["end_stream"]:
                first = event["stream_id"] if first is None else first
                await send(message(SEND, event["stream_id"], data=b"bye", end_stream=True))

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        for _ in range(20):
            stream = client.open(data=b"x", end=True)
            await client.until(lambda stream=stream: stream in client.finished)
        client.datagram(b"now")
        await asked.until(lambda: asked.events)
        client.close_session()


@aio
async def test_row_session_gone() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        while (await receive())["type"] != "webtransport.disconnect":
            pass
        for late in (
            message(SEND, stream, data=b"x"),
            {"type": "webtransport.datagram.send", "data": b"x"},
            {"type": "webtransport.stream.open"},
            message("webtransport.stream.reset", stream),
            {"type": "webtransport.drain"},
        ):
            with pytest.raises(pronghorn.ClientDisconnected):
                await send(late)
        assert issubclass(pronghorn.ClientDisconnected, OSError)
        await send({"type": "webtransport.close"})
        outcome.add({"type": "checked"})

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.open(data=b"x")
        client.close_session()
        await outcome.until(lambda: outcome.events)


@aio
async def test_row_no_datagram_support() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        outcome.add(scope["extensions"]["webtransport"])
        await send(ACCEPT)
        with pytest.raises(RuntimeError):
            await send({"type": "webtransport.datagram.send", "data": b"x"})
        outcome.add({"type": "refused"})

    async with (
        serving(app) as server,
        dial(server.quic, max_datagram_frame_size=None) as client,
    ):
        await client.connect_session()
        await outcome.until(lambda: len(outcome.events) == 2)
    assert outcome.events[0]["datagrams"] is False
    assert outcome.events[0]["max_datagram_size"] == 0


# --- lifetime -------------------------------------------------------------------------------------


@aio
async def test_raise_before_first_receive_is_405_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"

    with caplog.at_level(logging.INFO):
        async with serving(app, expect_failure=True) as server:
            for _ in range(3):
                async with dial(server.quic) as client:
                    assert (await client.connect_session())[":status"] == "405"
    hints = [r for r in caplog.records if r.name == "pronghorn.error"]
    assert len(hints) <= 1  # once a process: test_frameworks.py counts in one of its own
    assert all("route on scope['type']" in r.getMessage() for r in hints)
    assert all(r.exc_info is None for r in hints)


@aio
async def test_raise_before_answer_is_500_with_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise KeyError("on purpose")

    async with serving(app, expect_failure=True) as server, dial(server.quic) as client:
        assert (await client.connect_session())[":status"] == "500"
    assert "KeyError: 'on purpose'" in caplog.text
    assert "Traceback" in caplog.text


@aio
async def test_return_before_answer_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async with serving(app) as server, dial(server.quic) as client:
        assert (await client.connect_session())[":status"] == "500"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR]


@aio
async def test_return_after_accept_closes_cleanly() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await client.until(lambda: client.session in client.finished)
        assert client.capsules() in ([], [(0x2843, bytes(4))])


@aio
async def test_raise_after_accept_resets_with_internal_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        raise KeyError("after accept")

    async with serving(app, expect_failure=True) as server, dial(server.quic) as client:
        await client.connect_session()
        client.datagram(b"now")
        await client.until(lambda: client.resets.get(client.session) == 0x102)
    assert "KeyError: 'after accept'" in caplog.text


@aio
async def test_client_disconnected_that_propagates_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
            await send(ACCEPT)
            while (await receive())["type"] != "webtransport.disconnect":
                pass
            await send({"type": "webtransport.datagram.send", "data": b"x"})
        finally:
            ended.add({"type": "ended"})

    async with serving(app, expect_failure=True) as server, dial(server.quic) as client:
        await client.connect_session()
        client.close_session()
        await ended.until(lambda: ended.events)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@aio
async def test_task_is_not_cancelled_at_disconnect_but_at_the_deadline() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while (await receive())["type"] != "webtransport.disconnect":
            pass
        outcome.add({"type": "disconnected"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.add({"type": "cancelled"})
            raise

    async with (
        serving(app, expect_failure=True, graceful_timeout=1) as server,
        dial(server.quic) as client,
    ):
        await client.connect_session()
        client.close_session()
        await outcome.until(lambda: outcome.events)
        await client.ping()
        assert [event["type"] for event in outcome.events] == ["disconnected"]
    assert [event["type"] for event in outcome.events] == ["disconnected", "cancelled"]


# --- backpressure ---------------------------------------------------------------------------------


@aio
async def test_stream_send_waits_above_the_high_water_mark_and_a_cancelled_one_sent_nothing() -> (
    None
):
    outcome = Recorder()
    piece = b"p" * 65536

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        stream = (await receive())["stream_id"]
        other = (await receive())["stream_id"]
        sent = 0
        while True:
            writing = asyncio.ensure_future(send(message(SEND, stream, data=piece)))
            await asyncio.sleep(0)  # one step is all that it needs where there is room
            if not writing.done():
                break
            sent += len(piece)
        # Another stream and datagrams are not held up by the full one.
        await send(message(SEND, other, data=b"free"))
        await send({"type": "webtransport.datagram.send", "data": b"free too"})
        writing.cancel()
        outcome.add({"type": "blocked", "sent": sent})
        while (event := await receive())["type"] != "webtransport.datagram.receive":
            assert event["type"] == "webtransport.stream.receive"
        await send(message(SEND, stream, data=b"end", end_stream=True))
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"x")
        other = client.open(data=b"x")
        await client.ping()
        client.freeze()
        (blocked,) = await outcome.until(lambda: outcome.events)
        assert 256 * 1024 <= blocked["sent"] <= 512 * 1024
        client.thaw()
        client.datagram(b"go on")
        await client.until(lambda: stream in client.finished)
        assert client.streams[stream] == b"p" * blocked["sent"] + b"end"
        assert client.streams[other] == b"free"
        client.close_session()


@aio
async def test_unread_stream_stops_the_peer_at_the_window_and_loses_nothing() -> None:
    may_read = asyncio.Event()
    outcome = Recorder()
    size = 3 * 1024 * 1024

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await may_read.wait()
        got = bytearray()
        while (event := await receive())["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.stream.receive":
                assert len(event["data"]) <= 65536
                got += event["data"]
                if event["end_stream"]:
                    outcome.add({"type": "read", "data": bytes(got)})

    data = b"".join(number.to_bytes(4, "big") for number in range(size // 4))
    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        client.open(data=data, end=True)
        last = -1
        while (now := pronghorn.stats()["bytes_in"]) != last or now == 0:
            last = now
            for _ in range(5):
                await client.ping()
        assert 0 < now <= 1024 * 1024
        may_read.set()
        (read,) = await outcome.until(lambda: outcome.events)
        assert read["data"] == data
        client.close_session()


@aio
async def test_stream_open_waits_for_the_peers_limit() -> None:
    opened: list[int] = []
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for number in range(300):  # aioquic grants 128 at first
            opened.append(
                await send(
                    {
                        "type": "webtransport.stream.open",
                        "bidirectional": False,
                        "data": b"%d" % number,
                        "end_stream": True,
                    }
                )
            )
        outcome.add({"type": "all"})
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        await outcome.until(lambda: outcome.events)
        await client.until(lambda: len(client.streams) == 300)
        assert [client.streams[stream] for stream in opened] == [b"%d" % n for n in range(300)]
        client.close_session()


@aio
async def test_codes_of_streams_at_session_end() -> None:
    """When the client closes, our streams end with WT_SESSION_GONE."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while (await receive())["type"] != "webtransport.disconnect":
            pass

    async with serving(app) as server, dial(server.quic) as client:
        await client.connect_session()
        stream = client.open(data=b"x")
        await client.ping()
        client.close_session()
        await client.until(lambda: client.resets.get(stream) == 0x170D7B68)
