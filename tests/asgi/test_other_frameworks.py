"""Django with Channels, Quart and Litestar, unchanged, over every version of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import django
import litestar
import litestar.exceptions
import litestar.response
import pytest
import quart
from asgiref.sync import iscoroutinefunction
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from harness import Recorder, aio, serving
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State
from peers import Client, Exchange, dialled, every_version
from test_starlette import multipart
from ws_client import Socket, every_socket, socket_to

notes = Recorder()
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", f"{__name__}.middleware"],
    LOGGING_CONFIG=None,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)
django.setup()


@sync_and_async_middleware
def middleware(get_response: Any) -> Any:
    if not iscoroutinefunction(get_response):
        return get_response

    async def tagged(request: HttpRequest) -> Any:
        response = await get_response(request)
        response["X-Tag"] = request.path
        return response

    return tagged


async def home(request: HttpRequest) -> HttpResponse:
    scope: dict[str, Any] = request.scope  # type: ignore[attr-defined]
    return JsonResponse({"version": scope["http_version"], "q": request.GET.get("q")})


def in_a_thread(request: HttpRequest) -> HttpResponse:
    return HttpResponse("sync")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(20):
            yield b"%d\n" % number

    return StreamingHttpResponse(parts())


async def events(request: HttpRequest) -> StreamingHttpResponse:
    async def ticks() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingHttpResponse(ticks(), content_type="text/event-stream")


def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["upload"]
    return JsonResponse({"name": request.POST["name"], "size": file.size})


def file(request: HttpRequest, name: str) -> FileResponse:
    return FileResponse(Path(name).open("rb"))


async def boom(request: HttpRequest) -> HttpResponse:
    raise LookupError("boom")


async def wait(request: HttpRequest) -> HttpResponse:
    notes.add({"event": "waiting"})
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        notes.add({"event": "cancelled"})
        raise
    return HttpResponse("late")


urlpatterns = [
    path("", home),
    path("sync", in_a_thread),
    path("stream", stream),
    path("events", events),
    path("upload", upload),
    path("file/<path:name>", file),
    path("boom", boom),
    path("wait", wait),
]


async def get(client: Client, target: str, headers: Any = None) -> Exchange:
    return await (await client.start("GET", target, headers)).done()


async def post(client: Client, target: str, kind: str, body: bytes) -> Exchange:
    headers = [("content-type", kind), ("content-length", str(len(body)))]
    exchange = await client.start("POST", target, headers, end=False)
    await exchange.send(body, end=True)
    return await exchange.done()


def check_events(answer: Exchange) -> None:
    """Three ticks, in the form of server-sent events."""
    assert (answer.header("content-type") or "").startswith("text/event-stream")
    found = [line for line in answer.body.splitlines() if line.startswith(b"data:")]
    assert [line.removeprefix(b"data:").strip() for line in found] == [b"0", b"1", b"2"]


@every_version
@aio
async def test_django_with_channels(
    version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from django.core.asgi import get_asgi_application

    data = os.urandom(300_000)
    (tmp_path / "file.bin").write_bytes(data)
    app: Any = ProtocolTypeRouter({"http": get_asgi_application()})
    notes.events, notes.changed = [], asyncio.Event()
    caplog.set_level(logging.CRITICAL, "django.request")
    async with serving(app, expect_failure=True) as server, dialled(version, server) as client:
        assert json.loads((await get(client, "/?q=x")).body) == {"version": version, "q": "x"}
        assert (await get(client, "/sync")).body == b"sync"
        assert (await get(client, "/stream")).body == b"".join(b"%d\n" % n for n in range(20))
        check_events(await get(client, "/events"))
        assert (await get(client, "/sync")).header("x-tag") == "/sync"
        kind, body = multipart({"name": b"n"}, {"upload": ("a.txt", bytes(3_000_000))})
        uploaded = await post(client, "/upload", kind, body)
        assert json.loads(uploaded.body) == {"name": "n", "size": 3_000_000}
        sent = await get(client, f"/file/{tmp_path}/file.bin")
        assert sent.whole and sent.body == data
        assert (await get(client, "/missing")).status == 404
        boom = await get(client, "/boom")
        assert (boom.status, boom.whole) == (500, True)  # Django's own page
        waiting = await client.start("GET", "/wait")
        await notes.until(lambda: {"event": "waiting"} in notes.events)
        waiting.abort()
        await notes.until(lambda: {"event": "cancelled"} in notes.events)


def quart_app(folder: Path) -> quart.Quart:
    app = quart.Quart(__name__)

    @app.before_serving
    async def begin() -> None:
        app.config["ANSWER"] = 42

    @app.after_serving
    async def end() -> None:
        notes.add({"event": "ended"})

    @app.after_request
    async def tag(response: quart.Response) -> quart.Response:
        response.headers["x-tag"] = quart.request.path
        return response

    @app.route("/events")
    async def events() -> Any:
        async def ticks() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"data: %d\n\n" % number

        return ticks(), {"content-type": "text/event-stream"}

    @app.route("/file")
    async def file() -> Any:
        return await quart.send_file(folder / "file.bin")

    @app.route("/<int:number>")
    async def item(number: int) -> Any:
        return {"number": number, "answer": app.config["ANSWER"]}

    @app.route("/upload", methods=["POST"])
    async def upload() -> Any:
        length = 0
        async for part in quart.request.body:
            length += len(part)
        return {"length": length}

    @app.route("/form", methods=["POST"])
    async def form() -> Any:
        values, files = await quart.request.form, await quart.request.files
        return {"name": values["name"], "size": len(files["upload"].read())}

    @app.route("/stream")
    async def stream() -> Any:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(20):
                yield b"%d\n" % number

        return parts(), 201, {"x-stream": "yes"}

    @app.route("/background")
    async def background() -> str:
        async def work() -> None:
            notes.add({"event": "worked"})

        app.add_background_task(work)
        return "accepted"

    @app.route("/boom")
    async def boom() -> Any:
        raise LookupError("boom")

    @app.errorhandler(404)
    async def nothing(error: Exception) -> Any:
        return "nothing here", 404

    return app


@every_version
@aio
async def test_quart(version: str, tmp_path: Path) -> None:
    notes.events, notes.changed = [], asyncio.Event()
    data = os.urandom(300_000)
    (tmp_path / "file.bin").write_bytes(data)
    app: Any = quart_app(tmp_path)
    async with serving(app, lifespan="on") as server, dialled(version, server) as client:
        assert json.loads((await get(client, "/7")).body) == {"number": 7, "answer": 42}
        uploaded = await post(client, "/upload", "application/octet-stream", bytes(1_000_000))
        assert json.loads(uploaded.body) == {"length": 1_000_000}
        kind, body = multipart({"name": b"n"}, {"upload": ("a.txt", bytes(100_000))})
        assert json.loads((await post(client, "/form", kind, body)).body) == {
            "name": "n",
            "size": 100_000,
        }
        stream = await get(client, "/stream")
        assert (stream.status, stream.header("x-stream")) == (201, "yes")
        assert stream.body == b"".join(b"%d\n" % n for n in range(20))
        check_events(await get(client, "/events"))
        file = await get(client, "/file")
        assert file.whole and file.body == data and file.header("x-tag") == "/file"
        assert (await get(client, "/background")).body == b"accepted"
        await notes.until(lambda: {"event": "worked"} in notes.events)
        assert (await get(client, "/boom")).status == 500
        assert (await get(client, "/missing")).body == b"nothing here"
    assert {"event": "ended"} in notes.events


def litestar_app(folder: Path) -> litestar.Litestar:
    @contextlib.asynccontextmanager
    async def lifespan(app: litestar.Litestar) -> AsyncIterator[None]:
        app.state.answer = 42
        yield
        notes.add({"event": "ended"})

    async def tag(response: litestar.Response) -> litestar.Response:
        response.headers["x-tag"] = "yes"
        return response

    async def work() -> None:
        notes.add({"event": "worked"})

    @litestar.get("/items/{number:int}", after_request=tag)
    async def item(state: State, number: int, q: str = "") -> dict[str, Any]:
        return {"number": number, "q": q, "answer": state.answer}

    @litestar.get("/background")
    async def background() -> litestar.Response[str]:
        return litestar.Response("accepted", background=BackgroundTask(work))

    @litestar.get("/plain", sync_to_thread=True)
    def plain() -> str:
        return "plain"

    @litestar.get("/stream")
    async def stream() -> litestar.response.Stream:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(20):
                yield b"%d\n" % number

        return litestar.response.Stream(parts())

    @litestar.get("/events")
    async def events() -> litestar.response.ServerSentEvent:
        async def ticks() -> AsyncIterator[str]:
            for number in range(3):
                yield str(number)

        return litestar.response.ServerSentEvent(ticks())

    @litestar.get("/file")
    async def file() -> litestar.response.File:
        return litestar.response.File(folder / "file.bin")

    @litestar.post("/form")
    async def form(request: litestar.Request) -> dict[str, Any]:
        fields = await request.form()
        return {"name": fields["name"], "size": len(await fields["upload"].read())}

    @litestar.get("/boom")
    async def boom() -> None:
        raise LookupError("boom")

    @litestar.get("/refused")
    async def refused() -> None:
        raise litestar.exceptions.PermissionDeniedException("not you")

    def middleware(app: Any) -> Any:
        async def counted(scope: Any, receive: Any, send: Any) -> None:
            notes.add({"event": "seen", "path": scope["path"]})
            await app(scope, receive, send)

        return counted

    handlers: Any = [item, background, plain, stream, events, file, form, boom, refused]
    return litestar.Litestar(handlers, lifespan=[lifespan], middleware=[middleware])


@every_version
@aio
async def test_litestar(version: str, tmp_path: Path) -> None:
    notes.events, notes.changed = [], asyncio.Event()
    data = os.urandom(300_000)
    (tmp_path / "file.bin").write_bytes(data)
    app: Any = litestar_app(tmp_path)
    async with serving(app, lifespan="on") as server, dialled(version, server) as client:
        item = await get(client, "/items/7?q=x")
        assert json.loads(item.body) == {"number": 7, "q": "x", "answer": 42}
        assert item.header("x-tag") == "yes"
        assert {"event": "seen", "path": "/items/7"} in notes.events
        assert (await get(client, "/items/seven")).status == 404
        assert (await get(client, "/plain")).body == b"plain"
        assert (await get(client, "/stream")).body == b"".join(b"%d\n" % n for n in range(20))
        check_events(await get(client, "/events"))
        assert (await get(client, "/background")).body == b"accepted"
        await notes.until(lambda: {"event": "worked"} in notes.events)
        file = await get(client, "/file")
        assert file.whole and file.body == data
        kind, body = multipart({"name": b"n"}, {"upload": ("a.txt", bytes(100_000))})
        assert json.loads((await post(client, "/form", kind, body)).body) == {
            "name": "n",
            "size": 100_000,
        }
        assert (await get(client, "/boom")).status == 500
        assert (await get(client, "/refused")).status == 403
    assert {"event": "ended"} in notes.events


# --- WebSocket --------------------------------------------------------------------------------


class Consumer(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        if self.scope["path"] == "/ws/refused":
            await self.close()
            return
        await self.accept("chat")

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json({"echo": content, "room": self.scope["url_route"]["kwargs"]["room"]})

    async def disconnect(self, code: int) -> None:
        notes.add({"event": "left", "code": code})


def channels_sockets(folder: Path) -> Any:
    return ProtocolTypeRouter({"websocket": URLRouter([path("ws/<str:room>", Consumer.as_asgi())])})


def quart_sockets(folder: Path) -> Any:
    app = quart.Quart(__name__)

    @app.websocket("/ws/<room>")
    async def ws(room: str) -> Any:
        if room == "refused":
            return "no", 403
        await quart.websocket.accept(subprotocol="chat")
        try:
            while True:
                await quart.websocket.send_json(
                    {"echo": await quart.websocket.receive_json(), "room": room}
                )
        except asyncio.CancelledError:
            notes.add({"event": "left"})
            raise

    return app


def litestar_sockets(folder: Path) -> Any:
    @litestar.websocket("/ws/{room:str}")
    async def ws(socket: litestar.WebSocket) -> None:
        room = socket.path_params["room"]
        if room == "refused":
            raise litestar.exceptions.PermissionDeniedException("no")
        await socket.accept(subprotocols="chat")
        try:
            while True:
                await socket.send_json({"echo": await socket.receive_json(), "room": room})
        except litestar.exceptions.WebSocketDisconnect:
            notes.add({"event": "left"})

    return litestar.Litestar([ws])


@pytest.mark.parametrize("make", [channels_sockets, quart_sockets, litestar_sockets])
@every_socket
@aio
async def test_websockets(version: str, make: Any, tmp_path: Path) -> None:
    notes.events, notes.changed = [], asyncio.Event()
    async with serving(make(tmp_path), expect_failure=True) as server:
        async with socket_to(version, server, "/ws/one", subprotocols=["chat"]) as socket:
            assert socket.header("sec-websocket-protocol") == "chat"
            for number in range(3):
                await socket.text(json.dumps({"n": number}))
                assert await said(socket) == {"echo": {"n": number}, "room": "one"}
            await socket.close(1000)
            await notes.until(lambda: notes.events)
        async with socket_to(version, server, "/ws/refused") as socket:
            assert socket.status >= 400


async def said(socket: Socket) -> Any:
    return json.loads((await socket.message()).payload)
