"""Real frameworks from PyPI, unchanged, over every version of HTTP; and what they do to a scope
that they do not know."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from harness import aio, serving
from peers import ask, every_version
from process import command
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from wt_client import dial


def starlette_app() -> Any:
    async def home(request: Request) -> JSONResponse:
        return JSONResponse({"http_version": request.scope["http_version"]})

    async def stream(request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for number in range(10):
                yield b"%d\n" % number

        return StreamingResponse(parts(), background=BackgroundTask(lambda: None))

    async def upload(request: Request) -> JSONResponse:
        return JSONResponse({"length": sum([len(part) async for part in request.stream()])})

    routes = [
        Route("/", home),
        Route("/stream", stream),
        Route("/upload", upload, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def fastapi_app() -> Any:
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int, q: str = "") -> dict[str, Any]:
        return {"number": number, "q": q}

    return app


@every_version
@aio
async def test_starlette(version: str) -> None:
    async with serving(starlette_app()) as server:
        home = await ask(version, server)
        assert home.body == b'{"http_version":"%s"}' % version.encode()
        assert (await ask(version, server, "GET", "/stream")).body == b"".join(
            b"%d\n" % n for n in range(10)
        )
        uploaded = await ask(version, server, "POST", "/upload", body=bytes(1 << 20))
        assert uploaded.body == b'{"length":1048576}'
        assert (await ask(version, server, "GET", "/missing")).status == 404
        assert (await ask(version, server, "POST", "/")).status == 405


@every_version
@aio
async def test_fastapi(version: str) -> None:
    async with serving(fastapi_app()) as server:
        assert (await ask(version, server, "GET", "/items/7?q=x")).body == b'{"number":7,"q":"x"}'
        assert (await ask(version, server, "GET", "/items/seven")).status == 422


@pytest.mark.parametrize("make", [starlette_app, fastapi_app])
@aio
async def test_a_framework_that_does_not_know_the_scope_gets_405(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with serving(make(), expect_failure=True) as server:
            for _ in range(2):
                async with dial(server.quic) as client:
                    assert (await client.connect_session())[":status"] == "405"
            assert (await ask("3", server, "GET", "/nothing")).status == 404
    assert "Traceback" not in caplog.text


TWO_SERVERS = """
from harness import aio, serving
from wt_client import dial

async def app(scope, receive, send):
    raise NotImplementedError(scope["type"])

@aio
async def main():
    for _ in range(2):
        async with serving(app, expect_failure=True) as server:
            for _ in range(2):
                async with dial(server.quic) as client:
                    print("status", (await client.connect_session())[":status"])

main()
"""


def test_the_hint_at_a_dispatcher_is_given_once_a_process() -> None:
    with command(Path(__file__).parent, argv=[sys.executable, "-c", TWO_SERVERS]) as program:
        assert program.end() == 0
    assert program.output.count("status 405") == 4
    assert program.output.count("app: refuses scope type 'webtransport'") == 1
