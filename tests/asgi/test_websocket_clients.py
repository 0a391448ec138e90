"""WebSocket with clients and frameworks from PyPI, unchanged: the websockets library over HTTP/1.1
with and without TLS and compression; Starlette and FastAPI endpoints over every version of HTTP;
and the C example."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from pathlib import Path
from typing import Annotated, Any

import pytest
from certs import untrusting
from fastapi import Depends, FastAPI, WebSocketException
from harness import Recorder, Running, aio, serving
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from ws_apps import echo
from ws_client import every_socket, socket_to

ROOT = Path(__file__).parents[2]
EXAMPLES = Path(os.environ.get("PH_EXAMPLES_DIR", ROOT / "build/release"))


def address(server: Running, tls: bool, path: str = "/") -> tuple[str, dict[str, Any]]:
    if tls:
        return f"wss://127.0.0.1:{server.https}{path}", {"ssl": untrusting()}
    return f"ws://127.0.0.1:{server.http}{path}", {}


both_ways = pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
compression = pytest.mark.parametrize("deflate", ["deflate", None], ids=["deflate", "plain"])


# --- the websockets library -----------------------------------------------------------------------


@both_ways
@compression
@aio
async def test_echo_of_all_sizes(tls: bool, deflate: str | None) -> None:
    picks = random.Random(1)
    words = ["alpha ", "beta ", "gamma ", "d\u00ebl\u0165a ", "\U0001f9ff "]
    async with serving(echo) as server:
        uri, options = address(server, tls)
        async with connect(uri, compression=deflate, max_size=None, **options) as client:
            offered = "permessage-deflate" in client.response.headers.get(
                "Sec-WebSocket-Extensions", ""
            )
            assert offered == (deflate is not None)
            for size in (0, 1, 125, 126, 127, 4096, 65535, 65536, 300_000, 2_000_000):
                text = "".join(picks.choices(words, k=size // 5))[:size]
                await client.send(text)
                assert await client.recv() == text
                data = picks.randbytes(size)
                await client.send(data)
                assert await client.recv() == data


@both_ways
@compression
@aio
async def test_fragments(tls: bool, deflate: str | None) -> None:
    async with serving(echo) as server:
        uri, options = address(server, tls)
        async with connect(uri, compression=deflate, **options) as client:
            await client.send(["frag", "", "mented \u20ac", "!" * 70000])
            assert await client.recv() == "fragmented \u20ac" + "!" * 70000
            await client.send([b"a" * 1000, b"b", b""])
            assert await client.recv() == b"a" * 1000 + b"b"


@compression
@aio
async def test_many_messages_under_way(deflate: str | None) -> None:
    count = 3000
    async with serving(echo) as server:
        uri, options = address(server, False)
        async with connect(uri, compression=deflate, **options) as client:

            async def ask() -> None:
                for number in range(count):
                    await client.send(f"message {number} " + "x" * (number % 700))

            task = asyncio.ensure_future(ask())
            for number in range(count):
                assert await client.recv() == f"message {number} " + "x" * (number % 700)
            await task


@both_ways
@aio
async def test_pings_and_closes(tls: bool) -> None:
    async with serving(echo, ws_ping_interval=0.05) as server:
        uri, options = address(server, tls)
        async with connect(uri, ping_interval=0.05, ping_timeout=5, **options) as client:
            for _ in range(5):
                latency = await client.ping()
                assert await latency >= 0
            await asyncio.sleep(0.3)  # several pings of the server are answered meanwhile
            await client.send("still")
            assert await client.recv() == "still"
            await client.close(3001, "reason")
        assert client.close_code == 3001
        async with connect(uri, ping_interval=None, **options) as client:
            server.server.shutdown()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001


@aio
async def test_what_the_library_says_of_failures() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/no":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        await receive()
        raise ZeroDivisionError

    async with serving(app, expect_failure=True, ws_max_size=1000) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(server, False, "/no")[0])
        assert refused.value.response.status_code == 403
        for message, code in (("x", 1011), ("x" * 1001, 1009)):
            async with connect(address(server, False)[0]) as client:
                await client.send(message)
                with pytest.raises(ConnectionClosedError) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == code


# --- frameworks -----------------------------------------------------------------------------------


def starlette_app(notes: Recorder) -> Any:
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept(
            subprotocol=websocket.scope["subprotocols"][0], headers=[(b"x-by", b"starlette")]
        )
        await websocket.send_json({"path": websocket.url.path, "scheme": websocket.url.scheme})
        try:
            while True:
                await websocket.send_text((await websocket.receive_text()).upper())
        except WebSocketDisconnect as end:
            notes.add({"type": "end", "code": end.code, "reason": end.reason})

    async def denied(websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"why": "no"}, status_code=401))

    class Endpoint(WebSocketEndpoint):
        encoding = "bytes"

        async def on_receive(self, websocket: WebSocket, data: bytes) -> None:
            await websocket.send_bytes(data[::-1])
            if data == b"bye":
                await websocket.close(4002, "as asked")

        async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
            notes.add({"type": "end", "code": close_code})

    async def plain(request: Any) -> JSONResponse:
        return JSONResponse({"plain": True})

    return Starlette(
        routes=[
            WebSocketRoute("/chat", chat),
            WebSocketRoute("/denied", denied),
            WebSocketRoute("/endpoint", Endpoint),
            Route("/plain", plain),
        ]
    )


@every_socket
@aio
async def test_starlette(version: str) -> None:
    notes = Recorder()
    async with serving(starlette_app(notes)) as server:
        async with socket_to(version, server, "/chat", subprotocols=["a", "b"]) as socket:
            assert socket.header("sec-websocket-protocol") == "a"
            assert socket.header("x-by") == "starlette"
            scheme = "ws" if version == "1.1" else "wss"
            said = (await socket.message()).text.replace(" ", "")
            assert said == f'{{"path":"/chat","scheme":"{scheme}"}}'
            await socket.text("stra\u00dfe")
            assert (await socket.message()).text == "STRASSE"
            await socket.close(4000, "done")
            await notes.until(lambda: notes.events)
            assert notes.events[0] == {"type": "end", "code": 4000, "reason": "done"}
        async with socket_to(version, server, "/denied") as socket:
            assert socket.status == 401
            await socket.until(lambda: bytes(socket.received()) == b'{"why":"no"}')
        async with socket_to(version, server, "/nowhere") as socket:
            assert socket.status in (403, 404)
        async with socket_to(version, server, "/endpoint") as socket:
            await socket.send(2, b"bye")
            assert (await socket.message()).payload == b"eyb"
            received = await socket.closed()
            assert (received.code, received.reason) == (4002, "as asked")
            await notes.until(lambda: len(notes.events) == 2)


async def token(websocket: WebSocket, q: str | None = None) -> str:
    if q is None:
        raise WebSocketException(code=1008, reason="q is missing")
    return q


@every_socket
@aio
async def test_fastapi(version: str) -> None:
    app = FastAPI()

    @app.websocket("/items/{number}")
    async def item(websocket: WebSocket, number: int, q: Annotated[str, Depends(token)]) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_json({"number": number, "q": q, "text": text})

    @app.websocket("/late")
    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketException(code=4321, reason="late")

    async with serving(app) as server:
        async with socket_to(version, server, "/items/7?q=x") as socket:
            await socket.text("t")
            said = (await socket.message()).text.replace(" ", "")
            assert said == '{"number":7,"q":"x","text":"t"}'
            await socket.close()
            await socket.frame()
        async with socket_to(version, server, "/items/7") as socket:
            assert socket.status == 403
        async with socket_to(version, server, "/late") as socket:
            received = await socket.closed()
            assert (received.code, received.reason) == (4321, "late")


# --- the C example --------------------------------------------------------------------------------


@aio
async def test_the_example_in_c() -> None:
    server = await asyncio.create_subprocess_exec(
        EXAMPLES / "echo_ws", "127.0.0.1:0", stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        line = (await asyncio.wait_for(server.stdout.readline(), 20)).decode()
        port = line.rpartition(":")[2].strip()
        async with connect(f"ws://127.0.0.1:{port}/", subprotocols=["first", "second"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "first"
            for message in ("text \u20ac", b"bytes", "", "long " * 20000):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4000, "enough")
        line = (await asyncio.wait_for(server.stdout.readline(), 20)).decode()
        assert line == 'closed code=4000 reason="enough"\n'
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{port}/closed")
        async with connect(f"ws://127.0.0.1:{port}/") as client:
            server.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        assert await asyncio.wait_for(server.wait(), 20) == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
