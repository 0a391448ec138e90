"""What send() takes in the http scope, and what the client sees of it: points 29 to 49 of
docs/asgi.md, over every version of HTTP. Tests carry the number of their point."""

from __future__ import annotations

import asyncio
import email.utils
import http
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pronghorn
import pytest
from harness import (
    BODY,
    START,
    Event,
    Receive,
    Recorder,
    Running,
    Scope,
    Send,
    aio,
    answering,
    serving,
)
from peers import (
    INTERNAL_ERROR,
    answer_to,
    ask,
    dialled,
    every_version,
    streamed_versions,
)

DISCONNECT = {"type": "http.disconnect"}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of the application; of a slow machine more may be said."""
    said = [(r.levelno, r.getMessage()) for r in caplog.records]
    return [line for level, line in said if level >= logging.ERROR and line.startswith("app:")]


# --- 29, 30, 31: what is refused, and that a refusal changes nothing ------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        BODY,
        {"type": "http.response.trailers", "headers": []},
        {"type": "http.disconnect"},
        {"type": "http.response.nonsense"},
        {"type": "websocket.accept"},
        {"type": None},
        {"status": 200},
        "http.response.start",
        None,
    ],
)
@every_version
@aio
async def test_29_wrong_messages_raise_and_the_response_can_still_be_sent(
    version: str, wrong: Any
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            await send(wrong)
        await send(START | {"status": 418})
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            await send(wrong if wrong != BODY else START)
        await send(BODY | {"body": b"ok"})

    async with serving(app) as server:
        answer = await ask(version, server)
    assert (answer.status, answer.body, answer.whole) == (418, b"ok", True)


@pytest.mark.parametrize("late", [START, BODY, BODY | {"body": b"more", "more_body": True}])
@every_version
@aio
async def test_29_messages_after_the_end_raise(version: str, late: Event) -> None:
    raised = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"all"})
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await send(late)
        raised.add({"type": "raised"})

    async with serving(app) as server:
        answer = await ask(version, server)
        await raised.until(lambda: raised.events)
    assert (answer.body, answer.whole) == (b"all", True)


def generated() -> Iterator[tuple[bytes, bytes]]:
    yield (b"x-a", b"1")
    yield (b"x-b", b"2")


@pytest.mark.parametrize(
    "headers",
    [
        [[b"x-a", b"1"], (b"x-b", b"2")],
        ((b"x-a", b"1"), (b"x-b", b"2")),
        {b"x-a": b"1", b"x-b": b"2"}.items(),
        "generator",
        [(bytearray(b"x-a"), memoryview(b"1")), (b"x-b", bytearray(b"2"))],
    ],
)
@every_version
@aio
async def test_30_headers_are_any_iterable_of_pairs(version: str, headers: Any) -> None:
    given = generated() if headers == "generator" else headers
    answer = await answer_to(version, START | {"headers": given}, BODY)
    pairs = [pair for pair in answer.headers if pair[0].startswith("x-")]
    assert pairs == [("x-a", "1"), ("x-b", "2")]


@pytest.mark.parametrize("start", [START, START | {"headers": None}, START | {"headers": []}])
@every_version
@aio
async def test_30_headers_are_optional(version: str, start: Event) -> None:
    assert (await answer_to(version, start, BODY | {"body": b"x"})).body == b"x"


@every_version
@aio
async def test_31_names_are_lowered_and_connection_fields_removed(version: str) -> None:
    headers = [
        (b"X-Mixed-Case", b"Kept As Is"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Upgrade", b"h2c"),
        (b"Connection", b"x-mixed-case"),
    ]
    answer = await answer_to(version, START | {"headers": headers}, BODY | {"body": b"x"})
    assert answer.header("x-mixed-case") == "Kept As Is"
    assert not {"keep-alive", "proxy-connection", "upgrade", "connection"} & set(answer.names())


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (b"x", b"a\r\nb: c", ValueError),
        (b"x", b"a\nb", ValueError),
        (b"x", b"a\0", ValueError),
        (b"x", b"\x7f", ValueError),
        (b"x\r\n", b"a", ValueError),
        (b"x y", b"a", ValueError),
        (b"", b"a", ValueError),
        (b":status", b"200", ValueError),
        (b"x:", b"a", ValueError),
        ("x", b"a", TypeError),
        (b"x", "a", TypeError),
        (b"x", 1, TypeError),
        (None, None, TypeError),
    ],
)
@every_version
@aio
async def test_31_bad_headers_raise_and_the_response_can_still_be_sent(
    version: str, name: Any, value: Any, error: type[Exception]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(error):
            await send(START | {"headers": [(name, value)]})
        await send(START | {"status": 418})
        await send(BODY)

    async with serving(app) as server:
        assert (await ask(version, server)).status == 418


# --- 32 to 35: framing ------------------------------------------------------------------------


@every_version
@aio
async def test_32_transfer_encoding_of_the_application_is_left_out(version: str) -> None:
    headers = [(b"transfer-encoding", b"chunked"), (b"x-a", b"1")]
    parts = [BODY | {"body": b"a", "more_body": True}, BODY | {"body": b"b"}]
    answer = await answer_to(version, START | {"headers": headers}, *parts)
    assert (answer.body, answer.whole, answer.header("x-a")) == (b"ab", True, "1")
    assert answer.names().count("transfer-encoding") == (1 if version == "1.1" else 0)


@aio
async def test_32_http_1_0_gets_no_chunks() -> None:
    headers = [(b"transfer-encoding", b"chunked")]
    app = answering(START | {"headers": headers}, BODY | {"body": b"a", "more_body": True}, BODY)
    async with serving(app) as server, dialled("1.1", server) as client:
        exchange = client.raw(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        await exchange.done()
        await client.until(lambda: client.closed)
    assert exchange.body == b"a"
    assert exchange.header("transfer-encoding") is None
    assert exchange.header("connection") == "close"


@aio
async def test_33_framing_without_a_declared_length() -> None:
    # The whole body in one message: its length is known. In parts: chunks.
    whole = await answer_to("1.1", START, BODY | {"body": b"hello"})
    assert (whole.header("content-length"), whole.header("transfer-encoding")) == ("5", None)
    empty = await answer_to("1.1", START, BODY)
    assert (empty.header("content-length"), empty.header("transfer-encoding")) == ("0", None)
    parts = await answer_to("1.1", START, BODY | {"body": b"hello", "more_body": True}, BODY)
    assert (parts.header("content-length"), parts.header("transfer-encoding")) == (None, "chunked")
    assert whole.body == parts.body == b"hello"


@pytest.mark.parametrize(
    "bodies",
    [
        [(b"long!", False)],
        [(b"abc", True), (b"de", False)],
        [(b"abc", True), (b"de", True)],
        [(b"sho", False)],
        [(b"", False)],
        [(b"sh", True), (b"o", False)],
    ],
)
@every_version
@aio
async def test_34_a_body_of_another_length_is_an_error_and_cuts(
    version: str, bodies: list[tuple[bytes, bool]]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START | {"headers": [(b"content-length", b"4")]})
        *right, (wrong, more) = bodies
        for body, _ in right:
            await send(BODY | {"body": body, "more_body": True})
        with pytest.raises(RuntimeError, match="content-length"):
            await send(BODY | {"body": wrong, "more_body": more})

    async with serving(app) as server:
        answer = await ask(version, server)
    assert answer.broken
    assert len(answer.body) < 4
    assert answer.reset == INTERNAL_ERROR[version]


@pytest.mark.parametrize("value", [b"-1", b"+4", b"4, 4", b"x", b"", b"9223372036854775808"])
@every_version
@aio
async def test_34_a_bad_content_length_raises(version: str, value: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match="content-length"):
            await send(START | {"headers": [(b"content-length", value)]})
        await send(START | {"status": 418})
        await send(BODY)

    async with serving(app) as server:
        assert (await ask(version, server)).status == 418


@pytest.mark.parametrize(
    ("method", "status", "kept"),
    [("HEAD", 200, True), ("GET", 304, True), ("GET", 204, False), ("HEAD", 204, False)],
)
@pytest.mark.parametrize("parts", [1, 3])
@every_version
@aio
async def test_35_no_body_where_there_is_none(
    version: str, method: str, status: int, kept: bool, parts: int
) -> None:
    headers = [(b"content-length", b"9")]
    bodies = [BODY | {"body": b"123456789", "more_body": n + 1 < parts} for n in range(parts)]
    app = answering(START | {"status": status, "headers": headers}, *bodies)
    async with serving(app) as server, dialled(version, server) as client:
        answer = await (await client.start(method)).done()
        assert (answer.status, answer.body, answer.whole) == (status, b"", True)
        assert answer.header("content-length") == ("9" if kept else None)
        assert answer.header("transfer-encoding") is None
        # And the connection is in order.
        assert (await (await client.start(method)).done()).whole


# --- 36 to 41 ---------------------------------------------------------------------------------


@every_version
@aio
async def test_36_date_and_server_are_added_once(version: str) -> None:
    ours = await answer_to(version, START, BODY)
    assert [name for name in ours.names() if name in ("date", "server")] == ["date", "server"]
    assert email.utils.parsedate_to_datetime(ours.header("date") or "")
    mine = [(b"Server", b"mine"), (b"DATE", b"Thu, 01 Jan 1970 00:00:00 GMT")]
    theirs = await answer_to(version, START | {"headers": mine}, BODY)
    assert sorted(n for n in theirs.names() if n in ("date", "server")) == ["date", "server"]
    assert theirs.header("server") == "mine"


@pytest.mark.parametrize("who", ["application", "client"])
@aio
async def test_37_connection_close_ends_the_connection(who: str) -> None:
    targets: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        targets.append(scope["path"])
        headers = [(b"connection", b"close")] if who == "application" else []
        await send(START | {"headers": headers})
        await send(BODY | {"body": b"x"})

    async with serving(app) as server, dialled("1.1", server) as client:
        line = b"connection: close\r\n" if who == "client" else b""
        first = b"GET /1 HTTP/1.1\r\nhost: a\r\n" + line + b"\r\n"
        exchange = client.raw(first + b"POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        await exchange.done()
        await client.until(lambda: client.closed)
    assert (exchange.body, exchange.header("connection")) == (b"x", "close")
    assert targets == ["/1"]


@streamed_versions
@aio
async def test_37_connection_close_is_nothing_to_other_versions(version: str) -> None:
    app = answering(START | {"headers": [(b"connection", b"close")]}, BODY | {"body": b"x"})
    async with serving(app) as server, dialled(version, server) as client:
        for _ in range(2):
            answer = await (await client.start()).done()
            assert (answer.body, answer.header("connection")) == (b"x", None)


@pytest.mark.parametrize("size", [5, 100_000])
@every_version
@aio
async def test_38_bodies_are_bytes_like(version: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    changing = bytearray(data)

    class Sub(bytes):
        pass

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": data, "more_body": True})
        await send(BODY | {"body": changing, "more_body": True})
        changing[:] = bytes(len(changing))  # what was sent is not what it is now
        await send(BODY | {"body": memoryview(data), "more_body": True})
        await send(BODY | {"body": Sub(data), "more_body": True})
        for wrong in (None, "text", 7, [1], object()):
            with pytest.raises(TypeError):
                await send(BODY | {"body": wrong})
        with pytest.raises((TypeError, BufferError)):
            await send(BODY | {"body": memoryview(data)[::2]})
        await send(BODY)

    async with serving(app) as server:
        answer = await ask(version, server)
    assert answer.whole
    assert answer.body == data * 4


@every_version
@aio
async def test_39_empty_parts_do_not_end_the_body(version: str) -> None:
    empty = BODY | {"body": b"", "more_body": True}
    bodies = [empty, empty, BODY | {"body": b"a", "more_body": True}, empty, BODY | {"body": b"b"}]
    answer = await answer_to(version, START, *bodies)
    assert (answer.body, answer.whole) == (b"ab", True)


@every_version
@aio
async def test_40_the_head_waits_for_the_body_and_parts_do_not(version: str) -> None:
    gate = {name: asyncio.Event() for name in ("head", "empty", "end")}
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START | {"status": 299})
        order.append("started")
        await gate["head"].wait()
        await send(BODY | {"more_body": True})  # nothing but the head
        await gate["empty"].wait()
        await send(BODY | {"body": b"data: 1\n\n", "more_body": True})
        await gate["end"].wait()
        await send(BODY | {"body": b"data: 2\n\n"})

    async with serving(app) as server, dialled(version, server) as client:
        exchange = await client.start()
        while not order:
            await asyncio.sleep(0.01)
        assert exchange.status == 0
        gate["head"].set()
        await exchange.until(lambda: exchange.status == 299)
        assert exchange.body == b""
        gate["empty"].set()
        await exchange.until(lambda: exchange.body == b"data: 1\n\n")
        gate["end"].set()
        await exchange.done()
    assert exchange.body == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("more", [True, False], ids=["part", "end"])
@every_version
@aio
async def test_40_what_was_sent_leaves_although_the_loop_is_blocked(
    version: str, more: bool
) -> None:
    seen = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"now", "more_body": more})
        assert seen.wait(20), "the client did not get what was sent"
        if more:
            await send(BODY)

    async def talk(server: Running) -> None:
        async with dialled(version, server) as client:
            exchange = await client.start()
            await exchange.until(lambda: exchange.body == b"now")
            seen.set()
            await exchange.done()

    async with serving(app) as server:
        await asyncio.to_thread(asyncio.run, talk(server))


@every_version
@aio
async def test_41_send_waits_for_a_slow_client(version: str) -> None:
    progress: list[int] = []
    size = 65536
    count = 256

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(count):
            await send(BODY | {"body": bytes(size), "more_body": True})
            progress.append(number)
        await send(BODY)

    async with serving(app) as server, dialled(version, server) as client:
        client.pause()
        exchange = await client.start()
        last = -1
        while len(progress) != last or last == 0:
            last = len(progress)
            await asyncio.sleep(0.25)
        assert last < count // 2  # our mark and the sockets' buffers
        client.resume()
        await exchange.done()
    assert (len(exchange.body), len(progress)) == (count * size, count)


@every_version
@aio
async def test_41_a_waiting_send_ends_when_the_client_leaves(version: str) -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send(BODY | {"body": bytes(65536), "more_body": True})
        except pronghorn.ClientDisconnected:
            outcome.add({"type": "raised"})

    async with serving(app) as server, dialled(version, server) as client:
        client.pause()
        exchange = await client.start()
        await asyncio.sleep(0.2)
        if version == "3":
            client.resume()
        exchange.abort()
        await outcome.until(lambda: outcome.events)


# --- 42 to 45: how it ends --------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["before the start", "after the start", "in the body"])
@every_version
@aio
async def test_42_send_to_a_client_that_left_raises_and_is_not_logged(
    version: str, phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    here, outcome = asyncio.Event(), Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if phase != "before the start":
            await send(START)
        if phase == "in the body":
            await send(BODY | {"body": b"x", "more_body": True})
        here.set()
        assert await receive() == DISCONNECT
        try:
            if phase == "before the start":
                await send(START)
            await send(BODY | {"body": b"y"})
        except OSError as error:
            assert type(error) is pronghorn.ClientDisconnected
            outcome.add({"type": "raised"})
            raise

    async with serving(app, expect_failure=True) as server, dialled(version, server) as client:
        exchange = await client.start()
        await asyncio.wait_for(here.wait(), 20)
        exchange.abort()
        await outcome.until(lambda: outcome.events)
    assert not [r for r in caplog.records if r.getMessage().startswith("app:")]


@pytest.mark.parametrize("error", [LookupError("told"), SystemExit(3), KeyboardInterrupt(), None])
@every_version
@aio
async def test_43_raising_before_the_start_is_500(
    version: str, error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fine":
            await send(START)
            await send(BODY)
            return
        await receive()
        raise asyncio.CancelledError if error is None else error

    async with serving(app, expect_failure=True) as server, dialled(version, server) as client:
        answer = await (await client.start()).done()
        assert (answer.status, answer.whole) == (500, True)
        assert answer.header("connection") == ("close" if version == "1.1" else None)
        # The loop lives on.
        assert (await ask(version, server, "GET", "/fine")).status == 200
    if isinstance(error, LookupError):
        assert caplog.text.count("LookupError: told") == 1
        assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [LookupError("told"), SystemExit(3), None])
@pytest.mark.parametrize("declared", [True, False])
@every_version
@aio
async def test_43_raising_in_the_body_cuts_it(
    version: str, declared: bool, error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"100")] if declared else []
        await send(START | {"headers": headers})
        await send(BODY | {"body": b"half", "more_body": True})
        raise asyncio.CancelledError if error is None else error

    async with serving(app, expect_failure=True) as server:
        answer = await ask(version, server)
    assert answer.broken
    assert answer.reset == INTERNAL_ERROR[version]
    if isinstance(error, LookupError):
        assert caplog.text.count("LookupError: told") == 1


@pytest.mark.parametrize("messages", [[], [START]], ids=["nothing", "started"])
@every_version
@aio
async def test_44_returning_without_a_response_is_500(
    version: str, messages: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    answer = await answer_to(version, *messages)
    assert (answer.status, answer.whole) == (500, True)
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("body", [b"", b"a"])
@every_version
@aio
async def test_44_returning_in_the_response_cuts_it(
    version: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await answer_to(version, START, BODY | {"body": body, "more_body": True})
    assert answer.broken
    assert answer.reset == INTERNAL_ERROR[version]
    assert len(errors(caplog)) == 1


@every_version
@aio
async def test_44_a_returned_value_is_nobodys(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> object:
        await send(START)
        await send(BODY | {"body": b"x"})
        return object()

    async with serving(app) as server:
        assert (await ask(version, server)).whole
    assert errors(caplog) == []


@every_version
@aio
async def test_45_work_after_the_response_holds_nothing(version: str) -> None:
    may_end, ended = asyncio.Event(), Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": scope["path"].encode()})
        await may_end.wait()
        ended.add({"type": "ended"})

    async with serving(app) as server, dialled(version, server) as client:
        for number in range(3):
            answer = await (await client.start("GET", f"/{number}")).done()
            assert answer.body == b"/%d" % number
        may_end.set()
        await ended.until(lambda: len(ended.events) == 3)


@aio
async def test_45_pipelined_answers_keep_their_order() -> None:
    gates = {f"/{number}": asyncio.Event() for number in range(3)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gates[scope["path"]].wait()
        await send(START)
        await send(BODY | {"body": scope["path"].encode(), "more_body": True})
        await send(BODY)

    async with serving(app) as server, dialled("1.1", server) as client:
        exchanges = [await client.start("GET", path) for path in gates]
        for path in reversed(gates):
            gates[path].set()
            await asyncio.sleep(0.02)
        for exchange in exchanges:
            await exchange.done()
    assert [exchange.body for exchange in exchanges] == [b"/0", b"/1", b"/2"]


# --- 46, 47, 49 -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, http.HTTPStatus.IM_A_TEAPOT, 299, 599, 600, 999])
@every_version
@aio
async def test_46_statuses(version: str, status: int) -> None:
    answer = await answer_to(version, START | {"status": status}, BODY | {"body": b"x"})
    assert (answer.status, answer.body) == (int(status), b"x")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (99, ValueError),
        (100, ValueError),
        (199, ValueError),
        (1000, ValueError),
        (-200, ValueError),
        (1 << 70, ValueError),
        ("200", TypeError),
        (200.0, TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
@every_version
@aio
async def test_46_wrong_statuses_raise(version: str, status: Any, error: type[Exception]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(error):
            await send(START | {"status": status})
        await send(START | {"status": 418})
        await send(BODY)

    async with serving(app) as server:
        assert (await ask(version, server)).status == 418


@aio
async def test_46_reason_phrases() -> None:
    async with serving(answering(START | {"status": 299}, BODY)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        version, status, reason = (await reader.readline()).split(b" ", 2)
        writer.close()
    assert (version, status) == (b"HTTP/1.1", b"299")
    assert reason.strip()


@every_version
@aio
async def test_49_what_ends_one_request_ends_no_other(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """CancelledError of the application's own, KeyboardInterrupt and SystemExit, beside others."""
    gate, waiting = asyncio.Event(), Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"a", "more_body": True})
        waiting.add({"type": "waiting"})
        await gate.wait()
        await send(BODY | {"body": b"b"})

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise {"/c": asyncio.CancelledError(), "/k": KeyboardInterrupt(), "/s": SystemExit(1)}[
            scope["path"]
        ]

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["path"] == "/" else broken)(scope, receive, send)

    async with serving(dispatch, expect_failure=True) as server, dialled(version, server) as client:
        bystander = await client.start()
        await waiting.until(lambda: waiting.events)
        for path in ("/c", "/k", "/s"):
            assert (await ask(version, server, "GET", path)).status == 500
        gate.set()
        await bystander.done()
    assert (bystander.body, bystander.whole) == (b"ab", True)
    said = errors(caplog)
    assert len(said) == 3
    assert "was cancelled, not by the server, before it was done" in said[0]
