"""Runs a server, an application and clients in one event loop, and fails a test for what any of
them raised.

    async def app(scope, receive, send): ...

    @aio
    async def test_something():
        async with serving(app) as server, dial(server.quic) as client: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pronghorn
from pronghorn import _core
from pronghorn.server import run_in_loop
from waiting import until

Scope = dict[str, Any]
Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[Any]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]

START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body"}

DEADLINE = 60.0  # seconds for a whole test
CERTS = Path(tempfile.mkdtemp(prefix="pronghorn-tests-"))


def _end_of(reader: asyncio.StreamReader, error: Exception) -> None:
    """asyncio forgets what it has read when a reset follows, although the answer may be in it: here
    the reset is the end, and `reset` what it was."""
    if isinstance(error, ConnectionError):
        reader.reset = error  # type: ignore[attr-defined]
        reader.feed_eof()
    else:
        _set_exception(reader, error)


_set_exception = asyncio.StreamReader.set_exception
asyncio.StreamReader.set_exception = _end_of  # type: ignore[method-assign]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_in(factory: LoopFactory, test: Coroutine[Any, Any, None]) -> None:
    """Runs a test in a loop of its own, with a deadline and no object left alive afterwards."""

    async def main() -> None:
        await asyncio.wait_for(test, DEADLINE)

    run_in_loop(main(), factory)
    left = {name: count for name, count in _core.live_objects().items() if count}
    assert not left, f"objects left alive: {left}"


def aio(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes an async test a plain one; `__wrapped__` is still the coroutine function."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_in(asyncio.new_event_loop, test(*args, **kwargs))

    return run


async def until_stats(satisfied: Callable[[dict[str, int]], Any]) -> dict[str, int]:
    """Asks the running server for its counters until they satisfy: nothing tells of a change."""
    give_up = time.monotonic() + DEADLINE / 3
    while not satisfied(stats := pronghorn.stats()):
        assert time.monotonic() < give_up, f"timed out; last: {stats}"
        await asyncio.sleep(0.01)
    return stats


def answering(*messages: Event) -> App:
    """An application that sends these, whatever it is asked."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


class Running:
    """A server that accepts connections."""

    def __init__(self, server: pronghorn.Server, failures: list[BaseException]) -> None:
        self.server = server
        self.failures = failures
        ports = {
            kind: int(address.rpartition(":")[2])
            for kind, address in server.addresses()
            if not address.startswith("unix:")
        }
        self.quic = ports.get("quic", 0)
        self.http = ports.get("tcp", 0)
        self.https = ports.get("tls", 0)


def loopback() -> dict[str, Any]:
    """Settings of a server on loopback ports of its own, with every kind of socket."""
    cert, key, _ = _core.dev_certificate(CERTS)
    return {
        "insecure_bind": ["127.0.0.1:0"],
        "bind": ["127.0.0.1:0"],
        "quic_bind": ["127.0.0.1:0"],
        "certfile": cert,
        "keyfile": key,
        "lifespan": "off",
        "graceful_timeout": 20,
        "loop_lag_warning": 0,  # or the log depends on the machine
    }


@contextlib.asynccontextmanager
async def serving(
    app: App, *, expect_failure: bool = False, **config: Any
) -> AsyncIterator[Running]:
    """Serves `app` on loopback ports. What the application raises fails the test at the end,
    unless `expect_failure`."""
    failures: list[BaseException] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and config.get("lifespan", "off") == "off":
            raise AssertionError("lifespan was off")
        try:
            await app(scope, receive, send)
        except (Exception, asyncio.CancelledError) as error:
            failures.append(error)
            raise

    server = pronghorn.Server(watched, pronghorn.Config(**loopback() | config))
    serve = asyncio.create_task(server.serve())
    try:
        await server.wait_started()
        yield Running(server, failures)
    finally:
        server.shutdown()
        await serve
    if failures and not expect_failure:
        raise AssertionError("the application failed") from failures[0]


class Recorder:
    """Collects an application's events so that a test can wait for them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.changed = asyncio.Event()

    def add(self, event: Event) -> Event:
        self.events.append(event)
        self.changed.set()
        return event

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == "webtransport." + kind]

    async def until(self, satisfied: Callable[[], Any], seconds: float = 20.0) -> Any:
        return await until(self.changed, satisfied, seconds)
