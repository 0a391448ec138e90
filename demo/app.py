"""The demo: this machine's figures, streamed to a browser over WebTransport.

A Starlette application serves the page; beside it one function handles WebTransport sessions. Each
session gets

* 30 datagrams a second with load, memory and request figures (freshest first: a lost one is gone),
* one unidirectional stream with an event log (every line arrives, in order),
* an echo of whatever it sends on bidirectional streams and as datagrams (the page's meters).

``POST /block`` makes a Python handler compute for two seconds without yielding, so that you can
watch the transport not noticing.

    pronghorn demo.app:app --dev
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pronghorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
TICKS_PER_SECOND = 30
LOG_BACKLOG = 20  # lines that a newcomer is told about
QUEUE_LINES = 256  # of one slow session; the oldest are skipped, and the page is told how many
BLOCK_SECONDS = 2.0


# --- what is measured -----------------------------------------------------------------------------


def read_cpu() -> tuple[int, int]:
    """Busy and total clock ticks of all processors since boot."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def read_memory() -> float:
    """Used share of this machine's memory, 0 to 1."""
    figures = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, value = line.split(":")
            figures[name] = int(value.split()[0])
    return 1 - figures["MemAvailable"] / figures["MemTotal"]


class Figures:
    """Samples the machine; one for the whole application."""

    def __init__(self) -> None:
        self.requests = 0
        self._cpu = read_cpu()
        self._cpu_at = time.monotonic()
        self._load = 0.0
        self._recent: list[float] = []

    def count_request(self) -> None:
        self.requests += 1
        self._recent.append(time.monotonic())

    def sample(self) -> dict[str, Any]:
        now = time.monotonic()
        if now - self._cpu_at > 0.2:  # a shorter interval would show the clock tick, not the load
            busy, total = read_cpu()
            elapsed = max(1, total - self._cpu[1])
            self._load = (busy - self._cpu[0]) / elapsed
            self._cpu, self._cpu_at = (busy, total), now
        self._recent = [at for at in self._recent if now - at < 1]
        return {
            "cpu": round(self._load, 4),
            "load": round(os.getloadavg()[0], 2),
            "mem": round(read_memory(), 4),
            "rps": len(self._recent),
            "requests": self.requests,
            "viewers": len(sessions),
            "server": {name: stats.get(name, 0) for name in SHOWN_COUNTERS}
            if (stats := pronghorn.stats())
            else {},
        }


SHOWN_COUNTERS = (
    "packets_in",
    "packets_out",
    "datagrams_in",
    "datagrams_in_dropped",
    "datagrams_out",
    "datagrams_out_dropped",
    "datagrams_lost",
)

figures = Figures()
sessions: set[Session] = set()
backlog: list[str] = []


def log(text: str) -> None:
    """Adds a line to every session's event log."""
    line = json.dumps({"at": round(time.time(), 3), "text": text})
    backlog.append(line)
    del backlog[:-LOG_BACKLOG]
    for session in sessions:
        session.add_line(line)


# --- WebTransport ---------------------------------------------------------------------------------


class Session:
    """One browser. Lines wait in `lines` while its log stream is slow; figures never wait."""

    def __init__(self, send: Any) -> None:
        self.send = send
        self.lines: asyncio.Queue[str] = asyncio.Queue(QUEUE_LINES)
        self.skipped = 0
        self.log_stream: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def add_line(self, line: str) -> None:
        if self.lines.full():
            self.lines.get_nowait()
            self.skipped += 1
        self.lines.put_nowait(line)

    async def send_figures(self) -> None:
        """Datagrams: never waits for the network, an old figure is worth nothing."""
        number = 0
        next_at = time.monotonic()
        while True:
            figure = figures.sample() | {"n": number, "at": round(time.time() * 1000)}
            await self.send(
                {
                    "type": "webtransport.datagram.send",
                    "data": json.dumps(figure, separators=(",", ":")).encode(),
                    "max_age": 1.0,
                }
            )
            number += 1
            # After a pause (a blocked handler) go on from now: no burst of stale figures.
            next_at = max(next_at + 1 / TICKS_PER_SECOND, time.monotonic())
            await asyncio.sleep(next_at - time.monotonic())

    async def send_log(self) -> None:
        """One unidirectional stream: waits when the browser is slow, loses nothing it was given."""
        await self.send({"type": "webtransport.stream.open", "bidirectional": False, "tag": "log"})
        stream_id = await self.log_stream
        number = 0
        while True:
            line = await self.lines.get()
            entry = json.loads(line) | {"n": number, "skipped": self.skipped}
            number += 1
            await self.send(
                {
                    "type": "webtransport.stream.send",
                    "stream_id": stream_id,
                    "data": json.dumps(entry).encode() + b"\n",
                }
            )

    async def receive_all(self, receive: Any) -> None:
        """Echoes streams and datagrams until the session ends."""
        while True:
            event = await receive()
            kind = event["type"]
            if kind == "webtransport.datagram.receive":
                await self.send({"type": "webtransport.datagram.send", "data": event["data"]})
            elif kind == "webtransport.stream.receive":
                if event["stream_id"] & 2 == 0:  # bidirectional
                    await self.send(
                        {
                            "type": "webtransport.stream.send",
                            "stream_id": event["stream_id"],
                            "data": event["data"],
                            "end_stream": event["end_stream"],
                        }
                    )
            elif kind == "webtransport.stream.opened":
                self.log_stream.set_result(event["stream_id"])
            elif kind == "webtransport.drain" and event["local"]:  # this server is stopping
                await self.send({"type": "webtransport.close", "reason": "the demo was stopped"})
            elif kind == "webtransport.disconnect":
                return


async def live(scope: dict[str, Any], receive: Any, send: Any) -> None:
    event = await receive()
    assert event["type"] == "webtransport.connect"
    if scope["path"] != "/live":
        await send({"type": "webtransport.close", "status": 404})
        return
    await send({"type": "webtransport.accept"})
    session = Session(send)
    for line in backlog:
        session.add_line(line)
    sessions.add(session)
    log(f"browser {scope['client'][0]}:{scope['client'][1]} connected over HTTP/3")
    workers = [
        asyncio.create_task(session.send_figures()),
        asyncio.create_task(session.send_log()),
    ]
    try:
        await session.receive_all(receive)
    finally:
        sessions.discard(session)
        for worker in workers:
            worker.cancel()
        for result in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(
                result, pronghorn.ClientDisconnected
            ):
                raise result
        log(f"browser {scope['client'][0]}:{scope['client'][1]} left")


# --- HTTP -----------------------------------------------------------------------------------------


async def page(request: Request) -> FileResponse:
    return FileResponse(STATIC / "index.html")


async def settings(request: Request) -> JSONResponse:
    """Where the page finds WebTransport, and the certificate hash that lets it trust it."""
    return JSONResponse(
        {
            "port": pronghorn.quic_port(),
            "path": "/live",
            "sha256": pronghorn.dev_certificate_sha256(),
            "http_version": request.scope["http_version"],
            "version": pronghorn.__version__,
        }
    )


async def block(request: Request) -> JSONResponse:
    """What no handler should do: keeps the interpreter busy, and with it every coroutine."""
    log(f"a handler blocks Python for {BLOCK_SECONDS:g} seconds")
    await asyncio.sleep(0.05)  # let the line out first
    until = time.monotonic() + BLOCK_SECONDS
    while time.monotonic() < until:
        pass
    log("the handler is back")
    return JSONResponse({"blocked": BLOCK_SECONDS})


async def beat() -> None:
    while True:
        await asyncio.sleep(10)
        if sessions:
            log(f"watching: {len(sessions)}, requests so far: {figures.requests}")


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    log("demo started")
    heart = asyncio.create_task(beat())
    yield
    heart.cancel()


web = Starlette(
    routes=[
        Route("/", page),
        Route("/settings.json", settings),
        Route("/block", block, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ],
    lifespan=lifespan,
)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "webtransport":
        await live(scope, receive, send)
        return
    if scope["type"] == "http":
        figures.count_request()
    await web(scope, receive, send)
