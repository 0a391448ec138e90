"""An event loop that stands still: it is logged with its place, and ends the process when asked."""

from __future__ import annotations

import asyncio
import http.client
import logging
import re
import signal
import threading
import time
from collections.abc import Callable

import pytest
from harness import Receive, Scope, Send, aio, serving, until_stats
from process import command
from pronghorn import watch

APP = """
import time

async def app(scope, receive, send):
    if scope["path"] == "/block":
        print("blocked", flush=True)
        while True:
            time.sleep(1)
    if scope["path"] == "/hold":
        (lambda text: re.fullmatch(r"(a+)+b", text))("a" * 40)  # the interpreter is held
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

import re
"""


def stand_still(seconds: float, told: Callable[[], bool] = lambda: True) -> None:
    give_up = time.monotonic() + 20
    time.sleep(seconds)
    while not told() and time.monotonic() < give_up:
        time.sleep(0.05)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/block":
        stand_still(0.6)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def get(port: int, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert (await reader.read()).endswith(b"ok")
    writer.close()


@aio
async def test_a_standstill_is_logged_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else stands still, on a busy machine, may be logged beside it."""
    monkeypatch.setattr(watch, "AGAIN", 0.0)
    lines: list[str] = []

    def told() -> bool:
        return any(line.startswith("loop: blocked") and "stand_still" in line for line in lines)

    async def blocking(scope: Scope, receive: Receive, send: Send) -> None:
        stand_still(0.6, told)
        await app(scope | {"path": "/"}, receive, send)

    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("pronghorn").addHandler(handler)
    try:
        async with serving(blocking, loop_lag_warning=0.2) as server:
            await get(server.http, "/")
            await until_stats(lambda stats: stats["loop_blocked"])
            while not any(seconds_of(line) > 0.3 for line in lines):
                await asyncio.sleep(0.01)
    finally:
        logging.getLogger("pronghorn").removeHandler(handler)
    assert told()


def seconds_of(line: str) -> float:
    found = re.fullmatch(r"loop: was blocked seconds=([\d.]+)", line)
    return float(found[1]) if found else 0.0


@aio
async def test_short_steps_and_no_watch_say_nothing() -> None:
    for lag in (5.0, 0.0):
        async with serving(app, loop_lag_warning=lag) as server:
            await get(server.http, "/block")
            await get(server.http, "/")
            assert server.server.stats()["loop_blocked"] == 0
            names = [thread.name for thread in threading.enumerate()]
            assert ("pronghorn-watch" in names) == (lag > 0)
    assert "pronghorn-watch" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("path", ["/block", "/hold"])
def test_H02_watchdog_ends_a_process_that_stands_still(tmp_path, path: str) -> None:
    (tmp_path / "still.py").write_text(APP)
    args = ["still:app", "--bind", "127.0.0.1:0", "--app-watchdog", "2", "--lifespan", "off"]
    with command(tmp_path, *args) as running:
        host, port = running.address("tcp")
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"ok"
        connection.request("GET", path)
        assert running.end() == 1
    assert "Timeout" in running.output  # faulthandler's heading
    assert re.search(r'still\.py", line \d+ in app', running.output)


def test_the_watchdog_leaves_a_process_that_runs_alone(tmp_path) -> None:
    (tmp_path / "still.py").write_text(APP)
    args = ["still:app", "--bind", "127.0.0.1:0", "--app-watchdog", "1.5", "--lifespan", "off"]
    with command(tmp_path, *args) as running:
        host, port = running.address("tcp")
        give_up = time.monotonic() + 3.0  # twice the watchdog's time
        while time.monotonic() < give_up:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"ok"
            connection.close()
        running.signal(signal.SIGTERM)
        assert running.end() == 0


def test_H02_a_worker_that_stands_still_is_replaced_and_the_other_serves(tmp_path) -> None:
    (tmp_path / "still.py").write_text(APP)
    args = ["still:app", "--bind", "127.0.0.1:0", "--app-watchdog", "2", "--workers", "2"]
    with command(tmp_path, *args) as running:
        host, port = running.address("tcp")
        stuck = http.client.HTTPConnection(host, port, timeout=60)
        stuck.request("GET", "/block")
        running.line("^blocked")
        for _ in range(10):  # by the other
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"ok"
            connection.close()
        with pytest.raises((http.client.HTTPException, OSError)):
            stuck.getresponse()
        running.line(r"worker: ended by itself pid=\d+ .*replaced in=")
        assert "Timeout" in running.output  # faulthandler's heading: the watchdog it was
        running.signal(signal.SIGTERM)
        assert running.end() == 0
