"""Rows H of docs/robustness.md: what a faulty application does to the server, and to others."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import re
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pronghorn
import pytest
from harness import BODY, START, Receive, Scope, Send, aio, serving, until_stats
from peers import INTERNAL_ERROR, dialled, every_version
from stand import DEADLINE, HERE, Stand
from wt_client import dial


@contextlib.contextmanager
def a_stand(*options: str) -> Iterator[Stand]:
    stand = Stand(*options, app="faulty:app")
    try:
        yield stand
        stand.stop()
    finally:
        stand.kill()


def get(stand: Stand, path: str) -> bytes:
    head = b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode()
    return stand.ask(head).answers[0].body


# --- loops that stand still ----------------------------------------------------------------------


async def was_served_meanwhile(stand: Stand, path: str, release: Callable[[], Any]) -> bool:
    """A QUIC connection is acknowledged, and a datagram kept, while the application is away. False:
    it was back before."""
    async with dial(stand.quic) as client:
        await client.connect_session("/echo", headers=[("origin", "https://localhost")])
        reader, writer = await asyncio.open_connection(*stand.http)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        for _ in range(5):
            await asyncio.sleep(0.1)
            await client.ping()  # returns when the server has acknowledged it
        client.datagram(b"kept")
        meanwhile = not answer.done()
        await asyncio.to_thread(release)
        assert b" 200 " in await answer
        await client.until(lambda: b"kept" in client.datagrams)
        client.close_session()
        writer.close()
        return meanwhile


def test_H01_network_goes_on_while_the_loop_is_blocked() -> None:
    with a_stand("--loop-lag-warning", "0.5") as stand:

        def release() -> None:
            stand.until(lambda: "faulty.py" in stand.log())  # it was seen
            Path(stand.folder.name, "go").touch()

        before = stand.stats()
        assert asyncio.run(was_served_meanwhile(stand, "/block/until/go", release))
        after = stand.stats()
        lost = [name for name in after if name.startswith("timeouts") and after[name]]
        assert lost == []
        assert after["loop_blocked"] > before["loop_blocked"]
        assert re.search(r"loop: blocked seconds=\d", stand.log())
        assert 'faulty.py", line' in stand.log()  # where it stood
        stand.check()


def test_H11_network_goes_on_while_the_interpreter_is_held() -> None:
    with a_stand() as stand:
        # How long it takes depends on the machine: each step is twice as long as the one before. If
        # the network waited for the interpreter, none would be long enough.
        assert any(
            asyncio.run(was_served_meanwhile(stand, f"/hold/{size}", lambda: None))
            for size in range(24, 29)
        )
        stand.check()


def test_H11_threads_that_compute_stop_nothing() -> None:
    with a_stand() as stand:
        assert get(stand, "/hog") == b"done"
        for _ in range(20):
            assert get(stand, "/ping") == b"pong"
        stand.check()


# --- exceptions, breaches, wrong types -----------------------------------------------------------


class Odd(BaseException):
    pass


KINDS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("the application fell over"),
    "base": lambda: Odd("the application fell over"),
    "cancelled": lambda: asyncio.CancelledError(),
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
}


STAGES = ("call", "before", "started", "body", "after")


@every_version
@aio
async def test_H03_raising_ends_the_request_and_nothing_else(version: str) -> None:
    async def raising(scope: Scope, receive: Receive, send: Send) -> None:
        _, kind, stage = scope["path"].split("/")

        def at(now: str) -> None:
            if now == stage:
                raise KINDS[kind]()

        if kind == "other":
            await other.wait()
        at("call")
        await asyncio.sleep(0)
        at("before")
        await send(START)
        at("started")
        await send(BODY | {"body": b"part", "more_body": True})
        at("body")
        await send(BODY)
        at("after")

    other = asyncio.Event()
    async with (
        serving(raising, expect_failure=True) as server,
        dialled(version, server) as bystander,
        contextlib.AsyncExitStack() as stack,
    ):
        waiting = await bystander.start("GET", "/other/none")
        client: Any = None
        for kind in KINDS:
            for stage in STAGES:
                if client is None or client.closed or version == "1.1":
                    client = await stack.enter_async_context(dialled(version, server))
                exchange = await (await client.start("GET", f"/{kind}/{stage}")).done()
                if stage in ("call", "before", "started"):  # nothing has left so far
                    assert exchange.status == 500 and exchange.whole, (kind, stage)
                elif stage == "after":
                    assert exchange.whole and exchange.body == b"part", (kind, stage)
                else:
                    assert not exchange.whole, (kind, stage)
                    assert exchange.reset == INTERNAL_ERROR[version], (kind, stage)
        other.set()
        await waiting.done()
        assert waiting.whole and waiting.body == b"part"


BREACHES: dict[str, tuple[list[dict[str, Any]], type[Exception], int]] = {
    # what is sent, what the last of it raises, the status when nothing else is sent
    "body first": ([BODY], RuntimeError, 500),
    "start twice": ([START, START], RuntimeError, 500),
    "after the end": ([START, BODY, BODY], RuntimeError, 200),
    "trailers unannounced": ([START, {"type": "http.response.trailers"}], RuntimeError, 500),
    "another protocol": ([{"type": "websocket.accept"}], ValueError, 500),
    "no such message": ([{"type": "http.nonsense"}], ValueError, 500),
    "no type": ([{}], ValueError, 500),
    "no status": ([{"type": "http.response.start"}], ValueError, 500),
    "no pair": ([START | {"headers": [(b"a",)]}], ValueError, 500),
    "no message": ([None], TypeError, 500),  # type: ignore[list-item]
}


@every_version
@aio
async def test_H05_breaches_are_exceptions_in_the_application(version: str) -> None:
    raised: list[BaseException] = []

    async def breaching(scope: Scope, receive: Receive, send: Send) -> None:
        messages, error, _ = list(BREACHES.values())[int(scope["path"][1:])]
        for message in messages[:-1]:
            await send(message)
        with pytest.raises(error) as caught:
            await send(messages[-1])
        raised.append(caught.value)

    async with serving(breaching) as server:
        for number, (name, (_, _, status)) in enumerate(BREACHES.items()):
            async with dialled(version, server) as client:
                exchange = await (await client.start("GET", f"/{number}")).done()
            assert exchange.status == status, name
            assert len(raised) == number + 1 and str(raised[-1]), name


class Hostile:
    """An object whose every operation fails."""

    def fail(self, *args: Any) -> Any:
        raise ZeroDivisionError("hostile object")

    __len__ = __iter__ = __getitem__ = __index__ = __bool__ = fail
    __eq__ = __hash__ = __str__ = __int__ = __float__ = __buffer__ = fail  # type: ignore[assignment]


class Dict(dict):  # type: ignore[type-arg]
    pass


class Text(str):
    pass


class Blob(bytes):
    pass


def endless_pairs() -> Iterator[Any]:
    """Headers that end with an error."""
    yield (b"a", b"b")
    raise ZeroDivisionError("in an iterator")


MAKERS: list[Callable[[], Any]] = [
    lambda: None, lambda: True, lambda: False, lambda: 0, lambda: -1, lambda: 1 << 70,
    lambda: 2**32, lambda: 200, lambda: 99, lambda: 1000, lambda: 1.5, lambda: float("nan"),
    lambda: float("inf"), lambda: "", lambda: "text", lambda: "\ud800", lambda: "a\0b", lambda: b"",
    lambda: b"x" * 10, lambda: b"a\r\nb", lambda: bytearray(b"abc"), lambda: memoryview(b"abc"),
    lambda: memoryview(b"abcdef")[::2], lambda: memoryview(bytearray(8)).cast("I"),
    list, lambda: [(b"a", b"b")], lambda: [("a", "b")], lambda: [(b"a",)], lambda: [b"ab"],
    lambda: ((b"a", b"b"),), lambda: [(b"A b", b"c")], lambda: [[b"a", b"b"]], dict,
    lambda: {b"a": b"b"}.items(), lambda: {b"a"}, endless_pairs, lambda: iter([1]), object,
    lambda: Hostile(), lambda: [Hostile()], lambda: [(Hostile(), b"")], lambda: Text("t"),
    lambda: Blob(b"b"), lambda: type, lambda: lambda: None, lambda: types.SimpleNamespace(),
    lambda: [(b"content-length", b"5")], lambda: [(b"a", b"b")] * 200, lambda: Ellipsis,
]  # fmt: skip

FIELDS = {
    "http.response.start": ("status", "headers", "trailers", "reason"),
    "http.response.body": ("body", "more_body"),
    "http.response.trailers": ("headers", "more_trailers"),
    "http.response.early_hint": ("links",),
    "http.response.pathsend": ("path",),
    "http.response.zerocopysend": ("file", "offset", "count", "more_body"),
    "http.response.push": ("path", "headers"),
    "webtransport.accept": ("headers", "subprotocol"),
    "webtransport.close": ("code", "reason", "status", "headers", "body"),
    "webtransport.stream.open": ("bidirectional", "tag", "data", "end_stream", "priority"),
    "webtransport.stream.send": ("stream", "stream_id", "data", "end_stream", "priority", "finish"),
    "webtransport.stream.reset": ("stream", "stream_id", "code"),
    "webtransport.stream.stop_sending": ("stream", "code"),
    "webtransport.stream.pause": ("stream",),
    "webtransport.stream.resume": ("stream_id",),
    "webtransport.datagram.send": ("data", "max_age", "wait"),
    "webtransport.drain": ("code",),
    "websocket.accept": ("subprotocol", "headers"),
    "websocket.send": ("bytes", "text"),
    "websocket.close": ("code", "reason"),
    "lifespan.startup.complete": ("message",),
}


def odd_message(rng: random.Random, kinds: list[str]) -> Any:
    dice = rng.random()
    if dice < 0.03:
        return rng.choice(MAKERS)()
    kind: Any = rng.choice(kinds) if dice < 0.95 else rng.choice(MAKERS)()
    message = Dict() if rng.random() < 0.1 else {}
    if rng.random() < 0.98:
        message["type"] = Text(kind) if isinstance(kind, str) and rng.random() < 0.1 else kind
    for field in FIELDS.get(kind, ()) if isinstance(kind, str) else ():
        if rng.random() < 0.6:
            message[field] = rng.choice(MAKERS)()
    if rng.random() < 0.1:
        message[rng.choice(["x", 5, None, ("a",)])] = rng.choice(MAKERS)()
    return message


# What send() may raise; ZeroDivisionError is that of the objects themselves.
EXPECTED = (TypeError, ValueError, RuntimeError, OSError, OverflowError, BufferError,
            ZeroDivisionError, AttributeError)  # fmt: skip


async def send_odd_things(rng: random.Random, send: Send, kinds: list[str], n: int) -> None:
    for _ in range(n):
        message = odd_message(rng, kinds)
        with contextlib.suppress(*EXPECTED):
            await asyncio.wait_for(send(message), 0.05)  # some of them wait for the peer


@pytest.mark.parametrize("seed", range(2))
@aio
async def test_H06_objects_of_every_type_in_every_field(seed: int) -> None:
    """No crash, no exception of another kind, and each object is let go of."""
    rng = random.Random(seed)
    http = [kind for kind in FIELDS if not kind.startswith("webtransport.")]
    wt = [kind for kind in FIELDS if not kind.startswith("http.")]
    sessions = 0

    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sessions
        with contextlib.suppress(asyncio.TimeoutError):
            if scope["type"] == "http":
                await send_odd_things(rng, send, http, 30)
            else:
                await receive()
                if rng.random() < 0.7:
                    await send({"type": "webtransport.accept"})
                    sessions += 1
                    await send({"type": "webtransport.stream.open", "data": b"abc"})
                await send_odd_things(rng, send, wt, 60)

    watched = [maker() for maker in MAKERS]
    async with serving(odd, expect_failure=True) as server:
        for version in ("1.1", "2", "3"):
            for _ in range(15):
                async with dialled(version, server) as client:
                    await (await client.start("POST", body_of_nothing(version))).done()
        async with dial(server.quic) as client:
            for _ in range(10):
                await client.connect_session("/")
                client.open(data=b"hello", end=True)
            client.close()
        await until_stats(lambda stats: stats["conns_accepted"] == stats["conns_closed"])
    del watched
    gc.collect()  # tasks, their exceptions and these's frames hold each other


def body_of_nothing(version: str) -> str:
    return f"/{version}"


@aio
async def test_H06_references_are_counted_right() -> None:
    """The same objects in a thousand messages, good and bad: nobody else holds them afterwards."""
    data, name, value = b"d" * 2000, b"x-name" * 3, b"value" * 50
    headers, links = [(name, value)], [value]
    objects = (data, name, value, headers, links)
    count = 1000

    async def repeating(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(count):
            for bad in (
                START | {"status": "200", "headers": headers},
                START | {"headers": [(name, value), (name, 5)]},
                START | {"headers": [(data, value)], "trailers": name},
                BODY | {"body": data},
                {"type": "http.response.early_hint", "links": [*links, 5]},
            ):
                with contextlib.suppress(*EXPECTED):
                    await send(bad)
        await send(START | {"headers": headers})
        for _ in range(count):
            await send(BODY | {"body": data, "more_body": True})
        await send(BODY | {"body": data})

    async with serving(repeating) as server:
        for version in ("1.1", "2", "3"):
            before = [sys.getrefcount(one) for one in objects]
            async with dialled(version, server) as client:
                exchange = await (await client.start()).done()
                assert len(exchange.body) == (count + 1) * len(data)
            await until_stats(lambda stats: stats["conns_accepted"] == stats["conns_closed"])
            give_up = time.monotonic() + DEADLINE / 3
            while [sys.getrefcount(one) for one in objects] != before:  # buffers are on their way
                assert time.monotonic() < give_up
                await asyncio.sleep(0.01)
                gc.collect()


# --- clients that leave, readers that do not read ------------------------------------------------


@every_version
@pytest.mark.parametrize("at", ["receive", "body", "send", "elsewhere", "late"])
@aio
async def test_H07_a_client_that_leaves_is_told_once(version: str, at: str) -> None:
    """Wherever the application waits: one disconnect, sends that raise, and the task ends."""
    inside, events, errors = asyncio.Event(), [], []
    left, ended = asyncio.Event(), asyncio.Event()

    async def left_alone(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if at == "body":
                await receive()
            inside.set()
            if at == "elsewhere":
                await left.wait()
            elif at == "send":
                await send(START)
                while not errors:
                    try:
                        await send(BODY | {"body": bytes(100_000), "more_body": True})
                    except pronghorn.ClientDisconnected as error:
                        errors.append(error)
            elif at == "late":
                await send(START | {"headers": [(b"content-length", b"4")]})
                await send(BODY | {"body": b"done"})
            while (event := await receive())["type"] != "http.disconnect":
                pass
            events.append(event)
            events.append(await receive())  # again and again
            if at != "late":
                with pytest.raises(pronghorn.ClientDisconnected):
                    await send(START if at != "send" else BODY)
        finally:
            ended.set()

    async with serving(left_alone) as server:
        async with dialled(version, server) as client:
            if at == "send":
                client.pause()
            whole = at in ("elsewhere", "late", "send")
            exchange = await client.start("POST" if not whole else "GET", "/", end=whole)
            if at == "body":
                await exchange.send(b"some", end=False)
            await asyncio.wait_for(inside.wait(), DEADLINE)
            if at == "late":
                await exchange.done()  # and then the connection goes
            else:
                exchange.abort()
        await until_stats(lambda stats: stats["conns_accepted"] == stats["conns_closed"])
        left.set()
        await asyncio.wait_for(ended.wait(), DEADLINE)
    assert [event["type"] for event in events] == ["http.disconnect"] * 2


@every_version
@aio
async def test_H08_endless_sending_to_a_client_that_reads_nothing(version: str) -> None:
    """What is taken from the application is bounded, and its neighbours are served."""
    sent = 0

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        if scope["path"] == "/small":
            await send(BODY | {"body": b"small"})
            return
        with contextlib.suppress(pronghorn.ClientDisconnected):
            while True:
                await send(BODY | {"body": bytes(16384), "more_body": True})
                sent += 16384

    async with (
        serving(endless) as server,
        dialled(version, server) as client,
        dialled(version, server) as other,
    ):
        client.pause()
        await client.start()
        seen = -1
        while seen != sent:  # until it takes no more
            seen = sent
            for _ in range(20):
                exchange = await (await other.start("GET", "/small")).done()
                assert exchange.body == b"small"
        assert 0 < sent < 16 << 20  # buffers of the kernel, a window, 256 KiB of ours


@every_version
@aio
async def test_H04_a_body_that_nobody_reads(version: str) -> None:
    """A gigabyte is announced: the window closes, and the answer comes without it."""
    go = asyncio.Event()

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await send(START)
        await send(BODY | {"body": b"enough"})

    size = 1 << 30
    async with (
        serving(deaf, options={"max_body": 0}) as server,
        dialled(version, server) as client,
    ):
        headers = [("content-length", str(size))]
        exchange = await client.start("POST", "/", headers, end=False)
        pushing = asyncio.create_task(exchange.send(bytes(20 << 20), end=False))
        await until_stats(lambda stats: stats["bytes_in"] > 60_000)
        await asyncio.sleep(0.1)  # for what must not come
        assert server.server.stats()["bytes_in"] <= 256 << 10
        go.set()
        await exchange.until(lambda: exchange.status or exchange.broken)
        assert exchange.status == 200
        pushing.cancel()
        assert server.server.stats()["bytes_in"] <= 256 << 10


# --- what is left behind -------------------------------------------------------------------------


def test_H09_tasks_that_are_left_behind_do_not_hold_a_stop() -> None:
    with a_stand() as stand:
        assert get(stand, "/leak") == b"done"
        stand.check()
        for bystander in stand.bystanders:
            bystander.stop()
        stand.process.send_signal(signal.SIGTERM)
        assert stand.process.wait(DEADLINE) == 0
        assert "Traceback" not in stand.log()
        stand.kill()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
def test_H12_an_exit_in_the_middle_of_traffic_is_clean(signals: list[signal.Signals]) -> None:
    """Threads compute, clients go on asking: the process ends, in time or at once."""
    stand = Stand("--graceful-timeout", "1", app="faulty:app")
    try:
        assert get(stand, "/hog") == b"done"
        ending = threading.Event()

        def ask() -> None:
            while not ending.is_set():
                with contextlib.suppress(OSError, AssertionError), stand.dial() as peer:
                    peer.say(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
                    peer.read_some()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        stand.until(lambda: stand.figures()["open"]["endless"] > 0)
        for number in signals:
            stand.process.send_signal(number)
        code = stand.process.wait(DEADLINE)
        ending.set()
        for thread in threads:
            thread.join()
        assert code in (0, 1), f"{code}:\n{stand.tail()}"  # 1: what was under way was cut
        assert "Fatal Python error" not in stand.log()
        assert "Sanitizer" not in stand.log()
    finally:
        stand.kill()


def test_H13_an_allocation_that_fails_ends_one_request() -> None:
    """Of Python memory, each in turn; the core's own small allocations end the process by design
    (docs/style.md 8), and what a peer sizes is bounded by a limit."""
    pytest.importorskip("_testcapi")
    run = subprocess.run(
        [sys.executable, HERE / "starved.py"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.endswith("all served\n"), run.stdout


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


@every_version
@aio
async def test_H14_what_one_request_writes_no_other_sees(version: str) -> None:
    together = asyncio.Event()
    inside = 0
    seen: list[tuple[Any, ...]] = []

    async def writing(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside
        name = scope["path"]
        before = (VARIABLE.get(), scope.get("mine"), "mine" in scope["extensions"],
                  len(scope["headers"]), scope.get("state"))  # fmt: skip
        VARIABLE.set(name)
        scope["mine"] = name
        scope["extensions"]["mine"] = name
        scope["headers"].append((b"x-mine", name.encode()))
        scope["asgi"]["mine"] = name
        inside += 1
        if inside == 4:
            together.set()
        await together.wait()
        assert VARIABLE.get() == scope["mine"] == scope["extensions"]["mine"] == name
        seen.append((*before, "mine" in scope["asgi"] and scope["asgi"]["mine"] == name))
        await send(START)
        await send(BODY)

    async with serving(writing) as server, contextlib.AsyncExitStack() as stack:
        exchanges = []
        client = await stack.enter_async_context(dialled(version, server))
        for number in range(4):
            if version == "1.1" and number:
                client = await stack.enter_async_context(dialled(version, server))
            exchanges.append(await client.start("GET", f"/{number}"))
        for exchange in exchanges:
            assert (await exchange.done()).status == 200
    own = seen[0][3]
    assert [one[:5] for one in seen] == [("unset", None, False, own, seen[0][4])] * 4
    assert all(one[5] for one in seen)


@every_version
@aio
async def test_H15_work_behind_the_response_holds_nothing(version: str) -> None:
    go, behind = asyncio.Event(), 0

    async def trailing(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal behind
        await send(START)
        await send(BODY | {"body": b"done"})
        behind += 1
        await go.wait()

    async with serving(trailing) as server:
        async with dialled(version, server) as client:
            for number in range(30):  # one after the other on the same connection
                exchange = await (await client.start()).done()
                assert exchange.whole and behind == number + 1
        await until_stats(lambda stats: stats["conns_accepted"] == stats["conns_closed"])
        assert len(server.server._core.tasks()) == 30  # the tasks are there, the connection is not
        go.set()
