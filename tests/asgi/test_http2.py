"""HTTP/2 against the real server: who gets it (ALPN, prior knowledge), Alt-Svc, one port for all
versions, bulk in both directions, a hundred streams at once, a reader that does not read. The peers
are curl (nghttp2) and httpx (h2)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pronghorn
import pytest
from certs import untrusting
from harness import CERTS, Running, aio, serving, until_stats
from process import Command, command
from pronghorn import _core

MIB = 1 << 20

APPLICATION = """
import hashlib

BLOCK = bytes(range(256)) * 256


async def app(scope, receive, send):
    assert scope["type"] == "http", scope["type"]
    digest, count, more = hashlib.sha256(), 0, scope["method"] == "POST"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        count += len(message["body"])
        more = message["more_body"]
    headers = [(b"x-version", scope["http_version"].encode())]
    if scope["path"] == "/alt":
        headers.append((b"alt-svc", b"clear"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(int(scope["query_string"] or b"0")):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    body = f"{count} {digest.hexdigest()}" if scope["method"] == "POST" else ""
    await send({"type": "http.response.body", "body": body.encode()})
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("http2")
    (folder / "app.py").write_text(APPLICATION)
    cert, key, _ = _core.dev_certificate(CERTS)
    arguments = ["app:app", "--bind", "127.0.0.1:0", "--insecure-bind", "127.0.0.1:0"]
    arguments += ["--certfile", cert, "--keyfile", key, "--lifespan", "off", "--h2c"]
    with command(folder, *arguments, "--max-body", "200M") as running:
        running.address("quic")
        yield running
        running.signal(signal.SIGTERM)
        assert running.end() == 0


def curl(*arguments: str, check: bool = True) -> str:
    program = shutil.which("curl")
    assert program is not None
    done = subprocess.run(
        [program, "-sSk", "--max-time", "60", "-D", "-", *arguments],
        capture_output=True,
        check=check,
        # curl stands still when a sanitizer that is meant for us is loaded into it.
        env={key: value for key, value in os.environ.items() if key != "LD_PRELOAD"},
        timeout=90,
    )
    return done.stdout.decode(errors="replace").replace("\r", "")


def url(served: Command, kind: str = "tls", path: str = "/") -> str:
    scheme = "https" if kind == "tls" else "http"
    return f"{scheme}://127.0.0.1:{served.address(kind)[1]}{path}"


# --- Who gets it ---


@pytest.mark.parametrize(
    ("flag", "kind", "version"),
    [
        ("--http2", "tls", "2"),
        ("--http1.1", "tls", "1.1"),
        ("--no-alpn", "tls", "1.1"),
        ("--http2-prior-knowledge", "tcp", "2"),
        ("--http1.1", "tcp", "1.1"),
        ("--http2", "tcp", "1.1"),  # Upgrade: h2c, which is never taken
        ("--http1.0", "tcp", "1.0"),
    ],
)
def test_version_is_what_the_client_agreed_on(
    served: Command, flag: str, kind: str, version: str
) -> None:
    answer = curl(flag, url(served, kind))
    assert answer.startswith(f"HTTP/{'1.1' if version == '1.0' else version} 200")
    assert f"\nx-version: {version}\n" in answer
    assert "101" not in answer.splitlines()[0]


def test_one_port_for_all_versions(served: Command) -> None:
    assert served.address("tls")[1] == served.address("quic")[1]


def test_alt_svc_names_the_quic_port_over_tls_alone(served: Command) -> None:
    expected = f'\nalt-svc: h3=":{served.address("quic")[1]}"; ma=86400\n'
    for flag in "--http2", "--http1.1":
        assert expected in curl(flag, url(served))
        own = curl(flag, url(served, path="/alt"))
        assert "\nalt-svc: clear\n" in own
        assert own.count("alt-svc") == 1
    for flag in "--http2-prior-knowledge", "--http1.1":
        assert "alt-svc" not in curl(flag, url(served, "tcp"))


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["http_version"].encode()})


async def tls_to(server: Running, *protocols: str) -> tuple[Any, Any]:
    return await asyncio.open_connection("127.0.0.1", server.https, ssl=untrusting(*protocols))


def chosen(writer: asyncio.StreamWriter) -> str | None:
    name: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    return name


@pytest.mark.parametrize(
    ("config", "offered", "expected"),
    [
        ({}, ("http/1.1", "h2"), "h2"),
        ({"alpn_protocols": ["http/1.1", "h2"]}, ("h2", "http/1.1"), "http/1.1"),
        ({"alpn_protocols": ["http/1.1"]}, ("h2", "http/1.1"), "http/1.1"),
        ({"http2": False}, ("h2", "http/1.1"), "http/1.1"),
        ({"http1": False}, ("http/1.1", "h2"), "h2"),
        ({"alpn_protocols": ["h3"]}, ("h2", "http/1.1"), None),
    ],
)
@aio
async def test_offer_follows_the_options(
    config: dict[str, Any], offered: tuple[str, ...], expected: str | None
) -> None:
    async with serving(hello, **config) as server:
        _, writer = await tls_to(server, *offered)
        assert chosen(writer) == expected
        writer.close()


@aio
async def test_no_agreement_is_no_connection() -> None:
    async with serving(hello, http1=False) as server:
        with pytest.raises(ssl.SSLError):
            await tls_to(server, "http/1.1")
        reader, writer = await tls_to(server)  # names no protocol, so it means HTTP/1.1
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


def test_one_version_must_be_left() -> None:
    cert, key, _ = _core.dev_certificate(CERTS)
    config = pronghorn.Config(certfile=cert, keyfile=key, http1=False, http2=False)
    with pytest.raises(pronghorn.ConfigError, match="http1, http2: TLS needs one of them on"):
        config.core_options()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@aio
async def test_prior_knowledge_is_an_option() -> None:
    async with serving(hello) as server:  # off
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        writer.write(PREFACE)
        answer = await reader.read()
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))
        writer.close()
    async with serving(hello, h2c=True) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
        for i in range(len(PREFACE)):  # piece by piece
            writer.write(PREFACE[i : i + 1])
            await writer.drain()
        writer.write(bytes(3) + b"\x04" + bytes(5))
        assert (await reader.readexactly(9))[3] == 4  # SETTINGS
        writer.close()
        for first in b"PRI * HTTP/2.1\r\n\r\n", b"PUT / HTTP/1.1\r\nhost: a\r\n\r\n":
            reader, writer = await asyncio.open_connection("127.0.0.1", server.http)
            writer.write(first)
            assert await reader.readexactly(9) == b"HTTP/1.1 "
            writer.close()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"alt_svc": False}, None),
        ({"alt_svc_value": 'h3=":443"; ma=60'}, 'h3=":443"; ma=60'),
        ({"http3": False, "quic_bind": None}, None),
    ],
)
@aio
async def test_alt_svc_is_an_option(config: dict[str, Any], expected: str | None) -> None:
    async with serving(hello, **config) as server, httpx.AsyncClient(verify=False) as client:
        answer = await client.get(f"https://127.0.0.1:{server.https}/")
        assert answer.headers.get("alt-svc") == expected


# --- Bulk ---


@pytest.mark.parametrize("kind", ["tls", "tcp"])
def test_large_bodies_arrive_whole(served: Command, kind: str, tmp_path: Path) -> None:
    flag = "--http2" if kind == "tls" else "--http2-prior-knowledge"
    payload = hashlib.shake_256(b"upload").digest(20 * MIB)
    (tmp_path / "up").write_bytes(payload)
    answer = curl(flag, "--data-binary", f"@{tmp_path / 'up'}", url(served, kind))
    assert answer.endswith(f"{len(payload)} {hashlib.sha256(payload).hexdigest()}")
    curl(flag, "-o", str(tmp_path / "down"), url(served, kind, "/?640"))
    block = bytes(range(256)) * 256
    assert (tmp_path / "down").read_bytes() == block * 640


@contextlib.asynccontextmanager
async def browser(**limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        http2=True, verify=False, timeout=60, limits=httpx.Limits(max_connections=1), **limits
    ) as client:
        yield client


@aio
async def test_a_hundred_streams_at_once() -> None:
    """All of them open together: none is answered before all have asked."""
    everybody = asyncio.Event()
    asked = 0

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal asked
        body = b""
        while (message := await receive())["more_body"]:
            body += message["body"]
        body += message["body"]
        asked += 1
        if asked == 100:
            everybody.set()
        await everybody.wait()
        await send({"type": "http.response.start", "status": 200})
        for i in range(0, len(body), 1000):
            part = body[i : i + 1000]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": scope["http_version"].encode()})

    async with serving(app) as server, browser() as client:
        payloads = [bytes([i]) * (100 * i + 1) for i in range(100)]
        answers = await asyncio.gather(
            *(client.post(f"https://127.0.0.1:{server.https}/", content=p) for p in payloads)
        )
        for payload, answer in zip(payloads, answers, strict=True):
            assert answer.content == payload + b"2"
        stats = pronghorn.stats()
        assert stats["conns_accepted"] == 1
        assert stats["requests"] == 100


@aio
async def test_slow_reader_holds_the_writer_back() -> None:
    """What is written and not read stays within the buffers that there are."""
    sent = 0
    moved = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            sent += 65536
            moved.set()
        await send({"type": "http.response.body"})

    async with serving(app) as server, browser() as client:
        request = client.build_request("GET", f"https://127.0.0.1:{server.https}/")
        answer = await client.send(request, stream=True)
        with pytest.raises(asyncio.TimeoutError):
            while True:
                await asyncio.wait_for(moved.wait(), 0.5)
                moved.clear()
        assert 0 < sent < 8 * MIB
        assert pronghorn.stats()["bytes_out"] - sent < MIB
        received = 0
        async for chunk in answer.aiter_raw():
            received += len(chunk)
        assert received == 1000 * 65536
        await answer.aclose()


@aio
async def test_upload_that_is_not_read_stops_the_client() -> None:
    may_read = asyncio.Event()
    begun = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        begun.set()
        await may_read.wait()
        count = 0
        while (message := await receive())["more_body"]:
            count += len(message["body"])
        count += len(message["body"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(count).encode()})

    async with serving(app, max_body=64 * MIB) as server, browser() as client:
        where = f"https://127.0.0.1:{server.https}/"
        upload = asyncio.create_task(client.post(where, content=bytes(4 * MIB)))
        await begun.wait()
        await until_stats(lambda stats: stats["bytes_in"] >= 262144)
        assert pronghorn.stats()["bytes_in"] == 262144  # the window of the stream
        may_read.set()
        assert (await upload).text == str(4 * MIB)


@aio
async def test_stop_finishes_what_is_under_way() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        begun.set()
        await finish.wait()
        await hello(scope, receive, send)

    async with serving(app, graceful_timeout=20) as server:
        where = f"https://127.0.0.1:{server.https}/"
        asking = asyncio.create_task(asyncio.to_thread(curl, "--http2", where))
        await begun.wait()
        server.server.shutdown()
        with pytest.raises(OSError):
            while True:  # the listener closes
                socket.create_connection(("127.0.0.1", server.https), 5).close()
                await asyncio.sleep(0.02)
        finish.set()
        assert (await asking).endswith("\n2")
