"""Extensions of the http scope: points 47 and 48 of docs/asgi.md, early hints and files, over every
version of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from harness import BODY, START, Receive, Recorder, Scope, Send, aio, answering, serving
from peers import (
    INTERNAL_ERROR,
    answer_to,
    ask,
    dialled,
    every_version,
    streamed_versions,
)

TRAILERS = {"type": "http.response.trailers"}
PATH = {"type": "http.response.pathsend"}
FILE = {"type": "http.response.zerocopysend"}
HINT = {"type": "http.response.early_hint"}
ASK_TRAILERS = [("te", "trailers")]


@every_version
@aio
async def test_what_is_offered(version: str) -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send(START)
        await send(BODY)

    async with serving(app) as server, dialled("1.1", server) as old:
        await ask(version, server)
        await old.raw(b"GET / HTTP/1.0\r\n\r\n").done()
    files = {"http.response.pathsend", "http.response.zerocopysend"}
    more = {"http.response.early_hint", "http.response.trailers"}
    tls = set() if version == "1.1" else {"tls"}
    assert set(scopes[0]["extensions"]) == files | more | tls
    assert set(scopes[1]["extensions"]) == files


# --- Trailers ---------------------------------------------------------------------------------


@every_version
@aio
async def test_47_trailers_in_several_messages(version: str) -> None:
    answer = await answer_to(
        version,
        START | {"trailers": True},
        BODY | {"body": b"a", "more_body": True},
        BODY | {"body": b"b"},
        TRAILERS | {"headers": [(b"X-Sum", b"1"), (b"x-two", b"2")], "more_trailers": True},
        TRAILERS | {"headers": [(b"x-three", b"3")]},
        headers=ASK_TRAILERS,
    )
    assert (answer.body, answer.whole) == (b"ab", True)
    assert answer.trailers == [("x-sum", "1"), ("x-two", "2"), ("x-three", "3")]


@every_version
@aio
async def test_47_trailers_for_nobody_are_taken_and_dropped(version: str) -> None:
    trailers = TRAILERS | {"headers": [(b"x-sum", b"1")]}
    bodies = [BODY | {"body": b"a", "more_body": True}, BODY | {"body": b"b"}]
    answer = await answer_to(version, START | {"trailers": True}, *bodies, trailers)
    assert (answer.body, answer.whole, answer.trailers) == (b"ab", True, [])


@every_version
@aio
async def test_47_no_trailers_where_there_is_no_body(version: str) -> None:
    trailers = TRAILERS | {"headers": [(b"x-sum", b"1")]}
    app = answering(START | {"trailers": True}, BODY | {"body": b"x"}, trailers)
    async with serving(app) as server, dialled(version, server) as client:
        for _ in range(2):
            answer = await (await client.start("HEAD", headers=ASK_TRAILERS)).done()
            assert (answer.status, answer.body, answer.whole) == (200, b"", True)


@every_version
@aio
async def test_47_trailers_have_their_place(version: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        announced = scope["path"] == "/announced"
        await send(START | {"trailers": announced})
        await send(BODY | {"body": b"a", "more_body": True})
        with pytest.raises(RuntimeError):
            await send(TRAILERS | {"headers": []})
        await send(BODY | {"body": b"b"})
        if announced:
            with pytest.raises(RuntimeError):
                await send(BODY | {"body": b"c"})
            with pytest.raises(ValueError, match="header"):
                await send(TRAILERS | {"headers": [(b"x y", b"1")]})
            await send(TRAILERS)
        with pytest.raises(RuntimeError):
            await send(TRAILERS | {"headers": []})

    async with serving(app) as server:
        for path in ("/announced", "/"):
            answer = await ask(version, server, "GET", path, ASK_TRAILERS)
            assert (answer.body, answer.whole, answer.trailers) == (b"ab", True, [])


@every_version
@aio
async def test_47_announced_trailers_that_do_not_come_cut_the_response(version: str) -> None:
    body = BODY | {"body": b"a"}
    answer = await answer_to(version, START | {"trailers": True}, body, headers=ASK_TRAILERS)
    assert answer.broken
    assert answer.reset == INTERNAL_ERROR[version]


# --- Early hints ------------------------------------------------------------------------------


@every_version
@aio
async def test_early_hints_go_ahead_of_the_response(version: str) -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HINT | {"links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
        await gate.wait()
        await send(START | {"status": 201})
        await send(HINT | {"links": (b"</c>; rel=preconnect",)})
        await send(HINT | {"links": []})  # nothing to say
        await send(BODY | {"body": b"x", "more_body": True})
        with pytest.raises(RuntimeError):
            await send(HINT | {"links": [b"</d>"]})
        await send(BODY)

    async with serving(app) as server, dialled(version, server) as client:
        exchange = await client.start()
        await exchange.until(lambda: exchange.informational)
        gate.set()
        await exchange.done()
    assert exchange.informational == [
        (103, [("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")]),
        (103, [("link", "</c>; rel=preconnect")]),
    ]
    assert (exchange.status, exchange.body, exchange.whole) == (201, b"x", True)


@aio
async def test_early_hints_are_not_for_http_1_0() -> None:
    app = answering(HINT | {"links": [b"</a>"]}, START, BODY | {"body": b"x"})
    async with serving(app) as server, dialled("1.1", server) as client:
        exchange = await client.raw(b"GET / HTTP/1.0\r\n\r\n").done()
    assert (exchange.informational, exchange.body) == ([], b"x")


@pytest.mark.parametrize("links", [None, 7, ["text"], [b"a\r\nb: c"], "missing"])
@every_version
@aio
async def test_wrong_early_hints_raise(version: str, links: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises((TypeError, ValueError)):
            await send(HINT if links == "missing" else HINT | {"links": links})
        await send(START)
        await send(BODY)

    async with serving(app) as server:
        answer = await ask(version, server)
    assert (answer.status, answer.informational) == (200, [])


# --- Files ------------------------------------------------------------------------------------

SIZES = [0, 1, 65536, 3_000_001]


def make_file(folder: Path, size: int) -> tuple[Path, bytes]:
    data = os.urandom(size)
    path = folder / "file"
    path.write_bytes(data)
    return path, data


@pytest.mark.parametrize("declared", [True, False], ids=["length", "no length"])
@pytest.mark.parametrize("size", SIZES)
@every_version
@aio
async def test_48_a_path_is_the_whole_body(
    version: str, size: int, declared: bool, tmp_path: Path
) -> None:
    path, data = make_file(tmp_path, size)
    headers = [(b"content-length", b"%d" % size)] if declared else []
    app = answering(START | {"headers": headers}, PATH | {"path": str(path)})
    async with serving(app) as server, dialled(version, server) as client:
        for _ in range(2):  # and the connection is in order afterwards
            answer = await (await client.start()).done()
            assert (answer.status, answer.whole, answer.body == data) == (200, True, True)
            if declared or version == "1.1":
                assert answer.header("content-length") == str(size)


@every_version
@aio
async def test_48_no_file_goes_where_there_is_no_body(version: str, tmp_path: Path) -> None:
    path, _ = make_file(tmp_path, 1000)
    headers = [(b"content-length", b"1000")]
    app = answering(START | {"headers": headers}, PATH | {"path": str(path)})
    async with serving(app) as server, dialled(version, server) as client:
        for _ in range(2):
            answer = await (await client.start("HEAD")).done()
            assert (answer.body, answer.whole) == (b"", True)
            assert answer.header("content-length") == "1000"


@pytest.mark.parametrize("what", ["missing", "directory", "pipe", "number", "absent"])
@every_version
@aio
async def test_48_what_is_no_file_is_an_error_before_anything_is_sent(
    version: str, what: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    value: Any = 7.5 if what == "number" else str(tmp_path / what)
    wrong = PATH if what == "absent" else PATH | {"path": value}
    errors = {"missing": FileNotFoundError, "directory": IsADirectoryError, "number": TypeError}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START | {"status": 404})
        with pytest.raises(errors.get(what, ValueError)):
            await send(wrong)
        await send(BODY | {"body": b"no such file"})

    async with serving(app) as server:
        answer = await ask(version, server)
    assert (answer.status, answer.body, answer.whole) == (404, b"no such file", True)


@every_version
@aio
async def test_48_a_missing_file_that_nobody_handles_is_500(
    version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = answering(START, PATH | {"path": str(tmp_path / "missing")})
    async with serving(app, expect_failure=True) as server:
        answer = await ask(version, server)
    assert (answer.status, answer.whole) == (500, True)
    assert caplog.text.count("FileNotFoundError: ") == 1


@every_version
@aio
async def test_48_a_path_has_its_place(version: str, tmp_path: Path) -> None:
    path, data = make_file(tmp_path, 1000)
    message = PATH | {"path": str(path)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(RuntimeError):
            await send(message)
        await send(START)
        if scope["path"] == "/mixed":
            await send(BODY | {"body": b"a", "more_body": True})
            with pytest.raises(RuntimeError):
                await send(message)
            await send(BODY | {"body": b"b"})
        else:
            await send(message)
        for wrong in (message, BODY):
            with pytest.raises(RuntimeError):
                await send(wrong)

    async with serving(app) as server:
        assert (await ask(version, server, "GET", "/mixed")).body == b"ab"
        assert (await ask(version, server)).body == data


@every_version
@aio
async def test_48_a_file_that_is_not_as_long_as_declared(version: str, tmp_path: Path) -> None:
    path, _ = make_file(tmp_path, 1000)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START | {"headers": [(b"content-length", b"999")]})
        with pytest.raises(RuntimeError, match="content-length"):
            await send(PATH | {"path": str(path)})

    async with serving(app) as server:
        assert (await ask(version, server)).broken


@every_version
@aio
async def test_a_file_that_shrinks_cuts_the_response(
    version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = 64 << 20
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(size)
    app = answering(START, PATH | {"path": str(path)})
    async with serving(app) as server, dialled(version, server) as client:
        client.pause()
        exchange = await client.start()
        sent = -1
        while (now := server.server.stats()["bytes_out"]) != sent or now == 0:
            sent = now
            await asyncio.sleep(0.1)
        os.truncate(path, 100)
        client.resume()
        await exchange.done()
    assert exchange.broken and len(exchange.body) < size
    assert exchange.reset == INTERNAL_ERROR[version]
    assert "response aborted" in caplog.text


@every_version
@aio
async def test_trailers_after_a_file(version: str, tmp_path: Path) -> None:
    path, data = make_file(tmp_path, 300_000)
    answer = await answer_to(
        version,
        START | {"trailers": True},
        PATH | {"path": str(path)},
        TRAILERS | {"headers": [(b"x-sum", b"1")]},
        headers=ASK_TRAILERS,
    )
    assert answer.whole and answer.body == data
    assert answer.trailers == [("x-sum", "1")]


@every_version
@aio
async def test_zerocopysend_mixes_with_bytes_and_keeps_the_order(
    version: str, tmp_path: Path
) -> None:
    path, data = make_file(tmp_path, 500_000)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY | {"body": b"<", "more_body": True})
        with path.open("rb", buffering=0) as file:
            await send(FILE | {"file": file, "offset": 7, "count": 300_000, "more_body": True})
            await send(BODY | {"body": b"|", "more_body": True})
            assert file.tell() == 0  # an offset leaves the position alone
            await send(FILE | {"file": file.fileno(), "count": 10, "more_body": True})
            await send(FILE | {"file": file, "count": 90, "offset": None, "more_body": True})
            assert file.tell() == 100
            await send(
                FILE | {"file": file, "count": 1 << 40, "offset": 499_990, "more_body": True}
            )
            await send(FILE | {"file": file, "count": 5, "offset": 1 << 40, "more_body": True})
        await send(BODY | {"body": b">"})

    async with serving(app) as server:
        answer = await ask(version, server)
    assert answer.whole
    assert answer.body == b"<" + data[7:300_007] + b"|" + data[:100] + data[499_990:] + b">"


@every_version
@aio
async def test_zerocopysend_may_end_the_body(version: str, tmp_path: Path) -> None:
    path, data = make_file(tmp_path, 200_000)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        with path.open("rb") as file:
            await send(FILE | {"file": file})
        with pytest.raises(RuntimeError):
            await send(BODY)

    async with serving(app) as server:
        answer = await ask(version, server)
    assert answer.whole and answer.body == data


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, ValueError),
        ({"file": None}, TypeError),
        ({"file": "name"}, TypeError),
        ({"file": -1}, ValueError),
        ({"file": 1_000_000}, OSError),
        ({"file": "pipe"}, ValueError),
        ({"file": "file", "offset": -1}, ValueError),
        ({"file": "file", "offset": 1.5}, TypeError),
        ({"file": "file", "count": -1}, ValueError),
        ({"file": "file", "count": "3"}, TypeError),
    ],
)
@every_version
@aio
async def test_wrong_zerocopysend_raises_and_nothing_is_sent(
    version: str, fields: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    path, _ = make_file(tmp_path, 10)
    read_end, write_end = os.pipe()
    given = dict(fields)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        with path.open("rb") as file:
            if given.get("file") == "file":
                given["file"] = file
            if given.get("file") == "pipe":
                given["file"] = read_end
            with pytest.raises(error):
                await send(FILE | given)
        await send(BODY | {"body": b"fine"})

    async with serving(app) as server:
        assert (await ask(version, server)).body == b"fine"
    os.close(read_end)
    os.close(write_end)


def is_open(path: Path) -> bool:
    """Whether a descriptor of this process is one of the file."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(path):
                return True
    return False


@every_version
@aio
async def test_files_are_closed_when_the_client_leaves(version: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64 << 20)  # more than sockets take
    gone = Recorder()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(PATH | {"path": str(path)})
        gone.add({"type": "sent"})

    async with serving(app, expect_failure=True) as server, dialled(version, server) as client:
        client.pause()
        exchange = await client.start()
        await gone.until(lambda: gone.events)
        assert is_open(path)
        if version == "3":
            client.resume()
        exchange.abort()
        give_up = time.monotonic() + 20
        while is_open(path):
            assert time.monotonic() < give_up
            await asyncio.sleep(0.01)


@aio
async def test_pipelined_files_keep_their_order(tmp_path: Path) -> None:
    path, data = make_file(tmp_path, 200_000)
    app = answering(START, PATH | {"path": str(path)})
    async with serving(app) as server, dialled("1.1", server) as client:
        exchanges = [await client.start() for _ in range(5)]
        for exchange in exchanges:
            await exchange.done()
            assert exchange.whole and exchange.body == data


@streamed_versions
@aio
async def test_files_share_a_connection(version: str, tmp_path: Path) -> None:
    path, data = make_file(tmp_path, 500_000)
    app = answering(START, PATH | {"path": str(path)})
    async with serving(app) as server, dialled(version, server) as client:
        exchanges = [await client.start() for _ in range(8)]
        for exchange in exchanges:
            await exchange.done()
            assert exchange.whole and exchange.body == data


@every_version
@aio
async def test_a_slow_client_holds_no_file_in_memory(version: str, tmp_path: Path) -> None:
    size = 64 << 20
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(size)
    app = answering(START, PATH | {"path": str(path)})
    async with serving(app) as server, dialled(version, server) as client:
        await ask(version, server, "HEAD")
        before = rss()
        client.pause()
        exchange = await client.start()
        sent = -1
        while (now := server.server.stats()["bytes_out"]) != sent or now == 0:
            sent = now
            await asyncio.sleep(0.25)
        assert rss() - before < 16 << 20
        exchange.abort()


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
