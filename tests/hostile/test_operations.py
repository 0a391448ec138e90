"""Operations under load: rows I1, I3 and I11 of docs/robustness.md over several protocols at once,
with workers. (One protocol or one event each: tests/asgi/test_workers.py, test_workers_quic.py.)"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import websockets
from harness import aio
from process import Command, command
from pronghorn import _core
from waiting import polled
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


def test_I01_every_protocol_is_told_and_finishes(folder: Path) -> None:
    """One SIGTERM, two workers: a request under way over HTTP/1.1 and HTTP/3, a WebSocket, a
    WebTransport session. Each ends in its own words, and the process in time."""
    certfile, keyfile, _ = _core.dev_certificate(folder)
    args = ["--certfile", certfile, "--keyfile", keyfile, "--quic-bind", "127.0.0.1:0"]
    args += ["--insecure-bind", "127.0.0.1:0", "--workers", "2", "--wt-allowed-origin", "*"]

    @aio
    async def run(server: Command) -> None:
        await asyncio.to_thread(server.matches, r"ready pid=\d+$", 2)
        host, port = server.address("tcp")
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        async with contextlib.AsyncExitStack() as stack:
            web = await stack.enter_async_context(websockets.connect(f"ws://{host}:{port}/"))
            await web.send("hello")
            assert await web.recv() == "hello"
            client = await stack.enter_async_context(dial(server.address("quic")[1]))
            session = client.request_session(headers=[("origin", "https://localhost")])
            await client.until(lambda: client.headers.get(session))
            stream = client._quic.get_next_available_stream_id()
            fields = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost")]
            fields += [(":path", "/wait"), ("content-length", "1")]
            client.h3.send_headers(stream, [(n.encode(), v.encode()) for n, v in fields])
            client.transmit()
            await asyncio.to_thread(server.matches, r"^waiting \d+$", 2)
            server.signal(signal.SIGTERM)
            await asyncio.to_thread(server.matches, "stopping tasks=", 2)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await asyncio.wait_for(web.recv(), 20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code in (1001, 1012)
            await asyncio.to_thread(server.matches, "session-drained", 1)
            await client.until(lambda: session in client.finished or client.closed)
            client.h3.send_data(stream, b"x", True)
            client.transmit()
            await client.until(lambda: stream in client.finished)
            assert client.headers[stream][":status"] == "200"
            writer.write(b"x")
            said = await asyncio.wait_for(reader.read(), 20)
            assert said.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in said
            writer.close()

    with command(folder, "main:app", *args) as server:
        run(server)
        assert server.end() == 0, server.output
    assert server.output.count("lifespan.shutdown") == 2


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
