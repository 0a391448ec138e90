"""The http scope over HTTP/1.1 and HTTP/3: one application, both protocols, the same facts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pronghorn
import pytest
from certs import untrusting
from harness import App, Event, Receive, Recorder, Running, Scope, Send, aio, serving
from wt_client import Client, dial

START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body"}


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    whole: bool  # the end was said, not cut

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


Ask = Callable[..., Awaitable[Answer]]


async def ask_h1(
    server: Running,
    method: str = "GET",
    target: str = "/",
    headers: list[tuple[str, str]] | None = None,
    body: bytes | None = None,
) -> Answer:
    """One request on a raw connection, closed by us afterwards."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
    fields = [("host", "localhost"), *(headers or [])]
    if body is not None:
        fields.append(("content-length", str(len(body))))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields) + "\r\n"
    writer.write(head.encode() + (body or b""))
    try:
        return await read_h1(reader, method)
    except (asyncio.IncompleteReadError, ConnectionError):  # cut before the head was complete
        return Answer(0, [], b"", False)
    finally:
        writer.close()


async def read_h1(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    while True:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        if status >= 200:
            break
    headers = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:-2])]
    answer = Answer(status, headers, b"", True)
    try:
        if method == "HEAD" or status in (204, 304):
            pass
        elif answer.header("transfer-encoding") == "chunked":
            while size := int((await reader.readline()).split(b";")[0] or b"x", 16):
                answer.body += await reader.readexactly(size)
                assert await reader.readexactly(2) == b"\r\n"
            while (line := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode().partition(":")
                headers.append(("trailer:" + name.lower(), value.strip()))
        elif (length := answer.header("content-length")) is not None:
            answer.body = await reader.readexactly(int(length))
        else:
            answer.body = await reader.read()
    except (asyncio.IncompleteReadError, ValueError, ConnectionError) as error:
        answer.body += getattr(error, "partial", b"")
        answer.whole = False
    return answer


async def ask_h3(
    server: Running,
    method: str = "GET",
    target: str = "/",
    headers: list[tuple[str, str]] | None = None,
    body: bytes | None = None,
) -> Answer:
    async with dial(server.quic) as client:
        stream = request_h3(client, method, target, headers, body)
        await client.until(lambda: stream in client.finished or stream in client.resets)
        received = dict(client.headers.get(stream, {}))
        status = int(received.pop(":status", "0"))
        return Answer(
            status,
            list(received.items()),
            client.bodies.get(stream, b""),
            stream in client.finished,
        )


def request_h3(
    client: Client,
    method: str = "GET",
    target: str = "/",
    headers: list[tuple[str, str]] | None = None,
    body: bytes | None = None,
) -> int:
    stream = client._quic.get_next_available_stream_id()
    if method == "HEAD":  # aioquic misses the body that content-length announces
        client.h3._check_content_length = lambda stream: None  # type: ignore[method-assign]
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
    client.h3.send_headers(stream, encoded, end_stream=body is None)
    if body is not None:
        client.h3.send_data(stream, body, end_stream=True)
    client.transmit()
    return stream


both = pytest.mark.parametrize("ask", [ask_h1, ask_h3], ids=["h1", "h3"])


def answering(*messages: Event, scopes: list[Scope] | None = None) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scopes is not None:
            scopes.append(scope)
        for message in messages:
            await send(message)

    return app


@both
@aio
async def test_scope(ask: Ask) -> None:
    scopes: list[Scope] = []
    app = answering(START, BODY | {"body": b"ok"}, scopes=scopes)
    async with serving(app, root_path="/api/") as server:
        headers = [("x-b", "1"), ("x-a", "2"), ("x-b", "3")]
        await ask(server, "GET", "/caf%C3%A9/%252F?q=1%20x&", headers)
        await ask(server, "GET", "/%ff?")
    scope, odd = scopes
    assert scope["type"] == "http"
    assert scope["http_version"] == ("1.1" if ask is ask_h1 else "3")
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
    assert scope["method"] == "GET"
    assert scope["scheme"] == ("http" if ask is ask_h1 else "https")
    assert scope["path"] == "/api/café/%2F"
    assert scope["raw_path"] == b"/api/caf%C3%A9/%252F"
    assert scope["query_string"] == b"q=1%20x&"
    assert scope["root_path"] in ("/api", "/api/")
    assert scope["headers"][0] == (b"host", b"localhost")
    assert [pair for pair in scope["headers"] if pair[0].startswith(b"x-")] == [
        (b"x-b", b"1"),
        (b"x-a", b"2"),
        (b"x-b", b"3"),
    ]
    assert scope["client"][0] == "127.0.0.1" and isinstance(scope["client"][1], int)
    assert scope["server"] == ("127.0.0.1", server.http if ask is ask_h1 else server.quic)
    assert type(scope) is dict
    assert scope["extensions"] is not odd["extensions"]
    assert odd["query_string"] == b""
    assert odd["raw_path"] == b"/api/%ff"
    assert isinstance(odd["path"], str)


@both
@aio
async def test_response_streams_and_has_date_and_server(ask: Ask) -> None:
    messages = [BODY | {"body": b"part %d " % n, "more_body": True} for n in range(5)]
    async with serving(answering(START, *messages, BODY)) as server:
        answer = await ask(server)
    assert (answer.status, answer.whole) == (200, True)
    assert answer.body == b"part 0 part 1 part 2 part 3 part 4 "
    assert answer.header("server") == "pronghorn"
    assert answer.header("date") is not None


@both
@aio
async def test_application_headers_win_and_are_lowered(ask: Ask) -> None:
    headers = [[b"Server", b"mine"], (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"X-Many", b"1"),
               (b"X-Many", b"2"), (b"Content-Length", b"2")]  # fmt: skip
    async with serving(answering(START | {"headers": headers}, BODY | {"body": b"ok"})) as server:
        answer = await ask(server)
    assert answer.header("server") == "mine"
    assert answer.header("date") == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert [key for key, _ in answer.headers].count("date") == 1
    assert answer.header("content-length") == "2"
    assert answer.body == b"ok"


@both
@aio
async def test_body_arrives_whole_and_ends_once(ask: Ask) -> None:
    recorder = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            more = recorder.add(await receive())["more_body"]
        await send(START)
        await send(BODY)
        assert await receive() == {"type": "http.disconnect"}
        assert await receive() == {"type": "http.disconnect"}

    data = bytes(range(256)) * 4096
    async with serving(app) as server:
        answer = await ask(server, "POST", body=data)
        assert answer.status == 200
        sent = b"".join(event["body"] for event in recorder.events)
        assert sent == data
        recorder.events.clear()
        await ask(server)
    assert recorder.events == [{"type": "http.request", "body": b"", "more_body": False}]


@both
@aio
async def test_receive_after_the_body_waits(ask: Ask) -> None:
    waited = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        second = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not second.done()
        await send(START)
        await send(BODY | {"body": b"x"})
        waited.add(await second)

    async with serving(app) as server:
        await ask(server)
        await waited.until(lambda: waited.events)
    assert waited.events == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("status", [204, 304])
@both
@aio
async def test_statuses_without_body(ask: Ask, status: int) -> None:
    app = answering(START | {"status": status}, BODY | {"body": b"not to be seen"})
    async with serving(app) as server:
        answer = await ask(server)
    assert (answer.status, answer.body, answer.whole) == (status, b"", True)


@both
@aio
async def test_head_keeps_the_length_and_sends_no_body(ask: Ask) -> None:
    app = answering(START | {"headers": [(b"content-length", b"5")]}, BODY | {"body": b"hello"})
    async with serving(app) as server:
        answer = await ask(server, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("content-length") == "5"


@both
@aio
async def test_raise_before_start_is_500(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("before start")

    async with serving(app, expect_failure=True) as server:
        assert (await ask(server)).status == 500
    assert "LookupError: before start" in caplog.text
    assert "Traceback" in caplog.text


@both
@aio
async def test_raise_mid_body_cuts_the_response(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"half", "more_body": True})
        raise LookupError("mid body")

    async with serving(app, expect_failure=True) as server:
        answer = await ask(server)
    assert not answer.whole
    assert "LookupError: mid body" in caplog.text


@pytest.mark.parametrize("messages", [[], [START], [START, BODY | {"more_body": True}]])
@both
@aio
async def test_returning_too_early(
    ask: Ask, messages: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(answering(*messages)) as server:
        answer = await ask(server)
    if len(messages) > 1:
        assert answer.status == 0 or not answer.whole
    else:
        assert answer.status == 500
    assert [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([BODY], RuntimeError),
        ([START, START], RuntimeError),
        ([START, BODY, BODY], RuntimeError),
        ([{"type": "websocket.send"}], ValueError),
        ([{"type": "http.nonsense"}], ValueError),
        ([START, {"type": "http.response.trailers", "headers": []}], RuntimeError),
        ([{"type": "http.response.start"}], ValueError),
        ([START | {"status": "200"}], TypeError),
        ([START | {"status": 99}], ValueError),
        ([START | {"status": 1000}], ValueError),
        ([START | {"headers": [(b"a b", b"c")]}], ValueError),
        ([START | {"headers": [(b":status", b"c")]}], ValueError),
        ([START | {"headers": [(b"a", b"c\r\nd: e")]}], ValueError),
        ([START | {"headers": [("a", "b")]}], TypeError),
        ([START | {"headers": [(b"a",)]}], ValueError),
        ([START, BODY | {"body": "text"}], TypeError),
        ([START, BODY | {"body": None}], TypeError),
        ([START | {"headers": [(b"content-length", b"2")]}, BODY | {"body": b"long"}], Exception),
    ],
)
@both
@aio
async def test_wrong_messages_raise(
    ask: Ask, messages: list[Event], error: type[Exception]
) -> None:
    raised = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        *right, wrong = messages
        for message in right:
            await send(message)
        with pytest.raises(error):
            await send(wrong)
        raised.add({"type": "raised"})
        if not right:
            await send(START | {"status": 418})
            await send(BODY)

    async with serving(app) as server:
        answer = await ask(server)
        await raised.until(lambda: raised.events)
        if len(messages) == 1:
            assert answer.status == 418


@both
@aio
async def test_trailers_only_when_asked_for(ask: Ask) -> None:
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]}
    app = answering(START | {"trailers": True}, BODY | {"body": b"x"}, trailers)
    async with serving(app) as server:
        plain = await ask(server)
        asked = await ask(server, headers=[("te", "trailers")])
    assert plain.body == asked.body == b"x"
    assert plain.whole and asked.whole
    if ask is ask_h1:
        assert ("trailer:x-sum", "42") in asked.headers
        assert ("trailer:x-sum", "42") not in plain.headers


@aio
async def test_client_gone_wakes_receive_and_send() -> None:
    outcome = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        outcome.add({"type": "started"})
        outcome.add(await receive())
        with pytest.raises(pronghorn.ClientDisconnected):
            while True:
                await send(BODY | {"body": b"x" * 65536, "more_body": True})
        outcome.add({"type": "raised"})

    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await outcome.until(lambda: outcome.events)
        writer.transport.abort()
        await outcome.until(lambda: len(outcome.events) == 3)
        assert outcome.events[1] == {"type": "http.disconnect"}
        outcome.events.clear()
        async with dial(server.quic) as client:
            stream = request_h3(client)
            await outcome.until(lambda: outcome.events)
            client.reset(stream, 0x10C)
            client.stop(stream, 0x10C)
            await outcome.until(lambda: len(outcome.events) == 3)
        assert outcome.events[1] == {"type": "http.disconnect"}


@aio
async def test_slow_reader_blocks_send_and_memory_stays_bounded() -> None:
    progress: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(1024):
            await send(BODY | {"body": b"x" * 65536, "more_body": True})
            progress.append(number)
        await send(BODY)

    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http, limit=65536)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        last = -1
        while len(progress) != last:
            last = len(progress)
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.3)
        assert last < 512  # socket buffers and our mark, far below 64 MiB
        total = 0
        while data := await reader.read(1 << 20):
            total += len(data)
            if total > 1024 * 65536:
                break
        writer.close()
        while len(progress) < 1024:  # the last of them is ours, but its sender has its turn to come
            await asyncio.sleep(0.01)


@aio
async def test_expect_continue_only_when_the_body_is_asked_for() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/read":
            event = await receive()
            assert event["body"] == b"hello"
        await send(START)
        await send(BODY | {"body": b"done"})

    async with serving(app) as server:
        head = b" HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(b"POST /read" + head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"hello")
        assert (await read_h1(reader)).body == b"done"
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(b"POST /skip" + head)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()


@aio
async def test_pipelined_requests_are_answered_in_order() -> None:
    gates = {f"/{number}": asyncio.Event() for number in range(3)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gates[scope["path"]].wait()
        await send(START)
        await send(BODY | {"body": scope["path"].encode()})

    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        for number in range(3):
            writer.write(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number)
        for number in (2, 1, 0):
            gates[f"/{number}"].set()
        assert [(await read_h1(reader)).body for _ in range(3)] == [b"/0", b"/1", b"/2"]
        writer.close()


@aio
async def test_background_work_after_the_response_does_not_hold_the_connection() -> None:
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"ok"})
        await may_end.wait()

    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await read_h1(reader)).body == b"ok"
        writer.close()
        may_end.set()


@aio
async def test_each_request_has_its_own_context() -> None:
    import contextvars

    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set(variable.get() + 1)
        await send(START)
        await send(BODY)

    async with serving(app) as server:
        for _ in range(3):
            await ask_h1(server)
    assert seen == [0, 0, 0]


@aio
async def test_tls_speaks_http_1_1() -> None:
    context = untrusting("http/1.1")
    scopes: list[Scope] = []
    async with serving(answering(START, BODY | {"body": b"x" * 300000}, scopes=scopes)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.https, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = await read_h1(reader)
        writer.close()
    assert len(answer.body) == 300000
    assert scopes[0]["scheme"] == "https"
