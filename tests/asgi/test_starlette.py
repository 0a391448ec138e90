"""Starlette and FastAPI, unchanged, over every version of HTTP: what applications are made of."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, File, Form, HTTPException, UploadFile
from fastapi.responses import JSONResponse as FastJSONResponse
from harness import Recorder, Running, aio, serving
from peers import Client, dialled, every_version
from process import command
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route


class Site:
    """One application, and what its handlers noted."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.notes = Recorder()
        self.folder = folder
        routes = [
            Route("/", self.home),
            Route("/stream", self.stream),
            Route("/events", self.events),
            Route("/file", self.file),
            Route("/missing-file", self.missing_file),
            Route("/upload", self.upload, methods=["POST"]),
            Route("/form", self.form, methods=["POST"]),
            Route("/background", self.background),
            Route("/boom", self.boom),
            Route("/boom-late", self.boom_late),
            Route("/teapot", self.teapot),
            Route("/poll", self.poll, methods=["GET", "POST"]),
            Mount("/sub", routes=[Route("/{name}", self.sub, name="sub")]),
        ]
        self.app = Starlette(
            routes=routes,
            lifespan=self.lifespan,
            exception_handlers={418: self.on_teapot},
            **options,
        )

    def note(self, **fields: Any) -> None:
        self.notes.add(fields)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"answer": 42}
        self.note(event="shutdown")

    async def home(self, request: Request) -> Response:
        return JSONResponse(
            {
                "version": request.scope["http_version"],
                "answer": request.state.answer,
                "url": str(request.url.path),
                "agent": request.headers.get("user-agent"),
                "cookies": request.cookies,
            }
        )

    async def stream(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(50):
                yield b"part %d\n" % number
                await asyncio.sleep(0)

        return StreamingResponse(parts(), media_type="text/plain")

    async def events(self, request: Request) -> Response:
        async def ticks() -> AsyncIterator[str]:
            try:
                number = 0
                while True:
                    yield f"data: {number}\n\n"
                    number += 1
                    await asyncio.sleep(0.01)
            finally:
                self.note(event="events ended")

        return StreamingResponse(ticks(), media_type="text/event-stream")

    async def file(self, request: Request) -> Response:
        return FileResponse(self.folder / "file.bin")

    async def missing_file(self, request: Request) -> Response:
        return FileResponse(self.folder / "missing.bin")

    async def upload(self, request: Request) -> Response:
        length = 0
        try:
            async for part in request.stream():
                length += len(part)
        except ClientDisconnect:
            self.note(event="disconnect", length=length)
            raise
        return JSONResponse({"length": length})

    async def form(self, request: Request) -> Response:
        async with request.form() as form:
            upload = form["upload"]
            assert not isinstance(upload, str)
            return JSONResponse(
                {"name": form["name"], "file": upload.filename, "size": len(await upload.read())}
            )

    async def background(self, request: Request) -> Response:
        async def work() -> None:
            await asyncio.sleep(0.05)
            self.note(event="worked")

        return PlainTextResponse("accepted", background=BackgroundTask(work))

    async def boom(self, request: Request) -> Response:
        raise LookupError("boom")

    async def boom_late(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise LookupError("late boom")

        return StreamingResponse(parts())

    async def teapot(self, request: Request) -> Response:
        raise StarletteHTTPException(418, "short and stout")

    async def on_teapot(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        return PlainTextResponse(f"handled: {error.detail}", status_code=418)

    async def poll(self, request: Request) -> Response:
        await request.body()
        self.note(event="polling", disconnected=await request.is_disconnected())
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        self.note(event="gone")
        return PlainTextResponse("for nobody")

    async def sub(self, request: Request) -> Response:
        return PlainTextResponse(str(request.url_for("sub", name=request.path_params["name"])))


@contextlib.asynccontextmanager
async def site(
    folder: Path, *, expect_failure: bool = False, middleware: list[Middleware] | None = None
) -> AsyncIterator[tuple[Site, Running]]:
    made = Site(folder, middleware=middleware or [])
    app: Any = made.app
    async with serving(app, lifespan="on", expect_failure=expect_failure) as server:
        yield made, server
    assert made.notes.events[-1] == {"event": "shutdown"}


@contextlib.asynccontextmanager
async def visited(
    version: str, folder: Path, **options: Any
) -> AsyncIterator[tuple[Site, Running, Client]]:
    async with site(folder, **options) as (made, server), dialled(version, server) as client:
        yield made, server, client


@every_version
@aio
async def test_routes_state_and_cookies(version: str, tmp_path: Path) -> None:
    async with site(tmp_path) as (_, server), dialled(version, server) as client:
        headers = [("user-agent", "test"), ("cookie", "a=1; b=2")]
        home = await (await client.start("GET", "/?x=1", headers)).done()
        assert json.loads(home.body) == {
            "version": version,
            "answer": 42,
            "url": "/",
            "agent": "test",
            "cookies": {"a": "1", "b": "2"},
        }
        sub = await (await client.start("GET", "/sub/n%20m")).done()
        scheme = "http" if version == "1.1" else "https"
        assert sub.body == f"{scheme}://localhost/sub/n m".encode()
        assert (await (await client.start("GET", "/nowhere")).done()).status == 404
        assert (await (await client.start("POST", "/")).done()).status == 405
        head = await (await client.start("HEAD", "/")).done()
        assert (head.status, head.body, int(head.header("content-length") or 0) > 0) == (
            200,
            b"",
            True,
        )


@every_version
@aio
async def test_streams_and_server_sent_events(version: str, tmp_path: Path) -> None:
    async with visited(version, tmp_path, expect_failure=True) as (made, server, client):
        stream = await (await client.start("GET", "/stream")).done()
        assert stream.whole
        assert stream.body == b"".join(b"part %d\n" % n for n in range(50))
        events = await client.start("GET", "/events")
        await events.until(lambda: b"data: 3\n\n" in events.body)
        assert events.header("content-type") == "text/event-stream; charset=utf-8"
        events.abort()
        await generator_ended(made, server)


async def generator_ended(made: Site, server: Running) -> None:
    """Starlette leaves it to the last reference, of which the harness has one."""
    for _ in range(2000):
        if {"event": "events ended"} in made.notes.events:
            return
        server.failures.clear()
        await asyncio.sleep(0.01)
    raise AssertionError("the generator goes on")


@every_version
@aio
async def test_files_and_ranges(version: str, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    (tmp_path / "file.bin").write_bytes(data)
    async with (
        site(tmp_path, expect_failure=True) as (_, server),
        dialled(version, server) as client,
    ):
        whole = await (await client.start("GET", "/file")).done()
        assert whole.whole and whole.body == data
        assert whole.header("content-length") == "1000000"
        assert whole.header("etag")
        part = await (await client.start("GET", "/file", [("range", "bytes=10-19")])).done()
        assert (part.status, part.body) == (206, data[10:20])
        head = await (await client.start("HEAD", "/file")).done()
        assert (head.body, head.header("content-length")) == (b"", "1000000")
        missing = await (await client.start("GET", "/missing-file")).done()
        assert missing.status == 500


@every_version
@aio
async def test_uploads_and_forms(version: str, tmp_path: Path) -> None:
    async with site(tmp_path) as (_, server), dialled(version, server) as client:
        size = 3 << 20
        upload = await client.start("POST", "/upload", [("content-length", str(size))], end=False)
        await upload.send(bytes(size), end=True)
        await upload.done()
        assert json.loads(upload.body) == {"length": size}
        chunked = await client.start("POST", "/upload", end=False)
        for _ in range(10):
            await chunked.send(bytes(1000))
        await chunked.send(b"", end=True)
        await chunked.done()
        assert json.loads(chunked.body) == {"length": 10000}
        kind, body = multipart({"name": b"n"}, {"upload": ("a.txt", bytes(200_000))})
        headers = [("content-type", kind), ("content-length", str(len(body)))]
        form = await client.start("POST", "/form", headers, end=False)
        await form.send(body, end=True)
        await form.done()
        assert json.loads(form.body) == {"name": "n", "file": "a.txt", "size": 200_000}


def multipart(fields: dict[str, bytes], files: dict[str, tuple[str, bytes]]) -> tuple[str, bytes]:
    """A form as browsers send it: its content type and bytes."""
    body = b""
    for name, value in fields.items():
        body += f'--edge\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode()
        body += value + b"\r\n"
    for name, (filename, value) in files.items():
        head = f'--edge\r\ncontent-disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        body += head.encode() + b"content-type: text/plain\r\n\r\n" + value + b"\r\n"
    return "multipart/form-data; boundary=edge", body + b"--edge--\r\n"


@every_version
@aio
async def test_an_upload_that_breaks_off(version: str, tmp_path: Path) -> None:
    async with visited(version, tmp_path, expect_failure=True) as (made, _, client):
        upload = await client.start("POST", "/upload", end=False)
        await upload.send(bytes(1000))
        await asyncio.sleep(0.1)
        upload.abort()
        await made.notes.until(lambda: [e for e in made.notes.events if e["event"] == "disconnect"])


@every_version
@aio
async def test_background_tasks_run_after_the_response(version: str, tmp_path: Path) -> None:
    async with site(tmp_path) as (made, server), dialled(version, server) as client:
        answer = await (await client.start("GET", "/background")).done()
        assert (answer.body, answer.whole) == (b"accepted", True)
        await made.notes.until(lambda: {"event": "worked"} in made.notes.events)
        assert (await (await client.start("GET", "/")).done()).status == 200


@every_version
@aio
async def test_exceptions_and_their_handlers(
    version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(tmp_path, expect_failure=True) as (_, server):
        async with dialled(version, server) as client:
            teapot = await (await client.start("GET", "/teapot")).done()
            assert (teapot.status, teapot.body) == (418, b"handled: short and stout")
            boom = await (await client.start("GET", "/boom")).done()
            assert (boom.status, boom.body) == (500, b"Internal Server Error")
        async with dialled(version, server) as client:
            late = await (await client.start("GET", "/boom-late")).done()
            assert late.broken and late.status == 200
    assert caplog.text.count("LookupError: boom") == 1
    assert caplog.text.count("LookupError: late boom") == 1


@every_version
@aio
async def test_is_disconnected(version: str, tmp_path: Path) -> None:
    async with visited(version, tmp_path, expect_failure=True) as (made, _, client):
        poll = await client.start("GET", "/poll")
        polling = {"event": "polling", "disconnected": False}
        await made.notes.until(lambda: polling in made.notes.events)
        poll.abort()
        await made.notes.until(lambda: {"event": "gone"} in made.notes.events)


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        assert isinstance(response, Response)
        response.headers["x-stamp"] = request.url.path
        return response


MIDDLEWARE = [
    Middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_methods=["*"]),
    Middleware(GZipMiddleware, minimum_size=10),
    Middleware(Stamp),
]


@every_version
@aio
async def test_middleware(version: str, tmp_path: Path) -> None:
    data = b"0123456789" * 10_000
    (tmp_path / "file.bin").write_bytes(data)
    async with visited(version, tmp_path, middleware=MIDDLEWARE, expect_failure=True) as (
        made,
        server,
        client,
    ):
        headers = [("origin", "https://a.example"), ("accept-encoding", "gzip")]
        stream = await (await client.start("GET", "/stream", headers)).done()
        assert stream.header("content-encoding") == "gzip"
        assert gzip.decompress(stream.body) == b"".join(b"part %d\n" % n for n in range(50))
        assert stream.header("access-control-allow-origin") == "https://a.example"
        assert stream.header("x-stamp") == "/stream"
        file = await (await client.start("GET", "/file", headers[:1])).done()
        assert file.whole and file.body == data
        packed = await (await client.start("GET", "/file", headers)).done()
        assert packed.whole and packed.body == data  # what is sent by path is sent as it is
        ask = [*headers, ("access-control-request-method", "PUT")]
        assert (await (await client.start("OPTIONS", "/", ask)).done()).status == 200
        size = 300_000
        length = [("content-length", str(size))]
        upload = await client.start("POST", "/upload", length, end=False)
        await upload.send(bytes(size), end=True)
        assert json.loads((await upload.done()).body) == {"length": size}
        background = await (await client.start("GET", "/background")).done()
        assert background.whole
        await made.notes.until(lambda: {"event": "worked"} in made.notes.events)
        events = await client.start("GET", "/events")
        await events.until(lambda: events.body)
        events.abort()
        await generator_ended(made, server)


# --- FastAPI ----------------------------------------------------------------------------------


def fastapi_app(notes: Recorder) -> Any:
    app = FastAPI()

    async def session() -> AsyncIterator[str]:
        yield "session"
        notes.add({"event": "session closed"})

    @app.get("/items/{number}")
    async def item(number: int, q: str = "", s: str = Depends(session)) -> dict[str, Any]:
        return {"number": number, "q": q, "s": s}

    @app.post("/form")
    async def form(
        name: Annotated[str, Form()], upload: Annotated[UploadFile, File()]
    ) -> dict[str, Any]:
        return {"name": name, "size": len(await upload.read())}

    @app.post("/json")
    async def double(body: dict[str, int]) -> dict[str, int]:
        return {key: value * 2 for key, value in body.items()}

    @app.get("/plain")
    def plain() -> str:  # in a thread
        return "plain"

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(403, {"why": "not you"})

    @app.exception_handler(LookupError)
    async def on_lookup(request: Request, error: LookupError) -> Response:
        return FastJSONResponse({"error": str(error)}, status_code=410)

    @app.get("/lookup")
    async def lookup() -> None:
        raise LookupError("lost")

    return app


@every_version
@aio
async def test_fastapi(version: str) -> None:
    notes = Recorder()
    async with serving(fastapi_app(notes)) as server, dialled(version, server) as client:

        async def get(path: str) -> tuple[int, Any]:
            answer = await (await client.start("GET", path)).done()
            return answer.status, json.loads(answer.body)

        async def post(path: str, kind: str, body: bytes) -> tuple[int, Any]:
            headers = [("content-type", kind), ("content-length", str(len(body)))]
            answer = await client.start("POST", path, headers, end=False)
            await answer.send(body, end=True)
            await answer.done()
            return answer.status, json.loads(answer.body)

        assert await get("/items/7?q=x") == (200, {"number": 7, "q": "x", "s": "session"})
        assert (await get("/items/seven"))[0] == 422
        assert await get("/plain") == (200, "plain")
        assert await get("/refused") == (403, {"detail": {"why": "not you"}})
        assert await get("/lookup") == (410, {"error": "lost"})
        assert (await get("/openapi.json"))[0] == 200
        kind, body = multipart({"name": b"n"}, {"upload": ("a.txt", bytes(100_000))})
        assert await post("/form", kind, body) == (200, {"name": "n", "size": 100_000})
        assert await post("/json", "application/json", b'{"a": 2}') == (200, {"a": 4})
        assert (await post("/json", "application/json", b"{"))[0] == 422
        await notes.until(lambda: notes.events)


# --- A gigabyte -------------------------------------------------------------------------------

UPLOAD_APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def upload(request):
    length = 0
    async for part in request.stream():
        length += len(part)
    return PlainTextResponse(str(length))

app = Starlette(routes=[Route("/", upload, methods=["POST"])])
"""


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_gigabyte_goes_up_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "upload_app.py").write_text(UPLOAD_APP)
    size = 1 << 30
    args = ["upload_app:app", "--insecure-bind", "127.0.0.1:0", "--option", "max_body=0"]
    # AddressSanitizer would keep what was freed, up to 256 MiB for each thread.
    sanitizer = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=8"}
    with command(tmp_path, *args, env=sanitizer) as server:
        address = server.address("tcp")
        part = bytes(1 << 20)
        with socket.create_connection(address, 30) as client:
            head = f"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
            client.sendall(head.encode() + part)
            before = resident(server.process.pid)
            highest = 0
            for number in range(1, size // len(part)):
                client.sendall(part)
                if number % 32 == 0:
                    highest = max(highest, resident(server.process.pid))
            answer = b""
            while not answer.endswith(str(size).encode()):
                answer += client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert highest - before < 32 << 20
