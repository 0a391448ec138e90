"""Operations under load: rows I1, I3 and I11 of docs/robustness.md over several protocols at once,
with workers. (One protocol or one event each: tests/asgi/test_workers.py, test_workers_quic.py.)"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import aio
from peers import dialled
from process import Command, command
from pronghorn import _core
from stand import SANITIZED
from waiting import polled, until
from ws_client import socket_to
from wt_client import dial

APP = """
import asyncio, os

def say(what):
    os.write(1, f"{what} {os.getpid()}\\n".encode())

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                say("lifespan.shutdown")
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        say("websocket")
        while (event := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": event["text"]})
        say(f"websocket-closed-{event['code']}")
        return
    if scope["type"] == "webtransport":
        await receive()
        await send({"type": "webtransport.accept"})
        say("session")
        while (event := await receive())["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.drain":
                say("session-drained")
                await send({"type": "webtransport.close", "code": 7, "reason": "bye"})
        return
    if scope["path"] == "/wait":
        say("waiting")
        while (await receive())["more_body"]:
            pass
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def exchange(client: socket.socket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    said = b""
    while not said.endswith(b"\r\n\r\nok"):
        part = client.recv(4096)
        assert part, said
        said += part
    return said


# Each with an end at another moment of the load. A hundred take two minutes.
ROUNDS = int(os.environ.get("PH_STOP_ROUNDS", "4" if SANITIZED else "20"))
VERSIONS = ("1.1", "2", "3")
REJECTED = 0x10B  # H3_REQUEST_REJECTED


class Crowd:
    """A client of each version that asks again and again on one connection, for as long as the
    server lets it, and what became of the requests."""

    def __init__(self) -> None:
        self.answered = dict.fromkeys(VERSIONS, 0)
        self.changed = asyncio.Event()

    def has(self, count: int) -> bool:
        return min(self.answered.values()) > 0 and sum(self.answered.values()) >= count

    async def ask(self, version: str, ports: Any) -> None:
        async with dialled(version, ports) as client:
            while not client.closed and getattr(client, "goaway", None) is None:
                exchange = await (await client.start()).done()
                if exchange.broken:
                    self.check_refused(version, exchange)
                    return
                assert exchange.status == 200
                assert exchange.body == b"ok"
                self.answered[version] += 1
                self.changed.set()
                if exchange.header("connection") == "close":
                    return

    def check_refused(self, version: str, exchange: Any) -> None:
        """Whoever is told of the end in time loses nothing. aioquic does not tell of GOAWAY: what
        is asked after it is refused before anything is done, so that it may be asked elsewhere."""
        assert version == "3", (version, exchange.status)
        assert exchange.status == 0
        assert exchange.reset in (None, REJECTED)


async def stop_under_load(server: Command, workers: int, load: int) -> None:
    """One SIGTERM after `load` answers, with a request under way and a WebSocket over each version
    of HTTP, and a WebTransport session. Each ends in its own words, and the process in time."""
    await asyncio.to_thread(server.matches, r"ready pid=\d+$", workers)
    kinds = {"http": "tcp", "https": "tls", "quic": "quic"}
    ports: Any = SimpleNamespace(**{name: server.address(kind)[1] for name, kind in kinds.items()})
    crowd = Crowd()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        clients = [await enter(dialled(version, ports)) for version in VERSIONS]
        fields = [("content-length", "1")]
        held = [await client.start("POST", "/wait", fields, end=False) for client in clients]
        sockets = [await enter(socket_to(version, ports)) for version in VERSIONS]
        for web in sockets:
            await web.text("hello")
            assert (await web.frame()).text == "hello"
        client = await enter(dial(ports.quic))
        session = client.request_session(headers=[("origin", "https://localhost")])
        await client.until(lambda: client.headers.get(session))
        asking = [asyncio.create_task(crowd.ask(version, ports)) for version in VERSIONS]
        await asyncio.to_thread(server.matches, r"^waiting \d+$", len(held))
        await until(crowd.changed, lambda: crowd.has(load) or any(task.done() for task in asking))

        server.signal(signal.SIGTERM)
        for web in sockets:
            assert (await web.closed()).code in (1001, 1012)
        await client.until(lambda: session in client.finished or client.closed)
        await asyncio.gather(*asking)
        for exchange in held:
            await exchange.send(b"x", end=True)
            await exchange.done()
            assert (exchange.status, bytes(exchange.body)) == (200, b"ok"), exchange.client.version
        assert held[0].header("connection") == "close"
        assert held[1].client.goaway == 0


def test_I01_every_protocol_is_told_and_finishes(folder: Path) -> None:
    certfile, keyfile, _ = _core.dev_certificate(folder)
    args = ["--certfile", certfile, "--keyfile", keyfile, "--quic-bind", "127.0.0.1:0"]
    args += ["--bind", "127.0.0.1:0", "--insecure-bind", "127.0.0.1:0"]
    args += ["--wt-allowed-origin", "*", "--graceful-timeout", "30"]
    for number in range(ROUNDS):
        workers = 1 + number % 2
        with command(folder, "main:app", *args, "--workers", str(workers)) as server:
            aio(stop_under_load)(server, workers, load=7 * number % 100)
            assert server.end() == 0, server.output
        assert server.output.count("lifespan.shutdown") == workers
        assert server.output.count("session-drained") == 1
        assert server.output.count("websocket-closed-1001") == len(VERSIONS)
        assert not re.search("Traceback|cancelled| (warning|error) ", server.output), server.output


def test_I03_workers_that_are_killed_again_and_again(folder: Path) -> None:
    """One of two is killed at about 1 Hz: it is replaced after 0.1 s, and the other answers all the
    time."""
    with command(folder, "main:app", "--port", "0", "--workers", "2") as server:
        first, victim = (int(pid) for pid in server.matches(r"ready pid=(\d+)$", 2))
        failures: list[BaseException] = []
        over = threading.Event()
        rounds = 0

        def bystander() -> None:
            nonlocal rounds
            try:
                with socket.create_connection(server.address("tcp"), timeout=30) as client:
                    started.set()
                    while not over.wait(0.02):
                        exchange(client)
                        rounds += 1
            except Exception as exc:
                failures.append(exc)

        started = threading.Event()
        os.kill(victim, signal.SIGSTOP)  # so that the bystander is the other's
        thread = threading.Thread(target=bystander)
        thread.start()
        started.wait(30)
        polled(lambda: rounds > 0 or failures)
        os.kill(victim, signal.SIGCONT)
        try:
            for count in range(3, 8):
                before = rounds + 40  # it served for a while: no reason to wait long for the next
                polled(lambda before=before: rounds > before or failures)
                os.kill(victim, signal.SIGKILL)
                victim = int(server.matches(r"ready pid=(\d+)$", count)[-1])
        finally:
            over.set()
            thread.join()
        assert failures == []
        assert os.path.exists(f"/proc/{first}")
        assert server.output.count("worker: ended by itself") == 5
        assert server.output.count("replaced in=0.1s") == 5


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_I11_without_descriptors_the_server_goes_on(folder: Path, workers: str) -> None:
    """More connections than descriptors: those that are served go on, the others are closed after a
    moment instead of hanging, nothing spins, and when there is room again all is as before."""
    serve = f"exec {sys.executable} -m pronghorn main:app --port 0 --workers {workers}"
    argv = ["bash", "-c", f"ulimit -n 48; {serve}"]
    with command(folder, argv=argv) as server:
        pids = [int(pid) for pid in server.matches(r"ready pid=(\d+)$", int(workers))]
        address = server.address("tcp")
        with contextlib.ExitStack() as stack:
            bystander = stack.enter_context(socket.create_connection(address, timeout=30))
            exchange(bystander)
            flood = [socket.create_connection(address, timeout=30) for _ in range(128)]
            server.line("tcp: accept failed, out of descriptors")
            exchange(bystander)
            began, used = time.monotonic(), sum(map(cpu_seconds, pids))
            closed = 0
            while closed < 5:
                readable, _, _ = select.select(flood, [], [], 30)
                assert readable, "nobody was let go"
                for client in readable:
                    with contextlib.suppress(ConnectionResetError):
                        assert client.recv(1) == b""
                    client.close()
                    flood.remove(client)
                    closed += 1
            exchange(bystander)
            busy = sum(map(cpu_seconds, pids)) - used
            assert busy < 0.5 * (time.monotonic() - began) + 0.2
            for client in flood:
                client.close()
            late = stack.enter_context(socket.create_connection(address, timeout=30))
            exchange(late)
            exchange(bystander)
        server.signal(signal.SIGTERM)
        assert server.end() == 0
